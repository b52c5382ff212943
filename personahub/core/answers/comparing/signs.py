"""Plus-minus signs: the two answers that one expression with \\pm stands for."""

from __future__ import annotations

from personahub.core.answers.reading.nodes import Node, PlusMinus, Quantity, Sequence, negative, rebuilt, walk

_MOST_SIGNS = 4


def has_plus_minus(node: Node) -> bool:
    """Returns whether a plus-minus sign occurs anywhere in a node."""
    return any(isinstance(part, PlusMinus) for part in walk(node))


def expanded(node: Node) -> Node:
    """Expands `1 \\pm 2` to the list of both values. In a list or set, both become members."""
    if not has_plus_minus(node):
        return node
    if isinstance(node, Sequence) and node.kind in ("list", "set"):
        members: list[Node] = []
        for item in node.items:
            both = expanded(item) if has_plus_minus(item) else item
            members.extend(both.items if both is not item and isinstance(both, Sequence) else (both,))
        return Sequence(node.kind, tuple(members))
    if isinstance(node, Quantity):
        inner = expanded(node.value)
        items = inner.items if isinstance(inner, Sequence) else (inner,)
        return Sequence("list", tuple(Quantity(item, node.unit) for item in items))
    return Sequence("list", (_with_sign(node, 1), _with_sign(node, -1)))


def independent(node: Node) -> Node:
    """Expands `(\\pm 3, \\pm 2)` and `\\pm 1 \\pm \\sqrt{2}` to all four values.

    Returns the node unchanged if it has one sign, more than four, or a \\mp tied to another sign.
    """
    if isinstance(node, Sequence) and node.kind in ("list", "set"):
        members = [independent(item) if has_plus_minus(item) else item for item in node.items]
        flat = [part for m in members for part in (m.items if isinstance(m, Sequence) and m.kind == "list" else (m,))]
        return Sequence(node.kind, tuple(flat))
    found = [part for part in walk(node) if isinstance(part, PlusMinus)]
    if not 2 <= len(found) <= _MOST_SIGNS or any(part.lower for part in found):
        return expanded(node)
    values: list[Node] = [node]
    for _ in found:
        values = [_first_signed(value, sign) for value in values for sign in (1, -1)]
    return Sequence("list", tuple(values))


def _first_signed(node: Node, sign: int) -> Node:
    """Returns the node with one of its signs resolved, always the same one."""
    chosen: list[Node] = []

    def signed(part: Node) -> Node | None:
        if not isinstance(part, PlusMinus) or chosen:
            return None
        chosen.append(part)
        return part.term if sign > 0 else negative(part.term)

    return rebuilt(node, signed)


def _with_sign(node: Node, sign: int) -> Node:
    """Returns the node with every upper (1) or every lower (-1) sign resolved."""

    def signed(part: Node) -> Node | None:
        if not isinstance(part, PlusMinus):
            return None
        inner = _with_sign(part.term, sign)
        return inner if (sign > 0) != part.lower else negative(inner)

    return rebuilt(node, signed)
