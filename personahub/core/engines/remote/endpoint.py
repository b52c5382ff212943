"""The way to an OpenAI-compatible endpoint: connections, rate limits, retries, and what goes wrong on it.

Failures that another try may mend (429, 5xx, time-outs, dropped connections, replies that cannot be
read) are retried with exponential backoff and jitter. A request that waits for its next try holds
no place: others go out meanwhile. Throttling of more than single requests pauses all of them and
takes some places away for a while. What can never work for one request (`RequestRefused`) is told
from what can never work for any (`EngineUnavailable`).

The key is read from the environment when the endpoint opens and goes into one header: it is in no
config, no error message and no file. What a server says is blanked where it repeats the key: its
words in messages always, a reply that is data only where the key is one, as `EMPTY` or `x` are not.
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
from personahub.core.engines.remote.address import one_spelling, proxy_of, read_key
from personahub.core.engines.remote.pacing import Pacer, Pause, Places, retry_wait
from personahub.core.engines.remote.responses import Retry, classify_error, one_line, retry_after, status_within
from personahub.core.engines.remote.wire import Wire
from personahub.core.texts.figures import format_seconds

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

_UNREACHABLE_TRIES = 4  # at the very start, 0.2, 0.4 and 0.8 s apart
_MALFORMED_TRIES = 4  # each of them is paid for
_SECRET_CHARACTERS = 16  # that a key has at least; shorter ones stand for none and are words of other texts too
_OUTAGE_SAID_S = 5.0  # without an answer until a line says so; then after twice as long, and so on


class EndpointConfig(PricedConfig):
    """An endpoint and a model on it. Identity is `model` and `base_url`; the rest says how to get there."""

    base_url: str = Field(default="https://api.openai.com/v1", description="Up to, not including, /chat/completions.")
    api_key_env: Annotated[str | None, EXECUTION] = Field(
        default="OPENAI_API_KEY", description="Variable that holds the key; null: send none. May be unset for loopback."
    )
    timeout_s: Annotated[float, EXECUTION] = Field(default=600, gt=0, description="For one try of one request.")
    max_retry_s: Annotated[float, EXECUTION] = Field(
        default=600, ge=0, description="From a request's first failure, while others are answered; then it is given up."
    )
    max_outage_s: Annotated[float, EXECUTION] = Field(
        default=3600, ge=0, description="Without an answer to any request, an endpoint that is down included; then the "
        "run stops and can be resumed."
    )  # fmt: skip
    rpm: Annotated[float | None, EXECUTION] = Field(default=None, gt=0, description="Requests per minute.")
    tpm: Annotated[float | None, EXECUTION] = Field(default=None, gt=0, description="Tokens per minute, both ways.")

    @field_validator("base_url")
    @classmethod
    def _one_spelling(cls, value: str) -> str:
        return one_spelling(value)


@dataclass
class _Failures:
    """What has gone wrong with one request so far."""

    since: float = math.inf  # the first failure, on the monotonic clock
    tries: int = 0
    unreadable: int = 0  # replies that were paid for
    wasted: tuple[int, int] = (0, 0)  # prompt and completion tokens of these

    def add(self, failure: Retry) -> None:
        self.since = min(self.since, time.monotonic())
        self.tries += 1
        if failure.paid is not None:
            self.unreadable += 1
            self.wasted = (self.wasted[0] + failure.paid[0], self.wasted[1] + failure.paid[1])


class Endpoint:
    """See the module docstring. Close it with `await endpoint.close()`."""

    def __init__(self, config: EndpointConfig, path: str = "/chat/completions") -> None:
        self.config = config
        key = self._key = read_key(config.api_key_env, config.base_url)
        # As it is, and as JSON may spell it.
        spellings = {key, key.replace("/", "\\/")} if key and len(key) >= _SECRET_CHARACTERS else set()
        self._secrets = [spelling.encode() for spelling in spellings]
        self._url = yarl.URL(config.base_url + path)
        self._session: aiohttp.ClientSession | None = None
        self._wire: Wire | None = None
        self._requests = Pacer(config.rpm) if config.rpm else None
        self._tokens = Pacer(config.tpm) if config.tpm else None
        self._mean_completion: float | None = None  # tokens, a running mean
        self._pause = Pause()
        self._places = Places(config.concurrency)
        self._reached = False  # whether the endpoint has ever replied
        self._answered_at = -math.inf  # when it last answered a request
        self._down_since = math.inf  # the first failure that no answer has followed
        self._say_at_s = _OUTAGE_SAID_S  # without an answer, when a line is next due

    async def ask(
        self,
        body: bytes,
        read: Callable[[bytes], T],
        tokens: Callable[[T], tuple[int, int]],
        max_tokens: int,
        accepts: Callable[[], Awaitable[bool]] | None = None,
    ) -> tuple[T, tuple[int, int]]:
        """What `read` makes of the reply to one request, and the tokens wasted on replies that it could not read.

        Args:
            body: the request's body.
            read: value of a reply's body; raises `Retry` if it cannot be read, `RequestRefused`.
            tokens: prompt and completion tokens of the value.
            max_tokens: that the reply may take.
            accepts: whether the endpoint takes the request's parameters with another prompt: tells
                a bad prompt from a bad configuration.

        Raises:
            RequestRefused: this request can never be answered.
            EngineUnavailable: no request can.
        """
        failures = _Failures()
        while True:
            expected = await self._turn(len(body), max_tokens)
            sent_at = time.monotonic()
            try:
                async with self._places:
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
                    self._say_up()
                self._pause.succeeded(self._answered_at)
                self._places.succeeded()
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
        """What `read` makes of a reply; raises what it or `explain` says is wrong with it."""
        if status == 200:
            try:
                return read(reply)
            except (Retry, RequestRefused, EngineUnavailable) as failure:
                status = status_within(reply)
                if status == 200:
                    raise self.blanked(failure) from None
        raise await self.explain(status, headers, reply, accepts)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _turn(self, characters: int, max_tokens: int) -> float:
        """Wait until rate limits and pauses let a request through; the tokens that it is expected to take."""
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
        """Correct the token budget by what the request really took."""
        assert self._tokens is not None  # noqa: S101
        self._tokens.correct(prompt_tokens + completion_tokens - expected)
        mean = self._mean_completion
        self._mean_completion = completion_tokens if mean is None else 0.95 * mean + 0.05 * completion_tokens

    async def _recover(self, failure: Retry, sent_at: float, failures: _Failures) -> None:
        """Wait until it makes sense to try again.

        Raises:
            EngineUnavailable: out of patience, and nothing else gets through either.
            RequestRefused: out of patience with this request, while others are answered.
        """
        if failure.unreachable and not self._reached:
            if failures.tries >= _UNREACHABLE_TRIES:
                raise EngineUnavailable(f"cannot reach {self.config.base_url}: {failure.detail}")
            await asyncio.sleep(0.1 * 2**failures.tries)
            return
        if failure.throttled and self._pause.throttled(sent_at, failure.wait_s):
            self._places.throttled()
        pause = self._pause.left if failure.wait_s is None else 0.0
        wait = pause or retry_wait(failures.tries, failure.wait_s)
        self._check_patience(failure, failures, wait)
        self._say_down(failure, wait)
        await asyncio.sleep(wait * random.uniform(1, 1.2))  # noqa: S311 - not for secrets; keeps retries apart

    def _check_patience(self, failure: Retry, failures: _Failures, wait: float) -> None:
        others_answered = self._answered_at > failures.since
        # Being throttled is no fault of the request: its patience runs anew whenever any gets through.
        since = max(failures.since, self._answered_at) if failure.throttled else failures.since
        failing_for = time.monotonic() - since
        paid = failure.paid is not None
        its_own_fault = others_answered and not failure.throttled
        patience = self.config.max_retry_s if its_own_fault else self.config.max_outage_s
        if failing_for + wait <= patience and not (paid and failures.unreadable >= _MALFORMED_TRIES):
            return
        if its_own_fault:
            raise RequestRefused("malformed_reply" if paid else "server_error", failure.detail, failures.wasted)
        raise EngineUnavailable(
            f"{self.config.base_url} failed for {failing_for:.0f} s ({failures.tries} tries), last with: {failure.detail}. "
            "Run again later to resume"
        )

    def _say_down(self, failure: Retry, wait: float) -> None:
        """A run that waits for its endpoint says so: when it is about to have waited 5 seconds, 10, 20 and so on."""
        now = time.monotonic()
        self._down_since = min(self._down_since, now)
        waited = now - self._down_since + wait
        if waited < self._say_at_s:
            return
        self._say_at_s = 2 * waited
        print(
            f"{self.config.base_url}: no answer for {format_seconds(waited - wait)} ({failure.detail}); next try in "
            f"{format_seconds(wait)}, for up to {format_seconds(self.config.max_outage_s)}. Stopping loses nothing",
            file=sys.stderr,
            flush=True,
        )

    def _say_up(self) -> None:
        if self._say_at_s > _OUTAGE_SAID_S:
            down_for = format_seconds(self._answered_at - self._down_since)
            print(f"{self.config.base_url}: answers again, after {down_for}", file=sys.stderr, flush=True)
        self._down_since, self._say_at_s = math.inf, _OUTAGE_SAID_S

    async def explain(
        self,
        status: int,
        headers: Mapping[str, str],
        reply: bytes,
        accepts: Callable[[], Awaitable[bool]] | None = None,
    ) -> Exception:
        """What a reply other than a 200 means, see `classify_error`: `Retry`, `RequestRefused`, `EngineUnavailable`."""
        kind, said = classify_error(status, headers, reply)
        said = self.blank(said)
        where = f"HTTP {status} from {self.config.base_url}: {said}"
        if kind in ("retry", "throttled"):
            return Retry(where, wait_s=retry_after(headers, reply), throttled=kind == "throttled")
        if kind in ("prompt_too_long", "content_filter"):
            return RequestRefused(kind, said)
        if kind == "refused" and accepts is not None and await accepts():
            return RequestRefused("bad_request", where)
        return EngineUnavailable(f"{where} ({self.advice(kind)})")

    def advice(self, kind: str) -> str:
        """What the user can do about a reply of this kind."""
        match kind:
            case "no_access":
                name = self.config.api_key_env
                return f"check the key in {name}" if name else "it wants a key: set api_key_env"
            case "no_credit":
                return "the account has no credit left; run again to resume once it has"
            case "not_found":
                model = (
                    f"model: {self.config.model}" if self.config.model else "the model"
                )  # that a request names itself
                return f"check {model}, and base_url, which usually ends in /v1"
            case "moved":
                return "a redirect; set base_url to where the endpoint is now"
            case _:
                return "the endpoint refuses these parameters whatever the prompt; sampling.extra: {name: null} leaves one out"

    async def post(
        self, data: bytes | aiohttp.FormData | None, url: yarl.URL | None = None, method: str = "POST"
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of one reply. A key that is a secret is blanked in it, should the server repeat it.

        Raises:
            Retry: no whole reply came.
            EngineUnavailable: the certificate is not valid.
        """
        session = self._session or self._open_session()
        try:
            if self._wire is not None and url is None and isinstance(data, bytes):
                status, headers, reply = await self._wire.post(data)
            else:
                json = {"content_type": "application/json"}
                payload = aiohttp.BytesPayload(data, **json) if isinstance(data, bytes) else data
                async with session.request(method, url or self._url, data=payload, allow_redirects=False) as response:
                    status, headers, reply = response.status, response.headers, await response.read()
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            said = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
            said = getattr(said, "verify_message", "") or one_line(str(said))
            raise EngineUnavailable(
                f"{self.config.base_url}: no secure connection: {said}. If it is the server's certificate "
                "that is wrong, have it renewed; a private one's authority goes into SSL_CERT_FILE"
            ) from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Retry(one_line(str(error)), unreachable=True) from None
        except TimeoutError:
            raise Retry(f"no reply within {self.config.timeout_s:g} s") from None
        except aiohttp.ClientError as error:
            raise Retry(f"the connection broke off ({type(error).__name__})") from None
        self._reached = True
        for secret in self._secrets:
            reply = reply.replace(secret, b"***")
        return status, headers, reply

    def blank(self, said: str) -> str:
        """A server's words as they may be shown: without the key, however short."""
        return said.replace(self._key, "***") if self._key else said

    def blanked(self, failure: E) -> E:
        """The same failure, with `blank` over what it says."""
        failure.args = tuple(self.blank(arg) if isinstance(arg, str) else arg for arg in failure.args)
        if isinstance(failure, Retry | RequestRefused):
            failure.detail = self.blank(failure.detail)
        return failure

    def _open_session(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=self.config.timeout_s, sock_connect=min(30, self.config.timeout_s))
        proxy = proxy_of(self.config.base_url)
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else None,
            proxy=proxy,
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),  # the places are the limit
            timeout=timeout,
        )
        self._wire = Wire(self._session, self._url, timeout) if proxy is None else None
        return self._session
