"""Compares families: solutions with constants, antiderivatives, residue classes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import permutations

from personahub.core.answers.comparing.arithmetic import NoValue, Value, context, divide, plus, precision, subtract
from personahub.core.answers.comparing.relations import is_function, settled
from personahub.core.answers.comparing.scalars import equal_values, same_scalar
from personahub.core.answers.comparing.values import evaluate, free_symbols, sample
from personahub.core.answers.policy import Policy
from personahub.core.answers.reading.nodes import (
    Call,
    Constant,
    Matrix,
    Node,
    Number,
    Product,
    Relation,
    Sequence,
    Sum,
    Symbol,
    walk,
)

_WHOLE = frozenset("knml")  # letters used for an arbitrary integer
_CONSTANTS = frozenset("CcKDk")  # letters used for an arbitrary constant
_ARBITRARY = re.compile(r"[Cc](?:_?\d)?|[Cc]_\w")  # names used only for a constant of integration
_NEUTRAL = re.compile(r"[A-DKcdk](?:_\w)?")  # names accepted when the other side uses one of the names above
_VARIABLES = frozenset(("x", "y", "z", "t", "u", "v", "s", "r", "theta", "w"))  # of integration
_PARAMETERS = frozenset(
    ("r", "s", "t", "u", "v", "k", "n", "m", "lambda", "mu", "alpha")
)  # of a line or a solution set
_DIGITS = 150  # working digits for comparing antiderivatives
_MOST_PERIODS = 10**6
_SLOW = frozenset(("Gamma", "factorial", "binomial", "sum", "prod"))


def parameter_renamings(gold: Node, pred: Node) -> Iterator[dict[str, str]]:
    """Returns renamings of arbitrary parameters. Examples: n in `2n pi`, C in `x^2 + C`."""
    solved = _is_solution(gold) and _is_solution(pred)
    left, right = (free_symbols(node.sides[-1] if solved else node) for node in (gold, pred))  # type: ignore[union-attr]
    if left == right or len(left) != len(right):
        return
    theirs, ours = sorted(right - left), sorted(left - right)
    if len(ours) > 3:
        return
    if len(ours) == 1:
        names = {*ours, *theirs}
        if names <= _PARAMETERS and _is_parametric(gold) and _is_parametric(pred):
            yield {theirs[0]: ours[0]}
            return
        periodic = names <= _WHOLE and _mentions_pi(gold) and _mentions_pi(pred)
        if periodic or (names <= _CONSTANTS and _is_added(gold, ours[0]) and _is_added(pred, theirs[0])):
            yield {theirs[0]: ours[0]}
            return
    if solved and _arbitrary(ours, theirs):
        yield from (dict(zip(theirs, order, strict=True)) for order in permutations(ours))


def _arbitrary(ours: list[str], theirs: list[str]) -> bool:
    """Returns whether the names are arbitrary constants. One side must be certain, the other plausible."""
    certain = all(map(_ARBITRARY.fullmatch, ours)) or all(map(_ARBITRARY.fullmatch, theirs))
    return certain and all(_NEUTRAL.fullmatch(name) or _ARBITRARY.fullmatch(name) for name in (*ours, *theirs))


def _is_parametric(node: Node) -> bool:
    """Returns whether the node lists coordinates. Examples: `(1 + 2t, 3 - t)`, a vector, `x = t, y = 2t`."""
    if isinstance(node, Matrix):
        return True
    if not isinstance(node, Sequence) or len(node.items) < 2:
        return False
    return node.kind in ("tuple", "bracket") or all(isinstance(item, Relation) for item in node.items)


def same_multiples(gold: Node, pred: Node) -> str | None:
    """Compares `pi/4 + k pi` with `5 pi/4 + k pi`.

    Both are the same numbers for all integers k. Both sides have one variable named k, n, m or l, are linear in it
    and mention pi.
    """
    left, right = _progression(settled(gold)), _progression(settled(pred))
    if left is None or right is None:
        return None
    (first, step), (other, other_step) = left, right
    if not (equal_values(step, other_step) or equal_values(step, -other_step)):
        return None
    periods = divide(subtract(first, other), step)
    if isinstance(periods, context().mpc) or abs(periods) > _MOST_PERIODS:
        return None
    return "same multiples" if equal_values(periods, Fraction(round(periods))) else None


def _progression(node: Node) -> tuple[Value, Value] | None:
    """Returns first value and step of a linear expression. Its only variable is an integer."""
    names = free_symbols(node)
    if len(names) != 1 or not names <= _WHOLE or not _mentions_pi(node) or not isinstance(node, (Sum, Product)):
        return None
    (name,) = names
    try:
        values = [evaluate(node, {name: Fraction(point)}) for point in (0, 1, 3)]
    except NoValue:
        return None
    step = subtract(values[1], values[0])
    linear = equal_values(subtract(values[2], values[1]), plus(step, step)) and not equal_values(step, Fraction(0))
    return (values[0], step) if linear else None


def _mentions_pi(node: Node) -> bool:
    return Constant("pi") in walk(node)


def _is_added(node: Node, name: str) -> bool:
    if isinstance(node, Relation):
        node = node.sides[-1]
    return isinstance(node, Sum) and Symbol(name) in node.terms


def _is_solution(node: Node) -> bool:
    """Returns whether the node is `y = ... c ...` with c as the constant of a family of functions."""
    return isinstance(node, Relation) and node.operators == ("=",) and is_function(node.sides[0])


def same_antiderivative(gold: Node, pred: Node) -> str | None:
    """Returns whether two functions of x with `+ C` differ by a constant.

    Example: sin^2 x / 2 and -cos 2x / 4. The constant must be called C or c. The function must have one variable with
    a usual name and no constant term, so that `b + C` remains the sum of two angles and `x + c + 1` differs from `x +
    c`. The difference is evaluated at nine points to 130 digits; only real values count.
    """
    left, right = _integrated(gold), _integrated(pred)
    if left is None or right is None:
        return None
    names = free_symbols(left)
    if len(names) != 1 or not names <= _VARIABLES or free_symbols(right) != names:
        return None
    if any(isinstance(part, Call) and part.name in _SLOW for part in walk((left, right))):
        return None
    with precision(_DIGITS):
        first: Value | None = None
        agreeing = 0
        for difference in _differences(left, right, names):
            first = difference if first is None else first
            if not equal_values(difference, first):
                return None
            agreeing += 1
    return "antiderivative" if agreeing >= 3 else None


def _integrated(node: Node) -> Node | None:
    """Returns the function in `function + C`, or None without such a constant."""
    if not isinstance(node, Sum):
        return None
    rest = tuple(term for term in node.terms if term not in (Symbol("C"), Symbol("c")))
    return Sum(rest) if len(rest) == len(node.terms) - 1 and all(map(free_symbols, rest)) and rest else None


def _differences(left: Node, right: Node, names: frozenset[str]) -> Iterator[Value]:
    for round_ in range(9):
        point = sample(names, round_)
        try:
            difference = subtract(evaluate(left, point), evaluate(right, point))
        except NoValue:
            continue
        if not isinstance(difference, context().mpc):
            yield difference


def same_residues(gold: Node, pred: Node, policy: Policy) -> str | None:
    """Compares residues. `x \\equiv 3 \\pmod{7}` equals `x = 7k + 3`, and `25 \\equiv 1 \\pmod 6` equals 1."""
    a, b = _class(gold), _class(pred)
    if a is None and b is not None and not isinstance(gold, Relation) and not free_symbols(b[0]):
        return "residue" if same_scalar(gold, b[1], policy) else None
    if a is None or b is None or a[0] != b[0]:
        return None
    (_, residue, modulus), (_, other, same_modulus) = a, b
    if not same_scalar(modulus, same_modulus, policy):
        return None
    try:
        quotient = subtract(evaluate(residue), evaluate(other)) / evaluate(modulus)
    except (NoValue, ZeroDivisionError):
        return "residue" if same_scalar(residue, other, policy) else None
    return "residue" if isinstance(quotient, Fraction) and quotient.denominator == 1 else None


def _class(node: Node) -> tuple[Node, Node, Node] | None:
    """Returns the expression, residue and modulus of a congruence or of `x = 7k + 3`."""
    node = settled(node)
    if isinstance(node, Call) and node.name == "congruence":
        what, residue, modulus = node.arguments
        return what, residue, _positive(modulus)
    if not (isinstance(node, Relation) and node.operators == ("=",) and isinstance(node.sides[0], Symbol)):
        return None
    what, value = node.sides
    names = free_symbols(value)
    if len(names) != 1 or not names <= _WHOLE or names == free_symbols(what):
        return None
    try:
        at = [evaluate(value, {name: Fraction(k) for name in names}) for k in (0, 1, 2, 7)]
    except NoValue:
        return None
    if not all(isinstance(value, Fraction) and value.denominator == 1 for value in at):
        return None
    step = Fraction(at[1] - at[0])
    straight = step != 0 and at[2] - at[1] == step and at[3] - at[0] == 7 * step
    return (what, Number(at[0]), Number(abs(step))) if straight else None


def _positive(modulus: Node) -> Node:
    return Number(abs(modulus.value)) if isinstance(modulus, Number) else modulus
