"""Replies made of labelled lines, `Persona: ...` and `Relation: ...`: what both expansion stages parse.

The contract is one value per line. What models add without harm is tolerated: a greeting before
the first label, numbers or bullets, bold type, quotation marks. Anything after the first label that
is no labelled line is not, because a description that runs over lines would lose its end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from personahub.core.engines import Completion
from personahub.core.errors import Rejected
from personahub.core.texts.replies import declining_words

_LINE = re.compile(
    r"^[>\s]*(?:[-*•]\s+|\d{1,3}[.)]\s+)?[*_]*(?P<label>persona|relation)\s*\d{0,3}[*_]*\s*[:：][*_]*(?P<value>.*)$",
    re.IGNORECASE,
)
_QUOTES = {'"': '"', "“": "”", "«": "»", "'": "'"}


class Line(NamedTuple):
    """A labelled line; `label` is `persona` or `relation`."""

    label: str
    value: str


def labelled_lines(completion: Completion) -> list[Line]:
    """All labelled lines of a reply, of which there is at least one.

    Raises:
        Rejected: `truncated`, `refusal`, `no_label`, `unlabelled_line` or `empty_line`.
    """
    if completion.truncated:
        raise Rejected("truncated", f"cut off after {completion.completion_tokens} tokens: raise sampling.max_tokens")
    lines: list[Line] = []
    text = completion.text.rpartition("</think>")[2]
    for number, content in enumerate(text.strip().splitlines(), 1):
        match = _LINE.match(content)
        if match:
            value = _bare(match["value"])
            if not value:
                raise Rejected("empty_line", f"line {number}: {content.strip()}")
            lines.append(Line(match["label"].lower(), value))
        elif lines and content.strip():
            raise Rejected("unlabelled_line", f"line {number}: {content.strip():.100}")
    if not lines:
        raise Rejected("refusal" if declining_words(text) else "no_label", f"{text.strip():.100}")
    return lines


def _bare(value: str) -> str:
    """Without the bold type or quotation marks around it."""
    value = value.strip().strip("*_").strip()
    if len(value) > 2 and _QUOTES.get(value[0]) == value[-1]:
        value = value[1:-1].strip()
    return value


def require_distinct(personas: Sequence[str], count: int) -> None:
    """Check that as many personas came as were asked for, no two alike.

    Raises:
        Rejected: `wrong_count` or `repeated_persona`.
    """
    if len(personas) != count:
        raise Rejected("wrong_count", f"{len(personas)} personas where {count} were asked for")
    seen: set[str] = set()
    for persona in personas:
        key = normalise(persona)
        if key in seen:
            raise Rejected("repeated_persona", persona)
        seen.add(key)


def normalise(persona: str) -> str:
    """Form under which two descriptions are the same: words alone, case folded, without a leading article."""
    words = re.findall(r"\w+", persona.casefold())
    return " ".join(words[1:] if words[:1] in (["a"], ["an"], ["the"]) else words)
