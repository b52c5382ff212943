"""Conversations turn by turn: a user with an assistant, or two personas.

    conversations:
      run: synth.conversations
      inputs: {openings: instructions}                 # from synth.usecases, use_case: instruction
      config: {kind: assistant, speaker: teacher, assistant: teacher, turns: 4}

    dialogues:
      run: synth.conversations
      inputs: {openings: personas}
      config: {kind: two_personas, speaker: teacher, turns: 6}

`assistant`: the opening is the user's first message. The engine `assistant` replies, and the engine
`speaker` writes the user's next message as the persona, until the conversation has `turns` messages.
`two_personas`: each persona talks to the next one, the last to the first, regardless of shards, and they
take turns. A persona whose next one is itself, such as an only one, is rejected as `no_partner`.
If a turn fails after all attempts, the conversation is rejected with the turns that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice, pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from personahub.core.artifact import Artifact
from personahub.core.config import EngineName, StageConfig, TemplateFolder
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.errors import Rejected
from personahub.core.forecast import Forecast
from personahub.core.generation.llm_stage import forecast_requests, usable_results
from personahub.core.generation.loop import CompletionShard, map_completions
from personahub.core.identity import content_id, derive_seed
from personahub.core.records import CONVERSATION, Row
from personahub.core.stage import Stage
from personahub.core.template import Message, Template, load_template
from personahub.core.texts.replies import escape_tags, find_refusal
from synth.contracts.contract import Contract, parse_parts
from synth.prompts import PROMPTS

VERSION = "2"
INPUTS = ("openings",)

_ROWS_AT_A_TIME = 512  # conversations that are extended together
_FOLLOWUP = Contract(labels=("Follow-up",), min_chars=2)
_SAYS = Contract(labels=("Says",), min_chars=2, max_chars=2000)
_TURN_TOKENS = {"assistant": 250, "two_personas": 60}
_SPEAKERS = ("Person A", "Person B")


class Config(StageConfig):
    """Configuration for conversations."""

    kind: Literal["assistant", "two_personas"] = "assistant"
    speaker: EngineName = Field(description="Writes the messages of personas.")
    assistant: EngineName | None = Field(default=None, description="Replies to the user. For `kind: assistant`.")
    persona: bool = Field(default=True, description="False: the no-persona arm.")
    turns: int = Field(default=4, ge=2, le=40, description="Messages per conversation, including the opening.")
    template: Annotated[str, TemplateFolder(PROMPTS)] = Field(
        default="", description="By default `followup` or `dialogue`, depending on `kind`."
    )
    system: Annotated[str, TemplateFolder(PROMPTS)] = "assistant"
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=1024)
    attempts: int = Field(default=3, gt=0, description="Attempts per turn until one keeps the contract.")

    @model_validator(mode="before")
    @classmethod
    def _default_template(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("template"):
            name = "dialogue" if values.get("kind") == "two_personas" else "followup"
            return {**values, "template": name}
        return values

    @model_validator(mode="after")
    def _check_assistant(self) -> Config:
        if (self.kind == "assistant") != (self.assistant is not None):
            raise ValueError(
                "`assistant`, the engine that replies, is required for `kind: assistant` and not allowed for others"
            )
        return self


def run(stage: Stage[Config]) -> None:
    """Writes one conversation per opening."""
    map_completions(stage, _process, stage.input("openings"), CONVERSATION)


async def _process(stage: Stage[Config], shard: CompletionShard) -> None:
    config = stage.config
    asking = prompts(config, load_template(config.template, PROMPTS), load_template(config.system, PROMPTS))
    started = _start_conversations(stage, shard)
    while talks := list(islice(started, _ROWS_AT_A_TIME)):
        for _ in range(config.turns - len(talks[0]["messages"])):
            longer = []
            async for talk, _, (text, model) in usable_results(
                shard, talks, asking, parse_turn(config), config.attempts
            ):
                message = Message(role=_next_role(talk), content=text)
                longer.append({**talk, "messages": [*talk["messages"], message], "model": model})
            talks = longer
            if not talks:
                break
        for talk in talks:
            shard.write({**talk, "id": content_id("conversation", talk["messages"], talk["opening_id"])})


def _start_conversations(stage: Stage[Config], shard: CompletionShard) -> Iterator[Row]:
    """Yields the shard's conversations before their first generated turn."""
    if stage.config.kind == "assistant":
        yield from (_new_conversation(stage.config, row, row) for row in shard.rows())
        return
    for row, partner in pairwise(chain(shard.rows(), _first_row_after(stage.input("openings"), shard.name))):
        if partner["id"] == row["id"]:
            shard.reject(row, Rejected("no_partner", "the next persona is the same one; a dialogue needs two"))
        else:
            yield _new_conversation(stage.config, row, partner)


def _first_row_after(source: Artifact, shard: str) -> Iterator[Row]:
    """Yields the row after the last one of `shard`. If the shard is the last, yields the first row."""
    names = source.shard_names
    following = names.index(shard) + 1
    later = names[following:] + names[:following]
    yield from islice(chain.from_iterable(source.read_shard(name, batch_rows=1) for name in later), 1)


def _new_conversation(config: Config, row: Row, partner: Row) -> Row:
    with_assistant = config.kind == "assistant"
    shown = row["persona"] if config.persona else None
    return {
        "id": row["id"],
        "opening_id": row["id"],
        "kind": config.kind,
        "messages": [Message(role="user", content=row["text"])] if with_assistant else [],
        "persona_id": row["persona_id"] if with_assistant else row["id"],
        "persona": shown,
        "partner_id": None if with_assistant else partner["id"],
        "partner": None if with_assistant or not config.persona else partner["persona"],
        "document_id": row.get("document_id"),
        "seed": derive_seed(config.seed, row["id"]),
        "licence": row.get("licence"),
        "model": row.get("model"),
        "machine_generated": True,
    }


def _next_role(talk: Row) -> str:
    """`user` and `assistant` alternate; the first of two personas is the user."""
    return "user" if len(talk["messages"]) % 2 == 0 else "assistant"


def prompts(config: Config, template: Template, system: Template) -> Callable[[Row], list[Request]]:
    """Returns the function that makes the request for the next turn of a conversation."""

    def of_conversation(talk: Row) -> list[Request]:
        number = len(talk["messages"])
        engine = config.speaker
        if config.kind == "two_personas":
            messages = _dialogue_prompt(template, talk)
        elif _next_role(talk) == "user":
            turns = _turns(talk, ("User", "Assistant"))
            messages = template.render(persona=talk["persona"], examples=[], turns=turns)
        else:
            messages, engine = (*system.render(), *talk["messages"]), config.assistant or config.speaker
        seed = derive_seed(config.seed, talk["opening_id"], number)
        return [Request(messages, config.sampling, seed, number, engine=engine)]

    return of_conversation


def _turns(talk: Row, speakers: tuple[str, str]) -> list[dict[str, str]]:
    texts = (escape_tags(message["content"], "conversation") for message in talk["messages"])
    return [{"speaker": speakers[i % 2], "text": text} for i, text in enumerate(texts)]


def _dialogue_prompt(template: Template, talk: Row) -> tuple[Message, ...]:
    number = len(talk["messages"])
    speaking, other = (talk["persona"], talk["partner"]) if number % 2 == 0 else (talk["partner"], talk["persona"])
    return template.render(
        persona=speaking,
        partner=other,
        examples=[],
        turns=_turns(talk, _SPEAKERS),
        speaker=_SPEAKERS[number % 2],
        other=_SPEAKERS[(number + 1) % 2],
    )


def parse_turn(config: Config) -> Callable[[Request, Completion], tuple[str, str]]:
    """Returns a parser of turns into (text, model). An assistant's reply has no label.

    Raises:
        Rejected: as `synth.contracts.contract.parse_parts`, or `empty`.
    """

    def turn(request: Request, completion: Completion) -> tuple[str, str]:
        if config.kind == "assistant" and request.sample % 2 == 1:
            text = completion.whole_text()
            if find_refusal(text):
                raise Rejected("refusal")
            if not text:
                raise Rejected("empty", f"finish_reason {completion.finish_reason}")
            return text, completion.model
        contract = _FOLLOWUP if config.kind == "assistant" else _SAYS
        return parse_parts(completion, contract).text, completion.model

    return turn


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """One request per generated turn, each of which shows the turns before it."""
    rows, tokens = rows_in["openings"], _TURN_TOKENS[config.kind]
    turns = config.turns - (1 if config.kind == "assistant" else 0)
    shown = 250 + tokens * config.turns // 2
    groups = [(config.speaker, turns * rows)]
    if config.assistant is not None:
        by_assistant = (turns + 1) // 2
        groups = [(config.assistant, by_assistant * rows), (config.speaker, (turns - by_assistant) * rows)]
    return Forecast(
        rows_out=rows,
        requests=forecast_requests(*((engine, count, shown, tokens) for engine, count in groups if count)),
        disk_bytes=rows * config.turns * tokens * 5,
        notes=(f"assumes {tokens} tokens per turn",),
    )
