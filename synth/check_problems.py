"""Reject unsound problems before paying for solutions, by rules, then by an LLM.

    sound:
      run: synth.check_problems
      inputs: {problems: problems}
      config: {engine: teacher, judges: 1}

The rules of `synth.contracts.validity` are free and come first. Then the engine judges each problem `judges` times,
with the verdict `sound` or the name of a flaw. A problem is kept if at most `max_doubts` verdicts name a flaw.
Otherwise it is rejected for the most frequent flaw. Whether the answer agrees with the problem's conditions can
only be checked later, by `synth.verify`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import Field, model_validator

from personahub.core.config import EngineName, StageConfig, TemplateFolder
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.errors import Rejected
from personahub.core.forecast import Forecast
from personahub.core.generation.llm_stage import PROBLEM_TOKENS, estimate_tokens, forecast_requests
from personahub.core.generation.loop import CompletionShard, Failure, map_completions
from personahub.core.identity import derive_seed
from personahub.core.records import PROBLEM, Row
from personahub.core.stage import Stage
from personahub.core.template import Template, load_template
from synth.contracts.validity import check_problem
from synth.prompts import PROMPTS

VERSION = "2"
INPUTS = ("problems",)

# The verdicts of a judge, and the reasons for which a problem is rejected.
FLAWS = {
    "missing": "missing_condition",
    "contradictory": "contradictory",
    "proof": "proof_only",
    "multiple": "multi_part",
    "answered": "contains_solution",
}

_VERDICT_TOKENS = 150  # a few sentences


class Config(StageConfig):
    """The judge, and how many of its verdicts may name a flaw."""

    engine: EngineName
    template: Annotated[str, TemplateFolder(PROMPTS)] = "check_problem"
    judges: int = Field(default=1, gt=0, description="Number of verdicts per problem.")
    max_doubts: int = Field(default=0, ge=0, description="Number of verdicts that may name a flaw.")
    sampling: Sampling = Sampling(temperature=0.7, max_tokens=1024)
    attempts: int = Field(default=3, gt=0, description="How often to request a verdict if the reply has none.")

    @model_validator(mode="after")
    def _some_problem_can_fail(self) -> Config:
        if self.max_doubts >= self.judges:
            raise ValueError(f"max_doubts is {self.max_doubts}: with {self.judges} judges no problem could fail")
        return self


def run(stage: Stage[Config]) -> None:
    """Copy the sound `problems`."""
    map_completions(stage, _process, stage.input("problems"), PROBLEM)


async def _process(stage: Stage[Config], shard: CompletionShard) -> None:
    config = stage.config
    asking = prompts(config, load_template(config.template, PROMPTS))
    sound = _passing_rules(shard, shard.rows())
    async for problem, verdicts in shard.generate(sound, asking, parse_verdict, config.attempts):
        try:
            decide(config, verdicts)
        except Rejected as error:
            shard.reject(problem, error, "\n".join(v.raw or "" for v in verdicts if isinstance(v, Failure)) or None)
        else:
            shard.write(problem)


def _passing_rules(shard: CompletionShard, problems: Iterable[Row]) -> Iterator[Row]:
    for problem in problems:
        try:
            check_problem(problem["problem"])
        except Rejected as error:
            shard.reject(problem, error)
        else:
            yield problem


def prompts(config: Config, template: Template) -> Callable[[Row], list[Request]]:
    """Return a function that makes the requests for a problem, one per verdict."""

    def of_problem(row: Row) -> list[Request]:
        messages = template.render(problem=row["problem"])
        return [
            Request(messages, config.sampling, derive_seed(config.seed, row["id"], judge), judge, engine=config.engine)
            for judge in range(config.judges)
        ]

    return of_problem


_VERDICT = re.compile(r"^[ \t>#*_]*verdict[ \t*_]*[:：][ \t*_\"'`]*([a-z]+)", re.IGNORECASE | re.MULTILINE)


def parse_verdict(_: Request, completion: Completion) -> str:
    """Return the last verdict in the reply: `sound` or a key of `FLAWS`.

    Raises:
        Rejected: `truncated`, `no_prefix` or `unknown_verdict`.
    """
    found = _VERDICT.findall(completion.whole_text())
    if not found:
        raise Rejected("no_prefix", "the reply has no line that starts with 'Verdict:'")
    verdict = found[-1].lower()
    if verdict != "sound" and verdict not in FLAWS:
        raise Rejected("unknown_verdict", verdict)
    return verdict


def decide(config: Config, verdicts: Sequence[str | Failure]) -> None:
    """Decide whether a problem is kept.

    Raises:
        Rejected: `no_verdict` (no reply has a verdict), or the most frequent flaw.
    """
    usable = [verdict for verdict in verdicts if isinstance(verdict, str)]
    if not usable:
        raise Rejected("no_verdict", "; ".join(str(v.error) for v in verdicts if isinstance(v, Failure)))
    flaws = Counter(verdict for verdict in usable if verdict != "sound")
    if flaws.total() > config.max_doubts:
        raise Rejected(FLAWS[flaws.most_common(1)[0][0]], f"{flaws.total()} of {len(usable)} judges doubt it")


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Forecast one request per verdict. The paper's experts found 3.5% of its problems invalid (section 4.1.2)."""
    prompt = estimate_tokens(load_template(config.template, PROMPTS).render(problem="")) + PROBLEM_TOKENS
    count = rows_in["problems"] * config.judges
    return Forecast(
        rows_out=round(rows_in["problems"] * 0.965),
        requests=forecast_requests((config.engine, count, prompt, _VERDICT_TOKENS)),
        disk_bytes=rows_in["problems"] * 1000,
        notes=(f"assumes {_VERDICT_TOKENS} tokens out per verdict",),
    )
