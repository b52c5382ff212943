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
        choices = reply["choices"]
        texts = [choice["message"].get("content") for choice in choices]
        reasons = [choice.get("finish_reason") for choice in choices]
        refusals = [choice["message"].get("refusal") for choice in choices]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Retry(
            f"a reply that is not one chat completion: {one_line(body)}", paid=(-(-prompt_characters // 4), 0)
        ) from None
    usage = reply.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    characters = [len(text) if isinstance(text, str) else 0 for text in texts]
    prompt_tokens = _count(usage.get("prompt_tokens"), prompt_characters)
    completion_tokens = _count(usage.get("completion_tokens"), sum(characters))
    paid = (prompt_tokens, completion_tokens)
    if n > 1 and len(choices) == 1:
        raise EngineUnavailable(
            f"asked for n={n} completions and got 1: this server ignores n. Set use_n: false on the engine"
        )
    if len(choices) != n:
        raise Retry(f"{len(choices)} choices where {n} were asked for: {one_line(body)}", paid=paid)
    for text, reason, refusal in zip(texts, reasons, refusals, strict=True):
        if reason == "content_filter" or (refusal and not text):
            said = one_line(refusal or "the server withheld the completion")
            raise RequestRefused("content_filter", said, paid)
        if reason not in (None, "stop", "length", "eos", "end_turn") or not isinstance(text, str | None):
            raise Retry(f"a completion that ended with {reason!r}: {one_line(body)}", paid=paid)
    name = str(reply.get("model") or model)
    return [
        Completion(
            text=texts[i] or "",
            finish_reason="length" if reasons[i] == "length" else "stop",
            prompt_tokens=prompt_tokens if i == 0 else 0,
            completion_tokens=tokens,
            model=name,
            logprobs=_logprobs(choices[i].get("logprobs")),
        )
        for i, tokens in enumerate(_share_out(completion_tokens, characters))
    ]


def _share_out(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in whole parts proportional to `weights`, which sum to it."""
    whole = sum(weights)
    if len(weights) == 1 or not whole:
        return [total, *[0] * (len(weights) - 1)]
    ends = [total * sum(weights[: i + 1]) // whole for i in range(len(weights))]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def _logprobs(reported: Any) -> list[tuple[str, float]] | None:
    """Tokens with their log-probabilities, from the chat API's `logprobs` object."""
    if not isinstance(reported, dict) or not isinstance(reported.get("content"), list):
        return None
    return [(str(item["token"]), float(item["logprob"])) for item in reported["content"]]


def _count(tokens: Any, characters: int) -> int:
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
    """Seconds that the server asks to wait, from `retry-after-ms`, or `Retry-After` in seconds or as a date."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("Retry-After")
        if value is None:
            return None
        if re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
            return float(value)
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def one_line(text: str | bytes, most: int = 300) -> str:
    if isinstance(text, bytes):
        text = text[: 4 * most].decode("utf-8", "replace")
    return " ".join(text.split())[:most]
