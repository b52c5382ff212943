"""Grammar of functions: fractions, roots, series, and names applied to arguments."""

from __future__ import annotations

from fractions import Fraction

from personahub.core.answers.reading import atoms, expressions, powers
from personahub.core.answers.reading.cursor import Cursor
from personahub.core.answers.reading.nodes import (
    Call,
    Constant,
    Node,
    Number,
    Power,
    Product,
    Relation,
    Root,
    Sequence,
    Symbol,
    negative,
)
from personahub.core.answers.reading.tokens import Token, Unreadable

_ALIASES = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "arsinh": "arcsinh", "arcosh": "arccosh",
    "artanh": "arctanh", "cosec": "csc", "ctg": "cot", "tg": "tan", "arctg": "arctan", "gcf": "gcd", "sgn": "sign",
}  # fmt: skip
_INVERSES = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot", "sec": "arcsec", "csc": "arccsc",
             "sinh": "arcsinh", "cosh": "arccosh", "tanh": "arctanh"}  # fmt: skip


def call(cursor: Cursor, name: str) -> Node:
    """Parses the arguments of the function `name`, whose token has been read.

    Raises:
        Unreadable: an argument is missing.
    """
    if name in ("frac", "binom", "dbinom"):
        top, bottom = _argument(cursor), _argument(cursor)
        if name == "frac":
            return Product((top, Power(bottom, Number(Fraction(-1)))))
        return Call("binomial", (top, bottom))
    if name in ("sqrt", "cbrt"):
        return _root(cursor, 3 if name == "cbrt" else 2)
    if name in ("sum", "prod"):
        return _series(cursor, name)
    return _applied(cursor, _ALIASES.get(name, name))


def _series(cursor: Cursor, name: str) -> Node:
    """Parses `\\sum_{k=1}^{n} body` as a call of (variable, first, last, body)."""
    bounds: dict[str, Node] = {}
    while cursor.peek().kind in ("_", "^"):
        kind = cursor.take().kind
        bounds[kind] = atoms.group(cursor) if cursor.peek().kind == "{" else atoms.atom(cursor)
    start = bounds.get("_")
    if not isinstance(start, Relation) or start.operators != ("=",) or "^" not in bounds:
        raise Unreadable("series without bounds")
    body = expressions.term(cursor)
    return Call(name, (start.sides[0], start.sides[1], bounds["^"], body))


def _root(cursor: Cursor, degree: int) -> Node:
    index: Node = Number(Fraction(degree))
    if cursor.peek().value == "[" and cursor.peek().kind == "open":
        cursor.take()
        index = expressions.addition(cursor)
        if cursor.take().value != "]":
            raise Unreadable("root index")
    return Root(_argument(cursor), index)


def _argument(cursor: Cursor) -> Node:
    """Parses one LaTeX argument: `{...}`, or the next token. Takes only one digit of a number (`\\frac12`)."""
    token = cursor.peek()
    if token.number is not None and token.number.places is None and len(token.number.digits) > 1:
        digit, rest = token.number.digits[0], token.number.digits[1:]
        if cursor.position and cursor.tokens[cursor.position - 1].value in ("sqrt", "cbrt"):
            return atoms.atom(cursor)  # in practice, \sqrt12 means the root of 12
        cursor.tokens[cursor.position] = Token("number", rest, False, _integer(rest))
        return _integer(digit)
    if token.kind == "-":
        cursor.take()
        return negative(atoms.atom(cursor))
    return atoms.group(cursor) if token.kind == "{" else atoms.atom(cursor)


def _applied(cursor: Cursor, name: str) -> Node:
    """Parses `\\sin^2 x`, `\\sin^{-1} x` (the inverse) and `\\log_2 8`."""
    exponent = base = None
    while cursor.peek().kind in ("^", "_"):
        if cursor.accept("^"):
            exponent = powers.exponent(cursor)
        else:
            cursor.take()
            base = atoms.group(cursor) if cursor.peek().kind == "{" else atoms.atom(cursor)
    if expressions.is_minus_one(exponent) and name in _INVERSES:
        name, exponent = _INVERSES[name], None
    applied = Call(name, _arguments(cursor, base))
    return applied if exponent is None else Power(applied, exponent)


def _arguments(cursor: Cursor, base: Node | None) -> tuple[Node, ...]:
    """Parses arguments in brackets, or the product that follows. A product ends at the next function."""
    if cursor.peek().kind in ("open", "{") and cursor.peek().value in ("(", "[", "{"):
        node = atoms.atom(cursor)
        items = node.items if isinstance(node, Sequence) else (node,)
        if not items:
            raise Unreadable("no argument")
    else:
        items = (_bare_argument(cursor),)
    return (*items, base) if base is not None else tuple(items)


def _bare_argument(cursor: Cursor) -> Node:
    """Parses the product after a function's name. `2x` in `\\sin 2x \\cos y`, `pi/4` in `sin pi/4`."""
    factors = [expressions.signed_factor(cursor)]
    while expressions.starts_factor(cursor) and cursor.peek().kind not in ("open", "bar"):
        if cursor.peek().kind == "function" and cursor.peek().value not in ("frac", "sqrt"):
            break
        factors.append(powers.power(cursor))
    if cursor.peek().kind == "/" and cursor.peek(1).kind == "number" and isinstance(factors[-1], (Constant, Symbol)):
        cursor.take()
        factors.append(Power(powers.power(cursor), Number(Fraction(-1))))
    return factors[0] if len(factors) == 1 else Product(tuple(factors))


def _integer(digits: str) -> Number:
    return Number(Fraction(int(digits)), None, len(digits.lstrip("0")), digits)
