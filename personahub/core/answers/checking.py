"""One check in this process: extract, compare, name the rule. `CheckerPool` adds isolation."""

from __future__ import annotations

import time

from personahub.core.answers import guards
from personahub.core.answers.equivalence import equivalent, is_name, is_readable
from personahub.core.answers.extract import extract
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
    found = extract(pred)
    if not policy.fallbacks and found.is_fallback:
        found = Extracted(None, found.rule)
    references = _references(gold)
    if not references:
        return "error", found, EMPTY_REFERENCE
    if found.answer is None:
        whole = pred.strip()
        rule = equivalent(references[0], whole, policy) if whole and found.rule == "none" else None
        if rule is not None:
            return "correct", Extracted(whole, "bare"), rule
        return "no_answer", found, "nothing to compare"
    for reference in references:
        rule = equivalent(reference, found.answer, policy)
        if rule is not None:
            return "correct", found, rule
    return "wrong", found, _why_not(references[0], found.answer)


def _references(gold: str) -> list[str]:
    """Returns the extracted reference. A sentence without an explicit answer is added as a whole."""
    line, found = gold.strip(), extract(gold)
    if found.answer is None:
        return [line] if line else []
    if found.rule.startswith("last") and "\n" not in line:
        return [found.answer, line]
    return [found.answer]


def _why_not(gold: str, pred: str) -> str:
    """Returns the reason for "wrong". If one side could not be parsed, a judge may be asked."""
    for side, answer in (("reference", gold), ("prediction", pred)):
        if refused := guards.refusal(answer):
            return f"refused: {refused} of the {side}"
        if not (is_readable(answer) or is_name(answer)):
            return f"unread: {side}"
    return "different"
