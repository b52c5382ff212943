"""Measure false alarms and power of the ablation's test: arms that are equal, and one that is ten points better.

    python benchmarks/ablation_power.py

The benchmark simulates graded results of five arms with three and five seeds on one test. Each problem has a
difficulty. Each pair of problem and seed has a random effect that all arms share, because all arms of a seed see the
same personas. Each training run has its own luck, and the arm may have an effect. The scores go through
`eval.stats.crossed.arm_differences` and `eval.stats.paired.holm`, as in `eval.ablation`. The benchmark counts
rejections at 5%, of single tests and after Holm's correction.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from numpy.typing import NDArray

from eval.stats.crossed import arm_differences
from eval.stats.paired import holm

ARMS = ("persona", "no_persona", "persona_few_shot", "key_points", "random_words")


def simulate(
    problems: int, seeds: int, effect: float, luck: float, generator: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    """Return 0/1 scores (seeds, problems) of each arm, where the first arm is `effect` better than the others.

    Args:
        effect: exact difference in expected accuracy.
        luck: standard deviation of a training run's accuracy from seed to seed.
    """
    difficulty = generator.beta(1.2, 1.2, problems)  # expected accuracy, from hopeless to certain
    accident = generator.normal(0, 0.1, (seeds, problems))
    scores = {}
    for arm in ARMS:
        trained = generator.normal(0, luck, (seeds, 1)) + (effect / 2 if arm == ARMS[0] else -effect / 2)
        # Scale into [0.15, 0.85] first, so that a shift of an arm's accuracy is not clipped at 0 or 1.
        expected = 0.15 + 0.7 * np.clip(difficulty + accident, 0, 1) + trained
        scores[arm] = (generator.random((seeds, problems)) < np.clip(expected, 0, 1)).astype(np.float64)
    return scores


def rejections(
    repetitions: int, problems: int, seeds: int, effect: float, luck: float, seed: int = 0
) -> tuple[float, float, float]:
    """Return shares of repetitions that reject one given pair, reject it after Holm, and reject any of four after Holm."""
    generator = np.random.default_rng(seed)
    single = adjusted = family = 0
    for _ in range(repetitions):
        found = arm_differences(simulate(problems, seeds, effect, luck, generator), ARMS[0])
        corrected = dict(zip(found, holm([each.p for each in found.values()]), strict=True))
        single += found["no_persona"].p < 0.05
        adjusted += corrected["no_persona"] < 0.05
        family += min(corrected.values()) < 0.05
    return single / repetitions, adjusted / repetitions, family / repetitions


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--problems", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 5])
    arguments = parser.parse_args()
    repetitions, problems = arguments.repetitions, arguments.problems
    half = 1.96 * math.sqrt(0.25 / repetitions)
    print(f"{repetitions} repetitions, {problems} problems, {len(ARMS)} arms (+- {half:.0%} at most)")
    print("seeds  effect       training luck  one pair  after Holm  any of four after Holm")
    for seeds in arguments.seeds:
        for effect in (0.0, 0.1):
            for luck in (0.0, 0.01, 0.02, 0.03):
                one, corrected, any_of = rejections(repetitions, problems, seeds, effect, luck)
                print(f"{seeds:5}  {effect:6.0%}  {luck:18.0%}  {one:8.0%}  {corrected:10.0%}  {any_of:22.0%}")


if __name__ == "__main__":
    main()
