"""A recursive-descent parser from tokens to nodes, for LaTeX and plain notation alike.

The levels are `expressions`, `powers`, `atoms` and `calls`. Nothing is evaluated and no other parser is
called; the work is linear in the tokens, and what nests deeper than `cursor.MAX_LEVELS` is refused.
"""

from __future__ import annotations

from personahub.core.answers.reading.cursor import END, Cursor
from personahub.core.answers.reading.expressions import listing
from personahub.core.answers.reading.nodes import Node
from personahub.core.answers.reading.tokens import Unreadable, tokenise


def parse(text: str, grouped: bool = True) -> Node:
    """The node that a normalised answer stands for.

    Args:
        text: the answer, normalised.
        grouped: whether `1,234` is one number.

    Raises:
        Unreadable: it is not mathematics in any form we know.
    """
    cursor = Cursor(tokenise(text, grouped))
    node = listing(cursor)
    if cursor.peek() is not END:
        raise Unreadable(f"at {cursor.peek().value!r}")
    return node
