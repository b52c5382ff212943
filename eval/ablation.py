"""Compares the arms of an experiment by diversity and accuracy.

    ablation:
      run: eval.ablation
      inputs: {results: after, problems: problems, data: data, model: model, exam: exam_verified, diversity: diversity}
      config: {baseline: persona}

Inputs have the names that `foreach` gives them, `<part>-<arm>-<seed>`. The arms are those of the experiment's
`matrix`. `results` (of `eval.benchmark` or `eval.regrade`) are compared; the other parts add context: `problems`
and `data` tell how much each arm had, `model` what it was trained on, `exam-<arm>` which test problems were made
the way an arm's problems were, and `diversity` how diverse the problems are.

Every arm is compared with the baseline under the same seeds and on the same problems. Seeds and problems both
count as random samples (`eval.stats.crossed`); `p_holm` is adjusted for all arms. The records are the problems,
with the share of each arm's seeds that solve them. docs/experiments.md explains how to read the summary.
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
# Measures of the diversity stage by which arms are compared, at a common number of texts.
MEASURES = ("mean_cosine", "nearest_cosine", "duplicate_rate", "vendi", "distinct_2", "compression_ratio")
SOLVED = pa.schema(
    [
        ("benchmark", pa.string()),
        ("id", pa.string()),  # the problem's id
        ("made_by", pa.string()),  # the arm that made it, by its prompts; null if unknown
        ("arm", pa.string()),
        ("score", pa.float64()),  # mean over seeds
    ]
)

Arms = dict[str, dict[str, str]]  # arm -> seed -> input name


class Config(StageConfig):
    """What to compare."""

    baseline: str = Field(description="Compare all other arms with this one.")
    most_left_out: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="Share of a test's problems that may be missing from some runs; these are left out.",
    )
    alpha: float = Field(default=0.05, gt=0, lt=1, description="Significance level for differences.")


def run(stage: Stage[Config]) -> None:
    """Reads, compares and concludes."""
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
        arms={arm: _summarize_arm(stage, parts, arm, seeds) for arm in arms},
        seeds=seeds,
        benchmarks=benchmarks,
        by_origin={name: _by_origin(scores[name], ids[name], made_by) for name in scores} if made_by else {},
        diversity=diversity,
        conclusions=conclude(stage.config.baseline, stage.config.alpha, benchmarks, diversity),
    )


def _parts(stage: Stage[Config]) -> dict[str, Arms]:
    """Groups the inputs by part, arm and seed. Inputs without a seed are left out.

    Raises:
        UserError: an input's name or origin is wrong, an arm lacks a seed, or the baseline is not an arm.
    """
    where = f"stages.{stage.name}"
    parts: dict[str, Arms] = {}
    for name, artifact in stage.inputs.items():
        part, *rest = name.split("-")
        if part not in PARTS:
            raise UserError(
                f"{where}.inputs.{name}: {suggest(part, PARTS)} Input names have the form <part>-<arm>-<seed>"
            )
        if part == "results" and artifact.manifest.module not in GRADERS:
            raise UserError(
                f"{where}.inputs.{name}: {artifact.path} is not an artifact of eval.benchmark or eval.regrade"
            )
        if len(rest) == 2:
            parts.setdefault(part, {}).setdefault(rest[0], {})[rest[1]] = name
    arms = parts.get("results", {})
    if len(arms) < 2:
        raise UserError(
            f"{where}.inputs: needs two or more arms, as in {{results: after}} where `after` has foreach: [arm, seed]"
        )
    if stage.config.baseline not in arms:
        raise UserError(f"{where}.config.baseline: no such arm. {suggest(stage.config.baseline, arms)}")
    seeds = {arm: set(by_seed) for arm, by_seed in arms.items()}
    for arm, found in seeds.items():
        if found != seeds[stage.config.baseline]:
            raise UserError(f"{where}.inputs: {arm} and {stage.config.baseline} have different seeds")
    return parts


def _scores(stage: Stage[Config], arms: Arms) -> tuple[dict[str, dict[str, NDArray[np.float64]]], dict[str, list[str]]]:
    """Returns (scores by benchmark and arm, problem ids by benchmark). Scores have the shape (seeds, problems)."""
    baseline = arms[stage.config.baseline]
    first_name = next(iter(baseline.values()))
    runs = _common(stage, {name: _read_run(stage.input(name)) for each in arms.values() for name in each.values()})
    for name, found in runs.items():
        refuse_different_grading(stage, first_name, name)
        refuse_different_problems(stage, runs[first_name], found, (first_name, name))
    ids = {benchmark: [problem.id for problem in problems] for benchmark, problems in runs[first_name].items()}
    for benchmark, order in ids.items():
        if len(order) < 2:
            raise UserError(
                f"stages.{stage.name}.inputs.results: the runs have {len(order)} problem{'s' * (not order)} of {benchmark} in"
                " common, too few to estimate an error: evaluate on two or more"
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
    """Restricts the runs to the problems that all of them have.

    Near-duplicate removal can differ by one or two problems between seeds.

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
                    f" in {name} are in all runs, so these are not runs on the same problems"
                )
    return {
        name: {key: [problem for problem in found if problem.id in shared[key]] for key, found in run.items()}
        for name, run in runs.items()
    }


def _read_run(artifact: Artifact) -> Run:
    return read_problems(artifact.path, artifact.shard_names)


def _compare(config: Config, scores: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Returns the accuracy of every arm and its difference from the baseline."""
    seeds, problems = next(iter(scores.values())).shape
    differences = arm_differences(scores, config.baseline)
    adjusted = holm([each.p for each in differences.values()])
    compared = {}
    for (arm, estimate), p_holm in zip(differences.items(), adjusted, strict=True):
        by_problem = scores[arm].mean(axis=0) - scores[config.baseline].mean(axis=0)
        compared[arm] = {
            **_estimate_values(estimate),
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
    """Returns an arm's accuracy. If all its scores are equal, the interval is Wilson's, over the problems."""
    values = _estimate_values(estimate)
    if estimate.low is not None:
        return values | {"interval": "crossed"}
    wilson = wilson_interval(round(estimate.mean * problems), problems)
    return values | {"low": round(wilson.low, 4), "high": round(wilson.high, 4), "interval": "wilson"}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _estimate_values(estimate: Estimate) -> dict[str, Any]:
    return {
        "mean": round(estimate.mean, 4),
        "low": _rounded(estimate.low),
        "high": _rounded(estimate.high),
        "p": estimate.p,
        "freedom": round(estimate.freedom, 1),
        "by_seed": [round(value, 4) for value in estimate.by_seed],
    }


def _made_by(stage: Stage[Config]) -> dict[str, str]:
    """Maps test problems to the arm that made them, from the inputs `exam-<arm>`."""
    found = {}
    for name, artifact in stage.inputs.items():
        part, *rest = name.split("-")
        if part == "exam" and len(rest) == 1:
            found |= {row["id"]: rest[0] for row in artifact.rows(["id"])}
    return found


def _by_origin(
    scores: Mapping[str, NDArray[np.float64]], ids: Sequence[str], made_by: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Returns the accuracy of every arm on the test problems that each arm made."""
    origins = dict.fromkeys(made_by.values())
    columns = {origin: [i for i, id_ in enumerate(ids) if made_by.get(id_) == origin] for origin in origins}
    return {
        arm: {origin: round(float(each[:, chosen].mean()), 4) for origin, chosen in columns.items() if chosen}
        for arm, each in scores.items()
    }


def _summarize_arm(stage: Stage[Config], parts: Mapping[str, Arms], arm: str, seeds: Sequence[str]) -> dict[str, Any]:
    """Returns how many problems, tokens and steps an arm had, averaged over its seeds."""
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
    """Compares the diversity of the arms' problems seed by seed. All arms use the same number of texts."""
    if "diversity" not in stage.inputs:
        return {}
    collections = stage.input("diversity").manifest.summary.get("collections", {})
    names = {arm: {seed: f"problems-{arm}-{seed}" for seed in by_seed} for arm, by_seed in arms.items()}
    if any(name not in collections for by_seed in names.values() for name in by_seed.values()):
        raise UserError(
            f"stages.{stage.name}.inputs.diversity: {stage.input('diversity').path} has no collections named"
            f" problems-<arm>-<seed>: give it the input {{problems: problems}} with foreach over the same arms and seeds"
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
            one_seed = len(each) == 1  # the interval is infinite
            entry["difference"] = round(estimate.mean, 4)
            entry["low"], entry["high"] = (None if one_seed else _rounded(end) for end in (estimate.low, estimate.high))
            entry["p"] = estimate.p
        found[arm] = entry
    tested = [entry for entry in found.values() if "p" in entry]
    for entry, adjusted in zip(tested, holm([entry["p"] for entry in tested]), strict=True):
        entry["p_holm"] = adjusted
    return found


def _mean_curves(names: Arms, collections: Mapping[str, Any]) -> dict[str, dict[str, list[list[float]]]]:
    """Averages curves over seeds, by measure and arm.

    Gives mean, minimum and maximum at the sizes that all seeds have.
    """
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
    """Makes no requests; writes a row for every problem and arm."""
    rows = sum({name.split("-")[1]: rows for name, rows in rows_in.items() if name.startswith("results-")}.values())
    return Forecast(rows_out=rows, disk_bytes=100 * rows)
