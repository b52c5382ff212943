"""Grades completions, clusters equivalent answers, and optionally asks a judge.

`eval.benchmark` grades new completions, `eval.regrade` those of an existing artifact. The rules alone
decide the verdict; a judge's opinion is recorded next to it, in `judged`.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from personahub.core import answers
from personahub.core.answers import CheckerPool, Policy, cluster
from personahub.core.answers.judge import (
    MAX_ANSWER,
    Judged,
    JudgeTemplate,
    When,
    judge_is_asked,
    judge_request,
    read_judgement,
)
from personahub.core.answers.verdict import FALLBACK, Verdict
from personahub.core.config import EXECUTION, EngineName, FrozenModel, StageConfig
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.generation.loop import CompletionShard, Failure
from personahub.core.identity import derive_seed, digest
from personahub.core.prompts import PROMPTS
from personahub.core.records import Row
from personahub.core.stage import Stage
from personahub.core.template import load_template
from personahub.core.texts.replies import without_thinking


class Judge(FrozenModel):
    """A model that judges in addition to the rules, as in the paper."""

    engine: EngineName
    when: When = Field(
        default="unreadable",
        description="Which answers to judge. unreadable: those that the rules cannot read; disagree: all that the rules do "
        "not call correct; all.",
    )
    template: JudgeTemplate = "judge"
    show_problem: bool = Field(
        default=False, description="Show the problem too. The paper's judge sees only the two answers."
    )
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=1024)
    attempts: int = Field(default=3, gt=0, description="How often to ask for a reply that can be read; 1 if greedy.")


class GradingConfig(StageConfig):
    """How to grade answers."""

    answers: Policy = Field(default=Policy(), description="How to decide contested cases.")
    judge: Judge | None = None
    check_deadline_s: float = Field(
        default=5.0, gt=0, description="Wall-clock seconds for one check; the verdict is then `timeout`."
    )
    check_workers: Annotated[int, EXECUTION] = Field(default=2, gt=0)

    def open_pool(self) -> CheckerPool:
        """Starts checker processes with this policy."""
        return CheckerPool(self.check_workers, self.check_deadline_s, self.answers)


async def grade(config: GradingConfig, pool: CheckerPool, shard: CompletionShard, rows: Sequence[Row]) -> list[Row]:
    """Grades samples into GRADED rows, in the same order.

    Args:
        config: the stage's config.
        pool: runs the checks; other tasks of the event loop continue meanwhile.
        shard: sends requests to the judge.
        rows: the samples, those of a problem next to each other. A sample without a `completion` was refused
            by the engine: its verdict is `error` and its `rule` is kept.
    """
    graded = await asyncio.to_thread(_grade, config, pool, rows)
    if config.judge is not None:
        await _ask_judge(config.judge, config.seed, shard, graded)
    return graded


def _grade(config: GradingConfig, pool: CheckerPool, rows: Sequence[Row]) -> list[Row]:
    answered = [row for row in rows if row["completion"] is not None]
    verdicts = pool.check_many((row["reference"], row["completion"]) for row in answered)
    by_sample = {(row["id"], row["sample"]): verdict for row, verdict in zip(answered, verdicts, strict=True)}
    graded = []
    for row in rows:
        verdict = by_sample.get((row["id"], row["sample"]))
        if verdict is None:
            graded.append({**row, "predicted": None, "verdict": "error"})
        else:
            if row["finish_reason"] == "length" and verdict.extraction.startswith((FALLBACK, "bare")):
                verdict = replace(verdict, label="no_answer", extracted=None, rule="truncated before an answer")
            rule = f"{verdict.extraction}: {verdict.rule}"
            graded.append({**row, "predicted": verdict.extracted, "verdict": verdict.label, "rule": rule})
    return _with_clusters(graded, pool, config.check_workers)


def _with_clusters(rows: list[Row], pool: CheckerPool, workers: int) -> list[Row]:
    """Numbers the clusters of equivalent answers within each problem. Applies if problems have several samples."""
    problems = [list(samples) for _, samples in groupby(rows, key=lambda row: row["id"])]
    if all(len(samples) == 1 for samples in problems):
        return [{**row, "cluster": None} for row in rows]
    predicted = [[row["predicted"] for row in samples] for samples in problems]
    with ThreadPoolExecutor(workers, thread_name_prefix="clusters") as threads:
        clustered = list(threads.map(functools.partial(cluster, pool=pool), predicted))
    numbered = []
    for samples, groups in zip(problems, clustered, strict=True):
        numbers = {member: number for number, group in enumerate(groups) for member in group}
        numbered += [{**row, "cluster": numbers.get(index, -1)} for index, row in enumerate(samples)]
    return numbered


async def _ask_judge(judge: Judge, seed: int, shard: CompletionShard, rows: Sequence[Row]) -> None:
    """Fills in `judged` and `judgement` for the rows that go to the judge."""
    asked = [row for row in rows if row["completion"] is not None and judge_is_asked(judge.when, as_verdict(row))]

    def request(row: Row) -> list[Request]:
        # a check that timed out extracts no answer; it is near the end of the completion
        pred = row["predicted"] or row["completion"][-MAX_ANSWER:]
        problem = row["problem"] if judge.show_problem else None
        messages = judge_request(problem, row["reference"], pred, template=judge.template)
        own_seed = derive_seed(seed, "judge", row["id"], row["sample"])
        return [Request(messages, judge.sampling, own_seed, row["sample"], engine=judge.engine)]

    async for row, (result,) in shard.generate(asked, request, _parse_judgement, judge.attempts):
        if isinstance(result, Failure):
            row |= {"judged": "unread", "judgement": result.raw}
        else:
            row |= {"judged": "correct" if result[0] else "wrong", "judgement": result[1]}


def _parse_judgement(_: Request, completion: Completion) -> tuple[bool, str]:
    return read_judgement(without_thinking(completion.text)), completion.text


def as_verdict(row: Row) -> Verdict:
    """Returns the rules' verdict in a GRADED row."""
    extraction, _, rule = (row["rule"] or "").partition(": ")
    return Verdict(row["verdict"], row["predicted"], extraction, rule, 0.0)


def judged(row: Row) -> Judged:
    """Returns the rules' verdict and the judge's opinion in a GRADED row."""
    opinion = {"correct": True, "wrong": False}.get(row["judged"])
    return Judged(as_verdict(row), row["judged"] is not None, opinion)


def grading_summary(stage: Stage[Any]) -> dict[str, Any]:
    """Describes how the verdicts were made. Artifacts that differ in this are not comparable."""
    config: GradingConfig = stage.config
    judge = None
    if config.judge is not None:
        prompt = load_template(config.judge.template, PROMPTS).fingerprint
        model = stage.engines[config.judge.engine].model
        judge = {"model": model, "when": config.judge.when, "prompt": prompt}
    return {"policy": config.answers.model_dump(), "checker": checker_fingerprint(), "judge": judge}


@functools.cache
def checker_fingerprint() -> str:
    """Hashes the code of the checker and of reply handling, and math-verify's version."""
    folder = Path(answers.__file__).parents[1]
    files = [*sorted((folder / "answers").rglob("*.py")), folder / "texts/replies.py"]
    sources = [(file.relative_to(folder).as_posix(), file.read_text("utf-8")) for file in files]
    return digest("checker", [list(source) for source in sources], importlib.metadata.version("math-verify"), size=8)
