"""Interprets replies of OpenAI-compatible servers as completion, retry or error."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from personahub.core.engines.base import ONLY_THINKING, Completion, EngineUnavailable, RequestRefused
from personahub.core.engines.remote.messages import ModelMessage, finish_of, read_message

# Messages of servers that do not use OpenAI's error codes.
_TOO_LONG = re.compile(
    r"context.?(length|window|size)|maximum.{0,20}(context|model.?len)|max_model_len"
    r"|(prompt|input) is too long|too many (input |prompt )?tokens|longer than the (maximum|model)",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content.?(filter|policy|management)|moderation|safety|flagged", re.IGNORECASE)
_NO_CREDIT = re.compile(r"insufficient.?(quota|balance|credit)|billing|exceeded your current quota", re.IGNORECASE)
# A limit per minute or day whose message mentions quotas and billing too (Gemini, OpenAI's free tier).
_TEMPORARY = re.compile(r"RESOURCE_EXHAUSTED|(retry|try again) in", re.IGNORECASE)
_WAIT = re.compile(r"(?:retry|try again) in (\d+(?:\.\d+)?) ?(?:s|sec|seconds?)\b", re.IGNORECASE)

_MOST_TOKENS = 10_000_000  # of one reply; more than any context window, so a larger count is a mistake

Note = Callable[[str, str], None]  # prints a message (the second argument) once for each topic (the first)


def _no_note(topic: str, message: str) -> None:
    """Print nothing."""


class Retry(Exception):
    """The same request may succeed if it is sent again.

    `throttled`: the server works but wants fewer requests. `paid`: the prompt and completion tokens of a
    reply that cannot be read but will be charged. `unreachable`: no connection could be made.
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


def read_completions(
    body: bytes, model: str, prompt_characters: int, n: int = 1, note: Note = _no_note
) -> list[Completion]:
    """Read the `n` completions from the body of a reply with status 200.

    If the server reports no usage, or an impossible one, tokens are estimated as characters / 4. The prompt's
    tokens are assigned to the first completion, because they are charged once. Completion tokens are divided by
    length. A completion's `model` is the name that the server reports, which may be a dated version. Thinking text
    that the server sends apart from the answer is put before it, between `<think>` and `</think>`.

    Raises:
        Retry: the body is not a chat completion, or the server stopped in the middle.
        RequestRefused: the server withheld a text, or a reply has no text.
        EngineUnavailable: there are fewer choices than requested.
    """
    try:
        reply = parse_json(body)
        choices = reply["choices"]
        messages = [read_message(choice) for choice in choices]
        texts = [message.marked for message in messages]
        paid = count_usage(reply, prompt_characters, sum(map(len, texts)), note)
        if len(choices) != n:
            raise wrong_number(len(choices), n, body, paid, "set use_n: false on the engine")
        reasons = [
            _check_choice(choice, message, body, paid, note) for choice, message in zip(choices, messages, strict=True)
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        message = f"the reply is not a chat completion: {one_line(body)}"
        raise Retry(message, paid=(-(-prompt_characters // 4), 0)) from None
    reported = reply.get("model")
    name = reported if reported and isinstance(reported, str) else model
    completions = []
    weights = [len(text) for text in texts]
    for choice, text, reason, tokens in zip(choices, texts, reasons, _divide(paid[1], weights), strict=True):
        completions.append(
            Completion(
                text=text,
                finish_reason=reason,
                prompt_tokens=0 if completions else paid[0],
                completion_tokens=tokens,
                model=name,
                logprobs=_logprobs(choice.get("logprobs")),
            )
        )
    return completions


def wrong_number(number: int, n: int, body: bytes, paid: tuple[int, int], advice: str) -> Exception:
    """Return the error for `number` choices instead of `n`.

    `EngineUnavailable` if the server ignores n, else `Retry`.
    """
    if number == 1:
        return EngineUnavailable(f"requested n={n} completions and got 1: this server ignores n; {advice}")
    return Retry(f"the reply has {number} choices instead of {n}: {one_line(body)}", paid=paid)


def _check_choice(
    choice: Mapping[str, Any], message: ModelMessage, body: bytes, paid: tuple[int, int], note: Note
) -> str:
    """Return `stop` or `length`.

    Raises:
        RequestRefused: the server withheld the text, or the model wrote none and asking again would not help.
        Retry: the server stopped in the middle.
    """
    finish, name = finish_of(choice)
    has_text = bool(message.text.strip())
    refusal = "" if has_text else message.refusal
    raw = message.marked or None
    if finish == "filtered" or refusal:
        detail = one_line(refusal) or f"the server withheld the completion (finish_reason {one_line(name, 60)})"
        raise RequestRefused("content_filter", detail, paid, raw)
    if finish == "failed" or (finish == "unknown" and not raw):
        raise Retry(f"the completion ended with {name!r}: {one_line(body)}", paid=paid)
    if not has_text and (message.tools or finish == "tool"):
        calls = json.dumps(message.tools) if message.tools else name
        raise RequestRefused("tool_call", f"no text, only a tool call: {one_line(calls)}", paid, raw or calls)
    if not raw and message.skipped:
        kinds = ", ".join(sorted(set(message.skipped)))
        raise RequestRefused("no_text", f"content has no text, only {one_line(kinds)}", paid)
    if finish == "unknown":
        note("finish_reason", f"unknown finish_reason {one_line(name, 60)!r} is read as stop")
    if message.thought and not has_text:
        note("only_thinking", f"a reply has {ONLY_THINKING}")
    return "length" if finish == "length" else "stop"


def _divide(total: int, weights: Sequence[int]) -> list[int]:
    """Divide `total` into integers proportional to `weights`."""
    whole = sum(weights)
    if len(weights) == 1 or not whole:
        return [total] + [0] * (len(weights) - 1)
    ends = [total * sum(weights[: i + 1]) // whole for i in range(len(weights))]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def _logprobs(reported: Any) -> list[tuple[str, float]] | None:
    """Return tokens with log-probabilities from the chat API's `logprobs`. None if it has another shape."""
    try:
        return [(str(item["token"]), float(item["logprob"])) for item in reported["content"]]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def parse_json(body: bytes) -> Any:
    """Parse a body whose numbers may have any length. Integers of thousands of digits become -1.

    Raises:
        ValueError, RecursionError: the body is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(body)
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python refuses to convert integers of more than 4,300 digits
        return json.loads(body, parse_int=lambda digits: int(digits) if len(digits) < 4000 else -1)


def count_usage(
    reply: Mapping[str, Any], prompt_characters: int, characters: int, note: Note = _no_note
) -> tuple[int, int]:
    """Prompt and completion tokens of a reply: as reported, or estimated where the report is missing or impossible."""
    usage = reply.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
    completion = usage.get("completion_tokens", usage.get("output_tokens"))
    for reported in (prompt, completion):
        if reported is not None and not _is_count(reported):
            note("usage", f"impossible usage ({str(reported)[:30]} tokens); estimating such replies as characters / 4")
    return token_count(prompt, prompt_characters), token_count(completion, characters)


def token_count(tokens: Any, characters: int) -> int:
    """The number of tokens that the server reports, or else an estimate: characters / 4."""
    return int(tokens) if _is_count(tokens) else -(-characters // 4)


def _is_count(tokens: Any) -> bool:
    """Whether this may be a number of tokens. Some servers write 12.0."""
    number = isinstance(tokens, int | float) and not isinstance(tokens, bool)
    return number and 0 <= tokens <= _MOST_TOKENS and tokens == int(tokens)


def read_error(body: bytes) -> tuple[str, str]:
    """Code and message of an error body in any common format. Without a message, the body itself."""
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
    """Return the status of an error inside a 200 reply.

    502 if it has no status, 200 if there is no error. A gateway such as OpenRouter may have sent status 200 before
    the model behind it fails. It then sends an `error`, with the status as its `code`, instead of `choices`. Nothing
    was answered or charged.
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
    """Classify an error reply; return its kind and the server's message.

    The kind is `no_credit`, `throttled`, `retry`, `no_access`, `not_found`, `moved`, `prompt_too_long`,
    `content_filter` or `refused` (anything else that is wrong with the request).
    """
    code, message = read_error(body)
    text = f"{code} {message}"
    if status == 402 or (status == 429 and _is_out_of_credit(code, message, body)):
        return "no_credit", message
    if status == 429:
        return "throttled", message
    if status in (408, 409, 425) or status >= 500:
        return "retry", message
    if 300 <= status < 400:
        return "moved", headers.get("Location", message)
    if status in (400, 403, 422) and _FILTERED.search(text):
        return "content_filter", message
    if status in (401, 403):
        return "no_access", message
    if status == 413 or (status in (400, 422) and _TOO_LONG.search(text)):
        return "prompt_too_long", message
    if status in (404, 405):
        return "not_found", message
    return "refused", message


def _is_out_of_credit(code: str, message: str, body: bytes) -> bool:
    """Returns whether a 429 means an empty account instead of too many requests.

    The message counts if no code says so.
    """
    if "insufficient_quota" in code:
        return True
    temporary = _TEMPORARY.search(body.decode("utf-8", "replace"))  # the whole body: the message is truncated
    return temporary is None and _NO_CREDIT.search(f"{code} {message}") is not None


def retry_after(headers: Mapping[str, str], body: bytes = b"") -> float | None:
    """Return seconds to wait as the server requests.

    Reads `retry-after-ms`, `Retry-After` or "retry in 9.5s". None if the server does not say, or if the time is 0 or
    in the past: following that would mean retries without any pause.
    """
    requested = (_header_milliseconds(headers), _header_seconds(headers), _body_seconds(body))
    return next((seconds for seconds in requested if seconds is not None and 0 < seconds < math.inf), None)


def _header_milliseconds(headers: Mapping[str, str]) -> float | None:
    try:
        return float(headers.get("retry-after-ms", "")) / 1000  # not [...]: `http.client`'s headers return None there
    except ValueError:
        return None


def _header_seconds(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After` in seconds or as a date. A date is relative to the reply's `Date`; this clock may be wrong."""
    value = headers.get("Retry-After", "")
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
        return float(value)
    try:
        now = email.utils.parsedate_to_datetime(headers["Date"]).timestamp() if "Date" in headers else time.time()
        return email.utils.parsedate_to_datetime(value).timestamp() - now
    except (ValueError, OverflowError):
        return None


def _body_seconds(body: bytes) -> float | None:
    found = _WAIT.search(body.decode("utf-8", "replace"))
    return float(found[1]) if found else None


def one_line(text: str | bytes, most: int = 300) -> str:
    """Returns the first `most` characters of `text`, on one line."""
    if isinstance(text, bytes):
        text = text[: 4 * most].decode("utf-8", "replace")
    return " ".join(text.split())[:most]
