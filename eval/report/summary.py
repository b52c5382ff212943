"""The numbers of a report, as `summary.json` holds them: pure functions over artifacts.

Which artifact plays which role is told by the module that made it (`Manifest.module`), never by
the name that a YAML gave the stage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from eval.report import paper
from personahub.core.artifact import Artifact, Usage

SIMULATED_NOTICE = (
    "This run was made with a simulated teacher. Its numbers prove that the machinery works; "
    "they say nothing about real language models."
)
_SIMULATED_KINDS = {"simulated", "synth.simulated.engine"}
_NEAR_ZERO = 0.05


def summarize(experiment: str, artifacts: Sequence[Artifact]) -> dict[str, Any]:
    """Everything the report shows but the sampled records, as JSON values.

    Args:
        experiment: its name.
        artifacts: of all stages, in any order.
    """
    ordered = in_order(artifacts)
    benchmarks = [_benchmark(artifact, ordered) for artifact in made_by(ordered, "eval.benchmark")]
    simulated = [artifact.manifest.stage for artifact in ordered if _is_simulated(artifact.manifest.identity)]
    return {
        "experiment": experiment,
        "simulated_teacher": {"used": bool(simulated), "stages": simulated},
        "notice": SIMULATED_NOTICE if simulated else None,
        "student": _student(benchmarks),
        "math": _math(benchmarks),
        "stages": [_stage(artifact, experiment) for artifact in ordered],
        "totals": _totals(ordered),
        "benchmarks": benchmarks,
        "verification": [_votes(artifact) for artifact in made_by(ordered, "synth.verify")],
        "training": [_training(artifact) for artifact in made_by(ordered, "train.sft")],
        "diversity": [_diversity(artifact) for artifact in made_by(ordered, "eval.diversity")],
        "versions": _versions(ordered),
        "commands": list(dict.fromkeys(artifact.manifest.command for artifact in ordered)),
    }


def made_by(artifacts: Sequence[Artifact], module: str) -> list[Artifact]:
    """Those of the artifacts that `module` made."""
    return [artifact for artifact in artifacts if artifact.manifest.module == module]


def in_order(artifacts: Sequence[Artifact]) -> list[Artifact]:
    """Artifacts such that each comes after those it was made from; given order where that is free."""
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for number, artifact in enumerate(artifacts):
        upstream = {reference.fingerprint for reference in artifact.manifest.inputs.values()}
        sorter.add(number, *(n for n, other in enumerate(artifacts) if other.fingerprint in upstream))
    return [artifacts[number] for number in sorter.static_order()]


def _is_simulated(identity: Any) -> bool:
    """Whether any engine inside a stage's identity is the simulated teacher."""
    if isinstance(identity, Mapping):
        if identity.get("kind") in _SIMULATED_KINDS:
            return True
        return any(_is_simulated(value) for value in identity.values())
    return isinstance(identity, (list, tuple)) and any(_is_simulated(value) for value in identity)


def _stage(artifact: Artifact, experiment: str) -> dict[str, Any]:
    manifest = artifact.manifest
    return {
        "stage": manifest.stage,
        "module": manifest.module,
        "version": manifest.version,
        "fingerprint": manifest.fingerprint,
        "adopted_from": str(artifact.path) if manifest.experiment != experiment else None,
        **manifest.counts.model_dump(),
        **manifest.usage.model_dump(),
        "seconds": manifest.seconds,
    }


def _totals(artifacts: Sequence[Artifact]) -> dict[str, Any]:
    usage = Usage()
    for artifact in artifacts:
        usage = usage.plus(artifact.manifest.usage)
    return {**usage.model_dump(), "seconds": round(sum(artifact.manifest.seconds for artifact in artifacts), 3)}


def _benchmark(artifact: Artifact, artifacts: Sequence[Artifact]) -> dict[str, Any]:
    """One benchmark stage with its role.

    `after`: its model came out of `train.sft`. `before`: its model is what a `train.sft` began with.
    `other`: any other model, evaluated for comparison.
    """
    manifest = artifact.manifest
    reference = manifest.inputs.get("model")
    maker = next((a for a in artifacts if reference is not None and a.fingerprint == reference.fingerprint), None)
    name = maker.manifest.stage if maker is not None else _model_name(manifest.identity)
    trainings = made_by(artifacts, "train.sft")
    if maker in trainings:
        role = "after"
    elif any(name in _began_with(training, artifacts) for training in trainings):
        role = "before"
    else:
        role = "other"
    return {
        "stage": manifest.stage,
        "role": role,
        "model": name,
        "results": manifest.summary.get("benchmarks", {}),
        "skipped": manifest.summary.get("skipped", {}),
    }


def _began_with(training: Artifact, artifacts: Sequence[Artifact]) -> list[str | None]:
    """Names of the model that a training began with: the stage that made it, or its path or hub name."""
    upstream = {reference.fingerprint for reference in training.manifest.inputs.values()}
    stages = [artifact.manifest.stage for artifact in artifacts if artifact.fingerprint in upstream]
    return [*stages, training.manifest.config.get("model")]


def _model_name(identity: Mapping[str, Any]) -> str | None:
    engine = identity.get("engine")
    return str(engine.get("model")) if isinstance(engine, Mapping) else None


def _student(benchmarks: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The synthetic test before and after training; None where no benchmark stage took it."""
    found = {}
    for benchmark in benchmarks:
        for name, result in benchmark["results"].items():
            if result["kind"] == "synthetic_test":
                found[benchmark["role"]] = {"stage": benchmark["stage"], "benchmark": name, **_headline(result)}
    return {"before": found.get("before"), "after": found.get("after")} if found else None


def _headline(result: Mapping[str, Any]) -> dict[str, Any]:
    return {key: result[key] for key in ("n", "correct", "accuracy", "low", "high")}


def _math(benchmarks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """MATH of the trained student (else of any model), with a plain sentence about it."""
    ranked = sorted(benchmarks, key=lambda benchmark: benchmark["role"] != "after")
    for benchmark in ranked:
        if "math" in benchmark["results"]:
            result = _headline(benchmark["results"]["math"])
            return {"status": "measured", "stage": benchmark["stage"], **result, "statement": _math_statement(result)}
    for benchmark in ranked:
        if "math" in benchmark["skipped"]:
            reason = benchmark["skipped"]["math"]
            return {"status": "skipped", "reason": reason, "statement": f"MATH was skipped: {reason}"}
    return {"status": "not_asked_for", "statement": "No benchmark stage of this experiment asks for MATH."}


def _math_statement(result: Mapping[str, Any]) -> str:
    numbers = (
        f"MATH: {result['correct']:,} of {result['n']:,} correct, {100 * result['accuracy']:.1f}% "
        f"(95% interval {100 * result['low']:.1f} to {100 * result['high']:.1f})"
    )
    if result["high"] < _NEAR_ZERO:
        return f"{numbers}. That is near zero: this student does not solve MATH problems."
    return f"{numbers}."


def _votes(artifact: Artifact) -> dict[str, Any]:
    """How the samples of the accepted problems voted, and why the other problems were rejected."""
    agreement: dict[str, int] = {}
    statuses: dict[str, dict[str, int]] = {}
    for shard in artifact.shard_names:
        table = pa.Table.from_batches(_batches(artifact, shard, ["vote_share", "votes"]))
        for share, number in _counted(table["vote_share"]):
            key = f"{share:.4f}"
            agreement[key] = agreement.get(key, 0) + number
        votes = pc.list_flatten(table["votes"])
        labels = pc.binary_join_element_wise(pc.struct_field(votes, "kind"), pc.struct_field(votes, "status"), " ")
        for label, number in _counted(labels):
            kind, _, status = str(label).partition(" ")
            by_status = statuses.setdefault(kind, {})
            by_status[status] = by_status.get(status, 0) + number
    counts = artifact.manifest.counts
    return {
        "stage": artifact.manifest.stage,
        "problems": counts.rows_in,
        "accepted": counts.rows_out,
        "rejected": counts.rejected,
        "agreement": [
            {"vote_share": float(key), "problems": agreement[key]} for key in sorted(agreement, reverse=True)
        ],
        "statuses": statuses,
        "summary": artifact.manifest.summary,
    }


def _batches(artifact: Artifact, shard: str, columns: Sequence[str]) -> list[pa.RecordBatch]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(artifact.path / f"{shard}.parquet") as file:
        return list(file.iter_batches(columns=list(columns)))


def _counted(column: Any) -> Iterator[tuple[Any, int]]:
    for entry in pc.value_counts(column).to_pylist():
        if entry["values"] is not None:
            yield entry["values"], entry["counts"]


def _training(artifact: Artifact) -> dict[str, Any]:
    steps = read_metrics(artifact)
    losses = [(step["step"], step["loss"]) for step in steps if "loss" in step]
    return {
        "stage": artifact.manifest.stage,
        "steps": losses[-1][0] if losses else None,
        "first_loss": losses[0][1] if losses else None,
        "last_loss": losses[-1][1] if losses else None,
        "summary": artifact.manifest.summary,
    }


def read_metrics(artifact: Artifact) -> list[dict[str, Any]]:
    """Logged steps in order. A resumed run logs some steps twice: the later line counts."""
    file = artifact.path / "metrics.jsonl"
    if not file.exists():
        return []
    steps: dict[int, dict[str, Any]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry.get("step") is not None:
            steps[entry["step"]] = steps.get(entry["step"], {}) | entry
    return [steps[step] for step in sorted(steps)]


def _diversity(artifact: Artifact) -> dict[str, Any]:
    """A diversity stage's results with the paper's quartiles at each level."""
    summary = artifact.manifest.summary
    similarity = summary.get("similarity", {})
    levels = [
        {
            **level,
            "paper": [
                {"prompt": row.prompt, "q1": row.q1, "median": row.median, "q3": row.q3}
                for row in paper.paper_similarity(level["level"])
            ],
        }
        for level in similarity.get("levels", [])
    ]
    return {"stage": artifact.manifest.stage, **summary, "similarity": {**similarity, "levels": levels}}


def _versions(artifacts: Sequence[Artifact]) -> dict[str, list[str]]:
    """Every version of every package that had a part in the run; more than one when it changed midway."""
    versions: dict[str, list[str]] = {}
    for artifact in artifacts:
        for package, version in artifact.manifest.versions.items():
            seen = versions.setdefault(package, [])
            if version not in seen:
                seen.append(version)
    return versions
