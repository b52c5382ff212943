"""Arms and seeds of one experiment: diversity and accuracy of every arm, and whether they differ.

    ablation:
      run: eval.ablation
      inputs: {results: after, problems: problems, data: data, model: model, exam: exam_verified, diversity: diversity}
      config: {baseline: persona}

Inputs are named as `foreach` names them, `<part>-<arm>-<seed>`. `results` (of `eval.benchmark` or
`eval.regrade`) are what is compared; the other parts add to the picture: `problems` and `data` how much
each arm had, `model` what it was trained on, `exam-<arm>` which problems of the test were made like an arm's,
`diversity` how diverse the problems are.

Every arm is compared with the baseline, under the same seeds and on the same problems, with both taken for
samples (`eval.stats.crossed`); `p_holm` is adjusted for all arms compared. The records are the problems, with each
arm's share of seeds that solve them. docs/experiments.md says how to read the summary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from eval.compare import Run, refuse_different_grading, refuse_different_problems
from eval.grading.scores import read_problems
from eval.regrade import GRADERS
from eval.stats.conclusions import conclude
from eval.stats.crossed import Estimate, arm_differences, arm_means, detectable, paired_by_seed, training_luck
from eval.stats.measures import wilson_interval
from eval.stats.paired import holm
from personahub.core.artifact import Artifact
from personahub.core.config import StageConfig, suggest
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast
from personahub.core.stage import Stage

VERSION = "4"
INPUTS = ("*",)

PARTS = ("results", "problems", "data", "model", "exam", "diversity")
# Of the diversity stage's measures, those that the arms are compared by, at a common number of texts.
MEASURES = ("mean_cosine", "nearest_cosine", "duplicate_rate", "vendi", "distinct_2", "compression_ratio")
SOLVED = pa.schema(
    [
        ("benchmark", pa.string()),
        ("id", pa.string()),  # the problem's id
        ("made_by", pa.string()),  # the arm whose way of asking made it; null where that is not known
        ("arm", pa.string()),
        ("score", pa.float64()),  # mean over seeds
    ]
)

Arms = dict[str, dict[str, str]]  # input name by seed, by arm


class Config(StageConfig):
    """What is compared with what."""

    baseline: str = Field(description="The arm that all others are compared with.")
    most_left_out: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="Share of a test's problems that need not be in all runs; they are left out.",
    )
    alpha: float = Field(default=0.05, gt=0, lt=1, description="Level at which a difference is called one.")


def run(stage: Stage[Config]) -> None:
    """Read, compare, conclude."""
    parts = _parts(stage)
    arms = parts["results"]
    scores, ids = _scores(stage, arms)
    made_by = _made_by(stage)
    benchmarks = {name: _compare(stage.config, by_arm) for name, by_arm in scores.items()}
    with stage.writer("00000", SOLVED) as writer:
        for name, by_arm in scores.items():
            for arm, each in by_arm.items():
                for id_, score in zip(ids[name], each.mean(axis=0), strict=True):
                    row = {"benchmark": name, "id": id_, "made_by": made_by.get(id_), "arm": arm}
                    writer.write({**row, "score": float(score)})
    seeds = list(next(iter(arms.values())))
    diversity = _diversity(stage, parts.get("problems") or arms)
    stage.report(
        baseline=stage.config.baseline,
        alpha=stage.config.alpha,
        arms={arm: _had(stage, parts, arm, seeds) for arm in arms},
        seeds=seeds,
        benchmarks=benchmarks,
        by_origin={name: _by_origin(scores[name], ids[name], made_by) for name in scores} if made_by else {},
        diversity=diversity,
        conclusions=conclude(stage.config.baseline, stage.config.alpha, benchmarks, diversity),
    )


def _parts(stage: Stage[Config]) -> dict[str, Arms]:
    """Inputs by part, arm and seed; those without a seed are left out.

    Raises:
        UserError: an input's name or origin does not fit, an arm lacks a seed, or the baseline is no arm.
    """
    where = f"stages.{stage.name}"
    parts: dict[str, Arms] = {}
    for name, artifact in stage.inputs.items():
        part, *rest = name.split("-")
        if part not in PARTS:
            raise UserError(f"{where}.inputs.{name}: {suggest(part, PARTS)} Names are <part>-<arm>-<seed>")
        if part == "results" and artifact.manifest.module not in GRADERS:
            raise UserError(f"{where}.inputs.{name}: {artifact.path} is no artifact of eval.benchmark or eval.regrade")
        if len(rest) == 2:
            parts.setdefault(part, {}).setdefault(rest[0], {})[rest[1]] = name
    arms = parts.get("results", {})
    if len(arms) < 2:
        raise UserError(
            f"{where}.inputs: two arms or more, as in {{results: after}} where `after` has foreach: [arm, seed]"
        )
    if stage.config.baseline not in arms:
        raise UserError(f"{where}.config.baseline: no such arm. {suggest(stage.config.baseline, arms)}")
    seeds = {arm: set(by_seed) for arm, by_seed in arms.items()}
    for arm, found in seeds.items():
        if found != seeds[stage.config.baseline]:
            raise UserError(f"{where}.inputs: {arm} and {stage.config.baseline} do not have the same seeds")
    return parts


def _scores(stage: Stage[Config], arms: Arms) -> tuple[dict[str, dict[str, NDArray[np.float64]]], dict[str, list[str]]]:
    """Scores (seeds, problems) by benchmark and arm, and the problems' ids by benchmark."""
    baseline = arms[stage.config.baseline]
    first_name = next(iter(baseline.values()))
    runs = _common(stage, {name: _read(stage.input(name)) for each in arms.values() for name in each.values()})
    for name, found in runs.items():
        refuse_different_grading(stage, first_name, name)
        refuse_different_problems(stage, runs[first_name], found, (first_name, name))
    ids = {benchmark: [problem.id for problem in problems] for benchmark, problems in runs[first_name].items()}
    for benchmark, order in ids.items():
        if len(order) < 2:
            raise UserError(
                f"stages.{stage.name}.inputs.results: of {benchmark} the runs have {len(order)} problem{'s' * (not order)} in"
                " common, which leaves nothing to estimate an error from: evaluate on two or more"
            )
    scores: dict[str, dict[str, NDArray[np.float64]]] = {}
    for benchmark, order in ids.items():
        for arm, by_seed in arms.items():
            rows = []
            for seed in baseline:
                score = {problem.id: problem.score for problem in runs[by_seed[seed]][benchmark]}
                rows.append([score[id_] for id_ in order])
            scores.setdefault(benchmark, {})[arm] = np.array(rows, dtype=np.float64)
    return scores, ids


def _common(stage: Stage[Config], runs: Mapping[str, Run]) -> dict[str, Run]:
    """The runs on the problems that all of them have: dropping near duplicates can differ by one or two from seed to seed.

    Raises:
        UserError: in some benchmark, more than `most_left_out` of a run's problems are not in all runs.
    """
    shared: dict[str, set[str]] = {}
    for run in runs.values():
        for benchmark, problems in run.items():
            ids = {problem.id for problem in problems}
            shared[benchmark] = shared.get(benchmark, ids) & ids
    for name, run in runs.items():
        for benchmark, problems in run.items():
            if len(problems) - len(shared[benchmark]) > stage.config.most_left_out * len(problems):
                raise UserError(
                    f"stages.{stage.name}: only {len(shared[benchmark]):,} of the {len(problems):,} problems of {benchmark}"
                    f" in {name} are in all runs, so they are not runs on the same problems"
                )
    return {
        name: {key: [problem for problem in found if problem.id in shared[key]] for key, found in run.items()}
        for name, run in runs.items()
    }


def _read(artifact: Artifact) -> Run:
    return read_problems(artifact.path, artifact.shard_names)


def _compare(config: Config, scores: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Accuracy of every arm, and what sets it apart from the baseline."""
    seeds, problems = next(iter(scores.values())).shape
    differences = arm_differences(scores, config.baseline)
    adjusted = holm([each.p for each in differences.values()])
    compared = {}
    for (arm, estimate), p_holm in zip(differences.items(), adjusted, strict=True):
        by_problem = scores[arm].mean(axis=0) - scores[config.baseline].mean(axis=0)
        compared[arm] = {
            **_shown(estimate),
            "p_holm": p_holm,
            "detectable": _rounded(detectable(estimate, alpha=config.alpha)),
            "better": int((by_problem > 0).sum()),
            "worse": int((by_problem < 0).sum()),
            "equal": int((by_problem == 0).sum()),
        }
    accuracy = {arm: _accuracy(estimate, problems) for arm, estimate in arm_means(scores).items()}
    luck = training_luck(scores)
    shown = {"value": round(luck[0], 4), "high": round(luck[1], 4)} if luck is not None else None
    return {"seeds": seeds, "n": problems, "accuracy": accuracy, "differences": compared, "luck": shown}


def _accuracy(estimate: Estimate, problems: int) -> dict[str, Any]:
    """An arm's accuracy; where all its scores are equal, with Wilson's interval over the problems."""
    shown = _shown(estimate)
    if estimate.low is not None:
        return shown | {"interval": "crossed"}
    wilson = wilson_interval(round(estimate.mean * problems), problems)
    return shown | {"low": round(wilson.low, 4), "high": round(wilson.high, 4), "interval": "wilson"}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _shown(estimate: Estimate) -> dict[str, Any]:
    return {
        "mean": round(estimate.mean, 4),
        "low": _rounded(estimate.low),
        "high": _rounded(estimate.high),
        "p": estimate.p,
        "freedom": round(estimate.freedom, 1),
        "by_seed": [round(value, 4) for value in estimate.by_seed],
    }


def _made_by(stage: Stage[Config]) -> dict[str, str]:
    """The arm that each problem of the test comes from, of the inputs `exam-<arm>`."""
    found = {}
    for name, artifact in stage.inputs.items():
        part, *rest = name.split("-")
        if part == "exam" and len(rest) == 1:
            found |= {row["id"]: rest[0] for row in artifact.rows(["id"])}
    return found


def _by_origin(
    scores: Mapping[str, NDArray[np.float64]], ids: Sequence[str], made_by: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Accuracy of every arm on the problems that were made like each arm's."""
    origins = dict.fromkeys(made_by.values())
    columns = {origin: [i for i, id_ in enumerate(ids) if made_by.get(id_) == origin] for origin in origins}
    return {
        arm: {origin: round(float(each[:, chosen].mean()), 4) for origin, chosen in columns.items() if chosen}
        for arm, each in scores.items()
    }


def _had(stage: Stage[Config], parts: Mapping[str, Arms], arm: str, seeds: Sequence[str]) -> dict[str, Any]:
    """How much an arm had, on average over its seeds."""
    found: dict[str, list[float]] = {}
    for seed in seeds:
        for part in ("problems", "data", "model"):
            name = parts.get(part, {}).get(arm, {}).get(seed)
            if name is None:
                continue
            manifest = stage.input(name).manifest
            if part == "problems":
                found.setdefault("problems", []).append(manifest.counts.rows_out)
                found.setdefault("problem_tokens", []).append(manifest.usage.completion_tokens)
            elif part == "data":
                train = sum(row["split"] == "train" for row in stage.input(name).rows(["split"]))
                found.setdefault("training_problems", []).append(train)
            else:
                for key in ("steps", "tokens", "trained_tokens"):
                    if isinstance(manifest.summary.get(key), int | float):
                        found.setdefault(f"model_{key}", []).append(manifest.summary[key])
    return {key: round(sum(values) / len(values), 1) for key, values in found.items()}


def _diversity(stage: Stage[Config], arms: Arms) -> dict[str, Any]:
    """Measures of every arm's problems at the largest number of texts that all have, compared seed by seed."""
    if "diversity" not in stage.inputs:
        return {}
    collections = stage.input("diversity").manifest.summary.get("collections", {})
    names = {arm: {seed: f"problems-{arm}-{seed}" for seed in by_seed} for arm, by_seed in arms.items()}
    if any(name not in collections for by_seed in names.values() for name in by_seed.values()):
        raise UserError(
            f"stages.{stage.name}.inputs.diversity: {stage.input('diversity').path} lacks collections named"
            f" problems-<arm>-<seed>: give it the input {{problems: problems}}, repeated over the same arms and seeds"
        )
    chosen = [collections[name] for by_seed in names.values() for name in by_seed.values()]
    common = set.intersection(*({point[0] for point in each["curves"]["vendi"]} for each in chosen))
    size = max(common)
    measures = {
        measure: _compare_measure(stage.config.baseline, measure, size, names, collections) for measure in MEASURES
    }
    return {"texts": size, "measures": measures, "curves": _mean_curves(names, collections)}


def _value(collection: Mapping[str, Any], measure: str, size: int) -> float:
    return next(point[1] for point in collection["curves"][measure] if point[0] == size)


def _compare_measure(
    baseline: str, measure: str, size: int, names: Arms, collections: Mapping[str, Any]
) -> dict[str, Any]:
    values = {
        arm: [_value(collections[name], measure, size) for name in by_seed.values()] for arm, by_seed in names.items()
    }
    found = {}
    for arm, each in values.items():
        entry: dict[str, Any] = {"mean": round(sum(each) / len(each), 4), "by_seed": each}
        if arm != baseline:
            pairs = zip(each, values[baseline], strict=True)
            estimate = paired_by_seed([value - other for value, other in pairs])
            one_seed = len(each) == 1  # an infinite interval
            entry["difference"] = round(estimate.mean, 4)
            entry["low"], entry["high"] = (None if one_seed else _rounded(end) for end in (estimate.low, estimate.high))
            entry["p"] = estimate.p
        found[arm] = entry
    tested = [entry for entry in found.values() if "p" in entry]
    for entry, adjusted in zip(tested, holm([entry["p"] for entry in tested]), strict=True):
        entry["p_holm"] = adjusted
    return found


def _mean_curves(names: Arms, collections: Mapping[str, Any]) -> dict[str, dict[str, list[list[float]]]]:
    """Curves by measure and arm: mean over seeds with the least and the largest, at sizes that all seeds have."""
    curves: dict[str, dict[str, list[list[float]]]] = {}
    for measure in next(iter(collections.values()))["curves"]:
        for arm, by_seed in names.items():
            points = [
                {point[0]: point[1] for point in collections[name]["curves"][measure]} for name in by_seed.values()
            ]
            sizes = sorted(set.intersection(*(set(each) for each in points)))
            curves.setdefault(measure, {})[arm] = [
                [size, round(sum(values) / len(values), 4), min(values), max(values)]
                for size in sizes
                for values in [[each[size] for each in points]]
            ]
    return curves


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:  # noqa: ARG001  (same signature for all stages)
    """No request: a row for every problem and arm."""
    rows = sum(rows for name, rows in rows_in.items() if name.startswith("results-") and name.endswith("-0"))
    return Forecast(rows_out=rows, disk_bytes=100 * rows)
