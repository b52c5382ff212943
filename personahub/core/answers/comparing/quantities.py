"""Compares numbers with units. Decides which units may be missing, convert, or are wrong."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from personahub.core.answers.comparing.scalars import same_scalar
from personahub.core.answers.comparing.values import free_symbols
from personahub.core.answers.policy import Policy
from personahub.core.answers.reading.nodes import Node, Number, Power, Product, Quantity, Sum, Symbol, Words
from personahub.core.answers.reading.units import CHANGES_VALUE, dimension, is_unit_letter
from personahub.core.answers.reading.wording import words_key

_MULTIPLIERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_LETTERED = re.compile(r"^(?:[mgshlL]|ohm|m \^[23]|m / [sh](?: \^2)?)$")
_OF_ALL = re.compile(r"^(percent) of (?:the|all|its|their|his|her|these|those)\b.*")
_HUNDREDTH = Number(Fraction(1, 100))


def same_quantity(gold: Node, pred: Node, policy: Policy) -> str | None:
    """Returns the rule by which two values with or without units agree, else None."""
    gold, pred = _read(gold), _read(pred)
    if not isinstance(gold, Quantity) and not isinstance(pred, Quantity):
        rule = same_scalar(gold, pred, policy) or _lettered(gold, pred, policy)
        if rule is None and policy.units_optional and (_has_degrees(gold) or _has_degrees(pred)):
            rule = same_scalar(_without_degrees(gold), _without_degrees(pred), policy)
        return rule
    a, unit = (gold.value, gold.unit) if isinstance(gold, Quantity) else (gold, "")
    b, other = (pred.value, pred.unit) if isinstance(pred, Quantity) else (pred, "")
    if isinstance(a, Words) or isinstance(b, Words):
        return None
    if "percent" in (_kind(unit), _kind(other)):
        return _percent(a, unit, b, other, policy)
    if not unit or not other:
        return _one_unit(gold, pred, a, b, unit or other, policy)
    return _two_units(a, unit, b, other, policy)


def _read(node: Node) -> Node:
    """Folds `3.5 million`, `2 hours 30 minutes` or `$5 dollars` into one value."""
    if isinstance(node, Quantity):
        value = _read(node.value)
        words = _OF_ALL.sub(r"\1", node.unit).split()
        while words and words[0].lower() in _MULTIPLIERS:
            value = _times(value, Fraction(10) ** _MULTIPLIERS[words.pop(0).lower()])
        if isinstance(value, Quantity):
            if value.unit == "percent" and _OF_ALL.match(f"percent {' '.join(words)}"):
                return value
            same_kind = _kind(value.unit) == _kind(" ".join(words)) or not words
            return value if same_kind else Quantity(value.value, f"{value.unit} {' '.join(words)}")
        return Quantity(value, " ".join(words)) if words else value
    if isinstance(node, Sum) and all(isinstance(term, Quantity) for term in node.terms):
        return _added(node)
    return node


def _times(value: Node, factor: Fraction) -> Node:
    if isinstance(value, Quantity):
        return Quantity(Product((value.value, Number(factor))), value.unit)
    return Product((value, Number(factor)))


def _added(node: Sum) -> Node:
    sizes = [dimension(term.unit) for term in node.terms if isinstance(term, Quantity)]
    first = sizes[0]
    if first is None or any(size is None or size[0] != first[0] for size in sizes):
        return node
    terms = []
    for term, size in zip(node.terms, sizes, strict=True):
        if isinstance(term, Quantity) and size is not None:
            terms.append(Product((term.value, Number(size[1] / first[1]))))
    return Quantity(Sum(tuple(terms)), node.terms[0].unit if isinstance(node.terms[0], Quantity) else "")


def _kind(unit: str) -> str:
    size = dimension(unit) if unit else None
    return size[0][0][0] if size and size[0] else ""


def _percent(a: Node, unit: str, b: Node, other: str, policy: Policy) -> str | None:
    if _kind(unit) == _kind(other):
        return same_scalar(a, b, policy) and "percent"
    if unit and other:
        return None
    if policy.percent_as_fraction:
        left = Product((a, _HUNDREDTH)) if unit else a
        right = Product((b, _HUNDREDTH)) if other else b
        if same_scalar(left, right, policy):
            return "percent as fraction"
    if policy.percent_optional and same_scalar(a, b, policy) and (unit or not _below_one(a)):
        return "percent sign omitted"
    return None


def _below_one(node: Node) -> bool:
    return isinstance(node, Number) and abs(node.value) <= 1


def _one_unit(gold: Node, pred: Node, a: Node, b: Node, unit: str, policy: Policy) -> str | None:
    if CHANGES_VALUE.match(unit) and dimension(unit) is None:
        return None
    if not (policy.units_optional if dimension(unit) else policy.labels_ignored):
        return None
    rule = same_scalar(a, b, policy)
    if rule:
        return f"unit omitted, {rule}"
    if policy.degrees_as_radians and unit == "degree" and same_scalar(gold, pred, policy):
        return "degrees as radians"
    lettered = _lettered(gold, pred, policy)
    return lettered


def _two_units(a: Node, unit: str, b: Node, other: str, policy: Policy) -> str | None:
    left, right = dimension(unit), dimension(other)
    if left is None or right is None:
        if not policy.labels_ignored and words_key(unit, True) != words_key(other, True):
            return None
        rule = same_scalar(a, b, policy)
        return f"label, {rule}" if rule else None
    generic = "generic" in (left[0][0][0] if left[0] else "", right[0][0][0] if right[0] else "")
    if left == right or (generic and left[0][0][1] == right[0][0][1]):
        rule = same_scalar(a, b, policy)
        return f"unit, {rule}" if rule else None
    if left[0] != right[0]:
        return None
    rule = same_scalar(Product((a, Number(left[1]))), Product((b, Number(right[1]))), policy)
    return f"unit converted, {rule}" if rule else None


def _lettered(gold: Node, pred: Node, policy: Policy) -> str | None:
    """Compares `5 m` with `5` or `5 meters`. The letter is a unit if the other side has no such variable."""
    if free_symbols(gold) and not free_symbols(pred) and isinstance(pred, Quantity):
        read = _as_quantity(gold)
        return read and same_quantity(read, pred, policy) if dimension(pred.unit) else None
    if free_symbols(gold) or not free_symbols(pred) or isinstance(pred, Quantity):
        return None
    read = _as_quantity(pred)
    return same_quantity(gold, read, policy) if read else None


def _has_degrees(node: Any) -> bool:
    """Returns whether a degree sign occurs in a sum or product. Arguments of functions do not count."""
    if isinstance(node, Quantity):
        return node.unit == "degree"
    parts = node.terms if isinstance(node, Sum) else node.factors if isinstance(node, Product) else ()
    return any(_has_degrees(part) for part in parts)


def _without_degrees(node: Node) -> Node:
    if isinstance(node, Quantity) and node.unit == "degree":
        return node.value
    if isinstance(node, Sum):
        return Sum(tuple(_without_degrees(term) for term in node.terms))
    if isinstance(node, Product):
        return Product(tuple(_without_degrees(factor) for factor in node.factors))
    return node


def _as_quantity(node: Node) -> Quantity | None:
    """Reads `5 m`, `5 m^2` and `5 m/s` as quantities when the letters can be units."""
    if not isinstance(node, Product):
        return None
    factors = list(node.factors)
    unit: list[str] = []
    while factors and free_symbols(factors[-1]):
        word = _unit_of(factors.pop())
        if word is None:
            return None
        unit.insert(0, word)
    written = " ".join(unit)
    if not factors or free_symbols(tuple(factors)) or not _LETTERED.match(written):
        return None
    return Quantity(factors[0] if len(factors) == 1 else Product(tuple(factors)), written)


def _unit_of(node: Node) -> str | None:
    exponent = Fraction(1)
    while isinstance(node, Power) and isinstance(node.exponent, Number):  # m/s^2 is m times (s^2)^-1
        node, exponent = node.base, exponent * node.exponent.value
    if not isinstance(node, Symbol) or exponent.denominator != 1:
        return None
    letter = "ohm" if node.name == "Omega" else node.name
    if letter != "ohm" and not (len(letter) == 1 and is_unit_letter(letter)):
        return None
    power = exponent.numerator
    if power < 0:
        return f"/ {letter}" + (f" ^{-power}" if power < -1 else "")
    return letter if power == 1 else f"{letter} ^{power}"
