"""Plus or minus: the two answers that one expression with \\pm stands for."""

from __future__ import annotations

from personahub.core.answers.reading.nodes import Node, PlusMinus, Quantity, Sequence, negative, rebuilt, walk


def has_plus_minus(node: Node) -> bool:
    """Whether a plus or minus sign occurs anywhere in a node."""
    return any(isinstance(part, PlusMinus) for part in walk(node))


def expanded(node: Node) -> Node:
    """`1 \\pm 2` as the list of both values; in a list or set, both become members."""
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


def _with_sign(node: Node, sign: int) -> Node:
    """The node with every upper (1) or every lower (-1) sign taken."""

    def signed(part: Node) -> Node | None:
        if not isinstance(part, PlusMinus):
            return None
        inner = _with_sign(part.term, sign)
        return inner if (sign > 0) != part.lower else negative(inner)

    return rebuilt(node, signed)
