"""The table by which `kernels.hashing` folds characters and finds where words begin.

An entry holds what `texts.words` makes of a character. The entry is -1 (`CONTEXT`) for characters that become several,
and for those that depend on more neighbors than the kernel looks at. `words_of` reads the texts with any of these.
"""

from __future__ import annotations

import functools
import re
import unicodedata

import numpy as np

from personahub.core.texts.words import classes, fold

# The same as in `kernels.hashing`, whose import takes a second because it imports numba.
_KIND = 21
_LETTER, _KATAKANA, _UNIT, _LEADING, _FOLLOWING, _MARK, _LINKING, _INVISIBLE = range(1, 9)
_BEGINS, _COMPOSES, _ENDS_IN_MARK, _REORDERS = 1 << 25, 1 << 26, 1 << 27, 1 << 28
_CONTEXT = -1

_UNCHANGED = ((_UNIT, 0x3400, 0x4DC0), (_UNIT, 0x4E00, 0xA000), (_LETTER, 0xAC00, 0xD7A4))  # Chinese, Hangul
_NO_CHARACTERS = (0xD800, 0xF900)  # surrogates and private use
_JAMO = re.compile("[\u1100-\u11ff]")
_NEEDS_CONTEXT = "\u200c\u200d+#"  # joiners, and the signs of C++ and C# in other widths


def folding(largest_byte: int) -> np.ndarray:
    """Returns the table (int32) for UTF-8 text whose largest byte this is. A smaller table takes less time to make."""
    return _table(0x80 if largest_byte < 0x80 else 0x4000 if largest_byte < 0xE4 else 0x10000)


@functools.cache
def _table(size: int) -> np.ndarray:
    table = np.zeros(size, np.int32)
    if size == 0x80:
        for code in range(size):
            if chr(code).isalnum() or code == ord("_"):
                table[code] = _LETTER << _KIND | ord(chr(code).lower())
        return table
    table[0x80:] = _CONTEXT
    table[_NO_CHARACTERS[0] : _NO_CHARACTERS[1]] = 0
    for kind, first, end in _UNCHANGED:
        codes = np.arange(first, min(end, max(size, first)), dtype=np.int32)
        table[codes] = kind << _KIND | codes
    codes = [code for code in range(1, size) if code < 0x80 or table[code] == _CONTEXT]
    spelled = "\0".join(map(chr, codes))
    normal, folded = unicodedata.normalize("NFKC", spelled).split("\0"), fold(spelled).split("\0")
    kinds, flags = _kinds(folded), _flags()
    for code, before, after in zip(codes, normal, folded, strict=True):
        if code < 0x80 and after in _NEEDS_CONTEXT:
            table[code] = 0
        elif not after:
            table[code] = _INVISIBLE << _KIND
        elif len(before) == len(after) == 1 and after not in _NEEDS_CONTEXT and not _JAMO.match(after):
            kind = kinds.get(after, 0)
            entry = (ord(after) | kind << _KIND if kind else 0) | flags.get(before, 0) | flags.get(after, 0)
            if unicodedata.combining(unicodedata.normalize("NFD", before)[-1]):
                entry |= _ENDS_IN_MARK | (_REORDERS if unicodedata.combining(before) else 0)
            table[code] = entry
    return table


def _kinds(characters: list[str]) -> dict[str, int]:
    """Returns the kind of each single character that has one."""
    single = "".join(character for character in characters if len(character) == 1)
    found: dict[str, int] = {}
    brackets = {_MARK: classes().marks, _LETTER: classes().letters, _KATAKANA: classes().katakana}
    brackets |= {_UNIT: classes().units, _LEADING: classes().leading, _FOLLOWING: classes().following}
    brackets[_LINKING] = classes().linking  # after the other marks, because it is one of them
    for kind, characters_of_kind in brackets.items():
        found.update(dict.fromkeys(re.findall(f"[{characters_of_kind}]", single), kind))
    return found


def _flags() -> dict[str, int]:
    """Returns how normalization may compose a character with the one before it or after it."""
    flags: dict[str, int] = {}
    for code in range(0xC0, 0x3100):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and parts[0][0] != "<" and unicodedata.is_normalized("NFC", chr(code)):
            for part, flag in zip(parts, (_BEGINS, _COMPOSES), strict=True):
                character = chr(int(part, 16))
                flags[character] = flags.get(character, 0) | flag
    return flags
