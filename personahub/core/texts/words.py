"""Splits text into words, for comparing texts."""

from __future__ import annotations

import re
import unicodedata

WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """Returns the words of `fold(text)`: runs of letters, digits and underscores."""
    return WORD.findall(fold(text))


def fold(text: str) -> str:
    """Applies NFKC normalization and case folding."""
    return unicodedata.normalize("NFKC", text).casefold()


def squeeze(text: str) -> str:
    """Returns `fold(text)` with every run of whitespace replaced by one space."""
    return " ".join(fold(text).split())
