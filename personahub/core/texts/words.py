"""Splits text into words, for comparing texts, and reads word lists."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

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


def read_phrases(file: Path) -> tuple[str, ...]:
    """Reads the lines of a list. Lines that begin with `#` are comments."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def read_words(file: Path) -> frozenset[str]:
    """Reads the words of a list, separated by whitespace. Lines that begin with `#` are comments."""
    return frozenset(" ".join(read_phrases(file)).split())
