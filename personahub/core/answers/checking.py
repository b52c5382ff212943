"""One check in this process: extract, compare, name the rule. No isolation: see `CheckerPool` for that."""

from __future__ import annotations

import time

from personahub.core.answers import guards
from personahub.core.answers.equivalence import equivalent, is_mathematics
from personahub.core.answers.extract import extract
from personahub.core.answers.policy import Policy
from personahub.core.answers.verdict import Extracted, Verdict

_LENIENT = Policy()


def check(gold: str, pred: str, *, policy: Policy = _LENIENT) -> Verdict:
    """Compare a prediction with a reference, in this process and without a deadline.

    Either may be an answer alone or a whole text with an answer in it: a text that holds a box,
    `####` or "answer is", or that is prose, is searched (`extract`); anything else is the answer.

    Args:
        gold: the reference answer, or a reference solution.
        pred: the predicted answer, or a completion.
        policy: contested cases.

    Returns:
        A verdict whose label is `correct`, `wrong`, `no_answer`, or `error` when the reference holds no answer.
    """
    started = time.perf_counter()
    label, found, rule = _decide(gold, pred, policy)
    return Verdict(label, found.answer, found.rule, rule, (time.perf_counter() - started) * 1000)  # type: ignore[arg-type]


def _decide(gold: str, pred: str, policy: Policy) -> tuple[str, Extracted, str]:
    reference = extract(gold)
    found = extract(pred)
    if reference.answer is None:
        reference = Extracted(gold.strip(), "bare")
    if not reference.answer:
        return "error", found, "the reference is empty"
    if found.answer is None:
        whole = pred.strip()
        if whole and equivalent(reference.answer, whole, policy) == "same text":
            return "correct", Extracted(whole, "bare"), "same text"
        return "no_answer", found, "nothing to compare"
    for gold_reading in _readings(reference):
        for pred_reading in _readings(found):
            rule = equivalent(gold_reading, pred_reading, policy)
            if rule is not None:
                return "correct", found, rule
    refused = guards.refusal(found.answer)
    return "wrong", found, f"refused: {refused}" if refused else "different"


def _readings(found: Extracted) -> list[str]:
    """The answer, then its second readings; a formula inside of a bare text counts only where the text is prose."""
    if found.rule == "bare" and found.answer and is_mathematics(found.answer):
        return [found.answer]
    return [text for text in (found.answer, *found.others) if text]
