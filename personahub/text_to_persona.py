"""Text-to-Persona: who is likely to read, write, like or dislike a text?

See section 2.1 of the paper.

    first_personas:
      run: personahub.text_to_persona
      inputs: {documents: documents}
      config: {engine: teacher, modes: [read, write], granularity: fine, personas_per_text: 2}

There is one request per text and mode. A plain reply has one persona per line. A structured reply (`form:
structured`) is JSON with the occupation, expertise and interests of each persona and, if the text supports them,
demographics; these go into the column `profile`. The first `personas_per_text` distinct personas of a reply are
kept; the summary counts those beyond that number (`surplus_personas`) and those that replies lack
(`missing_personas`). A reply without a usable persona is requested again, and after the last attempt it is
rejected with its text.

    config: {engine: teacher, modes_per_text: 1, mode_shares: {read: 0.5, write: 0.3, like: 0.2},
             granularity: [coarse, medium, fine], form: structured}
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from random import Random
from typing import Annotated, Literal

from pydantic import Field, model_validator

from personahub.core.config import TemplateFolder
from personahub.core.engines import Completion, Request
from personahub.core.errors import Rejected
from personahub.core.forecast import Forecast, Work
from personahub.core.generation.llm_stage import estimate_tokens, forecast_requests, usable_results
from personahub.core.generation.loop import CompletionShard, map_completions
from personahub.core.identity import content_id, derive_seed
from personahub.core.records import PERSONA, Row
from personahub.core.stage import Stage
from personahub.core.template import Template, load_template
from personahub.core.texts.replies import escape_tags
from personahub.personas.plain_replies import read_people
from personahub.personas.profiles import (
    Demographic,
    Form,
    PersonaReplies,
    Profile,
    Selection,
    count_difference,
    parse_profiles,
    reply_schema,
    report_differences,
    select_people,
    split_by_evidence,
)
from personahub.prompts import PROMPTS

VERSION = "3"
INPUTS = ("documents",)
WORK = Work(cpu_seconds=0.00047, measured_by="benchmarks.million")

Mode = Literal["read", "write", "like", "dislike"]
Granularity = Literal["coarse", "medium", "fine"]

_TEXT_TOKENS = 500  # web pages of C4 and Common Crawl, cut at 6,000 characters, average 470 to 510
_PERSONA_TOKENS: dict[Form, int] = {
    "plain": 35,
    "structured": 110,
}  # a sentence of 10 to 30 words, with its label or JSON


class Config(PersonaReplies):
    """Configuration for Text-to-Persona."""

    template: Annotated[str, TemplateFolder(PROMPTS)] = Field(
        default="text_to_persona", description="Default: the template of the form."
    )
    modes: tuple[Mode, ...] = Field(default=("read", "write", "like", "dislike"), min_length=1)
    modes_per_text: int | None = Field(
        default=None, gt=0, description="Number of `modes` drawn for each text; by default all modes are used."
    )
    mode_shares: dict[Mode, float] | None = Field(
        default=None, description="Relative weight of each mode when modes are drawn; by default all are equal."
    )
    granularity: Granularity | tuple[Granularity, ...] = Field(
        default="fine",
        description="`coarse`: an occupation; `medium`: with its field; `fine`: as specific as the text allows. "
        "If several are given, one is drawn for each text and mode.",
    )
    personas_per_text: int = Field(default=2, gt=0, description="Personas per text and mode, all in one request.")

    @model_validator(mode="after")
    def _modes_to_draw_from(self) -> Config:
        if len(set(self.modes)) < len(self.modes):
            raise ValueError("`modes` contains a mode twice")
        if self.modes_per_text is not None and self.modes_per_text > len(self.modes):
            raise ValueError(f"modes_per_text is {self.modes_per_text}, but there are {len(self.modes)} modes")
        if self.mode_shares is not None:
            if self.modes_per_text is None:
                raise ValueError("`mode_shares` needs `modes_per_text`: without it all modes are used for every text")
            if set(self.mode_shares) != set(self.modes):
                raise ValueError("`mode_shares` must have exactly the keys that `modes` lists")
            if not all(0 < share < math.inf for share in self.mode_shares.values()):
                raise ValueError("a share must be above 0; to exclude a mode, remove it from `modes`")
        if not self.granularity:
            raise ValueError("`granularity` must not be empty")
        return self


def run(stage: Stage[Config]) -> None:
    """Infer personas from the texts of `documents`."""
    map_completions(stage, _process, stage.input("documents"), PERSONA)
    report_differences(stage)


async def _process(stage: Stage[Config], shard: CompletionShard) -> None:
    config = stage.config
    asking = prompts(config, load_template(config.template, PROMPTS))

    def rejected_row(document: Row, number: int) -> Row:
        mode, granularity = requests_of(config, document["id"])[number]
        return {**document, "mode": mode, "granularity": granularity}

    replies = usable_results(shard, shard.rows(), asking, parse(config), config.attempts, rejected_row)
    async for document, number, selection in replies:
        mode, granularity = requests_of(config, document["id"])[number]
        count_difference(shard, selection, config.personas_per_text)
        for profile in selection.people:
            profile, guessed = split_by_evidence(profile, document["text"])
            record = _record(config, document, mode, granularity, profile, selection.model)
            shard.write(record)
            for guess in guessed:
                shard.reject(record, _unsupported(guess))


def _unsupported(guess: Demographic) -> Rejected:
    """Return a rejection that stores a removed attribute. The persona itself is kept."""
    entry = {"attribute": guess.attribute, "value": guess.value, "evidence": guess.evidence}
    return Rejected("unsupported_demographic", json.dumps(entry, ensure_ascii=False))


def requests_of(config: Config, document_id: str) -> list[tuple[Mode, Granularity]]:
    """Return (mode, granularity) of a text's requests, in the order of the config."""
    modes = modes_of(config, document_id)
    if isinstance(config.granularity, str):
        return [(mode, config.granularity) for mode in modes]
    levels = config.granularity
    return [(mode, levels[derive_seed(config.seed, "granularity", document_id, mode) % len(levels)]) for mode in modes]


def modes_of(config: Config, document_id: str) -> list[Mode]:
    """Return the modes used for a text, in the order of the config."""
    if config.modes_per_text is None:
        return list(config.modes)
    draw = Random(derive_seed(config.seed, "modes", document_id))  # noqa: S311 - not for secrets
    if config.mode_shares is None:
        drawn = draw.sample(config.modes, config.modes_per_text)
    else:  # weighted, without replacement (Efraimidis and Spirakis 2006): the smallest exponential variates
        clocks = {mode: draw.expovariate(config.mode_shares[mode]) for mode in config.modes}
        drawn = sorted(config.modes, key=lambda mode: clocks[mode])[: config.modes_per_text]
    return [mode for mode in config.modes if mode in drawn]


def prompts(config: Config, template: Template) -> Callable[[Row], list[Request]]:
    """Return a function that makes the requests for a document, one per mode."""
    schema = None
    if config.form == "structured" and config.constrain:
        schema = reply_schema("personas", config.personas_per_text, demographics=True, max_chars=config.max_chars)

    def of_document(row: Row) -> list[Request]:
        text = escape_tags(row["text"], "text")
        return [
            Request(
                template.render(text=text, mode=mode, granularity=granularity, count=config.personas_per_text),
                config.sampling,
                derive_seed(config.seed, row["id"], mode),
                sample,
                json_schema=schema,
                engine=config.engine,
            )
            for sample, (mode, granularity) in enumerate(requests_of(config, row["id"]))
        ]

    return of_document


def parse(config: Config) -> Callable[[Request, Completion], Selection]:
    """Return a parser of replies.

    See `parse_personas`, `parse_profiles` and `select_people` for the reasons to reject a reply.
    """

    def reply(_: Request, completion: Completion) -> Selection:
        if config.form == "structured":
            people = parse_profiles(completion, "personas")
        else:
            people = [Profile(persona) for persona in parse_personas(completion)]
        return select_people(people, config.personas_per_text, config.min_words, completion.model)

    return reply


def parse_personas(completion: Completion, count: int | None = None) -> list[str]:
    """Return the distinct personas of a plain reply, at most `count`.

    Raises:
        Rejected: see `read_people`.
    """
    return [person.persona for person in read_people(completion)][:count]


def _record(config: Config, document: Row, mode: Mode, granularity: Granularity, profile: Profile, model: str) -> Row:
    return {
        "id": content_id("persona", profile.persona, document["id"], mode),
        "persona": profile.persona,
        "document_id": document["id"],
        "parent_id": None,
        "relation": None,
        "hop": 0,
        "mode": mode,
        "granularity": granularity,
        "profile": profile.to_json() if config.form == "structured" else None,
        "source": document.get("source"),
        "licence": document.get("licence"),
        "model": model,
        "machine_generated": True,
    }


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Forecast one request per text and mode. Repeated requests are not included."""
    granularity = config.granularity if isinstance(config.granularity, str) else config.granularity[0]
    messages = load_template(config.template, PROMPTS).render(
        text="", mode=config.modes[0], granularity=granularity, count=config.personas_per_text
    )
    tokens = _PERSONA_TOKENS[config.form]
    prompt = estimate_tokens(messages) + _TEXT_TOKENS
    count = rows_in["documents"] * (config.modes_per_text or len(config.modes))
    rows_out = count * config.personas_per_text
    return Forecast(
        rows_out=rows_out,
        requests=forecast_requests((config.engine, count, prompt, config.personas_per_text * tokens)),
        disk_bytes=rows_out * 300,
        notes=(f"assumes {prompt} tokens in per text and {tokens} out per persona",),
    )
