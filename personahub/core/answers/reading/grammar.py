"""A recursive-descent parser from tokens to nodes, for LaTeX and plain notation.

The levels are `expressions`, `powers`, `atoms` and `calls`. The parser evaluates nothing and calls no other
parser. It runs in time linear in the tokens and rejects nesting deeper than `cursor.MAX_LEVELS`.
"""

from __future__ import annotations

from personahub.core.answers.reading.cursor import END, Cursor
from personahub.core.answers.reading.expressions import listing
from personahub.core.answers.reading.nodes import Node
from personahub.core.answers.reading.tokens import Unreadable, tokenise


def parse(text: str, grouped: bool = True) -> Node:
    """Parses a normalised answer into a node.

    Args:
        text: the answer, normalised.
        grouped: whether `1,234` is one number.

    Raises:
        Unreadable: the text is not mathematics in a known notation.
    """
    cursor = Cursor(tokenise(text, grouped))
    node = listing(cursor)
    if cursor.peek() is not END:
        raise Unreadable(f"at {cursor.peek().value!r}")
    return node
