"""Parses formulas of logic, and operators without a known meaning, in order.

The operators from loosest to tightest are equivalence, implication, or, and, not. Formulas are not
evaluated: two formulas are equal if they are written the same, up to the order of `and` and `or`.
"""

from __future__ import annotations

from personahub.core.answers.reading import expressions
from personahub.core.answers.reading.cursor import Cursor
from personahub.core.answers.reading.nodes import Call, Node, Power, Relation, Sequence, Symbol

DERIVES = ("=>", "<=>", "to", "if")  # connectives that the tokenizer treats as relations


def formula(cursor: Cursor) -> Node:
    """Parses `p \\land q \\implies r`. A formula that only joins equations and inequalities becomes their list."""
    left = _implication(cursor)
    while cursor.accept("relation", "<=>"):
        left = Relation((left, _implication(cursor)), ("<=>",))
    return left


def _implication(cursor: Cursor) -> Node:
    left = _junction(cursor, "lor")
    token = cursor.peek()
    if token.kind != "relation" or token.value not in DERIVES or token.value == "<=>":
        return left
    cursor.take()
    cursor.deeper()
    right = _implication(cursor)
    cursor.depth -= 1
    return Relation((left, right), (token.value,))


def _junction(cursor: Cursor, kind: str) -> Node:
    parts: list[Node] = []
    while not parts or cursor.accept(kind):
        parts.append(_junction(cursor, "land") if kind == "lor" else expressions.comparison(cursor, DERIVES))
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, Relation) and not set(part.operators) & set(DERIVES) for part in parts):
        return Sequence("list", tuple(parts), kind == "lor")
    return Call(kind, tuple(parts))


def in_order(factors: tuple[Node, ...]) -> Node | None:
    """Parses factors around an unknown operator in order. Examples: `f \\circ g`, `\\forall x \\exists y`."""
    return Call("written", factors) if len(factors) > 1 and any(map(_is_operator, factors)) else None


def _is_operator(node: Node) -> bool:
    while isinstance(node, (Power, Call)):
        node = node.base if isinstance(node, Power) else node.arguments[0]
    return isinstance(node, Symbol) and node.name.startswith("\\")
