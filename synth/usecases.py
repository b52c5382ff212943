"""The use cases beside math: logic, instructions, knowledge-rich text, game characters, interfaces of tools.

    npcs:
      run: synth.usecases
      inputs: {personas: personas}
      config: {engine: teacher, use_case: npc, background: configs/data/world_of_sallow_reach.txt}

One request per persona and sample. Each use case has a prompt in synth/prompts and a contract in
`synth.contracts.contract`; a template of one's own, named by its path, has to keep the contract of the use case.
`synth.conversations` and `synth.tools` go on from instructions and interfaces. With `persona: false`
the stage is the no-persona arm: the same ids and seeds, the persona's text unused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from personahub.core.config import CONTENT_PATH, TemplateFolder
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast, Requests
from personahub.core.generation.loop import CompletionShard, Failure, map_completions
from personahub.core.identity import content_id, derive_seed
from personahub.core.records import SYNTHETIC, Row
from personahub.core.stage import Stage
from personahub.core.template import Template, load_template
from personahub.core.texts.replies import escape_tags
from synth.contracts.contract import CONTRACTS, TOOL_FIELDS, TOOL_SCHEMA, Output, parser_of
from synth.contracts.examples import Example, PromptingConfig, check_examples, draw_examples, load_examples
from synth.prompts import PROMPTS

VERSION = "1"
INPUTS = ("personas", "example_personas?", "*")  # the others: benchmarks that examples must not be from

UseCase = Literal[
    "logic_general", "logic_spatial", "logic_ruozhiba", "instruction", "article", "reading", "npc", "tool_interface"
]

_CHARS_PER_TOKEN = 4  # English text under GPT-style vocabularies
_PERSONA_TOKENS = 25  # the personas of the paper's release average 20 to 30
_LONG = ("article", "reading")  # 300 to 600 words are asked for


class Config(PromptingConfig):
    """Which use case, in which mode, and what it needs."""

    use_case: UseCase
    template: Annotated[str, TemplateFolder(PROMPTS)] = Field(default="", description="Default: that of the use case.")
    background: Annotated[str | None, CONTENT_PATH] = Field(default=None, description="The game's world, for `npc`.")
    per_persona: int = Field(default=1, gt=0)
    structured: bool = Field(default=False, description="Send the JSON schema of a tool's interface to the engine.")
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=2048)
    attempts: int = Field(default=3, gt=0, description="How often a reply is asked for, when it does not qualify.")

    @model_validator(mode="before")
    @classmethod
    def _template_of_use_case(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("template") and "use_case" in values:
            return {**values, "template": values["use_case"]}
        return values

    @model_validator(mode="after")
    def _background_where_needed(self) -> Config:
        if (self.use_case == "npc") != (self.background is not None):
            raise ValueError("`background` (the path of a text about the game's world) belongs to `use_case: npc`")
        if self.structured and self.use_case != "tool_interface":
            raise ValueError("`structured` belongs to `use_case: tool_interface`")
        return self


def run(stage: Stage[Config]) -> None:
    """Write what the personas of `personas` lead to."""
    check_examples(stage.config, stage.inputs)
    map_completions(stage, _process, stage.input("personas"), SYNTHETIC)


async def _process(stage: Stage[Config], shard: CompletionShard) -> None:
    config = stage.config
    examples = load_examples(config, stage.inputs)
    asking = prompts(config, load_template(config.template, PROMPTS), examples)
    async for persona, results in shard.generate(shard.rows(), asking, parse(config), config.attempts):
        for sample, result in enumerate(results):
            if isinstance(result, Failure):
                shard.reject({**persona, "sample": sample}, result.error, result.raw)
            else:
                output, model = result
                shard.write(_record(config, persona, sample, output, model))


def prompts(config: Config, template: Template, examples: Sequence[Example]) -> Callable[[Row], list[Request]]:
    """The requests of one persona, one per sample."""
    background = read_background(config.background) if config.background else None
    schema = TOOL_SCHEMA if config.structured else None

    def of_persona(row: Row) -> list[Request]:
        messages = template.render(
            persona=row["persona"] if config.persona else None,
            examples=draw_examples(config, examples, row["id"]),
            background=background,
            fields=TOOL_FIELDS,
        )
        seed = partial(derive_seed, config.seed, row["id"])
        return [
            Request(messages, config.sampling, seed(sample), sample, json_schema=schema, engine=config.engine)
            for sample in range(config.per_persona)
        ]

    return of_persona


def read_background(path: str) -> str:
    """The text about a game's world.

    Raises:
        UserError: it cannot be read, or is empty.
    """
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"background: {path} cannot be read: {error}") from None
    if not text:
        raise UserError(f"background: {path} is empty")
    return escape_tags(text, "background")


def parse(config: Config) -> Callable[[Request, Completion], tuple[Output, str]]:
    """Parser of a reply into (output, model); see `synth.contracts.contract` for the reasons to reject."""
    parser, contract = parser_of(config.use_case), CONTRACTS[config.use_case]

    def reply(_: Request, completion: Completion) -> tuple[Output, str]:
        return parser(completion, contract), completion.model

    return reply


def _record(config: Config, persona: Row, sample: int, output: Output, model: str) -> Row:
    return {
        "id": content_id(config.use_case, output.text, persona["id"], sample),
        "use_case": config.use_case,
        "text": output.text,
        "fields": json.dumps(output.fields, ensure_ascii=False),
        "persona_id": persona["id"],
        "persona": persona["persona"] if config.persona else None,
        "document_id": persona.get("document_id"),
        "template": Path(config.template).stem,
        "prompting": config.prompting,
        "sample": sample,
        "seed": derive_seed(config.seed, persona["id"], sample),
        "licence": persona.get("licence"),
        "model": model,
        "machine_generated": True,
    }


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """One request per record; replies that have to be asked for again are not foreseen."""
    examples = [] if config.prompting == "zero_shot" else [Example(text="x" * 800, persona="x" * 100)] * config.shots
    messages = load_template(config.template, PROMPTS).render(
        persona="x" if config.persona else None,
        examples=examples,
        background=read_background(config.background) if config.background else None,
        fields=TOOL_FIELDS,
    )
    prompt = sum(len(message["content"]) for message in messages) // _CHARS_PER_TOKEN + _PERSONA_TOKENS
    tokens = 650 if config.use_case in _LONG else 200
    count = rows_in["personas"] * config.per_persona
    return Forecast(
        rows_out=count,
        requests={config.engine: Requests(count, count * prompt, count * tokens)},
        disk_bytes=count * tokens * 6,
        notes=(f"assumes {prompt} tokens in and {tokens} out per record",),
    )
