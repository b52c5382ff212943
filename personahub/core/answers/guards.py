"""Limits on text written by a model, checked before any parser sees it.

The parser of this package runs in time linear in the text. The limits for the symbolic fallback are tighter,
because computer algebra can spend minutes on thirty characters.
"""

from __future__ import annotations

import re

MAX_COMPLETION = 1_000_000  # characters searched for an answer; of a longer text, the tail
MAX_ANSWER = 4_000  # longest answer compared as mathematics
MAX_DIGITS = 1_200  # longest literal (CPython refuses to convert more than 4,300 digits)
MAX_NESTING = 60
MAX_ITEMS = 400  # members of a list, set or matrix

_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1f\x7f\ufffd]")  # output of a broken tokenizer or a random model
_RUN_OF_DIGITS = re.compile(r"\d+")
_OPENERS = re.compile(r"[({\[]")
_BRACKETS = re.compile(r"[(){}\[\]]")
_FUNCTION = re.compile(r"\\(?:arc)?(?:sin|cos|tan|cot|sec|csc|log|ln|exp|lg|det|gcd|max|min)h?(?![a-z])")
_POWER = re.compile(r"\^\s*\{?\s*\(?\s*-?\s*(\d+)")


def has_control_characters(text: str) -> bool:
    """Returns whether the text has characters that no person writes. Examples: NUL, the replacement character."""
    return _NO_TEXT.search(text) is not None


def refusal(text: str) -> str | None:
    """Returns why `text` must not be parsed, or None. Reasons: `characters`, `length`, `digits`, `nesting`, `items`."""
    if has_control_characters(text):
        return "characters"
    if len(text) <= MAX_NESTING:
        return None
    if len(text) > MAX_ANSWER:
        return "length"
    if any(len(run) > MAX_DIGITS for run in _RUN_OF_DIGITS.findall(text)):
        return "digits"
    if _depth(text) > MAX_NESTING:
        return "nesting"
    if text.count(",") + text.count(";") + text.count("&") > MAX_ITEMS:
        return "items"
    return None


def _depth(text: str) -> int:
    depth = deepest = 0
    for bracket in _BRACKETS.findall(text):
        depth = depth + 1 if bracket in "([{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def symbolic_refusal(text: str) -> str | None:
    """Returns why `text` must not reach the symbolic fallback, or None.

    Assumes that `refusal` passed. Everything refused here was slow when measured: computer algebra takes twice the
    time for each additional division (`1/2/3/4`) and forty times for each additional function (`\\sin \\sin 2`).
    """
    if len(text) > 200:
        return "length"
    if any(len(run) > 15 for run in _RUN_OF_DIGITS.findall(text)):
        return "digits"
    if len(_OPENERS.findall(text)) > 24 or _depth(text) > 8:
        return "nesting"
    if len(_FUNCTION.findall(text)) > 3 or len(re.findall("[/:]", text)) > 4:
        return "operators"
    if text.count("^") > 12 or any(int(exponent) > 200 for exponent in _POWER.findall(text)):
        return "power"
    if re.search(r"\^\s*\{?[^{}]*\^", text) and re.search(r"\d\s*\}?\s*\^\s*\{?\s*\d+\s*\^", text):
        return "power"
    if text.count("!") > 4 or any(int(n) > 200 for n in re.findall(r"(\d+)\s*\)?\s*!", text)):
        return "factorial"
    return None
