"""Connection to an OpenAI-compatible endpoint: rate limits, retries and errors.

Temporary failures (429, 5xx, timeouts, dropped connections, unreadable replies) are retried with exponential
backoff and jitter. A request that waits for its next try does not count as in flight, so other requests are
sent meanwhile. If more than single requests are throttled, all requests pause and the concurrency is reduced
for a while. Errors that concern one request (`RequestRefused`) are distinguished from errors that concern all
requests (`EngineUnavailable`).

The API key is read from the environment when the endpoint opens, and goes into one header. It is never part of
a config, an error message or a file. If a server repeats the key, it is redacted: always in messages, and in
data if the key is long enough to be a secret (`EMPTY` and `x` are not).
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar

import aiohttp
import yarl
from pydantic import Field, field_validator

from personahub.core.config import EXECUTION
from personahub.core.engines.base import EngineUnavailable, PricedConfig, RequestRefused
from personahub.core.engines.remote.address import find_proxy, normalize_url, read_key
from personahub.core.engines.remote.pacing import AdaptiveLimit, Pacer, Pause, retry_wait
from personahub.core.engines.remote.responses import Retry, classify_error, one_line, retry_after, status_within
from personahub.core.engines.remote.wire import ReplyTooLarge, Wire, read_body
from personahub.core.texts.figures import format_seconds

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

_UNREACHABLE_TRIES = 4  # at the very start, 0.2, 0.4 and 0.8 s apart
_MALFORMED_TRIES = 4  # each of them is charged
_SECRET_CHARACTERS = 16  # minimum length of a secret; shorter values are placeholders and occur in other texts
_OUTAGE_NOTE_S = 5.0  # without an answer until the first note; each further note comes after twice the time


class EndpointConfig(PricedConfig):
    """A model behind an endpoint. Its identity is `model` and `base_url`; all other keys are execution."""

    base_url: str = Field(default="https://api.openai.com/v1", description="URL of the API, without /chat/completions.")
    api_key_env: Annotated[str | None, EXECUTION] = Field(
        default="OPENAI_API_KEY",
        description="Variable with the API key; null: send no key. May be unset for a loopback endpoint.",
    )
    timeout_s: Annotated[float, EXECUTION] = Field(default=600, gt=0, description="Timeout of one try of one request.")
    max_retry_s: Annotated[float, EXECUTION] = Field(
        default=600,
        ge=0,
        description="How long a failing request is retried while others succeed; after that it is refused.",
    )
    max_outage_s: Annotated[float, EXECUTION] = Field(
        default=3600,
        ge=0,
        description="How long a run continues without an answer to any request. After that it stops and can be resumed.",
    )
    rpm: Annotated[float | None, EXECUTION] = Field(default=None, gt=0, description="Requests per minute.")
    tpm: Annotated[float | None, EXECUTION] = Field(
        default=None, gt=0, description="Tokens per minute, prompt and completion."
    )

    max_reply_bytes: Annotated[int, EXECUTION] = Field(
        default=32 * 1024 * 1024,
        gt=0,
        description="A reply whose decompressed body is larger is refused and not read to its end.",
    )

    @field_validator("base_url")
    @classmethod
    def _normalize_url(cls, value: str) -> str:
        return normalize_url(value)


@dataclass
class _Failures:
    """The failures of one request so far."""

    since: float = math.inf  # time of the first failure, on the monotonic clock
    tries: int = 0
    unreadable: int = 0  # replies that were charged
    wasted: tuple[int, int] = (0, 0)  # prompt and completion tokens of these replies

    def add(self, failure: Retry) -> None:
        self.since = min(self.since, time.monotonic())
        self.tries += 1
        if failure.paid is not None:
            self.unreadable += 1
            self.wasted = (self.wasted[0] + failure.paid[0], self.wasted[1] + failure.paid[1])


class Endpoint:
    """Sends requests to an endpoint. Close it with `await endpoint.close()`."""

    def __init__(self, config: EndpointConfig, path: str = "/chat/completions") -> None:
        self.config = config
        key = self._key = read_key(config.api_key_env, config.base_url)
        # The key itself, and its possible spelling in JSON.
        spellings = {key, key.replace("/", "\\/")} if key and len(key) >= _SECRET_CHARACTERS else set()
        self._secrets = [spelling.encode() for spelling in spellings]
        self._url = yarl.URL(config.base_url + path)
        self._session: aiohttp.ClientSession | None = None
        self._wire: Wire | None = None
        self._requests = Pacer(config.rpm) if config.rpm else None
        self._tokens = Pacer(config.tpm) if config.tpm else None
        self._mean_completion: float | None = None  # tokens, a running mean
        self._pause = Pause()
        self._in_flight = AdaptiveLimit(config.concurrency)
        self._noted: set[str] = set()  # topics of `note_once`
        self._reached = False  # whether the endpoint has replied at all
        self._answered_at = -math.inf  # time of the last answer
        self._down_since = math.inf  # time of the first failure since the last answer
        self._next_note_s = _OUTAGE_NOTE_S  # seconds without an answer until the next note

    async def ask(
        self,
        body: bytes,
        read: Callable[[bytes], T],
        tokens: Callable[[T], tuple[int, int]],
        max_tokens: int,
        accepts: Callable[[], Awaitable[bool]] | None = None,
    ) -> tuple[T, tuple[int, int]]:
        """Send one request until it is answered.

        Args:
            body: the request's body.
            read: converts the body of a reply to a value; raises `Retry` or `RequestRefused` if it cannot.
            tokens: returns the prompt and completion tokens of a value.
            max_tokens: limit on the tokens of the reply.
            accepts: whether the endpoint accepts the request's parameters with another prompt. It
                distinguishes a bad prompt from a bad configuration.

        Returns:
            The value, and the prompt and completion tokens that unreadable replies have wasted.

        Raises:
            RequestRefused: this request can never be answered.
            EngineUnavailable: no request can be answered.
        """
        failures = _Failures()
        while True:
            expected = await self._wait_for_turn(len(body), max_tokens)
            sent_at = time.monotonic()
            try:
                async with self._in_flight:
                    status, headers, reply = await self.post(body)
                value = await self._value(read, status, headers, reply, accepts)
            except Retry as failure:
                failures.add(failure)
                await self._recover(failure, sent_at, failures)
            except RequestRefused as refused:
                before = failures.wasted
                refused.wasted = (before[0] + refused.wasted[0], before[1] + refused.wasted[1])
                raise
            else:
                self._answered_at = time.monotonic()
                if self._down_since < math.inf:
                    self._note_up()
                self._pause.succeeded(self._answered_at)
                self._in_flight.succeeded()
                if self._tokens:
                    self._account(*tokens(value), expected)
                return value, failures.wasted

    async def _value(
        self,
        read: Callable[[bytes], T],
        status: int,
        headers: Mapping[str, str],
        reply: bytes,
        accepts: Callable[[], Awaitable[bool]] | None,
    ) -> T:
        """Convert a reply with `read`. Raises the error of `read` or of `explain`."""
        if status == 200:
            try:
                return read(reply)
            except (Retry, RequestRefused, EngineUnavailable) as failure:
                status = status_within(reply)
                if status == 200:
                    raise self.redacted(failure) from None
        raise await self.explain(status, headers, reply, accepts)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _wait_for_turn(self, characters: int, max_tokens: int) -> float:
        """Wait for rate limits and pauses. Returns the number of tokens that the request is expected to take."""
        completion = min(max_tokens, 512) if self._mean_completion is None else self._mean_completion
        expected = characters / 4 + completion
        while True:
            if self._pause.left:
                await self._pause.wait()
            if self._requests:
                await self._requests.take()
            if self._tokens:
                await self._tokens.take(expected)
            if not self._pause.left:
                return expected

    def _account(self, prompt_tokens: int, completion_tokens: int, expected: float) -> None:
        """Correct the token budget by what the request actually took."""
        assert self._tokens is not None  # noqa: S101
        self._tokens.correct(prompt_tokens + completion_tokens - expected)
        mean = self._mean_completion
        self._mean_completion = completion_tokens if mean is None else 0.95 * mean + 0.05 * completion_tokens

    async def _recover(self, failure: Retry, sent_at: float, failures: _Failures) -> None:
        """Wait before the next try.

        Raises:
            EngineUnavailable: the time is up, and no other request succeeds either.
            RequestRefused: the time of this request is up, while others succeed.
        """
        if failure.unreachable and not self._reached:
            if failures.tries >= _UNREACHABLE_TRIES:
                raise EngineUnavailable(f"cannot reach {self.config.base_url}: {failure.detail}")
            await asyncio.sleep(0.1 * 2**failures.tries)
            return
        if failure.throttled and self._pause.throttled(sent_at, failure.wait_s):
            self._in_flight.throttled()
        pause = self._pause.left if failure.wait_s is None else 0.0
        wait = pause or retry_wait(failures.tries, failure.wait_s)
        self._check_patience(failure, failures, wait)
        self._note_down(failure, wait)
        await asyncio.sleep(wait * random.uniform(1, 1.2))  # noqa: S311 - not for secrets; spreads retries

    def _check_patience(self, failure: Retry, failures: _Failures, wait: float) -> None:
        others_answered = self._answered_at > failures.since
        # Throttling is not the request's fault: its time starts again whenever any request succeeds.
        since = max(failures.since, self._answered_at) if failure.throttled else failures.since
        failing_for = time.monotonic() - since
        paid = failure.paid is not None
        only_this_one = others_answered and not failure.throttled
        patience = self.config.max_retry_s if only_this_one else self.config.max_outage_s
        if failing_for + wait <= patience and not (paid and failures.unreadable >= _MALFORMED_TRIES):
            return
        if only_this_one:
            raise RequestRefused("malformed_reply" if paid else "server_error", failure.detail, failures.wasted)
        raise EngineUnavailable(
            f"{self.config.base_url} failed for {failing_for:.0f} s ({failures.tries} tries), last with: {failure.detail}. "
            "Run again later to resume"
        )

    def _note_down(self, failure: Retry, wait: float) -> None:
        """Print a note when the run has waited about 5 seconds for an answer, then 10, 20, ..."""
        now = time.monotonic()
        self._down_since = min(self._down_since, now)
        waited = now - self._down_since + wait
        if waited < self._next_note_s:
            return
        self._next_note_s = 2 * waited
        print(
            f"{self.config.base_url}: no answer for {format_seconds(waited - wait)} ({failure.detail}); next try in "
            f"{format_seconds(wait)}, for up to {format_seconds(self.config.max_outage_s)}. Stopping the run loses nothing",
            file=sys.stderr,
            flush=True,
        )

    def _note_up(self) -> None:
        if self._next_note_s > _OUTAGE_NOTE_S:
            down_for = format_seconds(self._answered_at - self._down_since)
            print(f"{self.config.base_url}: answers again, after {down_for}", file=sys.stderr, flush=True)
        self._down_since, self._next_note_s = math.inf, _OUTAGE_NOTE_S

    async def explain(
        self,
        status: int,
        headers: Mapping[str, str],
        reply: bytes,
        accepts: Callable[[], Awaitable[bool]] | None = None,
    ) -> Exception:
        """Return the error for a status other than 200. It is `Retry`, `RequestRefused` or `EngineUnavailable`."""
        kind, message = classify_error(status, headers, reply)
        message = self.redact(message)
        where = f"HTTP {status} from {self.config.base_url}: {message}"
        if kind in ("retry", "throttled"):
            return Retry(where, wait_s=retry_after(headers, reply), throttled=kind == "throttled")
        if kind in ("prompt_too_long", "content_filter"):
            return RequestRefused(kind, message)
        if kind == "refused" and accepts is not None and await accepts():
            return RequestRefused("bad_request", where)
        return EngineUnavailable(f"{where} ({self.advice(kind)})")

    def advice(self, kind: str) -> str:
        """What the user can do about an error of this kind."""
        match kind:
            case "no_access":
                name = self.config.api_key_env
                return f"check the key in {name}" if name else "the endpoint needs a key: set api_key_env"
            case "no_credit":
                return "the account has no credit left; add credit and run again to resume"
            case "not_found":
                # `personahub complete` has no configured model: each request names its own.
                model = f"model: {self.config.model}" if self.config.model else "the model"
                return f"check {model}, and base_url, which usually ends in /v1"
            case "moved":
                return "the endpoint redirects; set base_url to its new address"
            case _:
                return "the endpoint refuses these parameters for any prompt; sampling.extra: {name: null} omits one"

    async def post(
        self,
        data: bytes | aiohttp.FormData | None,
        url: yarl.URL | None = None,
        method: str = "POST",
        replies: int = 1,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request.

        Return the status, headers and body of its reply, with a secret key redacted.

        Raises:
            Retry: no complete reply arrived.
            RequestRefused: the body is larger than `max_reply_bytes` for each of the `replies` in it.
            EngineUnavailable: the certificate is not valid.
        """
        session = self._session or self._open_session()
        limit = replies * self.config.max_reply_bytes
        try:
            if self._wire is not None and url is None and isinstance(data, bytes):
                status, headers, reply = await self._wire.post(data, limit)
            else:
                json = {"content_type": "application/json"}
                payload = aiohttp.BytesPayload(data, **json) if isinstance(data, bytes) else data
                async with session.request(method, url or self._url, data=payload, allow_redirects=False) as response:
                    status, headers = response.status, response.headers
                    reply = await read_body(response.content, limit, status, headers)
        except ReplyTooLarge as large:
            status, headers, reply = large.status, large.headers, large.start
            if status == 200:
                self._reached = True
                sent = len(data) if isinstance(data, bytes) else 0
                detail = f"the reply has more than {limit:,} bytes; max_reply_bytes sets this limit"
                raise RequestRefused("reply_too_large", detail, (-(-sent // 4), 0)) from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
            reason = getattr(cause, "verify_message", "") or one_line(str(cause))
            raise EngineUnavailable(
                f"{self.config.base_url}: no secure connection: {reason}. Renew the server's certificate if it is "
                "invalid; for a private certificate authority, set SSL_CERT_FILE"
            ) from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Retry(one_line(str(error)), unreachable=True) from None
        except TimeoutError:
            raise Retry(f"no reply within {self.config.timeout_s:g} s") from None
        except aiohttp.ClientError as error:
            raise Retry(f"the connection was lost ({type(error).__name__})") from None
        self._reached = True
        for secret in self._secrets:
            reply = reply.replace(secret, b"***")
        return status, headers, reply

    def note_once(self, topic: str, message: str) -> None:
        """Print a message, but only the first one about its topic."""
        if topic not in self._noted:
            self._noted.add(topic)
            print(f"{self.config.base_url}: {self.redact(message)}", file=sys.stderr, flush=True)

    def redact(self, message: str) -> str:
        """Return a server's message without the key, however short the key is."""
        return message.replace(self._key, "***") if self._key else message

    def redacted(self, failure: E) -> E:
        """Return the same error with the key redacted in its messages."""
        failure.args = tuple(self.redact(arg) if isinstance(arg, str) else arg for arg in failure.args)
        if isinstance(failure, Retry | RequestRefused):
            failure.detail = self.redact(failure.detail)
        return failure

    def _open_session(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=self.config.timeout_s, sock_connect=min(30, self.config.timeout_s))
        proxy = find_proxy(self.config.base_url)
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else None,
            proxy=proxy,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),  # `_in_flight` is the limit
            timeout=timeout,
        )
        self._wire = Wire(self._session, self._url, timeout) if proxy is None else None
        return self._session
