"""One check in this process: extract, compare, name the rule. `CheckerPool` adds isolation."""

from __future__ import annotations

import time
from collections.abc import Iterator

from personahub.core.answers import guards
from personahub.core.answers.equivalence import equivalent, is_name, is_readable
from personahub.core.answers.extract import extract, inside
from personahub.core.answers.policy import Policy
from personahub.core.answers.verdict import EMPTY_REFERENCE, Extracted, Verdict

_LENIENT = Policy()


def check(gold: str, pred: str, *, policy: Policy = _LENIENT) -> Verdict:
    """Compares a prediction with a reference, in this process and without a deadline.

    Either may be an answer alone or a text that contains one. A text with a box, `####` or "answer is",
    and prose, is searched with `extract`; anything else is taken as the answer.

    Args:
        gold: the reference answer, or a reference solution.
        pred: the predicted answer, or a completion.
        policy: how to decide contested cases.

    Returns:
        A verdict whose label is `correct`, `wrong`, `no_answer`, or `error` if the reference has no answer.
    """
    started = time.perf_counter()
    label, found, rule = _decide(gold, pred, policy)
    return Verdict(label, found.answer, found.rule, rule, (time.perf_counter() - started) * 1000)  # type: ignore[arg-type]


def _decide(gold: str, pred: str, policy: Policy) -> tuple[str, Extracted, str]:
    reference = extract(gold)
    found = extract(pred)
    line = gold.strip()
    if reference.answer is None:
        reference = Extracted(line, "bare")
    elif reference.rule.startswith("last") and "\n" not in line:  # the whole sentence may be the answer
        reference = Extracted(reference.answer, reference.rule, (line,))
    if not reference.answer:
        return "error", found, EMPTY_REFERENCE
    if found.answer is None:
        whole = pred.strip()
        rule = equivalent(reference.answer, whole, policy) if whole else None
        if rule is not None:
            return "correct", Extracted(whole, "bare"), rule
        return "no_answer", found, "nothing to compare"
    for gold_reading in (reference.answer, *reference.others):
        for pred_reading in _readings(found):
            rule = equivalent(gold_reading, pred_reading, policy)
            if rule is not None:
                return "correct", found, rule
    return "wrong", found, _why_not(reference.answer, found.answer)


def _why_not(gold: str, pred: str) -> str:
    """Returns the reason for "wrong"; a judge may be asked if one of the sides could not be parsed."""
    for side, answer in (("reference", gold), ("prediction", pred)):
        if refused := guards.refusal(answer):
            return f"refused: {refused} of the {side}"
        if not (is_readable(answer) or is_name(answer)):
            return f"unread: {side}"
    return "different"


def _readings(found: Extracted) -> Iterator[str]:
    """Yields the predicted answer, its alternative readings, and the answer inside a sentence."""
    if found.answer:
        yield found.answer
        yield from found.others
        prose = not guards.refusal(found.answer) and not is_readable(found.answer)
        inner = inside(found.answer, found.rule) if prose else None
        if inner:
            yield inner
