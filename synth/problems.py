"""Math problems from personas: one prompt per persona and sample, one problem per reply.

    problems:
      run: synth.problems
      inputs: {personas: personas}
      config: {engine: teacher, template: math, problems_per_persona: 1}

The no-persona arm of an ablation is the same stage with `persona: false`: the same persona ids and
the same seed for each of them, the template rendered with `persona=None`. The two arms differ in
nothing but the persona's text. Two more arms put something else in its place, drawn for each persona
from a file with one entry a line:

      config: {engine: teacher, persona: false, key_points: {path: configs/data/key_points.txt, count: 2}}
      config: {engine: teacher, persona: false, words: {path: configs/data/words.txt, count: 4}}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Annotated

from pydantic import Field

from personahub.core.config import ContentPath, FrozenModel, TemplateFolder
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.errors import Rejected, UserError
from personahub.core.forecast import Forecast, Requests, Work
from personahub.core.generation.loop import CompletionShard, Failure, map_completions
from personahub.core.identity import content_id, derive_seed
from personahub.core.records import PROBLEM, Row
from personahub.core.stage import Stage
from personahub.core.template import Template, load_template
from personahub.core.texts.replies import find_refusal, labelled_parts
from synth.contracts.contract import SOLUTION, without_markdown
from synth.contracts.examples import Example, PromptingConfig, check_examples, draw_examples, load_examples
from synth.contracts.validity import MOST_PARTS, count_parts
from synth.prompts import PROMPTS

VERSION = "3"
INPUTS = ("personas", "example_personas?", "*")  # the others: benchmarks that examples must not be from
WORK = Work(cpu_seconds=0.00025, memory_bytes=70, measured_by="benchmarks.million")

_CHARS_PER_TOKEN = 4  # English text under GPT-style vocabularies
_PERSONA_TOKENS = 25  # the personas of the paper's release average 20 to 30
_PROBLEM_TOKENS = 130  # one word problem with its quantities and LaTeX


class Drawn(FrozenModel):
    """Entries drawn for each persona from a list of ours or yours."""

    path: ContentPath = Field(description="A text file with one entry a line; lines that begin with # are none.")
    count: int = Field(default=2, gt=0, description="Entries per prompt.")


class Config(PromptingConfig):
    """`persona_kind`, `focus` and `difficulty` are handed to the template, which may ignore them."""

    template: Annotated[str, TemplateFolder(PROMPTS)] = "math"
    problems_per_persona: int = Field(default=1, gt=0)
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=1024)
    attempts: int = Field(
        default=3, gt=0, description="How often one problem is asked for, when replies do not qualify."
    )
    persona_kind: str | None = Field(default=None, description="`general` or `professional` in the math template.")
    key_points: Drawn | None = Field(default=None, description="Mathematics that the problem shall need.")
    words: Drawn | None = Field(default=None, description="Words that the problem shall have to do with.")
    focus: str | None = Field(default=None, description="Field of mathematics, such as `geometry`.")
    difficulty: str | None = Field(default=None, description="Such as `Olympiad-level`.")
    min_chars: int = Field(default=20, gt=0)
    max_chars: int = Field(default=4000, gt=0)


def run(stage: Stage[Config]) -> None:
    """Write problems from the personas of `personas`."""
    check_examples(stage.config, stage.inputs)
    map_completions(stage, _process, stage.input("personas"), PROBLEM)


async def _process(stage: Stage[Config], shard: CompletionShard) -> None:
    config = stage.config
    examples = load_examples(config, stage.inputs)
    lists = Lists.read(config)
    asking = prompts(config, load_template(config.template, PROMPTS), examples, lists)
    parsing = parse(config)
    async for persona, results in shard.generate(shard.rows(), asking, parsing, config.attempts):
        for sample, result in enumerate(results):
            if isinstance(result, Failure):
                shard.reject({**persona, "sample": sample}, result.error, result.raw)
            else:
                problem, model = result
                shard.write(_record(config, persona, sample, problem, model, lists))


@dataclass(frozen=True)
class Lists:
    """What prompts draw from beside the persona; empty where the config names no file."""

    key_points: Sequence[str] = ()
    words: Sequence[str] = ()

    @classmethod
    def read(cls, config: Config) -> Lists:
        """The lists of `config`.

        Raises:
            UserError: a file cannot be read, or holds fewer entries than a prompt takes.
        """
        return cls(*(_entries(drawn) if drawn else () for drawn in (config.key_points, config.words)))

    def draw(self, config: Config, persona_id: str) -> dict[str, list[str]]:
        """The entries shown for one persona, by the name that templates know them under."""
        found = {}
        for name, entries, drawn in (
            ("key_points", self.key_points, config.key_points),
            ("words", self.words, config.words),
        ):
            chance = Random(derive_seed(config.seed, name, persona_id))  # noqa: S311 - not for secrets
            found[name] = chance.sample(entries, drawn.count) if drawn else []
        return found


def _entries(drawn: Drawn) -> list[str]:
    try:
        lines = Path(drawn.path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{drawn.path}: the list cannot be read: {error}") from None
    entries = list(dict.fromkeys(line.strip() for line in lines if line.strip() and not line.startswith("#")))
    if len(entries) < drawn.count:
        raise UserError(f"{drawn.path}: {len(entries)} entries, but `count` asks for {drawn.count} in a prompt")
    return entries


def prompts(
    config: Config, template: Template, examples: Sequence[Example] = (), lists: Lists | None = None
) -> Callable[[Row], list[Request]]:
    """The requests of one persona, one per sample."""
    drawn_from = lists or Lists.read(config)

    def of_persona(row: Row) -> list[Request]:
        messages = template.render(
            persona=row["persona"] if config.persona else None,
            examples=draw_examples(config, examples, row["id"]),
            **drawn_from.draw(config, row["id"]),
            persona_kind=config.persona_kind,
            focus=config.focus,
            difficulty=config.difficulty,
        )
        return [
            Request(messages, config.sampling, _seed(config, row["id"], sample), sample, engine=config.engine)
            for sample in range(config.problems_per_persona)
        ]

    return of_persona


def _seed(config: Config, persona_id: str, sample: int) -> int:
    return derive_seed(config.seed, persona_id, sample)


def parse(config: Config) -> Callable[[Request, Completion], tuple[str, str]]:
    """Parser of a reply into (problem, model); see `parse_problem` for the reasons to reject."""

    def reply(_: Request, completion: Completion) -> tuple[str, str]:
        return parse_problem(completion, config.min_chars, config.max_chars), completion.model

    return reply


_UNFINISHED = re.compile(r"[\w,]\Z")  # 11 of MATH's 12,500 problems and none of GSM8K's 1,319 test problems end so


def parse_problem(completion: Completion, min_chars: int = 20, max_chars: int = 4000) -> str:
    """The problem in a reply that follows the contract `Math problem: ...`, and nothing else.

    Markdown around the label, other capitals and a line of chat before it are tolerated.

    Raises:
        Rejected: `truncated`, `refusal`, `no_prefix`, `contains_solution`, `too_short`, `too_long`, `multi_part`
            (more than two sub-problems) or `unfinished` (it stops in the middle of a sentence).
    """
    text = completion.whole_text()
    if find_refusal(text):
        raise Rejected("refusal")
    parts = labelled_parts(text, ("Math problem",))
    if not parts:
        raise Rejected("no_prefix", "the reply has no line that starts with 'Math problem:'")
    problem = without_markdown(parts[0].text)
    solution = SOLUTION.search(problem)
    if solution:
        raise Rejected("contains_solution", solution.group().strip())
    if len(problem) < min_chars:
        raise Rejected("too_short", f"{len(problem)} characters")
    if len(problem) > max_chars:
        raise Rejected("too_long", f"{len(problem)} characters")
    if (count := count_parts(problem)) > MOST_PARTS:
        raise Rejected("multi_part", f"{count} sub-problems")
    if _UNFINISHED.search(problem):
        raise Rejected("unfinished", f"ends with {problem[-20:]!r}")
    return problem


def _record(config: Config, persona: Row, sample: int, problem: str, model: str, lists: Lists) -> Row:
    drawn = [entry for entries in lists.draw(config, persona["id"]).values() for entry in entries]
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


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """One request per problem; replies that have to be asked for again are not foreseen."""
    messages = load_template(config.template, PROMPTS).render(
        persona="x" if config.persona else None,  # an empty one would render as the other arm
        examples=[] if config.prompting == "zero_shot" else [Example(text="x" * 400, persona="x" * 100)] * config.shots,
        key_points=["x" * 30] * config.key_points.count if config.key_points else [],
        words=["x" * 7] * config.words.count if config.words else [],
        persona_kind=config.persona_kind,
        focus=config.focus,
        difficulty=config.difficulty,
    )
    prompt = sum(len(message["content"]) for message in messages) // _CHARS_PER_TOKEN
    prompt += _PERSONA_TOKENS if config.persona else 0
    count = rows_in["personas"] * config.problems_per_persona
    return Forecast(
        rows_out=count,
        requests={config.engine: Requests(count, count * prompt, count * _PROBLEM_TOKENS)},
        disk_bytes=count * 1000,
        notes=(f"assumes {prompt} tokens in and {_PROBLEM_TOKENS} out per problem",),
    )
