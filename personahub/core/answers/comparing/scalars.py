"""Compares expressions as numbers and as functions of their variables.

Numbers compare exactly when both are rational and to 40 significant digits otherwise. Expressions
with variables are evaluated at the same random rational points (Schwartz-Zippel). Different
polynomials agree at all of them with probability below 1e-10. No simplifier is used.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from fractions import Fraction
from typing import Any

from personahub.core.answers.comparing.arithmetic import NoValue, Value, below, context, inexact, precision
from personahub.core.answers.comparing.rounding import rounds_to
from personahub.core.answers.comparing.values import evaluate, free_symbols, sample
from personahub.core.answers.policy import Policy
from personahub.core.answers.reading.nodes import (
    Call,
    Node,
    Number,
    Power,
    Product,
    Root,
    SetOperation,
    Sum,
    rebuilt,
    walk,
)

_SPARE_DIGITS = 20  # digits of the working precision that may differ
_CONFIRMING_DIGITS = 150
_FARTHEST = 10**40
_GAMMA = {"Gamma", "factorial", "binomial"}  # functions whose tables take long to build at this precision
_KINKED = {"abs", "max", "min", "floor", "ceil", "sign"}


def same_scalar(gold: Node, pred: Node, policy: Policy) -> str | None:
    """Returns the rule that makes two expressions equal, or None. Rules: `exact`, `numeric`, `identity`, `rounded`."""
    names = free_symbols(gold) | free_symbols(pred)
    if not names:
        return _same_constant(gold, pred, policy)
    if len(names) > 20:
        return "structure" if same_structure(gold, pred, policy) else None
    if _same_function(gold, pred, names):
        return "identity"
    if policy.rounding_digits is not None and _same_rounded(gold, pred, names, policy.rounding_digits):
        return "rounded"
    return "structure" if same_structure(gold, pred, policy) else None


def _same_constant(gold: Node, pred: Node, policy: Policy) -> str | None:
    try:
        a = evaluate(gold)
    except NoValue:
        return "structure" if same_structure(gold, pred, policy) else None
    try:
        b = evaluate(pred)
    except NoValue:
        return None
    if equal_values(a, b):
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return "exact"
        return "numeric" if _confirmed(gold, pred, {}) else None
    if policy.rounding_digits is not None and rounds_to(gold, pred, policy.rounding_digits, {}):
        return "rounded"
    return None


def _confirmed(gold: Node, pred: Node, point: dict[str, Fraction]) -> bool:
    """Returns whether two values agree at a higher precision.

    The root of 10^60 + 1 is not 10^30. Complex values of functions are not evaluated again, because the branch may
    differ.
    """
    if any(isinstance(part, Call) and part.name in _GAMMA for part in walk((gold, pred))):
        return True
    with precision(_CONFIRMING_DIGITS):
        a, b = _value_at(gold, point), _value_at(pred, point)
        if a is None or b is None or (point and any(isinstance(value, context().mpc) for value in (a, b))):
            return True
        return equal_values(a, b)


def equal_values(a: Value, b: Value) -> bool:
    """Compares two rationals exactly, anything else to 40 significant digits."""
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a == b
    a, b = inexact(a), inexact(b)
    size = max(abs(a), abs(b))
    return bool(abs(a - b) <= below(size, _SPARE_DIGITS))


def _same_function(gold: Node, pred: Node, names: frozenset[str]) -> bool:
    """Returns whether two expressions agree wherever both are real.

    Needs at least two positive points. Complex values depend on the branch of roots and logarithms. A difference
    there counts only when no sample point, including points between 0 and 1 (`arcsin x + arccos x`), gives real
    values.
    """
    real = unreal = 0
    branches = exact = False
    parts = [*walk(gold), *walk(pred)]
    counts = _bounds(parts)
    for round_ in range(9):
        if round_ == 6 and real >= 2 and not branches:
            break
        point = sample(names, round_)
        point.update({name: Fraction(round_ + 4 + index) for index, name in enumerate(counts)})
        positive = all(value > 0 for value in point.values())
        a, b = _value_at(gold, point), _value_at(pred, point)
        if a is None or b is None:
            if (a is None) != (b is None) and positive and round_ < 4:
                return False
            continue
        mp = context()
        complex_ = isinstance(a, mp.mpc) or isinstance(b, mp.mpc)
        if equal_values(a, b):
            real += positive and not complex_
            unreal += positive and complex_
            exact = isinstance(a, Fraction) and isinstance(b, Fraction)
        elif complex_:
            branches |= positive
        else:
            return False
    if not (real >= 2 or (unreal >= 2 and not branches)):
        return False
    return _same_far_away(gold, pred, names, parts) and (exact or _confirmed(gold, pred, sample(names, 0)))


def _bounds(parts: list[Node]) -> list[str]:
    """Returns the variables used as bounds of sums and products; they are integers."""
    series = (part for part in parts if isinstance(part, Call) and part.name in ("sum", "prod"))
    return sorted({name for call in series for name in free_symbols(call.arguments[1:3])})


def _same_far_away(gold: Node, pred: Node, names: frozenset[str], parts: list[Node]) -> bool:
    """Returns whether both agree, or have no value, beyond every kink. 500 - x is |x - 500| only up to 500."""
    reach = _reach(parts)
    for distance in (reach, -reach) if reach else ():
        a, b = (_value_at(node, _far(names, distance)) for node in (gold, pred))
        real = not any(value is None or isinstance(value, context().mpc) for value in (a, b))
        if real and not equal_values(a, b):
            return False
    return True


def _reach(parts: list[Node]) -> Fraction:
    """Returns how far from zero the kinks of |x - 500| may be. 0 if the usual sample points cover them."""
    if not any(isinstance(part, Root) or (isinstance(part, Call) and part.name in _KINKED) for part in parts):
        return Fraction(0)
    sizes = [abs(part.value) for part in parts if isinstance(part, Number)]
    powers = (_value_at(part, {}) for part in parts if isinstance(part, Power) and isinstance(part.base, Number))
    sizes += [abs(value) for value in powers if isinstance(value, Fraction)]
    largest = max((size for size in sizes if size < _FARTHEST), default=Fraction(0))
    return largest if largest > 1 else Fraction(0)


def _far(names: frozenset[str], distance: Fraction) -> dict[str, Fraction]:
    return {name: (index + 2) * distance + Fraction(index, 7) for index, name in enumerate(sorted(names))}


def _same_rounded(gold: Node, pred: Node, names: frozenset[str], digits: int) -> bool:
    return all(rounds_to(gold, pred, digits, sample(names, round_)) for round_ in (0, 1, 3))


def _value_at(node: Node, point: Any) -> Value | None:
    try:
        return evaluate(node, point)
    except NoValue:
        return None


def same_structure(a: Any, b: Any, policy: Policy) -> bool:
    """Returns whether two trees are the same. Numbers compare by value, sums and products in any order."""
    if a == b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(same_structure(x, y, policy) for x, y in zip(a, b, strict=True))
    if isinstance(a, (Sum, Product)):
        left = list(a.terms if isinstance(a, Sum) else a.factors)
        right = list(b.terms if isinstance(b, Sum) else b.factors)
        return _same_members(left, right, policy)
    if isinstance(a, Number):
        return a.value == b.value
    joined = _joined(a, b)
    if joined is not None:
        return _same_members(*joined, policy)
    if is_dataclass(a):
        return all(same_structure(getattr(a, f.name), getattr(b, f.name), policy) for f in fields(a))
    return False


def _joined(a: Node, b: Node) -> tuple[list[Node], list[Node]] | None:
    """Returns the members of two unions, intersections, conjunctions or disjunctions.

    Their order does not matter. The order matters for `\\wedge` between products: dx dy is minus dy dx.
    """
    if isinstance(a, SetOperation) and isinstance(b, SetOperation):
        return (_operands(a), _operands(b)) if a.operator == b.operator != "difference" else None
    if not (isinstance(a, Call) and isinstance(b, Call) and a.name == b.name and a.name in ("land", "lor")):
        return None
    if any(isinstance(part, Product) for part in (*a.arguments, *b.arguments)):
        return None
    return list(a.arguments), list(b.arguments)


def _operands(node: SetOperation) -> list[Node]:
    flat: list[Node] = []
    while isinstance(node.operands[0], SetOperation) and node.operands[0].operator == node.operator:
        flat.append(node.operands[1])
        node = node.operands[0]
    return [*node.operands, *flat]


def _same_members(left: list[Node], right: list[Node], policy: Policy) -> bool:
    if len(left) != len(right) or len(left) > 60:
        return False
    for item in left:
        for index, other in enumerate(right):
            if same_structure(item, other, policy):
                del right[index]
                break
        else:
            return False
    return True


def with_common_log(node: Node) -> Node:
    """Returns `node` with every `log` without a base read as base ten."""

    def in_tens(part: Node) -> Node | None:
        if isinstance(part, Call) and _is_bare_log(part):
            return Call("lg", rebuilt(part.arguments, in_tens))
        return None

    return rebuilt(node, in_tens)


def uses_bare_log(node: Node) -> bool:
    """Returns whether `log` without a base occurs in the node."""
    return any(map(_is_bare_log, walk(node)))


def _is_bare_log(node: Node) -> bool:
    return isinstance(node, Call) and node.name == "log" and len(node.arguments) == 1
