"""Parses replies of labelled lines: `Persona: ...` and `Relation: ...`.

The contract is one value per line. Harmless additions are accepted: a greeting before the first label,
numbers or bullets, bold type, quotation marks. Unlabelled text after the first label is not, because a
description that runs over several lines would lose its end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from personahub.core.engines import Completion
from personahub.core.errors import Rejected
from personahub.core.texts.replies import Part, find_refusal, labelled_parts

_LABELS = ("persona", "relation")
_QUOTES = {'"': '"', "“": "”", "«": "»", "'": "'"}


def labelled_lines(completion: Completion) -> list[Part]:
    """Returns the labelled lines of a reply, at least one.

    Each label is `persona` or `relation`.

    Raises:
        Rejected: `truncated`, `refusal`, `no_label`, `unlabelled_line` or `empty_line`.
    """
    text = "\n".join(completion.whole_text().splitlines())
    parts = labelled_parts(text, _LABELS, repeated=True)
    if not parts:
        raise Rejected("refusal" if find_refusal(text) else "no_label", f"{text:.100}")
    lines = []
    for number, (label, content) in enumerate(parts, 1):
        first, _, rest = content.partition("\n")
        value = _strip_markup(first)
        if not value:
            raise Rejected("empty_line", f"labelled line {number}: '{label}:'")
        if rest.strip():
            raise Rejected("unlabelled_line", f"after labelled line {number}: {rest.strip():.100}")
        lines.append(Part(label, value))
    return lines


def _strip_markup(value: str) -> str:
    """Removes bold type and quotation marks around a value."""
    value = value.strip().strip("*_").strip()
    if len(value) > 2 and _QUOTES.get(value[0]) == value[-1]:
        value = value[1:-1].strip()
    return value


def require_distinct(personas: Sequence[str], count: int) -> None:
    """Checks that there are `count` personas and that no two are the same.

    Raises:
        Rejected: `wrong_count` or `repeated_persona`.
    """
    if len(personas) != count:
        raise Rejected("wrong_count", f"{len(personas)} personas instead of {count}")
    seen: set[str] = set()
    for persona in personas:
        key = normalise(persona)
        if key in seen:
            raise Rejected("repeated_persona", persona)
        seen.add(key)


def normalise(persona: str) -> str:
    """Returns a form that equal descriptions share. Words only, case folded, no leading article."""
    words = re.findall(r"\w+", persona.casefold())
    return " ".join(words[1:] if words[:1] in (["a"], ["an"], ["the"]) else words)
