"""Text-to-Persona: who is likely to read, write, like or dislike a text? (paper, section 2.1)

    first_personas:
      run: personahub.text_to_persona
      inputs: {documents: documents}
      config: {engine: teacher, modes: [read, write], granularity: fine, personas_per_text: 2}

One request per text and mode. The reply is one persona per line; a reply that breaks the contract is
asked for again and finally kept among the rejected, with its text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Annotated, Literal

from pydantic import Field, model_validator

from personahub.core.config import EngineName, StageConfig, TemplateFolder
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.errors import Rejected
from personahub.core.forecast import Forecast, Requests
from personahub.core.generate import CompletionShard, Failure, map_completions
from personahub.core.identity import content_id, derive_seed
from personahub.core.records import PERSONA, Row
from personahub.core.stage import Stage
from personahub.core.template import Template, load_template
from personahub.replies import labelled_lines, require_distinct

VERSION = "1"
INPUTS = ("documents",)
PROMPTS = Path(__file__).parent / "prompts"

Mode = Literal["read", "write", "like", "dislike"]

_CHARS_PER_TOKEN = 4  # English text under GPT-style vocabularies
_TEXT_TOKENS = 500  # web pages of C4 and Common Crawl, cut at 6,000 characters, average 470 to 510
_PERSONA_TOKENS = 35  # a sentence of 10 to 30 words and its label


class Config(StageConfig):
    """Whom to ask for, how, and of which engine."""

    engine: EngineName
    template: Annotated[str, TemplateFolder(PROMPTS)] = "text_to_persona"
    modes: tuple[Mode, ...] = Field(default=("read", "write", "like", "dislike"), min_length=1)
    modes_per_text: int | None = Field(
        default=None, gt=0, description="Ask each text in so many of `modes`, drawn for it; by default in all of them."
    )
    granularity: Literal["coarse", "fine"] = Field(
        default="fine", description="`coarse`: an occupation; `fine`: as specific as the text allows."
    )
    personas_per_text: int = Field(default=2, gt=0, description="Personas asked for per text and mode, in one request.")
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=1024)
    attempts: int = Field(default=3, gt=0, description="How often one reply is asked for, when it does not qualify.")

    @model_validator(mode="after")
    def _modes_to_draw_from(self) -> Config:
        if len(set(self.modes)) < len(self.modes):
            raise ValueError("`modes` names a mode twice")
        if self.modes_per_text is not None and self.modes_per_text > len(self.modes):
            raise ValueError(f"modes_per_text is {self.modes_per_text}, but there are {len(self.modes)} modes")
        return self


def run(stage: Stage[Config]) -> None:
    """Infer personas from the texts of `documents`."""
    map_completions(stage, _process, stage.input("documents"), PERSONA)


async def _process(stage: Stage[Config], shard: CompletionShard) -> None:
    config = stage.config
    asking = prompts(config, load_template(config.template, PROMPTS))
    async for document, results in shard.generate(shard.rows(), asking, parse(config), config.attempts):
        for mode, result in zip(modes_of(config, document["id"]), results, strict=True):
            if isinstance(result, Failure):
                shard.reject({**document, "mode": mode}, result.error, result.raw)
                continue
            personas, model = result
            for persona in personas:
                shard.write(_record(document, mode, persona, model))


def modes_of(config: Config, document_id: str) -> list[Mode]:
    """The modes that a text is asked in, in the order of the config."""
    if config.modes_per_text is None:
        return list(config.modes)
    draw = Random(derive_seed(config.seed, "modes", document_id))  # noqa: S311 - not for secrets
    drawn = draw.sample(config.modes, config.modes_per_text)
    return [mode for mode in config.modes if mode in drawn]


def prompts(config: Config, template: Template) -> Callable[[Row], list[Request]]:
    """The requests of one document, one per mode."""

    def of_document(row: Row) -> list[Request]:
        return [
            Request(
                template.render(
                    text=protect(row["text"], "text"),
                    mode=mode,
                    granularity=config.granularity,
                    count=config.personas_per_text,
                ),
                config.sampling,
                derive_seed(config.seed, row["id"], mode),
                sample,
                engine=config.engine,
            )
            for sample, mode in enumerate(modes_of(config, row["id"]))
        ]

    return of_document


def protect(text: str, tag: str) -> str:
    """`text` with its own `<tag>` and `</tag>` defused, so that it cannot end the block it is shown in."""
    return re.sub(rf"<(/?\s*{tag}\s*)>", r"[\1]", text, flags=re.IGNORECASE)


def parse(config: Config) -> Callable[[Request, Completion], tuple[list[str], str]]:
    """Parser of a reply into (personas, model); see `parse_personas` for the reasons to reject."""

    def reply(_: Request, completion: Completion) -> tuple[list[str], str]:
        return parse_personas(completion, config.personas_per_text), completion.model

    return reply


def parse_personas(completion: Completion, count: int) -> list[str]:
    """The personas of a reply of `count` lines `Persona: ...`.

    Raises:
        Rejected: `truncated`, `refusal`, `no_label`, `unlabelled_line`, `empty_line`, `unexpected_label`,
            `wrong_count` or `repeated_persona`.
    """
    lines = labelled_lines(completion)
    for line in lines:
        if line.label != "persona":
            raise Rejected("unexpected_label", line.label)
    personas = [line.value for line in lines]
    require_distinct(personas, count)
    return personas


def _record(document: Row, mode: Mode, persona: str, model: str) -> Row:
    return {
        "id": content_id("persona", persona, document["id"], mode),
        "persona": persona,
        "document_id": document["id"],
        "parent_id": None,
        "relation": None,
        "hop": 0,
        "mode": mode,
        "source": document.get("source"),
        "licence": document.get("licence"),
        "model": model,
        "machine_generated": True,
    }


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """One request per text and mode; replies that have to be asked for again are not foreseen."""
    messages = load_template(config.template, PROMPTS).render(
        text="", mode=config.modes[0], granularity=config.granularity, count=config.personas_per_text
    )
    prompt = sum(len(message["content"]) for message in messages) // _CHARS_PER_TOKEN + _TEXT_TOKENS
    count = rows_in["documents"] * (config.modes_per_text or len(config.modes))
    rows_out = count * config.personas_per_text
    return Forecast(
        rows_out=rows_out,
        requests={config.engine: Requests(count, count * prompt, rows_out * _PERSONA_TOKENS)},
        disk_bytes=rows_out * 300,
        notes=(f"assumes {prompt} tokens in per text and {_PERSONA_TOKENS} out per persona",),
    )
