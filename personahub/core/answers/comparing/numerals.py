"""Compares numerals in a base with each other, with numbers, and with bare digits."""

from __future__ import annotations

from personahub.core.answers.comparing.arithmetic import NoValue
from personahub.core.answers.comparing.values import based_value, evaluate, free_symbols
from personahub.core.answers.policy import Policy
from personahub.core.answers.reading.nodes import Based, Node, Number


def same_numeral(gold: Node, pred: Node, policy: Policy) -> str | None:
    """Compares numerals in a base. `204_5` equals `204` if bases may be missing; `204_5` always equals `54_{10}`."""
    try:
        if isinstance(gold, Based) and isinstance(pred, Based):
            return "base" if based_value(gold) == based_value(pred) else None
        if isinstance(gold, Based):  # the question asked for that base, so 54 does not answer it
            return _same_digits(gold, pred, policy)
        if isinstance(pred, Based):
            equal = not free_symbols(gold) and evaluate(gold) == based_value(pred)
            return "base" if equal else _same_digits(pred, gold, policy)
    except NoValue:
        pass
    return None


def _same_digits(based: Based, other: Node, policy: Policy) -> str | None:
    same_digits = isinstance(other, Number) and other.digits == based.digits
    return "base omitted" if policy.base_optional and same_digits else None
