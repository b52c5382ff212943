"""What an OpenAI-compatible server's reply means: a completion, another try, or never. Pure functions."""

from __future__ import annotations

import email.utils
import json
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
    except (ValueError, KeyError, TypeError, AttributeError):
        unread = f"a reply that is not one chat completion: {one_line(body)}"
        raise Retry(unread, paid=(-(-prompt_characters // 4), 0)) from None
    name = str(reply.get("model") or model)
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
    """Tokens with their log-probabilities, from the chat API's `logprobs` object."""
    if not isinstance(reported, dict) or not isinstance(reported.get("content"), list):
        return None
    return [(str(item["token"]), float(item["logprob"])) for item in reported["content"]]


def token_count(tokens: Any, characters: int) -> int:
    """Tokens as a server reports them or, where it does not, estimated as characters / 4."""
    return tokens if isinstance(tokens, int) and tokens >= 0 else -(-characters // 4)


def read_error(body: bytes) -> tuple[str, str]:
    """Code and message of an error body in any of the shapes in use; the body itself if it has none."""
    try:
        reply = json.loads(body)
    except ValueError:
        return "", one_line(body)
    error = reply.get("error", reply) if isinstance(reply, dict) else reply
    if not isinstance(error, dict):
        return "", one_line(str(error))
    code = f"{error.get('code') or ''} {error.get('type') or ''}".strip()
    return code, one_line(str(error.get("message") or error.get("detail") or body.decode("utf-8", "replace")))


def classify_error(status: int, headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    """What an error status means, and the server's words for it.

    Returns one of `no_credit`, `throttled`, `retry`, `no_access`, `not_found`, `moved`,
    `prompt_too_long`, `content_filter`, `refused` (some other fault of the request).
    """
    code, message = read_error(body)
    said = f"{code} {message}"
    if status == 402 or (status == 429 and _NO_CREDIT.search(said)):
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


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, from `retry-after-ms`, or `Retry-After` in seconds or as a date.

    A date counts from the reply's own `Date`, where it has one: this machine's clock may be wrong.
    """
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("Retry-After")
        if value is None:
            return None
        if re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
            return float(value)
        now = email.utils.parsedate_to_datetime(headers["Date"]).timestamp() if "Date" in headers else time.time()
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def one_line(text: str | bytes, most: int = 300) -> str:
    """The first `most` characters, on one line."""
    if isinstance(text, bytes):
        text = text[: 4 * most].decode("utf-8", "replace")
    return " ".join(text.split())[:most]
