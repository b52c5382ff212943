"""Completions against references: a verdict each, and clusters of equivalent answers among a problem's samples.

`eval.benchmark` grades what it has just asked for, `eval.regrade` what an artifact holds already.
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
from personahub.core.config import EXECUTION, StageConfig
from personahub.core.identity import digest
from personahub.core.records import Row


class GradingConfig(StageConfig):
    """How answers are graded."""

    answers: Policy = Field(default=Policy(), description="Contested cases of answer checking.")
    check_deadline_s: float = Field(default=5.0, gt=0, description="Wall seconds for one check; then `timeout`.")
    check_workers: Annotated[int, EXECUTION] = Field(default=2, gt=0)

    def open_pool(self) -> CheckerPool:
        """Checker processes under this policy."""
        return CheckerPool(self.check_workers, self.check_deadline_s, self.answers)


async def grade(config: GradingConfig, pool: CheckerPool, rows: Sequence[Row]) -> list[Row]:
    """GRADED rows of the samples in `rows`, in their order.

    Args:
        config: of the stage.
        pool: where checks run; other tasks of the event loop go on meanwhile.
        rows: what is known before grading; the samples of a problem stand together. A sample without a
            `completion` is one that the engine refused: its verdict is `error`, its `rule` stays.
    """
    return await asyncio.to_thread(_grade, config, pool, rows)


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


def grading_summary(config: GradingConfig) -> dict[str, Any]:
    """What the verdicts rest on. Artifacts that differ in it are not comparable."""
    return {"policy": config.answers.model_dump(), "checker": checker_fingerprint()}


@functools.cache
def checker_fingerprint() -> str:
    """Hash of the checker's own code and the version of math-verify below it."""
    folder = Path(answers.__file__).parent
    sources = [(file.relative_to(folder).as_posix(), file.read_text("utf-8")) for file in sorted(folder.rglob("*.py"))]
    return digest("checker", [list(source) for source in sources], importlib.metadata.version("math-verify"), size=8)
