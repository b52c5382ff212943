"""The numbers of a report, as in `summary.json`: pure functions over artifacts.

The role of an artifact follows from the module that made it (`Manifest.module`), never from the name of its stage in the
YAML.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eval.regrade import GRADERS
from eval.report import headline, paper
from eval.report.headline import Students
from eval.report.scaling import scaling_series
from personahub.core.artifact import Artifact, Source, Usage

SIMULATED_NOTICE = (
    "This run used a simulated teacher. Its numbers show that the pipeline works. "
    "They say nothing about real language models."
)
_SIMULATED_KINDS = {"simulated", "synth.simulated.engine"}
_SIMULATED_MODEL = "simulated-teacher"  # its name behind an HTTP endpoint as well
NO_DATA = ("train.", "eval.")  # packages whose stages do not make training data


def summarize(experiment: str, artifacts: Sequence[Artifact], source: Source | None = None) -> dict[str, Any]:
    """Returns everything in the report except the sampled records, as JSON values.

    Args:
        experiment: the name of the experiment.
        artifacts: artifacts of all stages, in any order.
        source: the git commit that makes the report.
    """
    ordered = in_order(artifacts)
    benchmarks = [_benchmark(artifact, ordered) for artifact in made_by(ordered, *GRADERS)]
    trainings = [_training(artifact) for artifact in made_by(ordered, "train.sft")]
    students = _students(ordered, benchmarks)
    simulated = [artifact.manifest.stage for artifact in ordered if _is_simulated(artifact.manifest.identity)]
    return {
        "experiment": experiment,
        "created": max((artifact.manifest.created for artifact in ordered), default=""),
        "simulated_teacher": {"used": bool(simulated), "stages": simulated},
        "notice": SIMULATED_NOTICE if simulated else None,
        "student": headline.student(benchmarks, students),
        "math": headline.math(benchmarks, students),
        "stages": [_stage(artifact, experiment) for artifact in ordered],
        "totals": _totals(ordered),
        "benchmarks": benchmarks,
        "comparisons": [_comparisons(artifact) for artifact in made_by(ordered, "eval.compare")],
        "data": [_data(artifact) for artifact in made_by(ordered, "synth.sft_data")],
        "personas": [_growth(artifact) for artifact in made_by(ordered, "personahub.persona_to_persona")],
        "verification": [_votes(artifact) for artifact in made_by(ordered, "synth.verify")],
        "training": trainings,
        "scaling": scaling_series(benchmarks, trainings),
        "ablations": [_own_summary(artifact) for artifact in made_by(ordered, "eval.ablation")],
        "similarity": [_similarity(artifact) for artifact in made_by(ordered, "eval.similarity")],
        "diversity": [_own_summary(artifact) for artifact in made_by(ordered, "eval.diversity")],
        "versions": _versions(ordered),
        "sources": _sources(ordered, source),
        "commands": list(dict.fromkeys(artifact.manifest.command for artifact in ordered)),
    }


def made_by(artifacts: Sequence[Artifact], *modules: str) -> list[Artifact]:
    """Returns the artifacts that one of `modules` made."""
    return [artifact for artifact in artifacts if artifact.manifest.module in modules]


def in_order(artifacts: Sequence[Artifact]) -> list[Artifact]:
    """Sorts artifacts so that each comes after its inputs. Otherwise keeps their order."""
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for number, artifact in enumerate(artifacts):
        upstream = {reference.fingerprint for reference in artifact.manifest.inputs.values()}
        sorter.add(number, *(n for n, other in enumerate(artifacts) if other.fingerprint in upstream))
    return [artifacts[number] for number in sorter.static_order()]


def _is_simulated(identity: Any) -> bool:
    """Returns whether any engine inside a stage's identity is the simulated teacher."""
    if isinstance(identity, Mapping):
        if identity.get("kind") in _SIMULATED_KINDS or identity.get("model") == _SIMULATED_MODEL:
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


def _data(artifact: Artifact) -> dict[str, Any]:
    splits: Counter[str] = Counter()
    for shard in artifact.shard_names:
        for row in _counted(pq.read_table(artifact.path / f"{shard}.parquet", columns=["split"]), ["split"]):
            splits[row["split"]] += row["count_all"]
    return {"stage": artifact.manifest.stage, "train": splits["train"], "test": splits["test"]}


def _benchmark(artifact: Artifact, artifacts: Sequence[Artifact]) -> dict[str, Any]:
    """Returns a benchmark stage with its role.

    The role is `after` if its model is the result of a `train.sft`, `before` if a `train.sft` started from its model, and
    `other` for any other model. A regraded stage keeps its role.
    """
    manifest = artifact.manifest
    source = _made_from(artifact, "completions", artifacts)
    known = _benchmark(source, artifacts) if source is not None else {}
    maker = _made_from(artifact, "model", artifacts)
    name = maker.manifest.stage if maker is not None else _model_name(manifest.identity)
    trainings = made_by(artifacts, "train.sft")
    if maker in trainings:
        role = "after"
    elif any(name in _started_from(training, artifacts) for training in trainings):
        role = "before"
    else:
        role = "other"
    return {
        "stage": manifest.stage,
        "role": known.get("role", role),
        "model": known.get("model", name),
        "results": manifest.summary.get("benchmarks", {}),
        "skipped": manifest.summary.get("skipped", {}),
        "reference_self_check": manifest.summary.get("reference_self_check", {}),
        "asked_as_trained": manifest.summary.get("asked_as_trained"),
    }


def _made_from(artifact: Artifact, name: str, artifacts: Sequence[Artifact]) -> Artifact | None:
    """Returns the one of `artifacts` that was the input `name`."""
    reference = artifact.manifest.inputs.get(name)
    return next((a for a in artifacts if reference is not None and a.fingerprint == reference.fingerprint), None)


def _started_from(training: Artifact, artifacts: Sequence[Artifact]) -> list[str | None]:
    """Returns the names of the model that a run started from. These are its stage and `model.name_or_path`."""
    upstream = {reference.fingerprint for reference in training.manifest.inputs.values()}
    stages = [artifact.manifest.stage for artifact in artifacts if artifact.fingerprint in upstream]
    return [*stages, training.manifest.config.get("model", {}).get("name_or_path")]


def _model_name(identity: Mapping[str, Any]) -> str | None:
    engine = identity.get("engine")
    return str(engine.get("model")) if isinstance(engine, Mapping) else None


def _comparisons(artifact: Artifact) -> dict[str, Any]:
    return {"stage": artifact.manifest.stage, "benchmarks": artifact.manifest.summary.get("comparisons", {})}


def _students(artifacts: Sequence[Artifact], benchmarks: Sequence[Mapping[str, Any]]) -> Students:
    """Returns what determines the student of the headline."""
    trainings = made_by(artifacts, "train.sft")
    compared = {
        reference.fingerprint
        for ablation in made_by(artifacts, "eval.ablation")
        for reference in ablation.manifest.inputs.values()
    }
    graded = {artifact.manifest.stage for artifact in made_by(artifacts, *GRADERS) if artifact.fingerprint in compared}
    return Students(
        {
            each.manifest.stage: each.manifest.summary["examples"]
            for each in trainings
            if "examples" in each.manifest.summary
        },
        {each.manifest.stage: [name for name in _started_from(each, artifacts) if name] for each in trainings},
        frozenset(benchmark["model"] for benchmark in benchmarks if benchmark["stage"] in graded),
    )


def _votes(artifact: Artifact) -> dict[str, Any]:
    """Counts the votes on accepted problems, and the rejected problems by reason."""
    agreement: Counter[float | None] = Counter()
    statuses: dict[str, Counter[str]] = {}
    for shard in artifact.shard_names:
        table = pq.read_table(artifact.path / f"{shard}.parquet", columns=["vote_share", "votes"])
        for row in _counted(table, ["vote_share"]):
            share = row["vote_share"]  # null if the policy compares nothing
            agreement[share if share is None else round(share, 4)] += row["count_all"]
        votes = pa.Table.from_struct_array(table["votes"].combine_chunks().flatten())
        for row in _counted(votes, ["kind", "status"]):
            statuses.setdefault(row["kind"], Counter())[row["status"]] += row["count_all"]
    counts = artifact.manifest.counts
    return {
        "stage": artifact.manifest.stage,
        "problems": counts.rows_in,
        "accepted": counts.rows_out,
        "rejected": counts.rejected,
        "agreement": [
            {"vote_share": share, "problems": agreement[share]}
            for share in sorted(agreement, key=lambda share: share or 0.0, reverse=True)
        ],
        "statuses": {kind: dict(sorted(counter.items())) for kind, counter in sorted(statuses.items())},
        "summary": artifact.manifest.summary,
    }


def _growth(artifact: Artifact) -> dict[str, Any]:
    """Returns personas by hop: their number, the factor of growth, and the share that is new."""
    return {"stage": artifact.manifest.stage, "hops": artifact.manifest.summary.get("growth", [])}


def _counted(table: pa.Table, columns: list[str]) -> list[dict[str, Any]]:
    """Returns distinct values of `columns` with `count_all`, the number of their rows."""
    return table.group_by(columns).aggregate([([], "count_all")]).to_pylist()


def _training(artifact: Artifact) -> dict[str, Any]:
    """Returns the summary of a training stage. A loss that is not finite becomes None, because JSON has no NaN."""
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in artifact.manifest.summary.items()
    }
    return {"stage": artifact.manifest.stage, **finite}


def read_metrics(artifact: Artifact) -> list[dict[str, Any]]:
    """Reads the logged steps in order. A resumed run logs some steps twice, and the later line counts."""
    file = artifact.path / "metrics.jsonl"
    if not file.exists():
        return []
    steps: dict[int, dict[str, Any]] = {}
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):  # the process was killed while writing
                break
            entry = json.loads(line)
            if entry.get("step") is not None:
                steps[entry["step"]] = steps.get(entry["step"], {}) | entry
    return [steps[step] for step in sorted(steps)]


def _own_summary(artifact: Artifact) -> dict[str, Any]:
    return {"stage": artifact.manifest.stage, **artifact.manifest.summary}


def _similarity(artifact: Artifact) -> dict[str, Any]:
    """Returns a similarity stage's results and the paper's quartiles at each level."""
    summary = artifact.manifest.summary
    levels = [{**level, "paper": paper.paper_similarity(level["level"])} for level in summary["search"]["levels"]]
    return {**_own_summary(artifact), "levels": levels}


def _versions(artifacts: Sequence[Artifact]) -> dict[str, list[str]]:
    """Collects the versions of every package. There are several if a package changed during the run."""
    versions: dict[str, list[str]] = {}
    for artifact in artifacts:
        for package, version in artifact.manifest.versions.items():
            seen = versions.setdefault(package, [])
            if version not in seen:
                seen.append(version)
    return versions


def _sources(artifacts: Sequence[Artifact], own: Source | None) -> list[dict[str, Any]]:
    """Collects the git commits that made the artifacts and the report."""
    known = dict.fromkeys(source for source in (*(a.manifest.source for a in artifacts), own) if source is not None)
    return [source.model_dump() for source in known]
