"""Completions against references: a verdict each, clusters of equivalent answers, and a second judge by choice.

`eval.benchmark` grades what it has just asked for, `eval.regrade` what an artifact holds already. The
rules decide the verdict and nothing changes it; what a judge says stands beside, in `judged`.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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
from personahub.core.answers.verdict import Verdict
from personahub.core.config import EXECUTION, EngineName, FrozenModel, StageConfig
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.generation.loop import CompletionShard, Failure
from personahub.core.identity import derive_seed, digest
from personahub.core.prompts import PROMPTS
from personahub.core.records import Row
from personahub.core.stage import Stage
from personahub.core.template import load_template


class Judge(FrozenModel):
    """A model as second judge behind the rules, as in the paper."""

    engine: EngineName
    when: When = Field(
        default="unreadable",
        description="unreadable: what the rules could not read; disagree: all that they do not call correct; all.",
    )
    template: JudgeTemplate = "judge"
    show_problem: bool = Field(default=False, description="The paper's judge sees the two answers only.")
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=1024)
    attempts: int = Field(default=3, gt=0, description="Replies asked for until one can be read; 1 when greedy.")


class GradingConfig(StageConfig):
    """How answers are graded."""

    answers: Policy = Field(default=Policy(), description="Contested cases of answer checking.")
    judge: Judge | None = None
    check_deadline_s: float = Field(default=5.0, gt=0, description="Wall seconds for one check; then `timeout`.")
    check_workers: Annotated[int, EXECUTION] = Field(default=2, gt=0)

    def open_pool(self) -> CheckerPool:
        """Checker processes under this policy."""
        return CheckerPool(self.check_workers, self.check_deadline_s, self.answers)


async def grade(config: GradingConfig, pool: CheckerPool, shard: CompletionShard, rows: Sequence[Row]) -> list[Row]:
    """GRADED rows of the samples in `rows`, in their order.

    Args:
        config: of the stage.
        pool: where checks run; other tasks of the event loop go on meanwhile.
        shard: asks the judge.
        rows: what is known before grading; the samples of a problem stand together. A sample without a
            `completion` is one that the engine refused: its verdict is `error`, its `rule` stays.
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
            rule = f"{verdict.extraction}: {verdict.rule}"
            graded.append({**row, "predicted": verdict.extracted, "verdict": verdict.label, "rule": rule})
    return _with_clusters(graded, pool, config.check_workers)


def _with_clusters(rows: list[Row], pool: CheckerPool, workers: int) -> list[Row]:
    """Number the clusters of equivalent answers of every problem that has several samples."""
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
    """Fill in `judged` and `judgement` of the rows that go to the judge."""
    asked = [row for row in rows if row["completion"] is not None and judge_is_asked(judge.when, as_verdict(row))]

    def request(row: Row) -> list[Request]:
        # a check that ran out of time names no answer; the end of the completion holds it
        pred = row["predicted"] or row["completion"][-MAX_ANSWER:]
        problem = row["problem"] if judge.show_problem else None
        messages = judge_request(problem, row["reference"], pred, template=judge.template)
        own_seed = derive_seed(seed, "judge", row["id"], row["sample"])
        return [Request(messages, judge.sampling, own_seed, row["sample"], engine=judge.engine)]

    async for row, (result,) in shard.generate(asked, request, _read, judge.attempts):
        if isinstance(result, Failure):
            row |= {"judged": "unread", "judgement": result.raw}
        else:
            row |= {"judged": "correct" if result[0] else "wrong", "judgement": result[1]}


def _read(_: Request, completion: Completion) -> tuple[bool, str]:
    return read_judgement(completion.text), completion.text


def as_verdict(row: Row) -> Verdict:
    """The rules' verdict in a GRADED row."""
    extraction, _, rule = (row["rule"] or "").partition(": ")
    return Verdict(row["verdict"], row["predicted"], extraction, rule, 0.0)


def judged(row: Row) -> Judged:
    """The rules' verdict and the judge's word in a GRADED row."""
    says = {"correct": True, "wrong": False}.get(row["judged"])
    return Judged(as_verdict(row), row["judged"] is not None, says)


def grading_summary(stage: Stage[Any]) -> dict[str, Any]:
    """What the verdicts rest on. Artifacts that differ in it are not comparable."""
    config: GradingConfig = stage.config
    judge = None
    if config.judge is not None:
        prompt = load_template(config.judge.template, PROMPTS).fingerprint
        model = stage.engines[config.judge.engine].model
        judge = {"model": model, "when": config.judge.when, "prompt": prompt}
    return {"policy": config.answers.model_dump(), "checker": checker_fingerprint(), "judge": judge}


@functools.cache
def checker_fingerprint() -> str:
    """Hash of the checker's own code and the version of math-verify below it."""
    folder = Path(answers.__file__).parent
    sources = [(file.relative_to(folder).as_posix(), file.read_text("utf-8")) for file in sorted(folder.rglob("*.py"))]
    return digest("checker", [list(source) for source in sources], importlib.metadata.version("math-verify"), size=8)
