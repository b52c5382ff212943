"""What an OpenAI-compatible server's reply means: a completion, another try, or never. Pure functions."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from personahub.core.engines.base import Completion, EngineUnavailable, RequestRefused

# Where servers that do not follow OpenAI's error codes say the same in words.
_TOO_LONG = re.compile(
    r"context.?(length|window|size)|maximum.{0,20}(context|model.?len)|max_model_len"
    r"|(prompt|input) is too long|too many (input |prompt )?tokens|longer than the (maximum|model)",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content.?(filter|policy|management)|moderation|safety|flagged", re.IGNORECASE)
_NO_CREDIT = re.compile(r"insufficient.?(quota|balance|credit)|billing|exceeded your current quota", re.IGNORECASE)
# A limit per minute or day that speaks of quotas and billing all the same (Gemini, OpenAI's free tier).
_COMES_BACK = re.compile(r"RESOURCE_EXHAUSTED|(retry|try again) in", re.IGNORECASE)
_WAIT = re.compile(r"(?:retry|try again) in (\d+(?:\.\d+)?) ?(?:s|sec|seconds?)\b", re.IGNORECASE)

_WHOLE = frozenset({None, "stop", "length", "eos", "end_turn"})  # finish reasons of completions as they should be


class Retry(Exception):
    """Another try of the same request may work.

    `throttled`: the server is fine but wants fewer requests. `paid`: the prompt and completion
    tokens of an answer that was sent, and will be charged for, but cannot be read. `unreachable`:
    no connection came about.
    """

    def __init__(
        self,
        detail: str,
        *,
        wait_s: float | None = None,
        throttled: bool = False,
        paid: tuple[int, int] | None = None,
        unreachable: bool = False,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.wait_s = wait_s
        self.throttled = throttled
        self.paid = paid
        self.unreachable = unreachable


def read_completions(body: bytes, model: str, prompt_characters: int, n: int = 1) -> list[Completion]:
    """The `n` completions in the body of a 200.

    Where the server reports no usage, tokens are estimated as characters / 4. The prompt's tokens
    are the first completion's, as they are paid for once; completion tokens are shared out by
    length. `model` in a completion is the name that the server answered with, which may be a dated
    version.

    Raises:
        Retry: the body is not a chat completion with one text at least.
        RequestRefused: the server withheld a text.
        EngineUnavailable: there are fewer choices than were asked for.
    """
    try:
        reply = json.loads(body)
        choices, usage = reply["choices"], reply.get("usage") or {}
        texts = [choice["message"].get("content") for choice in choices]
        paid = (
            token_count(usage.get("prompt_tokens"), prompt_characters),
            token_count(usage.get("completion_tokens"), sum([len(text or "") for text in texts])),
        )
        if len(choices) != n:
            raise wrong_number(len(choices), n, body, paid, "set use_n: false on the engine")
        for choice, text in zip(choices, texts, strict=True):
            _check_choice(choice, text, body, paid)
        weights = [len(text or "") for text in texts]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        unread = f"a reply that is not one chat completion: {one_line(body)}"
        raise Retry(unread, paid=(-(-prompt_characters // 4), 0)) from None
    named = reply.get("model")
    name = named if named and isinstance(named, str) else model
    completions = []
    for choice, text, tokens in zip(choices, texts, _share_out(paid[1], weights), strict=True):
        completions.append(
            Completion(
                text=text or "",
                finish_reason="length" if choice.get("finish_reason") == "length" else "stop",
                prompt_tokens=0 if completions else paid[0],
                completion_tokens=tokens,
                model=name,
                logprobs=_logprobs(choice.get("logprobs")),
            )
        )
    return completions


def wrong_number(number: int, n: int, body: bytes, paid: tuple[int, int], advice: str) -> Exception:
    """What `number` choices mean where `n` were asked for: `EngineUnavailable` if the server ignores n, else `Retry`."""
    if number == 1:
        return EngineUnavailable(f"asked for n={n} completions and got 1: this server ignores n; {advice}")
    return Retry(f"{number} choices where {n} were asked for: {one_line(body)}", paid=paid)


def _check_choice(choice: Mapping[str, Any], text: Any, body: bytes, paid: tuple[int, int]) -> None:
    """Raises for what is no whole text: `RequestRefused` if the server withheld it, else `Retry`."""
    reason = choice.get("finish_reason")
    refusal = None if text else choice["message"].get("refusal")
    if reason == "content_filter" or refusal:
        raise RequestRefused("content_filter", one_line(refusal or "the server withheld the completion"), paid)
    if reason not in _WHOLE or not isinstance(text, str | None):
        raise Retry(f"a completion that ended with {reason!r}: {one_line(body)}", paid=paid)


def _share_out(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in whole parts proportional to `weights`, which sum to it."""
    whole = sum(weights)
    if len(weights) == 1 or not whole:
        return [total] + [0] * (len(weights) - 1)
    ends = [total * sum(weights[: i + 1]) // whole for i in range(len(weights))]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def _logprobs(reported: Any) -> list[tuple[str, float]] | None:
    """Tokens with their log-probabilities, from the chat API's `logprobs` object; None if it is of another shape."""
    try:
        return [(str(item["token"]), float(item["logprob"])) for item in reported["content"]]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def token_count(tokens: Any, characters: int) -> int:
    """Tokens as a server reports them or, where it does not, estimated as characters / 4."""
    return tokens if isinstance(tokens, int) and tokens >= 0 else -(-characters // 4)


def read_error(body: bytes) -> tuple[str, str]:
    """Code and message of an error body in any of the shapes in use; the body itself if it has none."""
    try:
        reply = json.loads(body)
        if isinstance(reply, list) and len(reply) == 1:  # Gemini's
            (reply,) = reply
        error = reply.get("error", reply) if isinstance(reply, dict) else reply
        if not isinstance(error, dict):
            return "", one_line(str(error))
        code = f"{error.get('code') or ''} {error.get('type') or ''}".strip()
        return code, one_line(str(error.get("message") or error.get("detail") or body.decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return "", one_line(body)


def status_within(body: bytes) -> int:
    """The status of a failure that came as a 200, 502 if it names none; 200 for any other body.

    A gateway that has sent its head before the model behind it fails (OpenRouter) puts an `error`,
    with the status as its `code`, in the place of `choices`. Nothing was answered or paid for.
    """
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        return 200
    if not isinstance(reply, dict) or not reply.get("error") or reply.get("choices"):
        return 200
    code = str(reply["error"].get("code")) if isinstance(reply["error"], dict) else ""
    return int(code) if re.fullmatch("[45][0-9][0-9]", code) else 502


def classify_error(status: int, headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    """What an error status means, and the server's words for it.

    Returns one of `no_credit`, `throttled`, `retry`, `no_access`, `not_found`, `moved`,
    `prompt_too_long`, `content_filter`, `refused` (some other fault of the request).
    """
    code, message = read_error(body)
    said = f"{code} {message}"
    if status == 402 or (status == 429 and _is_out_of_credit(code, message, body)):
        return "no_credit", message
    if status == 429:
        return "throttled", message
    if status in (408, 409, 425) or status >= 500:
        return "retry", message
    if 300 <= status < 400:
        return "moved", headers.get("Location", message)
    if status in (400, 403, 422) and _FILTERED.search(said):
        return "content_filter", message
    if status in (401, 403):
        return "no_access", message
    if status == 413 or (status in (400, 422) and _TOO_LONG.search(said)):
        return "prompt_too_long", message
    if status in (404, 405):
        return "not_found", message
    return "refused", message


def _is_out_of_credit(code: str, message: str, body: bytes) -> bool:
    """Whether a 429 means an account that is empty and not one that is fast. Words count where no code says it."""
    if "insufficient_quota" in code:
        return True
    comes_back = _COMES_BACK.search(body.decode("utf-8", "replace"))  # all of it: the message is cut
    return comes_back is None and _NO_CREDIT.search(f"{code} {message}") is not None


def retry_after(headers: Mapping[str, str], body: bytes = b"") -> float | None:
    """Seconds that the server asks to wait, from `retry-after-ms`, `Retry-After`, or the body's words "retry in 9.5s".

    None where it does not say, or says what is no wait (0, the past): who took that at its word
    would ask again without any pause.
    """
    said = (_header_milliseconds(headers), _header_seconds(headers), _worded_seconds(body))
    return next((seconds for seconds in said if seconds is not None and 0 < seconds < math.inf), None)


def _header_milliseconds(headers: Mapping[str, str]) -> float | None:
    try:
        return float(headers.get("retry-after-ms", "")) / 1000  # not [...]: of `http.client`'s headers that is None
    except ValueError:
        return None


def _header_seconds(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds or as a date, which counts from the reply's own `Date`: this machine's clock may be wrong."""
    value = headers.get("Retry-After", "")
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
        return float(value)
    try:
        now = email.utils.parsedate_to_datetime(headers["Date"]).timestamp() if "Date" in headers else time.time()
        return email.utils.parsedate_to_datetime(value).timestamp() - now
    except (ValueError, OverflowError):
        return None


def _worded_seconds(body: bytes) -> float | None:
    found = _WAIT.search(body.decode("utf-8", "replace"))
    return float(found[1]) if found else None


def one_line(text: str | bytes, most: int = 300) -> str:
    """The first `most` characters, on one line."""
    if isinstance(text, bytes):
        text = text[: 4 * most].decode("utf-8", "replace")
    return " ".join(text.split())[:most]
