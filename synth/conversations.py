"""Conversations, turn by turn: a user with an assistant, or two personas with each other.

    conversations:
      run: synth.conversations
      inputs: {openings: instructions}                 # of synth.usecases, use_case: instruction
      config: {kind: assistant, speaker: teacher, assistant: teacher, turns: 4}

    dialogues:
      run: synth.conversations
      inputs: {openings: personas}
      config: {kind: two_personas, speaker: teacher, turns: 6}

`assistant`: the opening is the user's first message; the engine `assistant` replies, and the engine
`speaker` writes the user's next message as the persona, so often that `turns` messages stand in the end.
`two_personas`: each persona talks to the one that follows it, the last to the first, whatever the shards, and
they take turns. One that is followed by itself, as where it is the only one, is rejected as `no_partner`.
A conversation in which a turn fails for good is rejected with what it had so far.
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
from personahub.core.forecast import Forecast, Requests
from personahub.core.generation.loop import CompletionShard, Failure, map_completions
from personahub.core.identity import content_id, derive_seed
from personahub.core.records import CONVERSATION, Row
from personahub.core.stage import Stage
from personahub.core.template import Message, Template, load_template
from personahub.core.texts.replies import escape_tags, find_refusal
from synth.contracts.contract import Contract, parse_parts
from synth.prompts import PROMPTS

VERSION = "2"
INPUTS = ("openings",)

_ROWS_AT_A_TIME = 512  # conversations whose turns are asked for together
_FOLLOWUP = Contract(labels=("Follow-up",), min_chars=2)
_SAYS = Contract(labels=("Says",), min_chars=2, max_chars=2000)
_TURN_TOKENS = {"assistant": 250, "two_personas": 60}
_SPEAKERS = ("Person A", "Person B")


class Config(StageConfig):
    """Who talks, through which engines, and for how long."""

    kind: Literal["assistant", "two_personas"] = "assistant"
    speaker: EngineName = Field(description="Writes what personas say.")
    assistant: EngineName | None = Field(default=None, description="Replies to the user; for `kind: assistant`.")
    persona: bool = Field(default=True, description="False: the no-persona arm.")
    turns: int = Field(default=4, ge=2, le=40, description="Messages of a conversation, the opening included.")
    template: Annotated[str, TemplateFolder(PROMPTS)] = Field(default="", description="Default: followup or dialogue.")
    system: Annotated[str, TemplateFolder(PROMPTS)] = "assistant"
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=1024)
    attempts: int = Field(default=3, gt=0, description="How often a turn is asked for, when it does not qualify.")

    @model_validator(mode="before")
    @classmethod
    def _template_of_kind(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("template"):
            name = "dialogue" if values.get("kind") == "two_personas" else "followup"
            return {**values, "template": name}
        return values

    @model_validator(mode="after")
    def _assistant_where_needed(self) -> Config:
        if (self.kind == "assistant") != (self.assistant is not None):
            raise ValueError("`assistant` names the engine that replies, for `kind: assistant` and no other")
        return self


def run(stage: Stage[Config]) -> None:
    """Write one conversation per opening."""
    map_completions(stage, _process, stage.input("openings"), CONVERSATION)


async def _process(stage: Stage[Config], shard: CompletionShard) -> None:
    config = stage.config
    asking = prompts(config, load_template(config.template, PROMPTS), load_template(config.system, PROMPTS))
    opened = _opened(stage, shard)
    while open_ones := list(islice(opened, _ROWS_AT_A_TIME)):
        for _ in range(config.turns - len(open_ones[0]["messages"])):
            going_on = []
            async for talk, (result,) in shard.generate(open_ones, asking, parse_turn(config), config.attempts):
                if isinstance(result, Failure):
                    shard.reject(talk, result.error, result.raw)
                    continue
                text, model = result
                message = Message(role=_next_role(talk), content=text)
                going_on.append({**talk, "messages": [*talk["messages"], message], "model": model})
            open_ones = going_on
            if not open_ones:
                break
        for talk in open_ones:
            shard.write({**talk, "id": content_id("conversation", talk["messages"], talk["opening_id"])})


def _opened(stage: Stage[Config], shard: CompletionShard) -> Iterator[Row]:
    """The shard's conversations before their first asked-for turn."""
    if stage.config.kind == "assistant":
        yield from (_begun(stage.config, row, row) for row in shard.rows())
        return
    for row, partner in pairwise(chain(shard.rows(), _first_after(stage.input("openings"), shard.name))):
        if partner["id"] == row["id"]:
            shard.reject(row, Rejected("no_partner", "the persona that follows is this one: a dialogue takes two"))
        else:
            yield _begun(stage.config, row, partner)


def _first_after(source: Artifact, shard: str) -> Iterator[Row]:
    """The row that follows the last one of `shard`; after the last of all comes the first."""
    names = source.shard_names
    here = names.index(shard) + 1
    yield from islice(chain.from_iterable(source.read_shard(n, batch_rows=1) for n in names[here:] + names[:here]), 1)


def _begun(config: Config, row: Row, partner: Row) -> Row:
    alone = config.kind == "assistant"
    shown = row["persona"] if config.persona else None
    return {
        "id": row["id"],
        "opening_id": row["id"],
        "kind": config.kind,
        "messages": [Message(role="user", content=row["text"])] if alone else [],
        "persona_id": row["persona_id"] if alone else row["id"],
        "persona": shown,
        "partner_id": None if alone else partner["id"],
        "partner": None if alone or not config.persona else partner["persona"],
        "document_id": row.get("document_id"),
        "seed": derive_seed(config.seed, row["id"]),
        "licence": row.get("licence"),
        "model": row.get("model"),
        "machine_generated": True,
    }


def _next_role(talk: Row) -> str:
    """`user` and `assistant` in turn; of two personas the first is the user."""
    return "user" if len(talk["messages"]) % 2 == 0 else "assistant"


def prompts(config: Config, template: Template, system: Template) -> Callable[[Row], list[Request]]:
    """The one request for the next turn of a conversation."""

    def of_conversation(talk: Row) -> list[Request]:
        number = len(talk["messages"])
        engine = config.speaker
        if config.kind == "two_personas":
            messages = _as_partner(template, talk)
        elif _next_role(talk) == "user":
            turns = [
                {"speaker": m["role"].capitalize(), "text": escape_tags(m["content"], "conversation")}
                for m in talk["messages"]
            ]
            messages = template.render(persona=talk["persona"], examples=[], turns=turns)
        else:
            messages, engine = (*system.render(), *talk["messages"]), config.assistant or config.speaker
        seed = derive_seed(config.seed, talk["opening_id"], number)
        return [Request(messages, config.sampling, seed, number, engine=engine)]

    return of_conversation


def _as_partner(template: Template, talk: Row) -> tuple[Message, ...]:
    number = len(talk["messages"])
    speaking, other = (talk["persona"], talk["partner"]) if number % 2 == 0 else (talk["partner"], talk["persona"])
    return template.render(
        persona=speaking,
        partner=other,
        examples=[],
        turns=[
            {"speaker": _SPEAKERS[i % 2], "text": escape_tags(m["content"], "conversation")}
            for i, m in enumerate(talk["messages"])
        ],
        speaker=_SPEAKERS[number % 2],
        other=_SPEAKERS[(number + 1) % 2],
    )


def parse_turn(config: Config) -> Callable[[Request, Completion], tuple[str, str]]:
    """Parser of a turn into (text, model); see `synth.contracts.contract.parse_parts`. An assistant's reply has no label.

    Raises:
        Rejected: also `empty`.
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
    """One request per turn that is not there yet; each shows the turns before it."""
    rows, tokens = rows_in["openings"], _TURN_TOKENS[config.kind]
    asked = config.turns - (1 if config.kind == "assistant" else 0)
    shown = 250 + tokens * config.turns // 2
    requests: dict[str, Requests] = {}
    by_assistant = (asked + 1) // 2 if config.assistant is not None else 0
    for engine, count in ((config.assistant, by_assistant), (config.speaker, asked - by_assistant)):
        if engine is not None and count:
            known = requests.get(engine, Requests(0, 0, 0))
            more = rows * count
            requests[engine] = Requests(
                known.count + more, known.prompt_tokens + more * shown, known.completion_tokens + more * tokens
            )
    notes = (f"assumes {tokens} tokens per turn",)
    return Forecast(rows_out=rows, requests=requests, disk_bytes=rows * config.turns * tokens * 5, notes=notes)
