"""Grammar of atoms: numerals, money, words, brackets of every kind, matrices."""

from __future__ import annotations

from personahub.core.answers.reading import calls, expressions, powers
from personahub.core.answers.reading.cursor import Cursor
from personahub.core.answers.reading.nodes import (
    Based,
    Call,
    Constant,
    Interval,
    Matrix,
    NamedSet,
    Node,
    Number,
    Product,
    Quantity,
    Relation,
    Sequence,
    Symbol,
    Words,
)
from personahub.core.answers.reading.tokens import Unreadable

_GOES_ON = {
    "so",
    "because",
    "since",
    "thus",
    "hence",
    "therefore",
    "which",
}  # more words than this after a value make a sentence, not an answer
_CONDITIONS = {"if", "for", "when", "where"}
_UNIT_VECTORS = {"j", "k", "\\jmath", "jmath"}
_WHOLE = {"integers", "naturals"}
_OTHERWISE = {"otherwise", "else", "elsewhere"}
_ENVIRONMENTS = {"array", "cases", "aligned", "align", "split", "gathered"}


def atom(cursor: Cursor) -> Node:
    """Parses one value: a number, a variable, brackets, or a function with arguments.

    Raises:
        Unreadable: no value starts here.
    """
    token = cursor.take()
    if token.kind == "number" and token.number is not None:
        return _numeral(cursor, token.number)
    if token.kind == "symbol":
        return Symbol(token.value)
    if token.kind == "constant":
        return Constant(token.value)  # type: ignore[arg-type]
    if token.kind == "named_set":
        return NamedSet(token.value)
    if token.kind == "{":
        cursor.position -= 1
        return group(cursor)
    read = _READERS.get(token.kind)
    if read is None or (token.kind == "close" and token.value != "]"):
        raise Unreadable(f"{token.kind} {token.value!r}")
    return read(cursor, token.value)


def _numeral(cursor: Cursor, number: Number) -> Node:
    """Parses a number. Digits mixed with letters before a subscript (`1A3_{16}`) are one numeral."""
    ahead, digits = 0, number.digits if number.places is None else ""
    while digits and cursor.peek(ahead).kind in ("symbol", "number", "constant") and not cursor.peek(ahead).spaced:
        digits += cursor.peek(ahead).value
        ahead += 1
    if ahead and cursor.peek(ahead).kind == "_" and cursor.peek(ahead + 1).kind in ("number", "{") and digits.isalnum():
        cursor.position += ahead + 1
        return Based(digits.upper(), powers.base_of(powers.raw_group(cursor)))
    return number


def _money(cursor: Cursor, currency: str) -> Node:
    if cursor.peek().kind not in expressions.VALUES and cursor.peek().kind != "-":
        raise Unreadable("currency sign alone")
    factors = [expressions.signed_factor(cursor)]
    while expressions.starts_factor(cursor):
        expressions.multiply(cursor, factors)
    value = factors[0] if len(factors) == 1 else Product(tuple(factors))
    return Quantity(value, currency)


def _words(cursor: Cursor, first: str) -> Node:
    """Parses leading words: `Area = 5` names a quantity. Anything else is an answer in words."""
    if first.lower() in _GOES_ON:
        raise Unreadable("a sentence goes on")
    said = [first]
    while cursor.peek().kind == "word":
        said.append(cursor.take().value)
    return Words(" ".join(said))


def group(cursor: Cursor) -> Node:
    """Parses `{...}`: a LaTeX group, possibly of a list. Sets written without backslashes are lists."""
    cursor.expect("{")
    if cursor.accept("}"):
        return NamedSet("empty")
    bars, cursor.bars = cursor.bars, 0
    node = expressions.listing(cursor)
    cursor.bars = bars
    cursor.expect("}")
    return node


def _bracketed(cursor: Cursor, opening: str) -> Node:
    if opening == "|":
        cursor.bars += 1
    if cursor.peek().kind == "close":
        return _empty_brackets(cursor, opening)
    bars, cursor.bars = cursor.bars, 0
    if opening == "set":
        node = _set_members(cursor)
    else:
        in_set, cursor.in_set = cursor.in_set, 0
        node = expressions.listing(cursor)
        cursor.in_set = in_set
    cursor.bars = bars
    closing = cursor.take()
    if closing.kind != "close":
        raise Unreadable(f"open bracket {opening}")
    return _in_brackets(opening, node, closing.value)


def _empty_brackets(cursor: Cursor, opening: str) -> Node:
    closing = cursor.take()
    if opening == "set" and closing.value == "set":
        return NamedSet("empty")
    if closing.value == {"(": ")", "[": "]"}.get(opening):
        return Sequence("tuple" if opening == "(" else "bracket", ())
    raise Unreadable("empty brackets")


def _set_members(cursor: Cursor) -> Node:
    """Parses `{1, 2}` or `{x | x > 2}`. A set builder over the reals is equivalent to its condition."""
    cursor.in_set += 1
    node = expressions.listing(cursor)
    cursor.in_set -= 1
    if cursor.peek().kind in ("bar", "mid", ":"):
        cursor.take()
        condition = expressions.listing(cursor)
        domain = node.sides[1] if isinstance(node, Relation) and node.operators == ("in",) else None
        if isinstance(domain, NamedSet) and domain.name in _WHOLE:
            return Call(domain.name, (condition,))
        return condition
    items = node.items if isinstance(node, Sequence) and node.kind == "list" else (node,)
    return Sequence("set", items)


def _absolute(cursor: Cursor, _: str) -> Node:
    cursor.bars += 1
    node = expressions.listing(cursor)
    if cursor.peek().kind not in ("bar", "mid"):
        raise Unreadable("open bar")
    cursor.take()
    cursor.bars -= 1
    return Call("abs", (node,))


def _barred(cursor: Cursor, _: str) -> Node:
    """Parses a bar. `\\bar{z}` is a variable other than z. Over a sum or union it is an operation, over `AB` layout."""
    inner = group(cursor) if cursor.peek().kind == "{" else atom(cursor)
    if isinstance(inner, Symbol):
        return Symbol(f"bar {inner.name}")
    segment = isinstance(inner, Product) and all(
        isinstance(factor, Symbol) and factor.name.isupper() for factor in inner.factors
    )
    return inner if segment else Call("bar", (inner,))


def _accented(cursor: Cursor, accent: str) -> Node:
    """Parses `\\hat{x}` as a variable other than x. `\\hat{i}` is the unit vector i, a hat over `ABC` an angle."""
    inner = group(cursor) if cursor.peek().kind == "{" else atom(cursor)
    if accent == "hat" and isinstance(inner, Symbol) and inner.name in ("\\imath", "imath"):
        return Constant("i")
    unit_vector = isinstance(inner, Symbol) and inner.name in _UNIT_VECTORS
    if isinstance(inner, Symbol) and not (accent == "hat" and unit_vector):
        return Symbol(f"{accent} {inner.name}")
    return inner


def _french_interval(cursor: Cursor, _: str) -> Node:
    """Parses an interval in French notation, `]a, b[`."""
    cursor.french += 1
    node = expressions.listing(cursor)
    cursor.french -= 1
    if not (isinstance(node, Sequence) and node.kind == "list" and len(node.items) == 2):
        raise Unreadable("bracket")
    closing = cursor.take()
    if closing.value not in ("[", "]"):
        raise Unreadable("bracket")
    return Interval(node.items[0], node.items[1], False, closing.value == "]")


def _environment(cursor: Cursor, name: str) -> Node:
    """Parses a matrix; `cases` and similar environments become lists of their rows."""
    if not name.endswith("matrix") and name not in _ENVIRONMENTS:
        raise Unreadable(name)
    rows = _cells(cursor)
    if not rows:
        raise Unreadable("empty matrix")
    if name == "cases" and all(map(_is_case, rows)):
        return Call("cases", tuple(Sequence("tuple", (row[0], _condition(row[1]))) for row in rows))
    if not name.endswith("matrix") and name != "array":
        items = _chained([cell for cells in rows for cell in cells])
        return Sequence("list", tuple(items)) if len(items) > 1 else items[0]
    matrix = Matrix(tuple(rows))
    return Call("det", (matrix,)) if name in ("vmatrix", "Vmatrix") else matrix


def _chained(cells: list[Node]) -> list[Node]:
    """Joins cells aligned at their signs into chains of relations. Example: `x &= 1 + 1 \\\\ &= 2`."""
    chains: list[Node] = []
    for cell in cells:
        if chains and isinstance(cell, Relation) and cell.sides[0] == Symbol(""):
            before = chains.pop()
            sides, operators = (before.sides, before.operators) if isinstance(before, Relation) else ((before,), ())
            cell = Relation((*sides, *cell.sides[1:]), (*operators, *cell.operators))
        chains.append(cell)
    return chains


def _is_case(row: tuple[Node, ...]) -> bool:
    """Returns whether a row is a value with its condition. An aligned equation (`x &= 2`) is not."""
    if len(row) != 2 or isinstance(row[0], (Relation, Words)):
        return False
    condition = row[1].items[0] if isinstance(row[1], Sequence) and row[1].items else row[1]
    if isinstance(condition, Words):
        return condition.text.lower() in _OTHERWISE
    return isinstance(condition, Relation) and condition.sides[0] != Symbol("")


def _condition(node: Node) -> Node:
    return Words("otherwise") if isinstance(node, Words) else node


def _cells(cursor: Cursor) -> list[tuple[Node, ...]]:
    rows: list[tuple[Node, ...]] = []
    row: list[Node] = []
    while not cursor.accept("end"):
        if cursor.accept("row"):
            rows, row = [*rows, tuple(row)] if row else rows, []
        elif cursor.peek().kind == "word" and cursor.peek().value.lower() in _CONDITIONS:
            cursor.take()
        elif not cursor.accept("&"):
            row.append(expressions.listing(cursor))
            if cursor.peek().kind not in ("&", "row", "end"):
                raise Unreadable("matrix")
    return [*rows, tuple(row)] if row else rows


def _in_brackets(opening: str, node: Node, closing: str) -> Node:
    items = node.items if isinstance(node, Sequence) and node.kind == "list" else None
    if (opening == "set" and closing == "set") or (isinstance(node, Matrix) and opening in "(["):
        return node
    if opening in ("floor", "ceil") and closing == opening:
        return Call(opening, (node,))
    if opening == "|" and closing == "|":
        return Call("abs", (node,))
    if opening == "<" and closing == ">":
        return Sequence("tuple", items or (node,))
    if {opening, closing} - set("()[]"):
        raise Unreadable("brackets do not match")
    if items is None:
        if opening + closing in ("()", "[]"):
            return node if opening == "(" else Sequence("bracket", (node,))
        raise Unreadable("brackets do not match")
    if opening + closing == "()":
        return Sequence("tuple", items)
    if opening + closing == "[]":
        return Sequence("bracket", items)
    if len(items) != 2:
        raise Unreadable("half-open list")
    return Interval(items[0], items[1], opening == "[", closing == "]")


_READERS = {
    "function": calls.call,
    "open": _bracketed,
    "bar": _absolute,
    "begin": _environment,
    "currency": _money,
    "word": _words,
    "bar over": _barred,
    "accent": _accented,
    "close": _french_interval,
}
