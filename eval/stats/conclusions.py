"""Plain sentences about what the numbers of an ablation show and do not show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def conclude(
    baseline: str, alpha: float, benchmarks: Mapping[str, Any], diversity: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Returns sentences under the keys `shown`, `not_shown` and `limits`.

    Args:
        baseline: the arm that the other arms are compared with.
        alpha: a difference is shown if its p value, after Holm's correction, is below this level.
        benchmarks: results by name, as `eval.ablation` reports them.
        diversity: results as `eval.ablation` reports them; may be empty.
    """
    shown, not_shown = [], []
    for name, result in benchmarks.items():
        for arm, difference in result["differences"].items():
            sentence = _accuracy_sentence(name, baseline, arm, difference, alpha)
            (shown if difference["p_holm"] < alpha else not_shown).append(sentence)
    if diversity:
        for arm, difference in diversity["measures"]["vendi"].items():
            if arm != baseline:
                sentence = _vendi_sentence(baseline, arm, difference, diversity["texts"], alpha)
                (shown if difference["p_holm"] < alpha else not_shown).append(sentence)
    return {"shown": shown, "not_shown": not_shown, "limits": _limits(benchmarks)}


def _accuracy_sentence(benchmark: str, baseline: str, arm: str, found: Mapping[str, Any], alpha: float) -> str:
    name, points = benchmark.replace("_", " "), 100 * found["mean"]
    start = f"On the {name}, {_readable(arm)} scores {points:+.1f} points relative to {_readable(baseline)}"
    p = f"p {_format_p(found['p_holm'])} after Holm's correction"
    if found["low"] is None and not points:
        return (
            f"{start}: all scores are equal on every problem and for every seed, so the error is unknown, and so is how"
            " large a difference is ruled out."
        )
    if found["low"] is None:
        interval = (
            f"the same on every problem and for every seed, so there is no interval; sign test over problems, {p}"
        )
    else:
        low, high = 100 * found["low"], 100 * found["high"]
        interval = f"95% interval {low:+.1f} to {high:+.1f}, {p}"
    if found["p_holm"] < alpha:
        verb = "better" if points > 0 else "worse"
        return f"On the {name}, {_readable(arm)} is {abs(points):.1f} points {verb} than {_readable(baseline)} ({interval})."
    if found["low"] is None:
        return f"{start} ({interval}): no difference is shown, and none is ruled out."
    largest = max(abs(found[key]) for key in ("low", "high"))
    return f"{start} ({interval}): no difference is shown, and a difference of up to {100 * largest:.1f} points is not ruled out."


def _vendi_sentence(baseline: str, arm: str, found: Mapping[str, Any], texts: int, alpha: float) -> str:
    numbers = f"a Vendi score {found['difference']:+.1f} relative to {_readable(baseline)}"
    seeds, p = len(found["by_seed"]), f"p {_format_p(found['p_holm'])}"
    if seeds == 1:
        return f"{_readable(arm)} has {numbers} at {texts:,} problems. One seed cannot show what is due to chance."
    if found["low"] is None:
        interval = f"the same for all {seeds} seeds, so there is no interval; sign test over seeds, {p}"
    else:
        interval = f"95% interval {found['low']:+.1f} to {found['high']:+.1f} over seeds, {p}"
    if found["p_holm"] < alpha:
        more = "more" if found["difference"] > 0 else "less"
        return f"{texts:,} problems of {_readable(arm)} are {more} diverse: {numbers} ({interval})."
    return (
        f"{texts:,} problems of {_readable(arm)} are not shown to differ in diversity from those of {_readable(baseline)}:"
        f" {numbers} ({interval})."
    )


def _limits(benchmarks: Mapping[str, Any]) -> list[str]:
    result = next(iter(benchmarks.values()))
    seeds = result["seeds"]
    limits = [
        f"The intervals cover the choice of the {result['n']:,} test problems and of {seeds} seed{'s' * (seeds > 1)}"
        + (
            ""
            if seeds > 1
            else ", so they say nothing about other seeds: one seed cannot separate an arm from its luck"
        )
        + ". They do not cover other teachers, personas, prompts, students or sizes."
    ]
    for name, found in benchmarks.items():
        flat = [_readable(arm) for arm, each in found["accuracy"].items() if each["interval"] == "wilson"]
        if flat:
            limits.append(
                f"On the {_readable(name)}, all scores within {' and within '.join(flat)} are equal, so their error cannot be estimated."
                f" The interval of that accuracy is Wilson's over the {found['n']:,} problems, without the variation over seeds."
            )
        limits.append(_power_sentence(name, found))
    best = max(arm["mean"] for each in benchmarks.values() for arm in each["accuracy"].values())
    if best < 0.1:
        limits.append("No arm solves a tenth of the test. Arms that learn almost nothing can hardly differ.")
    return limits


def _power_sentence(benchmark: str, found: Mapping[str, Any]) -> str:
    """Says which difference the experiment can detect and how much seeds matter."""
    start = f"On the {benchmark.replace('_', ' ')}, "
    known = [each["detectable"] for each in found["differences"].values() if each["detectable"] is not None]
    if known:
        sentence = (
            f"{start}an experiment of this size finds a true difference of {100 * max(known):.1f} points in nine out of"
            " ten cases, and a smaller one less often"
        )
    else:
        sentence = f"{start}these scores do not show how large a true difference an experiment of this size can detect"
    if found["luck"] is None:
        alike = "Training luck cannot be estimated, because all arms change alike from seed to seed."
        return f"{sentence}. {alike}" if found["seeds"] > 1 else f"{sentence}."
    luck, upper = (100 * found["luck"][key] for key in ("value", "high"))
    return (
        f"{sentence}. Training luck, the standard deviation of an arm's accuracy from seed to seed, is estimated at"
        f" {luck:.1f} points (95% confidence: at most {upper:.1f})."
    )


def _readable(name: str) -> str:
    return name.replace("_", " ")


def _format_p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}" if value < 0.1 else f"= {value:.2f}"
