"""Words of a text, for duplicates and overlap."""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """The words that count: runs of letters, digits and underscores after NFKC and case folding."""
    return _WORD.findall(_normalize(text))


def _normalize(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def squeeze(text: str) -> str:
    return " ".join(_normalize(text).split())
