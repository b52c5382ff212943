"""Measure verification by policy: wrong answers among the kept, right ones dropped, and the cost.

    python -m benchmarks.verification

Runs the stages of benchmarks/verification.yaml (personas -> problems -> solutions -> verified) with
simulated teachers at the rates below, and compares what each policy kept with the teachers' own truth,
which no stage sees. Three of ten wrong solutions make the mistake that the problem invites, the same in
all of them (`correlated` in `synth.simulated.faults`). The YAML explains how the variants of `majority`
differ; for `checked_majority_with_pot` an LLM has read the problems before they are solved
(`synth.check_problems`).

* kept: share of all problems.
* wrong: kept records whose answer is wrong, including invalid problems (any answer to them is wrong).
* no answer: kept records without any answer; only `none` has them.
* right dropped: problems with a right first solution that were not kept.
* requests and tokens: for problems, checks and solutions, per kept record.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personahub.core.answers import check
from personahub.core.artifact import Artifact, open_artifact
from personahub.core.experiments.experiment import load_experiment
from personahub.core.experiments.runner import run_experiment

CONFIG = Path(__file__).with_suffix(".yaml")
# Policy: the stage that its samples come from.
POLICIES = {
    "none": "one",
    "two_of_three": "three",
    "majority": "five",
    "majority_with_any_pot": "five",
    "majority_with_pot": "five",
    "majority_with_pot_no_rules": "five",
    "judged_majority_with_pot": "five",
    "checked_majority_with_pot": "five_of_sound",
    "unanimous": "five",
}
RATES = {"wrong_arithmetic": 0.11, "wrong_reading": 0.09, "unsolvable": 0.035}


@dataclass(frozen=True)
class Outcome:
    """The outcome of one policy in numbers of problems; `wrong` is by cause."""

    kept: int
    wrong: Counter[str]
    without_answer: int
    right_dropped: int
    first_right: int
    requests: int
    tokens: int


def main() -> None:
    """Run and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of the experiment's config")
    parser.add_argument("--correlated", type=float, default=0.3, help="share of wrong solutions that err alike")
    parser.add_argument("--seed", type=int, default=0, help="seed of the whole experiment")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    rates = {**RATES, "correlated": options.correlated}
    overrides = [f"experiment=verification-{options.correlated:g}-seed{options.seed}", f"seed={options.seed}"]
    overrides += [
        f"engines.{engine}.rates.{name}={rate}"
        for engine in ("author", "solver_a", "solver_b")
        for name, rate in rates.items()
    ]
    experiment = load_experiment(str(CONFIG), [*overrides, *options.overrides], str(options.runs))
    run_experiment(experiment)
    stages = {name: open_artifact(stage.path) for name, stage in experiment.stages.items()}
    print(report(stages, rates))


def report(stages: dict[str, Artifact], rates: dict[str, float]) -> str:
    """Print two tables: the policies, and the causes of the wrong answers among the kept."""
    total = stages["problems"].num_rows
    invalid = sum(answer is None for answer in _answers(stages["problems"]).values())
    outcomes = {policy: judge(stages, policy) for policy in POLICIES}
    lines = [
        f"{total:,} problems, {invalid} of them invalid ({invalid / total:.1%}); "
        + ", ".join(f"{name} {rate:g}" for name, rate in rates.items()),
        "",
        "| policy | samples | kept | wrong among kept | no answer | right dropped | requests / kept | tokens / kept |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for policy, o in outcomes.items():
        wrong = sum(o.wrong.values())
        lines.append(
            f"| {policy} | {_samples(policy)} | {o.kept / total:.1%} | {wrong / o.kept:.2%} ({wrong}) "
            f"| {o.without_answer / o.kept:.2%} | {o.right_dropped / o.first_right:.1%} "
            f"| {o.requests / o.kept:.2f} | {o.tokens / o.kept:,.0f} |"
        )
    causes = sorted({cause for o in outcomes.values() for cause in o.wrong})
    lines += ["", f"| wrong among kept, by cause | {' | '.join(causes)} |", "|---" * (len(causes) + 1) + "|"]
    lines += [f"| {policy} | {' | '.join(str(o.wrong[cause]) for cause in causes)} |" for policy, o in outcomes.items()]
    return "\n".join(lines)


def _samples(policy: str) -> int:
    return {"one": 1, "three": 3}.get(POLICIES[policy], 5)


def judge(stages: dict[str, Artifact], policy: str) -> Outcome:
    """Compare what a policy kept with the truth."""
    answers = _answers(stages["problems"])
    solutions = stages[POLICIES[policy]]
    known = _truths(solutions)
    wrong: Counter[str] = Counter()
    kept: set[str] = set()
    without = 0
    for row in stages[policy].rows(["id", "problem", "answer", "votes"]):
        kept.add(row["id"])
        truth = answers[row["id"]]
        if row["answer"] is None:
            without += 1
        elif truth is None or not (row["answer"] == truth or check(truth, row["answer"]).correct):
            wrong[_cause(row, truth, known)] += 1
    firsts = _truths(stages["one"])  # also of problems that are not solved five times
    right = {problem for (problem, _), truth in firsts.items() if truth["correct"]}
    made = ["problems", POLICIES[policy], policy] + (["sound"] if POLICIES[policy] == "five_of_sound" else [])
    usages = [stages[name].manifest.usage for name in made]
    return Outcome(
        len(kept),
        wrong,
        without,
        len(right - kept),
        len(right),
        sum(usage.requests for usage in usages),
        sum(usage.prompt_tokens + usage.completion_tokens for usage in usages),
    )


def _answers(problems: Artifact) -> dict[str, str | None]:
    """Return true answers by problem id; None for an invalid problem."""
    truth = {(t["record_id"], t["sample"]): json.loads(t["truth"]) for t in problems.truth()}  # the last attempt counts
    return {
        row["id"]: truth[row["persona_id"], row["sample"]]["answer"]
        for row in problems.rows(["id", "persona_id", "sample"])
    }


def _truths(solutions: Artifact) -> dict[tuple[str, int], dict[str, Any]]:
    return {(t["record_id"], t["sample"]): json.loads(t["truth"]) for t in solutions.truth()}


def _cause(row: dict[str, Any], answer: str | None, known: dict[tuple[str, int], dict[str, Any]]) -> str:
    """Return why a wrong answer was kept."""
    if answer is None:
        return "contradictory problem" if "It is known that" in row["problem"] else "incomplete problem"
    cluster = next(vote["cluster"] for vote in row["votes"] if vote["answer"] == row["answer"])
    faults = {known[row["id"], i]["fault"] for i, vote in enumerate(row["votes"]) if vote["cluster"] == cluster}
    return "/".join(sorted(str(fault) for fault in faults))


if __name__ == "__main__":
    main()
