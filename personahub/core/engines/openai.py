"""Any OpenAI-compatible chat endpoint: OpenAI, vLLM serve, Ollama, llama.cpp, a provider's gateway.

    engines:
      teacher: {kind: openai, model: gpt-4o-2024-08-06, rpm: 5000, tpm: 800000,
                price: {input: 2.5, output: 10}}
      local:   {kind: openai, model: Qwen/Qwen2.5-7B-Instruct, base_url: "http://127.0.0.1:8000/v1"}

It speaks HTTP through aiohttp, without an SDK: a request costs a fraction of the CPU time, and
what is retried is decided here. Failures that another try may mend (429, 5xx, time-outs, dropped
connections, bodies that are no completion) are retried with exponential backoff and jitter;
throttling pauses all requests. `complete` tells what can never work for one request (`RequestRefused`) from
what can never work for any (`EngineUnavailable`).

The key is read from the environment when the engine opens and goes into one header: it is in no
config, no error message and no file.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import random
import time
import urllib.request
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

import aiohttp
from pydantic import Field, field_validator

from personahub.core.config import EXECUTION, EngineConfig, FrozenModel, read_secret
from personahub.core.engines.base import Completion, EngineUnavailable, Message, Request, RequestRefused
from personahub.core.engines.openai_replies import Retry, classify_error, one_line, read_completion, retry_after
from personahub.core.engines.pacing import Pacer, Pause
from personahub.core.errors import UserError

_UNREACHABLE_TRIES = 4  # at the very start, 0.2, 0.4 and 0.8 s apart
_MALFORMED_TRIES = 4  # each of them is paid for
_LONGEST_BACKOFF_S = 60.0
_NOT_EXTRA = frozenset({"model", "messages", "n", "stream"})


class Price(FrozenModel):
    """USD per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class Config(EngineConfig):
    """An endpoint and a model on it. Identity is `model` and `base_url`; the rest says how to get there."""

    kind: str = "openai"
    base_url: str = Field(default="https://api.openai.com/v1", description="Up to, not including, /chat/completions.")
    api_key_env: Annotated[str | None, EXECUTION] = Field(
        default="OPENAI_API_KEY", description="Variable that holds the key; null: send none. May be unset for loopback."
    )
    timeout_s: Annotated[float, EXECUTION] = Field(default=600, gt=0, description="For one try of one request.")
    max_retry_s: Annotated[float, EXECUTION] = Field(default=600, ge=0, description="From a request's first failure.")
    rpm: Annotated[float | None, EXECUTION] = Field(default=None, gt=0, description="Requests per minute.")
    tpm: Annotated[float | None, EXECUTION] = Field(default=None, gt=0, description="Tokens per minute, both ways.")
    price: Annotated[Price | None, EXECUTION] = Field(default=None, description="USD per million tokens.")

    @field_validator("base_url")
    @classmethod
    def _one_spelling(cls, value: str) -> str:
        """The same endpoint has the same identity, and no secret hides in it."""
        url = urlsplit(value.strip())
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("a base_url looks like http://127.0.0.1:8000/v1")
        if url.username or url.password or url.query or url.fragment:
            raise ValueError("a base_url has no user, password, query or fragment: it is written to files")
        return f"{url.scheme}://{url.netloc.lower()}{url.path.rstrip('/')}"


def open_engine(config: Config) -> OpenAIEngine:
    """Open without asking anything yet.

    Raises:
        EngineUnavailable: the key is not in the environment.
    """
    return OpenAIEngine(config, _read_key(config))


def _read_key(config: Config) -> str | None:
    if config.api_key_env is None:
        return None
    try:
        key = read_secret(config.api_key_env, config.base_url)
    except UserError as error:
        if _is_loopback(config.base_url):
            return None
        raise EngineUnavailable(f"{error} (or api_key_env: null, if the endpoint needs none)") from None
    if not key.isascii() or not key.isprintable() or " " in key:
        raise EngineUnavailable(f"{config.api_key_env}: holds characters that no key has; copy it again")
    return key


def _is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _proxy(base_url: str) -> str | None:
    """The environment's proxy for the endpoint. (aiohttp's `trust_env` would also send ~/.netrc passwords.)"""
    url = urlsplit(base_url)
    if _is_loopback(base_url) or urllib.request.proxy_bypass(url.netloc):
        return None
    return urllib.request.getproxies().get(url.scheme)


class OpenAIEngine:
    """See the module docstring."""

    def __init__(self, config: Config, key: str | None) -> None:
        self.config = config
        self.concurrency = config.concurrency
        self._key = key
        self._session: aiohttp.ClientSession | None = None
        # OpenAI's newer models refuse max_tokens; other servers often know only that.
        own = urlsplit(config.base_url).hostname == "api.openai.com"
        self._limit = "max_completion_tokens" if own else "max_tokens"
        self._requests = Pacer(config.rpm) if config.rpm else None
        self._tokens = Pacer(config.tpm) if config.tpm else None
        self._mean_completion: float | None = None  # tokens, a running mean
        self._pause = Pause()
        self._reached = False  # whether the endpoint has ever replied
        self._answered_at = -math.inf  # when it last answered a request
        self._accepted: set[str] = set()  # parameters that a probe has shown to be fine

    async def complete(self, request: Request) -> Completion:
        """Answer one request; see `personahub.core.engines.base.Engine`."""
        parameters = self._parameters(request)
        body = json.dumps({**parameters, "messages": request.messages}).encode()
        failing_since, tries = math.inf, 0
        while True:
            expected = await self._turn(len(body), request.sampling.max_tokens)
            try:
                completion = await self._ask(body, parameters, request)
            except Retry as failure:
                tries += 1
                failing_since = min(failing_since, time.monotonic())
                await self._recover(failure, failing_since, tries)
            else:
                self._answered_at = time.monotonic()
                self._pause.succeeded()
                self._account(completion, expected)
                return completion

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _parameters(self, request: Request) -> dict[str, Any]:
        """The request's body without its messages."""
        sampling = request.sampling
        parameters: dict[str, Any] = {
            "model": self.config.model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self._limit: sampling.max_tokens,
            "seed": request.seed,
        }
        if sampling.stop:
            parameters["stop"] = sampling.stop
        if request.json_schema is not None:
            schema = {"name": "answer", "schema": request.json_schema, "strict": True}
            parameters["response_format"] = {"type": "json_schema", "json_schema": schema}
        if sampling.extra:
            if taken := _NOT_EXTRA & sampling.extra.keys():
                raise EngineUnavailable(f"sampling.extra: {', '.join(sorted(taken))} cannot be set there")
            parameters |= sampling.extra
            parameters = {name: value for name, value in parameters.items() if value is not None}
        return parameters

    async def _turn(self, characters: int, max_tokens: int) -> float:
        """Wait until rate limits and pauses let a request through; the tokens that it is expected to take."""
        completion = min(max_tokens, 512) if self._mean_completion is None else self._mean_completion
        expected = characters / 4 + completion
        while True:
            await self._pause.wait()
            if self._requests:
                await self._requests.take()
            if self._tokens:
                await self._tokens.take(expected)
            if not self._pause.left:
                return expected

    def _account(self, completion: Completion, expected: float) -> None:
        """Correct the token budget by what the request really took."""
        if self._tokens:
            self._tokens.correct(completion.prompt_tokens + completion.completion_tokens - expected)
        mean = self._mean_completion
        self._mean_completion = (
            completion.completion_tokens if mean is None else (0.95 * mean + 0.05 * completion.completion_tokens)
        )

    async def _recover(self, failure: Retry, failing_since: float, tries: int) -> None:
        """Wait until it makes sense to try again.

        Raises:
            EngineUnavailable: out of patience, and nothing else gets through either.
            RequestRefused: out of patience with this request, while others are answered.
        """
        if failure.unreachable and not self._reached:
            if tries >= _UNREACHABLE_TRIES:
                raise EngineUnavailable(f"cannot reach {self.config.base_url}: {failure.detail}")
            await asyncio.sleep(0.1 * 2**tries)
            return
        if failure.throttled:
            self._pause.throttled(failure.wait_s)
        backoff = min(_LONGEST_BACKOFF_S, 0.1 * 2**tries)
        wait = failure.wait_s if failure.wait_s is not None else self._pause.left or backoff
        self._check_patience(failure, failing_since, tries, wait)
        await asyncio.sleep(wait * random.uniform(1, 1.2))  # noqa: S311 - not for secrets; keeps retries apart

    def _check_patience(self, failure: Retry, failing_since: float, tries: int, wait: float) -> None:
        others_answered = self._answered_at > failing_since
        # Being throttled is no fault of the request: its patience runs anew whenever any gets through.
        since = max(failing_since, self._answered_at) if failure.throttled else failing_since
        failing_for = time.monotonic() - since
        if failing_for + wait <= self.config.max_retry_s and not (failure.paid and tries >= _MALFORMED_TRIES):
            return
        if others_answered and not failure.throttled:
            raise RequestRefused("malformed_reply" if failure.paid else "server_error", failure.detail)
        raise EngineUnavailable(
            f"{self.config.base_url} failed for {failing_for:.0f} s ({tries} tries), last with: {failure.detail}. "
            "Run again later to resume"
        )

    async def _ask(self, body: bytes, parameters: dict[str, Any], request: Request) -> Completion:
        """One try.

        Raises:
            Retry, RequestRefused, EngineUnavailable: what the reply means, see `classify_error`.
        """
        status, headers, reply = await self._post(body)
        if status == 200:
            return read_completion(reply, self.config.model, sum(len(m["content"]) for m in request.messages))
        kind, said = classify_error(status, headers, reply)
        where = f"HTTP {status} from {self.config.base_url}: {said}"
        if kind in ("retry", "throttled"):
            raise Retry(where, wait_s=retry_after(headers), throttled=kind == "throttled")
        if kind in ("prompt_too_long", "content_filter"):
            raise RequestRefused(kind, said)
        if kind == "refused" and await self._accepts(parameters):
            raise RequestRefused("bad_request", where)
        raise EngineUnavailable(f"{where} ({self._advice(kind)})")

    def _advice(self, kind: str) -> str:
        match kind:
            case "no_access":
                name = self.config.api_key_env
                return f"check the key in {name}" if name else "it wants a key: set api_key_env"
            case "no_credit":
                return "the account has no credit left; run again to resume once it has"
            case "not_found":
                return f"check model: {self.config.model}, and base_url, which usually ends in /v1"
            case "moved":
                return "a redirect; set base_url to where the endpoint is now"
            case _:
                return "the endpoint refuses these parameters whatever the prompt; sampling.extra: {name: null} leaves one out"

    async def _accepts(self, parameters: dict[str, Any]) -> bool:
        """Whether a minimal prompt passes with `parameters`: tells a bad prompt from a bad configuration."""
        fixed = json.dumps({name: value for name, value in parameters.items() if name != "seed"}, sort_keys=True)
        if fixed not in self._accepted:
            probe = {**parameters, "messages": [Message(role="user", content="Hi")]}
            if self._limit in probe:
                probe[self._limit] = 16
            status, headers, reply = await self._post(json.dumps(probe).encode())
            if status != 200:
                kind, said = classify_error(status, headers, reply)
                if kind in ("retry", "throttled"):
                    raise Retry(f"HTTP {status}: {said}", wait_s=retry_after(headers), throttled=kind == "throttled")
                return False
            self._accepted.add(fixed)
        return True

    async def _post(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of one reply; the key, should the server repeat it, is blanked.

        Raises:
            Retry: no whole reply came.
        """
        if self._session is None:
            self._session = self._open_session()
        url = f"{self.config.base_url}/chat/completions"
        try:
            async with self._session.post(url, data=body, allow_redirects=False) as response:
                reply = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Retry(one_line(str(error)), unreachable=True) from None
        except TimeoutError:
            raise Retry(f"no reply within {self.config.timeout_s:g} s") from None
        except aiohttp.ClientError as error:
            raise Retry(f"the connection broke off ({type(error).__name__})") from None
        self._reached = True
        if self._key:
            reply = reply.replace(self._key.encode(), b"***")
        return response.status, response.headers, reply

    def _open_session(self) -> aiohttp.ClientSession:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return aiohttp.ClientSession(
            headers=headers,
            proxy=_proxy(self.config.base_url),
            connector=aiohttp.TCPConnector(limit=self.concurrency, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=self.config.timeout_s, sock_connect=min(30, self.config.timeout_s)),
        )
