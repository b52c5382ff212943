"""Grammar between factors and atoms: powers, subscripts, and signs after a value."""

from __future__ import annotations

from personahub.core.answers.reading import atoms
from personahub.core.answers.reading.cursor import END, Cursor
from personahub.core.answers.reading.nodes import (
    Based,
    Call,
    Constant,
    Node,
    Number,
    Power,
    Product,
    Quantity,
    Sequence,
    Symbol,
    negative,
)
from personahub.core.answers.reading.tokens import Unreadable

_MAX_POSTFIX = 6
_TEMPERATURES = {"C": "celsius", "F": "fahrenheit"}
_BASE_WORDS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11,
    "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "binary": 2, "octal": 8, "hex": 16,
}  # fmt: skip


def power(cursor: Cursor) -> Node:
    """Parses an atom with its powers, primes, subscripts, factorials and signs. Signs are percent and degree."""
    cursor.deeper()
    node = _raised(cursor)
    cursor.depth -= 1
    return node


def _raised(cursor: Cursor) -> Node:
    base = _postfix(cursor, atoms.atom(cursor))
    if cursor.accept("^"):
        base = _postfix(cursor, Power(base, exponent(cursor)))
        if cursor.accept("^"):
            base = Power(base, exponent(cursor))
    return base


def exponent(cursor: Cursor) -> Node:
    """Parses what follows `^`: a group or one signed atom."""
    if cursor.peek().kind == "{":
        return atoms.group(cursor)
    if cursor.accept("*"):
        return Symbol("*")
    sign = 1
    while cursor.peek().kind in ("+", "-"):
        sign *= -1 if cursor.take().kind == "-" else 1
    cursor.deeper()
    node = _postfix(cursor, atoms.atom(cursor))
    if cursor.accept("^"):
        node = Power(node, exponent(cursor))
    cursor.depth -= 1
    return node if sign == 1 else negative(node)


def _postfix(cursor: Cursor, node: Node) -> Node:
    for _ in range(_MAX_POSTFIX):
        if cursor.accept("!"):
            node = Call("factorial", (node,))
        elif cursor.accept("%"):
            node = Quantity(node, "percent")
        elif cursor.accept("degree"):
            scale = cursor.peek().value if cursor.peek().kind == "symbol" else ""
            node = _minutes(cursor, node) if scale not in _TEMPERATURES else Quantity(node, _TEMPERATURES[scale])
            cursor.position += scale in _TEMPERATURES
        elif cursor.peek().kind == "'" and isinstance(node, Symbol):
            cursor.take()
            node = Symbol(node.name + "'")
        elif cursor.peek().kind == "_":
            node = _subscript(cursor, node)
        else:
            return node
    raise Unreadable("too many signs behind a value")


def _minutes(cursor: Cursor, degrees: Node) -> Node:
    """Adds arc minutes and seconds to degrees: 22 degrees 30' is 22.5 degrees."""
    if not isinstance(degrees, Number):
        return Quantity(degrees, "degree")
    value, part = degrees.value, 1
    for marks in (1, 2):
        number = cursor.peek().number
        if number is None or any(cursor.peek(ahead + 1).kind != "'" for ahead in range(marks)):
            continue
        part = 60**marks
        value += number.value / part
        cursor.position += 1 + marks
    return Quantity(Number(value) if part > 1 else degrees, "degree")


def _subscript(cursor: Cursor, node: Node) -> Node:
    cursor.take()
    text = raw_group(cursor)
    if isinstance(node, Number) and node.digits:
        return Based(node.digits, base_of(text))
    if isinstance(node, Symbol):
        return Symbol(f"{node.name}_{text}")
    if isinstance(node, (Constant, Product, Call, Sequence)):
        return Symbol(f"{node}_{text}") if isinstance(node, Constant) else node
    raise Unreadable("subscript")


def raw_group(cursor: Cursor) -> str:
    """Returns the text of `{...}` or of one token, for subscripts."""
    if not cursor.accept("{"):
        return cursor.take().value
    parts: list[str] = []
    depth = 1
    while depth:
        token = cursor.take()
        if token is END:
            raise Unreadable("open brace")
        depth += (token.kind == "{") - (token.kind == "}")
        if depth:
            parts.append(token.value)
    return "".join(parts)


def base_of(text: str) -> int:
    """Returns the base in a numeral's subscript: `5`, `(5)`, `five` or `base 5`."""
    word = text.strip("()").lower().removeprefix("base").strip()
    base = _BASE_WORDS.get(word) or (int(word) if word.isdigit() and len(word) <= 3 else 0)
    if not 2 <= base <= 36:
        raise Unreadable(f"base {text}")
    return base
