"""The engine contract: a request goes in, a completion comes out, in any order.

An engine is one module with `class Config(EngineConfig)` and `open_engine(config)`, which returns an `Engine`:

    class Config(EngineConfig):
        shout: bool = False

    class Echo(Engine[Config]):
        async def complete(self, request: Request) -> Completion:
            text = request.messages[-1]["content"]
            return Completion(text.upper() if self.config.shout else text, "stop", 10, 10, self.config.model)

    def open_engine(config: Config) -> Echo:
        return Echo(config)

The generation loop (`personahub.core.generation.loop`) handles retries of rejected answers, the journal and
concurrency. The engine handles its transport: connections, rate limits and retries of failures that never
produced an answer.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from personahub.core.config import EXECUTION, UNLESS_DEFAULT, FrozenModel, ModelName
from personahub.core.engines.price import Price
from personahub.core.errors import Rejected, UserError
from personahub.core.template import Message
from personahub.core.texts.replies import split_thinking

ONLY_THINKING = "only thinking: raise max_tokens or switch thinking off with chat_template_kwargs"

# The arguments of `apply_chat_template` that the engines set.
_TEMPLATE_ARGUMENTS = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "documents",
        "max_length",
        "messages",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)


def _check_template_kwargs(values: dict[str, Any]) -> dict[str, Any]:
    if taken := _TEMPLATE_ARGUMENTS & values.keys():
        raise ValueError(f"{', '.join(sorted(taken))} cannot be set there")
    try:
        json.dumps(values, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError("must contain JSON values only") from None
    return values


ChatTemplateKwargs = Annotated[
    dict[str, Any],
    UNLESS_DEFAULT,
    AfterValidator(_check_template_kwargs),
    Field(
        default_factory=dict,
        description="Variables for the chat template. `{enable_thinking: false}` switches the thinking of most models off.",
    ),
]


class Sampling(BaseModel):
    """Sampling parameters, named as in the OpenAI API.

    All of them are part of the identity. `extra` is merged into the request body unchanged (`top_k`, `min_p`,
    `repetition_penalty`, ...).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=1.0, ge=0, description="Sampling temperature; 0 is greedy.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Probability mass of nucleus sampling.")
    max_tokens: int = Field(default=1024, gt=0, description="Maximum tokens of one completion.")
    stop: tuple[str, ...] = Field(default=(), description="A completion ends before one of these strings.")
    extra: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """A request for one completion.

    `seed` already accounts for the sample index and the attempt. `engine` is the engine's name in the experiment. It
    routes the request and is not part of its identity.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    seed: int
    sample: int = 0
    attempt: int = 0
    json_schema: dict[str, Any] | None = None
    engine: str = ""
    _messages_json: str | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def messages_json(self) -> str:
        """The messages as JSON. Cached because the journal's key and the request's body both contain them."""
        text = self._messages_json
        if text is None:
            text = json.dumps(self.messages)
            object.__setattr__(self, "_messages_json", text)
        return text


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. `truth` is what only a simulated teacher knows; stages never see it."""

    text: str
    finish_reason: str  # "stop" or "length", as in the OpenAI API
    prompt_tokens: int
    completion_tokens: int
    model: str
    truth: dict[str, Any] | None = field(default=None, repr=False)
    logprobs: list[tuple[str, float]] | None = field(default=None, repr=False)  # if `sampling.extra` asks for them
    wasted: tuple[int, int] = (0, 0)  # prompt and completion tokens of earlier replies, paid for but unreadable

    @property
    def truncated(self) -> bool:
        return self.finish_reason == "length"

    def whole_text(self) -> str:
        """Return the reply without its thinking text.

        Raises:
            Rejected: `only_thinking` or `truncated`.
        """
        answer = split_thinking(self.text)
        cut_off_in_thought = self.truncated and answer.still_thinking
        if self.text.strip() and not cut_off_in_thought and (answer.still_thinking or not answer.text):
            raise Rejected("only_thinking", ONLY_THINKING)
        if self.truncated:
            raise Rejected("truncated", f"cut off after {self.completion_tokens} tokens: raise sampling.max_tokens")
        return answer.text

    def after_waste(self, tokens: tuple[int, int]) -> Completion:
        """Return a copy that also accounts for the tokens of earlier unreadable replies."""
        return replace(self, wasted=(self.wasted[0] + tokens[0], self.wasted[1] + tokens[1]))


class RequestRefused(Exception):
    """The engine will never answer this request (over-long prompt, content filter)."""

    def __init__(self, reason: str, detail: str = "", wasted: tuple[int, int] = (0, 0), raw: str | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.wasted = wasted  # prompt and completion tokens that were paid for anyway
        self.raw = raw  # what the model wrote, for `rejected/`


class EngineUnavailable(UserError):
    """The engine cannot serve any request (bad key, unknown model, no connection)."""


class EngineDied(EngineUnavailable):
    """The process or device behind the engine is gone; another replica could continue."""


class EngineConfig(FrozenModel):
    """Base of every engine's `Config`; `kind` selects the engine's module.

    `VERSION` is part of the engine's identity. An engine whose own code decides what it answers sets it, and
    raises it whenever the same request gets another answer.
    """

    VERSION: ClassVar[str | None] = None

    kind: str
    model: ModelName
    concurrency: Annotated[int, EXECUTION] = Field(default=64, gt=0, description="Requests in flight at once.")

    def gpu_hours(self, completion_tokens: int) -> float | None:  # noqa: ARG002 - subclasses need it
        """Estimate the GPU-hours that `completion_tokens` take, for `plan`. None: not known."""
        return 0.0


class PricedConfig(EngineConfig):
    """Base of the `Config` of an engine whose tokens cost money."""

    price: Annotated[Price | None, EXECUTION] = Field(default=None, description="USD per million tokens.")
    max_cost_usd: Annotated[float | None, EXECUTION] = Field(
        default=None,
        gt=0,
        description="Limit on what one experiment spends on this engine, over all its stages; needs `price`.",
    )

    @model_validator(mode="after")
    def _limit_has_a_price(self) -> Self:
        if self.max_cost_usd is not None and self.price is None:
            raise ValueError("max_cost_usd needs a price: {input: ..., output: ...} in USD per million tokens")
        return self

    @property
    def billed(self) -> Price | None:
        """The price that is actually charged. None: not known."""
        return self.price

    @property
    def batch_price(self) -> Price | None:
        """The price of the same tokens through the provider's Batch API. None: there is no such API."""
        return None


class ReplicatedConfig(EngineConfig):
    """Base of the `Config` of an engine that can run as replicas on a Ray cluster."""

    replicas: Annotated[int, EXECUTION] = Field(
        default=1, gt=0, description="Whole engines over the nodes of a Ray cluster, each on one node."
    )

    @property
    def gpus_per_replica(self) -> int:
        """GPUs that each replica reserves, whether or not the cluster has them yet."""
        return 1


ConfigT = TypeVar("ConfigT", bound=EngineConfig)


class Engine(ABC, Generic[ConfigT]):
    """Base class of all engines. Only `complete` must be implemented.

    Attributes:
        config: the engine's configuration.
        concurrency: how many calls the generation loop keeps in flight.
        merges_samples: whether the samples of one prompt are passed together to `complete_samples`.
    """

    merges_samples = False

    def __init__(self, config: ConfigT) -> None:
        self.config = config
        self.concurrency = config.concurrency

    @abstractmethod
    async def complete(self, request: Request) -> Completion:
        """Answer one request.

        Raises:
            RequestRefused: this request can never be answered; the run continues without it.
            EngineUnavailable: no request can be answered; the run stops and can be resumed.
        """

    async def complete_samples(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer requests that differ only in sample index and seed, in order. Raises as `complete` does."""
        return list(await asyncio.gather(*map(self.complete, requests)))

    def keep_state_in(self, folder: Path) -> None:
        """Called once before the first request. The engine may keep state between runs in the folder."""

    async def close(self) -> None:
        """Release connections, processes or GPU memory."""
