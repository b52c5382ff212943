"""Engine for OpenAI-compatible chat endpoints: OpenAI, vLLM, llama.cpp, gateways.

    engines:
      teacher: {kind: openai, model: gpt-4o-2024-08-06, rpm: 5000, tpm: 800000,
                price: {input: 2.5, output: 10}, max_cost_usd: 200}
      local:   {kind: openai, model: Qwen/Qwen2.5-7B-Instruct, base_url: "http://127.0.0.1:8000/v1"}

It uses HTTP through aiohttp instead of an SDK, which takes a fraction of the CPU time per request.
`personahub.core.engines.remote.endpoint` decides what is retried.

With `use_n: true`, the samples of one prompt are one request with `n`, and the prompt is charged once. All
samples then use the seed of the first one. To get log-probabilities, set `sampling: {extra: {logprobs: true}}`.

`chat_template_kwargs: {enable_thinking: false}` goes into every request body and switches thinking off in servers
that render a chat template (vLLM, SGLang, llama.cpp). `docs/generation.md` lists the replies that are understood.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from personahub.core.engines.base import (
    ChatTemplateKwargs,
    Completion,
    Engine,
    EngineUnavailable,
    Message,
    Request,
    Sampling,
)
from personahub.core.engines.price import Price
from personahub.core.engines.remote.endpoint import Endpoint, EndpointConfig
from personahub.core.engines.remote.responses import Retry, read_completions, read_error, status_within

_OPENAI = "https://api.openai.com/v1"
_NOT_EXTRA = frozenset({"model", "messages", "n", "stream"})


class ChatConfig(EndpointConfig):
    """Base of the configuration of engines that make the request bodies of the chat API."""

    chat_template_kwargs: ChatTemplateKwargs


class Config(ChatConfig):
    """Configuration of the `openai` engine."""

    kind: str = "openai"
    use_n: bool = Field(default=False, description="Request all samples of a prompt at once, with `n`.")

    @property
    def batch_price(self) -> Price | None:
        """Half the price if the endpoint is OpenAI's (`kind: openai_batch`)."""
        return self.price.halved() if self.price and self.base_url == _OPENAI else None


def open_engine(config: Config) -> OpenAIEngine:
    """Open the engine without sending a request.

    Raises:
        EngineUnavailable: the API key is not in the environment.
    """
    return OpenAIEngine(config)


class OpenAIEngine(Engine[Config]):
    """Sends each request to the endpoint; see the module docstring."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        # Half of the calls may be waiting for a retry; the endpoint enforces the config's `concurrency`.
        self.concurrency = 2 * config.concurrency
        self.merges_samples = config.use_n
        self._endpoint = Endpoint(config)
        self._bodies = Bodies(config)
        self._probes = Probes(self._endpoint, self._bodies)

    async def complete(self, request: Request) -> Completion:
        """Answer one request; see `personahub.core.engines.base.Engine`."""
        return (await self.complete_samples([request]))[0]

    async def complete_samples(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer requests that differ only in sample index and seed with one HTTP request."""
        request, n = requests[0], len(requests)
        characters, model = len(request.messages_json), self.config.model
        completions, wasted = await self._endpoint.ask(
            self._bodies.body(request, n),
            lambda reply: read_completions(reply, model, characters, n, self._endpoint.note_once),
            _tokens,
            n * request.sampling.max_tokens,
            lambda: self._probes.accepts(request, n),
        )
        if wasted != (0, 0):
            completions[0] = completions[0].after_waste(wasted)
        return completions

    async def close(self) -> None:
        await self._endpoint.close()


class Probes:
    """Tells a bad prompt from a bad configuration. Sends a minimal prompt with the same parameters."""

    def __init__(self, endpoint: Endpoint, bodies: Bodies) -> None:
        self._endpoint = endpoint
        self._bodies = bodies
        self._accepted: set[str] = set()  # parameters that the endpoint has accepted
        self._lock = asyncio.Lock()  # one probe serves all prompts that wait for it

    async def accepts(self, request: Request, n: int = 1) -> bool:
        """Return whether the endpoint accepts the parameters of a request for `n` samples.

        Raises:
            EngineUnavailable: it accepts them only for one sample.
            Retry: the endpoint does not answer now.
        """
        async with self._lock:
            refused = await self._try(self._bodies.probe(request, n))
            if refused and n > 1 and not await self._try(self._bodies.probe(request)):
                where = self._endpoint.config.base_url
                raise EngineUnavailable(f"{where} refuses n={n}: {refused} (set use_n: false on the engine)")
            return not refused

    async def _try(self, probe: dict[str, Any]) -> str:
        """Return the endpoint's message if it refuses the request `probe`. It is empty if the endpoint accepts."""
        parameters = json.dumps({**probe, "seed": "seed" in probe}, sort_keys=True)
        if parameters in self._accepted:
            return ""
        status, headers, reply = await self._endpoint.post(json.dumps(probe).encode())
        status = status_within(reply) if status == 200 else status
        if status == 200:
            self._accepted.add(parameters)
            return ""
        failure = await self._endpoint.explain(status, headers, reply)
        if isinstance(failure, Retry):
            raise failure
        return self._endpoint.redact(read_error(reply)[1]) or f"HTTP {status}"


def _tokens(completions: Sequence[Completion]) -> tuple[int, int]:
    return completions[0].prompt_tokens, sum(completion.completion_tokens for completion in completions)


class Bodies:
    """Request bodies of the chat-completions API."""

    def __init__(self, config: ChatConfig) -> None:
        self._template_kwargs = config.chat_template_kwargs
        self._model = config.model
        # OpenAI's newer models refuse max_tokens; many other servers accept nothing else.
        own = urlsplit(config.base_url).hostname == "api.openai.com"
        self.limit = "max_completion_tokens" if own else "max_tokens"
        # The part that requests share, by the ids of the objects that it is made from.
        self._begun: dict[tuple[int, int], tuple[str, bool, Sampling, Any]] = {}

    def body(self, request: Request, n: int = 1) -> bytes:
        """Return the whole body as JSON."""
        shared = (id(request.sampling), id(request.json_schema))
        found = self._begun.get(shared)
        if found is None:
            if len(self._begun) > 1000:  # a stage creates new objects for every request
                self._begun.clear()
            begin = json.dumps(self.parameters(request.sampling, request.json_schema))[:-1]
            takes_seed = "seed" not in request.sampling.extra
            found = self._begun[shared] = (begin, takes_seed, request.sampling, request.json_schema)
        begin, takes_seed, _, _ = found
        seed = f', "seed": {request.seed}' if takes_seed else ""
        several = f', "n": {n}' if n > 1 else ""
        return f'{begin}{seed}{several}, "messages": {request.messages_json}}}'.encode()

    def probe(self, request: Request, n: int = 1) -> dict[str, Any]:
        """Return a short and cheap request with the parameters of `request`."""
        probe = self.parameters(request.sampling, request.json_schema)
        if "seed" not in request.sampling.extra:
            probe["seed"] = request.seed
        if n > 1:
            probe["n"] = n
        if self.limit in probe:
            probe[self.limit] = 16
        return {**probe, "messages": [Message(role="user", content="Hi")]}

    def parameters(self, sampling: Sampling, json_schema: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the body without seed, n and messages.

        Raises:
            EngineUnavailable: `sampling.extra` contains a key that is not a sampling parameter.
        """
        parameters: dict[str, Any] = {
            "model": self._model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self.limit: sampling.max_tokens,
        }
        if sampling.stop:
            parameters["stop"] = sampling.stop
        if json_schema is not None:
            schema = {"name": "answer", "schema": json_schema, "strict": True}
            parameters["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self._template_kwargs:
            parameters["chat_template_kwargs"] = self._template_kwargs
        if sampling.extra:
            if taken := _NOT_EXTRA & sampling.extra.keys():
                raise EngineUnavailable(f"sampling.extra: {', '.join(sorted(taken))} cannot be set there")
            parameters |= sampling.extra
            parameters = {name: value for name, value in parameters.items() if value is not None}
        return parameters
