"""Collects a benchmark stage's problems, checks their references and stores them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from personahub.core.answers import CheckerPool
from personahub.core.artifact import MANIFEST, Artifact, Counts, Manifest, Usage, read_manifest
from personahub.core.errors import UserError
from personahub.core.files import write_json
from personahub.core.identity import derive_seed
from personahub.core.records import REFERENCE, Row
from personahub.core.shards import ShardWriter, shard_name
from personahub.core.stage import Stage

SYNTHETIC_TEST = "synthetic_test"


def gather_questions(stage: Stage[Any], pool: CheckerPool) -> Artifact:
    """Writes the problems of all benchmarks as the artifact `problems/`, or reads it.

    Its summary lists the skipped benchmarks and the result of checking each reference against itself.

    Raises:
        UserError: an input is not a benchmark, two are the same benchmark, or there are none.
    """
    folder = stage.path / "problems"
    manifest = read_manifest(folder)
    if manifest is None:
        benchmarks, skipped = _benchmarks(stage)
        check = {name: check_references(stage, rows, pool) for name, rows in benchmarks.items()}
        rows = [row for problems in benchmarks.values() for row in problems]
        manifest = _write_questions(stage, folder, rows, {"skipped": skipped, "reference_self_check": check})
    return Artifact(folder, manifest)


def check_references(stage: Stage[Any], rows: Sequence[Row], pool: CheckerPool) -> dict[str, Any]:
    """Counts the references that are correct against themselves.

    If the checker rejects a reference, it would grade right answers as wrong.

    Args:
        rows: rows with `id` and `answer`.
    """
    failed = []
    with stage.progress(len(rows), "references") as progress:
        for row, verdict in zip(rows, pool.check_many((row["answer"],) * 2 for row in rows), strict=True):
            if not verdict.correct:
                failed.append({"id": row["id"], "answer": row["answer"], "verdict": verdict.label})
            progress.update()
    return {"checked": len(rows), "correct": len(rows) - len(failed), "failed": failed[:20]}


def _write_questions(stage: Stage[Any], folder: Path, rows: Sequence[Row], summary: dict[str, Any]) -> Manifest:
    folder.mkdir(exist_ok=True)
    size = stage.config.rows_per_shard
    shards = {}
    for index, start in enumerate(range(0, len(rows), size)):
        with ShardWriter(folder, shard_name(index), REFERENCE) as writer:
            for row in rows[start : start + size]:
                writer.write(row)
        shards[writer.name] = len(rows[start : start + size])
    spec = stage.spec.model_dump(
        include={"experiment", "stage", "module", "version", "fingerprint", "config", "identity", "inputs"}
    )
    manifest = Manifest(
        **spec,
        shards=shards,
        counts=Counts(rows_out=len(rows)),
        usage=Usage(),
        summary=summary,
        seconds=0.0,
        created="",
        versions={},
        command="",
    )
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def _benchmarks(stage: Stage[Any]) -> tuple[dict[str, list[Row]], dict[str, str]]:
    """Returns problems by benchmark, and why each skipped benchmark was skipped."""
    found: dict[str, list[Row]] = {}
    skipped: dict[str, str] = {}
    for name, artifact in stage.inputs.items():
        if name == "model":
            continue
        benchmark = SYNTHETIC_TEST if name == "data" else artifact.manifest.summary.get("benchmark")
        if not benchmark:
            raise UserError(f"stages.{stage.name}.inputs.{name}: {artifact.path} is not a benchmark of eval.datasets")
        if benchmark in found or benchmark in skipped:
            raise UserError(f"stages.{stage.name}.inputs.{name}: another input is already the benchmark {benchmark!r}")
        rows = _synthetic_test(artifact) if name == "data" else artifact.rows()
        found[benchmark] = _limited(rows, stage.config.limit, stage.config.seed)
        if not found[benchmark]:
            del found[benchmark]
            skipped[benchmark] = artifact.manifest.summary.get("skipped", f"{artifact.path} has no problems for it")
    if not found and not skipped:
        raise UserError(f"stages.{stage.name}.inputs: name a benchmark, such as {{data: sft_data, math: math}}")
    return found, skipped


def _synthetic_test(data: Artifact) -> Iterable[Row]:
    for row in data.rows(["id", "split", "problem", "answer"]):
        if row["split"] == "test":
            kept = {key: row[key] for key in ("id", "problem", "answer")}
            yield {**kept, "benchmark": SYNTHETIC_TEST, "item": row["id"], "subject": None, "level": None}


def _limited(rows: Iterable[Row], limit: int | None, seed: int) -> list[Row]:
    if limit is None:
        return list(rows)
    chosen = heapq.nsmallest(limit, rows, key=lambda row: derive_seed(seed, "limit", row["id"]))
    return sorted(chosen, key=lambda row: row["id"])


def count_questions(limit: int | None, rows_in: Mapping[str, int], most_synthetic: int) -> int:
    """Estimates the number of problems for `personahub plan`. The sizes of inputs may be estimates too."""
    sizes = {name: rows for name, rows in rows_in.items() if name != "model"}
    if "data" in sizes:
        sizes["data"] = min(sizes["data"], most_synthetic)
    return sum(min(rows, limit or rows) for rows in sizes.values())
