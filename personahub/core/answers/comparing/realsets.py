"""Sets of real numbers as sorted disjoint intervals. For intervals, unions and inequalities."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cmp_to_key
from typing import Any

from personahub.core.answers import guards
from personahub.core.answers.comparing.arithmetic import NoValue, Value, context, divide, inexact, subtract
from personahub.core.answers.comparing.scalars import equal_values
from personahub.core.answers.comparing.values import evaluate, free_symbols
from personahub.core.answers.reading.nodes import (
    Call,
    Constant,
    Interval,
    NamedSet,
    Node,
    Number,
    Product,
    Relation,
    Sequence,
    SetOperation,
    Sum,
    Symbol,
)

_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
_INFINITY = float("inf")
Point = Any  # a Value, or positive or negative infinity as a float


class NotASet(Exception):
    """Raised when the node does not describe a computable set of real numbers."""


@dataclass(frozen=True, slots=True)
class Piece:
    left: Point
    right: Point
    left_closed: bool
    right_closed: bool


RealSet = tuple[Piece, ...]
REALS: RealSet = (Piece(-_INFINITY, _INFINITY, False, False),)


def real_set(node: Node) -> RealSet:
    """Returns the set of real numbers that `node` describes, in canonical form.

    Raises:
        NotASet: `node` does not describe a set, or an end is not a number.
    """
    if isinstance(node, Interval):
        return _interval(node.left, node.right, node.left_closed, node.right_closed)
    if isinstance(node, Sequence) and node.kind in ("tuple", "bracket") and len(node.items) == 2:
        closed = node.kind == "bracket"
        return _interval(node.items[0], node.items[1], closed, closed)
    if isinstance(node, Sequence) and node.kind == "set":
        return _canonical([Piece(p, p, True, True) for p in map(_point, node.items)])
    if isinstance(node, NamedSet) and node.name in ("reals", "empty"):
        return REALS if node.name == "reals" else ()
    if isinstance(node, SetOperation):
        return _combined(node)
    if isinstance(node, Relation):
        return _solution(node)
    if isinstance(node, Sequence) and node.kind == "list" and any(isinstance(i, Relation) for i in node.items):
        return _joined(node)
    if isinstance(node, Sequence) and node.kind == "list" and all(map(_is_interval, node.items)):
        return _canonical([piece for item in node.items for piece in real_set(item)])  # (a, b) and (c, d)
    raise NotASet(type(node).__name__)


def listed_integers(node: Node) -> Node:
    """Lists the members of `{x in Z | 1 <= x <= 3}`. Returns any other node, or a set that is too large, unchanged."""
    if not (isinstance(node, Call) and node.name in ("integers", "naturals") and len(node.arguments) == 1):
        return node
    try:
        pieces = real_set(node.arguments[0])
    except (NotASet, NoValue):
        return node
    if node.name == "naturals":
        pieces = _intersection(pieces, (Piece(Fraction(1), _INFINITY, True, False),))
    members: list[Node] = []
    for piece in pieces:
        if (
            any(isinstance(end, float) for end in (piece.left, piece.right))
            or piece.right - piece.left > guards.MAX_ITEMS
        ):
            return node
        for value in range(math.ceil(piece.left), math.floor(piece.right) + 1):
            inside = (piece.left_closed or value != piece.left) and (piece.right_closed or value != piece.right)
            members += [Number(Fraction(value))] if inside else []
    return Sequence("set", tuple(members))


def _interval(left: Node, right: Node, left_closed: bool, right_closed: bool) -> RealSet:
    """Reads one interval. `(2, -6)` is a point, not an empty interval."""
    pieces = _canonical([Piece(_point(left), _point(right), left_closed, right_closed)])
    if not pieces:
        raise NotASet("ends in the wrong order")
    return pieces


def _is_interval(node: Node) -> bool:
    pair = isinstance(node, Sequence) and node.kind in ("tuple", "bracket") and len(node.items) == 2
    return pair or isinstance(node, Interval)


def same_set(a: RealSet, b: RealSet) -> bool:
    """Returns whether two canonical sets are equal."""
    return len(a) == len(b) and all(
        x.left_closed == y.left_closed
        and x.right_closed == y.right_closed
        and _compare(x.left, y.left) == 0
        and _compare(x.right, y.right) == 0
        for x, y in zip(a, b, strict=True)
    )


def is_the_rest(condition: Node, others: list[Node]) -> bool:
    """Returns whether a condition holds exactly where none of the others does. All have one variable."""
    names = {name for node in (condition, *others) for name in free_symbols(node)}
    try:
        taken = _canonical([piece for other in others for piece in real_set(other)])
        return len(names) == 1 and same_set(real_set(condition), _complement(taken))
    except NotASet:
        return False


def infinity_sign(node: Node) -> int:
    """Returns 1 for infinity, -1 for negative infinity, 0 for anything else."""
    if isinstance(node, Constant):
        return int(node.name == "oo")
    if isinstance(node, Product) and len(node.factors) == 2 and isinstance(node.factors[0], Number):
        number = node.factors[0].value
        return infinity_sign(node.factors[1]) * ((number > 0) - (number < 0))
    return 0


def _point(node: Node) -> Point:
    sign = infinity_sign(node)
    if sign:
        return sign * _INFINITY
    try:
        value = evaluate(node)
    except NoValue as error:
        raise NotASet(str(error)) from None
    if isinstance(value, context().mpc):
        raise NotASet("complex")
    return value


def _compare(a: Point, b: Point) -> int:
    if isinstance(a, float) or isinstance(b, float):  # only infinities
        a, b = (x if isinstance(x, float) else 0.0 for x in (a, b))
        return (a > b) - (a < b)
    if equal_values(a, b):
        return 0
    return 1 if inexact(a) > inexact(b) else -1


def _canonical(pieces: list[Piece]) -> RealSet:
    """Sorts the intervals, drops empty ones and joins those that touch."""
    kept = [p for p in map(_open_at_infinity, pieces) if _nonempty(p)]
    kept.sort(key=cmp_to_key(lambda p, q: _compare(p.left, q.left) or q.left_closed - p.left_closed))
    joined: list[Piece] = []
    for piece in kept:
        if joined and _touch(joined[-1], piece):
            joined[-1] = _union_of_two(joined[-1], piece)
        else:
            joined.append(piece)
    return tuple(joined)


def _open_at_infinity(piece: Piece) -> Piece:
    return Piece(
        piece.left,
        piece.right,
        piece.left_closed and not isinstance(piece.left, float),
        piece.right_closed and not isinstance(piece.right, float),
    )


def _nonempty(piece: Piece) -> bool:
    order = _compare(piece.left, piece.right)
    return order < 0 or (order == 0 and piece.left_closed and piece.right_closed)


def _touch(a: Piece, b: Piece) -> bool:
    order = _compare(b.left, a.right)
    return order < 0 or (order == 0 and (a.right_closed or b.left_closed))


def _union_of_two(a: Piece, b: Piece) -> Piece:
    order = _compare(a.right, b.right)
    if order > 0:
        return a
    closed = b.right_closed or (order == 0 and a.right_closed)
    return Piece(a.left, b.right, a.left_closed, closed)


def _intersection(a: RealSet, b: RealSet) -> RealSet:
    pieces = []
    for p in a:
        for q in b:
            left = p if _compare(p.left, q.left) > 0 else q
            right = p if _compare(p.right, q.right) < 0 else q
            left_closed = left.left_closed if _compare(p.left, q.left) else p.left_closed and q.left_closed
            right_closed = right.right_closed if _compare(p.right, q.right) else p.right_closed and q.right_closed
            pieces.append(Piece(left.left, right.right, left_closed, right_closed))
    return _canonical(pieces)


def _complement(a: RealSet) -> RealSet:
    pieces, left, closed = [], -_INFINITY, False
    for piece in a:
        pieces.append(Piece(left, piece.left, closed, not piece.left_closed))
        left, closed = piece.right, not piece.right_closed
    pieces.append(Piece(left, _INFINITY, closed, False))
    return _canonical(pieces)


def _combined(node: SetOperation) -> RealSet:
    sets = [real_set(operand) for operand in node.operands]
    result = sets[0]
    for other in sets[1:]:
        if node.operator == "union":
            result = _canonical([*result, *other])
        elif node.operator == "intersection":
            result = _intersection(result, other)
        else:
            result = _intersection(result, _complement(other))
    return result


def _joined(node: Sequence) -> RealSet:
    """Reads `x < 1 or x > 3` as a union. A comma or `and` gives the intersection, unless that is empty."""
    sets = [real_set(item) for item in node.items if isinstance(item, Relation)]
    if len(sets) < len(node.items):
        raise NotASet("values among relations")
    names = {name for item in node.items for name in free_symbols(item)}
    if len(names) > 1:
        raise NotASet("several variables")
    union = _canonical([piece for pieces in sets for piece in pieces])
    if node.disjunction:
        return union
    both = sets[0]
    for other in sets[1:]:
        both = _intersection(both, other)
    return both or union


def _solution(node: Relation) -> RealSet:
    """Returns the set in which a chain of inequalities places its only variable."""
    if "in" in node.operators:
        if node.operators != ("in",):
            raise NotASet("membership in a chain")
        return real_set(node.sides[1])
    result = REALS
    for left, operator, right in zip(node.sides, node.operators, node.sides[1:], strict=False):
        if operator not in _FLIPPED:
            raise NotASet(operator)
        result = _intersection(result, _halfline(left, operator, right))
    return result


def _halfline(left: Node, operator: str, right: Node) -> RealSet:
    if free_symbols(right) and not free_symbols(left):
        left, right, operator = right, left, _FLIPPED[operator]
    opaque = _opaque_bound(left, operator, right)
    if opaque is not None:
        return opaque
    if isinstance(left, Call) and left.name == "abs" and not free_symbols(right):
        return _absolute(left.arguments[0], operator, _point(right))
    slope, root = _linear(Sum((left, Product((Number(Fraction(-1)), right)))))
    return _side(root, operator if slope > 0 else _FLIPPED[operator])


def _opaque_bound(left: Node, operator: str, right: Node) -> RealSet | None:
    """Reads `f(x) > 2`, where the bounded quantity has a name of its own."""
    if isinstance(left, Symbol):
        return _side(_point(right), operator)
    if isinstance(left, Product) and len(left.factors) == 2 and not free_symbols(right):
        first, second = left.factors
        if isinstance(first, Symbol) and isinstance(second, Symbol) and first.name in ("f", "g", "h"):
            return _side(_point(right), operator)
    return None


def _side(bound: Point, operator: str) -> RealSet:
    if isinstance(bound, float):
        if operator in ("<", ">"):
            return REALS if (bound > 0) == (operator == "<") else ()
        raise NotASet("infinite bound")
    low, high = Piece(-_INFINITY, bound, False, operator == "<="), Piece(bound, _INFINITY, operator == ">=", False)
    if operator == "=":
        return (Piece(bound, bound, True, True),)
    if operator == "!=":
        return (low, high)
    return (low,) if operator.startswith("<") else (high,)


def _absolute(inner: Node, operator: str, bound: Point) -> RealSet:
    slope, root = _linear(inner)
    if isinstance(bound, float) or bound < 0:
        raise NotASet("bound of an absolute value")
    reach = divide(bound, abs(slope))
    low, high = subtract(root, reach), subtract(root, -reach)
    if operator in ("<", "<="):
        return _canonical([Piece(low, high, operator == "<=", operator == "<=")])
    outside = _canonical([*_side(low, operator.replace(">", "<")), *_side(high, operator)])
    if operator in (">", ">="):
        return outside
    raise NotASet(operator)


def _linear(node: Node) -> tuple[Value, Value]:
    """Returns slope and root of an expression that is linear in its only variable."""
    names = free_symbols(node)
    if len(names) != 1:
        raise NotASet("not one variable")
    name = next(iter(names))
    try:
        at = [evaluate(node, {name: Fraction(x)}) for x in (0, 1, 2, 7)]
    except NoValue as error:
        raise NotASet(str(error)) from None
    if any(isinstance(value, context().mpc) for value in at):
        raise NotASet("complex")
    slope = subtract(at[1], at[0])
    straight = equal_values(subtract(at[2], at[1]), slope) and equal_values(subtract(at[3], at[0]), 7 * slope)
    if not straight or equal_values(slope, Fraction(0)):
        raise NotASet("not linear")
    return slope, divide(-at[0], slope)
