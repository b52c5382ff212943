"""What an ablation's numbers show and do not show, in plain sentences made from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def conclude(
    baseline: str, alpha: float, benchmarks: Mapping[str, Any], diversity: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Sentences: `shown`, `not_shown` and `limits`.

    Args:
        baseline: the arm that the others are compared with.
        alpha: the level at which a difference counts as one, after Holm's correction.
        benchmarks: results by name, as `eval.ablation` reports them.
        diversity: likewise; may be empty.
    """
    shown, not_shown = [], []
    for name, result in benchmarks.items():
        for arm, difference in result["differences"].items():
            sentence = _accuracy(name, baseline, arm, difference, alpha)
            (shown if difference["p_holm"] < alpha else not_shown).append(sentence)
    if diversity:
        for arm, difference in diversity["measures"]["vendi"].items():
            if arm != baseline:
                sentence = _vendi(baseline, arm, difference, diversity["texts"], alpha)
                (shown if difference["p_holm"] < alpha else not_shown).append(sentence)
    return {"shown": shown, "not_shown": not_shown, "limits": _limits(benchmarks)}


def _accuracy(benchmark: str, baseline: str, arm: str, found: Mapping[str, Any], alpha: float) -> str:
    name, points = benchmark.replace("_", " "), 100 * found["mean"]
    start = f"On the {name}, {_arm(arm)} comes out {points:+.1f} points against {_arm(baseline)}"
    p = f"p {_p(found['p_holm'])} after Holm's correction"
    if found["low"] is None and not points:
        return (
            f"{start}: on every problem and under every seed all scores are equal, so nothing can be said of the error, nor"
            " of how large a difference is ruled out."
        )
    if found["low"] is None:
        interval = (
            f"by as much on every problem under every seed, so there is no interval; sign test over problems, {p}"
        )
    else:
        low, high = 100 * found["low"], 100 * found["high"]
        interval = f"95% interval {low:+.1f} to {high:+.1f}, {p}"
    if found["p_holm"] < alpha:
        verb = "better" if points > 0 else "worse"
        return f"On the {name}, {_arm(arm)} is {abs(points):.1f} points {verb} than {_arm(baseline)} ({interval})."
    if found["low"] is None:
        return f"{start} ({interval}): no difference is shown, and none is ruled out."
    largest = max(abs(found[key]) for key in ("low", "high"))
    return f"{start} ({interval}): no difference is shown, and none of up to {100 * largest:.1f} points is ruled out."


def _vendi(baseline: str, arm: str, found: Mapping[str, Any], texts: int, alpha: float) -> str:
    start = f"{texts:,} problems of {_arm(arm)} are as diverse as"
    numbers = f"a Vendi score {found['difference']:+.1f} against {_arm(baseline)}"
    seeds, p = len(found["by_seed"]), f"p {_p(found['p_holm'])}"
    if seeds == 1:
        return f"{_arm(arm)} has {numbers} at {texts:,} problems; with one seed there is no telling what chance does."
    if found["low"] is None:
        interval = f"the same under all {seeds} seeds, so there is no interval; {p} by its signs"
    else:
        interval = f"95% interval {found['low']:+.1f} to {found['high']:+.1f} by seeds, {p}"
    if found["p_holm"] < alpha:
        more = "more" if found["difference"] > 0 else "less"
        return f"{texts:,} problems of {_arm(arm)} are {more} diverse: {numbers} ({interval})."
    return f"Whether {start} those of {_arm(baseline)} is open: {numbers} ({interval})."


def _limits(benchmarks: Mapping[str, Any]) -> list[str]:
    result = next(iter(benchmarks.values()))
    seeds = result["seeds"]
    limits = [
        f"The intervals cover the choice of the {result['n']:,} test problems and of {seeds} seed{'s' * (seeds > 1)}"
        + ("" if seeds > 1 else ", which is to say of no other: one seed does not tell an arm from its luck")
        + ". They know nothing of other teachers, personas, prompts, students or sizes."
    ]
    for name, found in benchmarks.items():
        flat = [_arm(arm) for arm, each in found["accuracy"].items() if each["interval"] == "wilson"]
        if flat:
            limits.append(
                f"On the {_arm(name)}, all scores within {' and within '.join(flat)} are equal and leave nothing to estimate an error from:"
                f" the interval of that accuracy is Wilson's over the {found['n']:,} problems and knows nothing of seeds."
            )
        limits.append(_power(name, found))
    best = max(arm["mean"] for each in benchmarks.values() for arm in each["accuracy"].values())
    if best < 0.1:
        limits.append("No arm solves a tenth of the test: where hardly anything is learnt, arms can hardly differ.")
    return limits


def _power(benchmark: str, found: Mapping[str, Any]) -> str:
    """What so large an experiment can see."""
    start = f"On the {benchmark.replace('_', ' ')}, "
    known = [each["detectable"] for each in found["differences"].values() if each["detectable"] is not None]
    if known:
        sentence = (
            f"{start}an experiment of this size finds a true difference of {100 * max(known):.1f} points in nine of ten"
            " cases, and a smaller one less often"
        )
    else:
        sentence = f"{start}these scores do not tell how large a true difference an experiment of this size finds"
    if found["luck"] is None:
        alike = "The luck of a training cannot be estimated: from seed to seed, all arms change alike."
        return f"{sentence}. {alike}" if found["seeds"] > 1 else f"{sentence}."
    luck, high = (100 * found["luck"][key] for key in ("value", "high"))
    return (
        f"{sentence}. The luck of a training, its accuracy's standard deviation from seed to seed, is estimated at"
        f" {luck:.1f} points (with 95% confidence at most {high:.1f})."
    )


def _arm(name: str) -> str:
    return name.replace("_", " ")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}" if value < 0.1 else f"= {value:.2f}"
