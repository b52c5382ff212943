"""Write math problems from personas.

A prompt per persona and sample, a problem per reply.

    problems:
      run: synth.problems
      inputs: {personas: personas}
      config: {engine: teacher, template: math, problems_per_persona: 1}

The no-persona arm of an ablation is the same stage with `persona: false`: the same persona ids and
the same seed for each of them, with the template rendered with `persona=None`. The two arms differ in
nothing but the persona's text. Other arms put something else in its place: entries drawn for each
persona from a file with one entry per line. The math template knows two such lists:

      config: {engine: teacher, persona: false, key_points: {path: configs/data/key_points.txt, count: 2}}
      config: {engine: teacher, persona: false, words: {path: configs/data/words.txt, count: 4}}

A new arm is a template, a list and a config. The template sees the drawn entries under the name of the list:

      config:
        engine: teacher
        persona: false
        template: my/places.md
        insert: {places: {path: my/places.txt, count: 2}}      # {% for place in places %} in the template
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from personahub.core.config import UNLESS_DEFAULT, ContentPath, FrozenModel, TemplateFolder
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.errors import Rejected, UserError
from personahub.core.forecast import Forecast, Work
from personahub.core.generation.llm_stage import (
    PERSONA_TOKENS,
    PROBLEM_TOKENS,
    estimate_tokens,
    forecast_requests,
    generate_records,
)
from personahub.core.identity import content_id, derive_seed
from personahub.core.records import PROBLEM, Row
from personahub.core.stage import Stage
from personahub.core.template import Message, Template, load_template
from personahub.core.texts.replies import find_refusal, labelled_parts
from synth.contracts.additions import asks, strip_additions
from synth.contracts.contract import without_markdown
from synth.contracts.examples import (
    Example,
    PromptingConfig,
    check_examples,
    check_template,
    draw_examples,
    load_examples,
)
from synth.contracts.validity import MOST_PARTS, count_parts
from synth.prompts import PROMPTS

VERSION = "4"
INPUTS = ("personas", "example_personas?", "*")  # "*": benchmarks that examples must not come from
WORK = Work(cpu_seconds=0.00025, memory_bytes=70, measured_by="benchmarks.million")

_NAMES = {"persona", "examples", "key_points", "words", "persona_kind", "focus", "difficulty"}  # known to templates


class Drawn(FrozenModel):
    """Entries drawn for each persona from a list."""

    path: ContentPath = Field(description="A text file with one entry per line; lines that begin with # are comments.")
    count: int = Field(default=2, gt=0, description="Entries per prompt.")


class Config(PromptingConfig):
    """Configuration. `persona_kind`, `focus` and `difficulty` go to the template, which may ignore them."""

    template: Annotated[str, TemplateFolder(PROMPTS)] = "math"
    problems_per_persona: int = Field(default=1, gt=0)
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=1024)
    attempts: int = Field(default=3, gt=0, description="How often to request a problem if replies do not qualify.")
    persona_kind: str | None = Field(default=None, description="`general` or `professional` in the math template.")
    key_points: Drawn | None = Field(default=None, description="Mathematics that the problem should need.")
    words: Drawn | None = Field(default=None, description="Words that the problem should have to do with.")
    insert: Annotated[dict[str, Drawn], UNLESS_DEFAULT] = Field(
        default={}, description="More lists to draw from, by the name under which `template` uses the drawn entries."
    )
    focus: str | None = Field(default=None, description="Field of mathematics, such as `geometry`.")
    difficulty: str | None = Field(default=None, description="Such as `Olympiad-level`.")
    min_chars: int = Field(default=20, gt=0)
    max_chars: int = Field(default=4000, gt=0)

    @field_validator("insert")
    @classmethod
    def _new_names(cls, insert: dict[str, Drawn]) -> dict[str, Drawn]:
        for name in insert:
            if name in _NAMES or not name.isidentifier():
                raise ValueError(f"{name!r} is not a new name; choose a word other than {', '.join(sorted(_NAMES))}")
        return insert

    @model_validator(mode="after")
    def _fits_template(self) -> Config:
        check_template(self, self.template, _NAMES.union(self.insert))
        return self

    @property
    def lists(self) -> dict[str, Drawn | None]:
        """Return the lists that prompts draw from, by the name that the template uses."""
        return {"key_points": self.key_points, "words": self.words, **dict(sorted(self.insert.items()))}


def run(stage: Stage[Config]) -> None:
    """Write problems from the personas of `personas`."""
    config = stage.config
    check_examples(config, stage.inputs)
    template = load_template(config.template, PROMPTS)
    draw = draws(config, template)
    asking = prompts(config, template, load_examples(config, stage.inputs), draw)
    personas = stage.input("personas")
    generate_records(stage, personas, PROBLEM, asking, parse(config), record(config, draw), config.attempts)


Draw = Callable[[str], dict[str, list[str]]]


def draws(config: Config, template: Template) -> Draw:
    """Return a function that draws a persona's prompt entries by its id.

    They are keyed by the list's name.

    Raises:
        UserError: see `_entries`.
    """
    lists = _entries(config, template)

    def draw(persona_id: str) -> dict[str, list[str]]:
        drawn = {}
        for name, (entries, count) in lists.items():
            chance = Random(derive_seed(config.seed, name, persona_id))  # noqa: S311 - not for secrets
            drawn[name] = chance.sample(entries, count)
        return drawn

    return draw


def _entries(config: Config, template: Template) -> dict[str, tuple[list[str], int]]:
    """Return all entries of each list, and how many of them a prompt shows.

    Raises:
        UserError: a file cannot be read or has fewer entries than a prompt shows, or the template does not use a list.
    """
    lists = {}
    for name, drawn in config.lists.items():
        if drawn is not None and name not in template.names:
            raise UserError(
                f"{name}: the template {config.template!r} does not use it; set `template` to one that does"
            )
        lists[name] = (_read_entries(drawn), drawn.count) if drawn is not None else ([], 0)
    return lists


def _read_entries(drawn: Drawn) -> list[str]:
    try:
        lines = Path(drawn.path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{drawn.path}: cannot be read: {error}") from None
    entries = list(dict.fromkeys(line.strip() for line in lines if line.strip() and not line.startswith("#")))
    if len(entries) < drawn.count:
        raise UserError(f"{drawn.path}: has {len(entries)} entries, but `count` asks for {drawn.count} per prompt")
    return entries


def prompts(
    config: Config, template: Template, examples: Sequence[Example], draw: Draw
) -> Callable[[Row], list[Request]]:
    """Return a function that makes the requests for a persona, one per sample."""

    def of_persona(row: Row) -> list[Request]:
        shown = draw_examples(config, examples, row["id"])
        messages = _render(config, template, row["persona"], shown, draw(row["id"]))
        return [
            Request(messages, config.sampling, _seed(config, row["id"], sample), sample, engine=config.engine)
            for sample in range(config.problems_per_persona)
        ]

    return of_persona


def _render(
    config: Config, template: Template, persona: str, examples: Sequence[Example], drawn: Mapping[str, Sequence[str]]
) -> tuple[Message, ...]:
    return template.render(
        persona=persona if config.persona else None,
        examples=examples,
        **drawn,
        persona_kind=config.persona_kind,
        focus=config.focus,
        difficulty=config.difficulty,
    )


def _seed(config: Config, persona_id: str, sample: int) -> int:
    return derive_seed(config.seed, persona_id, sample)


def parse(config: Config) -> Callable[[Request, Completion], tuple[str, str]]:
    """Return a parser of replies into (problem, model). See `parse_problem` for the reasons to reject."""

    def reply(_: Request, completion: Completion) -> tuple[str, str]:
        return parse_problem(completion, config.min_chars, config.max_chars), completion.model

    return reply


_UNFINISHED = re.compile(r"[\w,]\Z")  # matches 11 of MATH's 12,500 problems and none of GSM8K's 1,319 test problems


def parse_problem(completion: Completion, min_chars: int = 20, max_chars: int = 4000) -> str:
    """Return the problem in a reply that follows the contract `Math problem: ...`.

    Markdown around the label, a different case and a line of chat before it are accepted. A title, quotation marks,
    and a solution, commentary or chat after the question are cut.

    Raises:
        Rejected: `truncated`, `refusal`, `no_prefix`, `too_short`, `too_long`, `multi_part` (more than two
            sub-problems), `unfinished` (it ends in the middle of a sentence), `no_question`, or a reason of
            `synth.contracts.additions.strip_additions`.
    """
    text = completion.whole_text()
    if find_refusal(text):
        raise Rejected("refusal")
    parts = labelled_parts(text, ("Math problem",))
    if not parts:
        raise Rejected("no_prefix", "the reply has no line that starts with 'Math problem:'")
    problem = strip_additions(without_markdown(parts[0].text))
    if len(problem) < min_chars:
        raise Rejected("too_short", f"{len(problem)} characters")
    if len(problem) > max_chars:
        raise Rejected("too_long", f"{len(problem)} characters")
    if (count := count_parts(problem)) > MOST_PARTS:
        raise Rejected("multi_part", f"{count} sub-problems")
    if _UNFINISHED.search(problem):
        raise Rejected("unfinished", f"ends with {problem[-20:]!r}")
    if not asks(problem):
        raise Rejected("no_question", f"ends with {problem[-60:]!r}")
    return problem


def record(config: Config, draw: Draw) -> Callable[[Row, int, tuple[str, str]], Row]:
    """Return a function that makes an output record. Takes a persona, a sample index and a (problem, model)."""

    def of_reply(persona: Row, sample: int, reply: tuple[str, str]) -> Row:
        problem, model = reply
        drawn = [entry for entries in draw(persona["id"]).values() for entry in entries]
        return {
            "id": content_id("problem", problem, persona["id"], sample),
            "problem": problem,
            "persona_id": persona["id"],
            "persona": persona["persona"] if config.persona else None,
            "drawn": drawn or None,
            "document_id": persona.get("document_id"),
            "template": Path(config.template).stem,
            "sample": sample,
            "seed": _seed(config, persona["id"], sample),
            "licence": persona.get("licence"),
            "model": model,
            "machine_generated": True,
        }

    return of_reply


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Forecast one request per problem. Repeated requests are not included."""
    template = load_template(config.template, PROMPTS)
    examples = [] if config.prompting == "zero_shot" else [Example(text="x" * 400, persona="x" * 100)] * config.shots
    drawn = {  # entries of average length
        name: ["x" * round(sum(map(len, entries)) / len(entries))] * count if entries else []
        for name, (entries, count) in _entries(config, template).items()
    }
    prompt = estimate_tokens(_render(config, template, "x", examples, drawn))
    prompt += PERSONA_TOKENS if config.persona else 0
    count = rows_in["personas"] * config.problems_per_persona
    return Forecast(
        rows_out=count,
        requests=forecast_requests((config.engine, count, prompt, PROBLEM_TOKENS)),
        disk_bytes=count * 1000,
        notes=(f"assumes {prompt} tokens in and {PROBLEM_TOKENS} out per problem",),
    )
