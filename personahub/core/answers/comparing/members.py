"""Removes rational members that two lists share, in linear time. Runs before other checks."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from personahub.core.answers.reading.nodes import Node, Number


def without_common(a: tuple[Node, ...], b: tuple[Node, ...], distinct: bool) -> tuple[list[Node], list[Node]]:
    """Removes rational members that both sides have, in linear time. Repeats count unless `distinct`."""
    left, right = [_rational(item) for item in a], [_rational(item) for item in b]
    common = Counter(left) & Counter(right)
    del common[None]
    if distinct:
        return (
            [item for item, value in zip(a, left, strict=True) if value not in common],
            [item for item, value in zip(b, right, strict=True) if value not in common],
        )
    return _removed(a, left, common), _removed(b, right, common)


def _removed(items: tuple[Node, ...], values: list[Fraction | None], common: Counter[Fraction | None]) -> list[Node]:
    budget = Counter(common)
    kept = []
    for item, value in zip(items, values, strict=True):
        if value is not None and budget[value] > 0:
            budget[value] -= 1
        else:
            kept.append(item)
    return kept


def _rational(node: Node) -> Fraction | None:
    return node.value if isinstance(node, Number) else None
