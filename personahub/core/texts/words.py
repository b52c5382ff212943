"""Splits text into words, for comparing texts, and reads word lists.

A word is what Unicode's word boundaries (UAX 29) make of folded text (NFKC and case folding), simplified:

* A run of letters, digits and underscores, with their combining marks. Punctuation ends a word, also inside "don't".
* `+` and `#` after the last letter of a word belong to it, so C, C++ and C# are three words.
* A zero width (non-)joiner inside a word belongs to it. Other invisible characters, such as soft hyphens, direction
  marks and variation selectors, are removed. A zero width space separates words.
* Scripts without spaces: a run of Katakana is a word, and so is each Han character, each Hiragana character, and each
  letter of the scripts in `_UNSPACED` with the vowels, marks and subscript letters around it.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_ASCII_WORD = re.compile(r"[a-z0-9_]+(?:(?<=[a-z])[+#]++(?![a-z0-9_]))?")
_HAN_AND_HIRAGANA = (
    (0x3005, 0x3008), (0x3021, 0x302A), (0x3038, 0x303C), (0x3041, 0x3097), (0x309D, 0x30A0), (0x3400, 0x4DC0),
    (0x4E00, 0xA000), (0xF900, 0xFB00), (0x1B000, 0x1B170), (0x20000, 0x40000),
)  # fmt: skip
_KATAKANA = ((0x30A1, 0x30FB), (0x30FC, 0x3100), (0x31F0, 0x3200))
_UNSPACED = (
    (0xE00, 0xF00),  # Thai, Lao
    (0x1000, 0x10A0), (0xA9E0, 0xAA00), (0xAA60, 0xAA80),  # Myanmar
    (0x1780, 0x1800),  # Khmer
    (0x1950, 0x19E0), (0x1A20, 0x1AB0), (0xAA80, 0xAAE0), (0x11700, 0x11750),  # Tai scripts, Ahom
)  # fmt: skip
_LEADING = "เแโใไເແໂໃໄ\u19b5\u19b6\u19b7\u19ba\uaab5\uaab6\uaab9\uaabb\uaabc"  # vowels written before their consonant
_FOLLOWING = "ะาๅະາ"  # vowels written after their consonant that are not marks
_LINKING = "\u1039\u17d2\u1a60"  # marks that make the next letter a subscript
_JOINERS = "\u200c\u200d"
_ZERO_WIDTH_SPACE = "\u200b"
_WITH_MARKS = ((0x300, 0x3400), (0xA000, 0xAC00), (0xFB00, 0x1F000))  # the ranges of all combining marks
_SELECTORS = ((0x34F, 0x350), (0x180B, 0x1810), (0xFE00, 0xFE10), (0xE0100, 0xE01F0))


@dataclass(frozen=True)
class Classes:
    """Kinds of characters, as the contents of brackets in a regular expression. Each excludes the others."""

    letters: str  # negated: everything but these
    katakana: str
    units: str
    leading: str
    following: str
    linking: str
    marks: str
    invisible: str


def words_of(text: str) -> list[str]:
    """Returns the words of `fold(text)`, as this module defines them."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return _word().findall(fold(text))


def fold(text: str) -> str:
    """Applies NFKC normalization and case folding, and removes invisible characters."""
    if text.isascii():
        return text.lower()
    folded = _invisible().sub("", unicodedata.normalize("NFKC", text).casefold())
    return unicodedata.normalize("NFKC", folded)


def squeeze(text: str) -> str:
    """Returns `fold(text)` with every run of whitespace replaced by one space."""
    return " ".join(fold(text).split())


@functools.cache
def classes() -> Classes:
    """Sorts characters into kinds by their Unicode properties."""
    special = {ord(character) for character in _LEADING + _FOLLOWING}
    units = {code for code in _codes(_UNSPACED) if unicodedata.category(chr(code)) in ("Lo", "Lm")} - special
    units_class = _brackets(units) + _ranges(_HAN_AND_HIRAGANA)
    katakana = _ranges(_KATAKANA)
    marks, invisible = set(_codes(_SELECTORS)), set(_codes(_SELECTORS))
    for code in itertools.chain(range(0x300), _codes((*_WITH_MARKS, (0xE0000, 0xE0080)))):
        category = unicodedata.category(chr(code))
        if category[0] == "M":
            marks.add(code)
        elif category == "Cf" and chr(code) not in _JOINERS + _ZERO_WIDTH_SPACE:
            invisible.add(code)
    return Classes(
        letters=rf"^\W{katakana}{units_class}{_LEADING}{_FOLLOWING}",
        katakana=katakana,
        units=units_class,
        leading=_LEADING,
        following=_FOLLOWING,
        linking=_LINKING,
        marks=_brackets(marks - invisible),
        invisible=_brackets(invisible),
    )


@functools.cache
def _invisible() -> re.Pattern[str]:
    return re.compile(f"[{classes().invisible}]")


@functools.cache
def _word() -> re.Pattern[str]:
    return re.compile(rf"{runs(classes().letters)}(?:(?<![\d_])[+#]++(?!\w))?|{unspaced()}")


def runs(letters: str) -> str:
    """Regular expression for a run of characters, given by the contents of their brackets, with their marks."""
    marks = classes().marks
    return f"[{letters}]+(?:(?:[{marks}]|[{_JOINERS}]+(?=[{letters}]|[{marks}]))[{letters}]*)*"


def unspaced() -> str:
    """Regular expression for a word of a script that is written without spaces."""
    c = classes()
    tail = f"[{c.linking}][{c.units}]?|[{c.marks}{c.following}]|[{_JOINERS}]+(?=[{c.marks}{c.following}])"
    return f"{runs(c.katakana)}|(?:[{c.leading}]+[{c.units}]?|[{c.units}{c.following}])(?:{tail})*"


def _codes(ranges: Iterable[tuple[int, int]]) -> Iterable[int]:
    return itertools.chain.from_iterable(itertools.starmap(range, ranges))


def _ranges(ranges: Iterable[tuple[int, int]]) -> str:
    return "".join(rf"\U{first:08x}-\U{end - 1:08x}" for first, end in ranges)


def _brackets(codes: Iterable[int]) -> str:
    """Contents of the brackets that match these characters, as ranges."""
    ordered = sorted(codes)
    firsts = [code for code, before in zip(ordered, [-2, *ordered], strict=False) if code != before + 1]
    ends = [code + 1 for code, after in zip(ordered, [*ordered[1:], -2], strict=True) if code + 1 != after]
    return _ranges(zip(firsts, ends, strict=True))


def read_phrases(file: Path) -> tuple[str, ...]:
    """Reads the lines of a list. Lines that begin with `#` are comments."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def read_words(file: Path) -> frozenset[str]:
    """Reads the words of a list, separated by whitespace. Lines that begin with `#` are comments."""
    return frozenset(" ".join(read_phrases(file)).split())
