"""Compares decimals with exact values: 0.3333 with 1/3, 1.732 with the root of 3.

A decimal d with last place u stands for every value that rounds to it, [d - u/2, d + u/2]. A decimal marked
as cut off (`2.6457\\dots`), and any reference, also stands for the values that begin with it, up to d + u.
Decimals inside an expression propagate to first order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from personahub.core.answers.comparing.arithmetic import NoValue, Value, context, inexact, subtract
from personahub.core.answers.comparing.values import evaluate
from personahub.core.answers.reading.nodes import Node, Number, rebuilt, walk

FLOAT_DIGITS = 12  # a decimal with this many digits is a float printed by a program
_FLOAT_NOISE = Fraction(1, 10**12)  # relative error that a program's last operations may have added
_DOUBLE = 17  # significant digits that distinguish any two doubles
_LARGEST = 10**300
_MOST = 8  # most decimals in one expression


def rounds_to(gold: Node, pred: Node, digits: int, point: Mapping[str, Value]) -> bool:
    """Returns whether one side is the other one rounded.

    Args:
        gold: the reference; its decimals were rounded on purpose, so one digit fewer is enough.
        pred: the prediction.
        digits: significant digits that a predicted decimal must show.
        point: values of the variables.
    """
    if isinstance(gold, Number) and isinstance(pred, Number) and _plainly_written(gold, pred):
        return False  # 2.5 and 2.51, written by a person, are different numbers
    return _stands_for(pred, gold, digits, point) or _stands_for(gold, pred, digits - 1, point, cut_off=True)


def _plainly_written(a: Number, b: Number) -> bool:
    """Returns whether both are plain decimals that no program printed. Mixed and repeating decimals are not plain."""
    return bool(a.digits and b.digits) and not _one_is_float(a, b)


def _one_is_float(a: Number, b: Number) -> bool:
    return (a.significant >= FLOAT_DIGITS and a.places is not None) != (
        b.significant >= FLOAT_DIGITS and b.places is not None
    )


def _is_double(decimal: Number, unit: Fraction) -> bool:
    """Returns whether a program may have printed this double. 1.000000000000000000001 is not a double."""
    if decimal.significant <= _DOUBLE or abs(decimal.value) > _LARGEST:
        return decimal.significant <= _DOUBLE
    return abs(Fraction(float(decimal.value)) - decimal.value) < unit


def _stands_for(rounded: Node, exact: Node, digits: int, point: Mapping[str, Value], cut_off: bool = False) -> bool:
    decimals = _decimals(rounded, digits)
    if not decimals or len(decimals) > _MOST:
        return False
    try:
        here, there = evaluate(rounded, point), evaluate(exact, point)
        steps = [subtract(evaluate(_shifted(rounded, decimal), point), here) for decimal in decimals]
    except NoValue:
        return False
    mp = context()
    gap = inexact(subtract(there, here))
    if len(steps) == 1 and not isinstance(gap, mp.mpc) and not isinstance(steps[0], mp.mpc) and steps[0] != 0:
        reach = "0.9999" if cut_off or not decimals[0].digits else "0.5001"
        return bool(mp.mpf("-0.5001") <= gap / inexact(steps[0]) < mp.mpf(reach))
    return bool(abs(gap) <= sum(abs(inexact(step)) for step in steps) / 2 * mp.mpf("1.0002"))


def _decimals(node: Node, digits: int) -> list[Number]:
    """Returns the decimals in a node with enough digits to be roundings."""
    shown = (part for part in walk(node) if isinstance(part, Number) and part.places and part.significant >= digits)
    return list(dict.fromkeys(shown))


def _shifted(node: Node, decimal: Number) -> Node:
    """Returns the node with one decimal moved outward by one unit in its last place. A float moves by its error."""
    unit = Fraction(1, 10 ** (decimal.places or 0))
    if decimal.significant >= FLOAT_DIGITS and _is_double(decimal, unit):
        unit = max(10 * unit, abs(decimal.value) * _FLOAT_NOISE)
    moved = replace(decimal, value=decimal.value + (unit if decimal.value >= 0 else -unit))
    return rebuilt(node, lambda part: moved if part == decimal else None)
