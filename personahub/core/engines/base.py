"""The engine contract: a request goes in, a completion comes out, in any order.

An engine is anything with an async `complete`. The generation loop (`personahub.core.generation.loop`)
owns retries of rejected answers, the journal and concurrency; an engine owns its transport:
connections, rate limits and retries of failures that never produced an answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from personahub.core.errors import Rejected, UserError
from personahub.core.template import Message
from personahub.core.texts.replies import without_thinking

__all__ = [
    "Completion",
    "Engine",
    "EngineDied",
    "EngineUnavailable",
    "Message",
    "Request",
    "RequestRefused",
    "Sampling",
]


class Sampling(BaseModel):
    """Sampling parameters, named as in the OpenAI API. All of them are identity.

    `extra` goes into the request body as is (`top_k`, `min_p`, `repetition_penalty`, ...).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=1024, gt=0)
    stop: tuple[str, ...] = ()
    extra: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to ask for. `seed` already accounts for the sample index and the attempt.

    `engine` is the name that the experiment gives the engine; it is routing, not identity.
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
        """The messages as JSON, made once: both the journal's key and the request's body hold them."""
        text = self._messages_json
        if text is None:
            text = json.dumps(self.messages)
            object.__setattr__(self, "_messages_json", text)
        return text


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. `truth` is what only a simulated teacher knows: no stage ever sees it."""

    text: str
    finish_reason: str  # "stop" or "length", as in the OpenAI API
    prompt_tokens: int
    completion_tokens: int
    model: str
    truth: dict[str, Any] | None = field(default=None, repr=False)
    logprobs: list[tuple[str, float]] | None = field(default=None, repr=False)  # where `sampling.extra` asks for them
    wasted: tuple[int, int] = (0, 0)  # prompt and completion tokens of replies before it, paid for but unreadable

    @property
    def truncated(self) -> bool:
        return self.finish_reason == "length"

    def whole_text(self) -> str:
        """The reply without its thinking text.

        Raises:
            Rejected: `truncated`.
        """
        if self.truncated:
            raise Rejected("truncated", f"cut off after {self.completion_tokens} tokens: raise sampling.max_tokens")
        return without_thinking(self.text)

    def after_waste(self, tokens: tuple[int, int]) -> Completion:
        """The same after replies that were paid for in vain."""
        return replace(self, wasted=(self.wasted[0] + tokens[0], self.wasted[1] + tokens[1]))


class RequestRefused(Exception):
    """The engine will never answer this one request (over-long prompt, content filter)."""

    def __init__(self, reason: str, detail: str = "", wasted: tuple[int, int] = (0, 0)) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.wasted = wasted  # prompt and completion tokens that were paid for nevertheless


class EngineUnavailable(UserError):
    """The engine cannot serve any request: bad key, unknown model, unreachable endpoint."""


class EngineDied(EngineUnavailable):
    """The process or device behind the engine is gone; another one could go on."""


class Engine(Protocol):
    """See the module docstring. `concurrency` is how many calls of `complete` it wants to have at once."""

    concurrency: int

    async def complete(self, request: Request) -> Completion:
        """Answer one request.

        Raises:
            RequestRefused: this request can never be answered; the run goes on without it.
            EngineUnavailable: no request can be answered; the run stops and can be resumed.
        """
        ...

    async def close(self) -> None:
        """Release connections, processes or GPU memory."""
        ...
