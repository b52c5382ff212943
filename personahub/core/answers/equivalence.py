"""Decides whether two written answers are the same.

Cheap rules come first, computer algebra last.

1. the same text after normalisation
2. choice letters and times of day
3. the parser of this package: exact rationals, 60-digit numbers, identities at random points, sets, tuples, relations
4. words
5. math-verify's LaTeX parser, for notation that the parser above rejects
"""

from __future__ import annotations

import re
from functools import lru_cache

from personahub.core.answers import guards
from personahub.core.answers.comparing.compare import same
from personahub.core.answers.comparing.symbolic import symbolically_equal
from personahub.core.answers.policy import Policy
from personahub.core.answers.reading.grammar import parse
from personahub.core.answers.reading.nodes import Node, Ratio, Words
from personahub.core.answers.reading.normalise import key, normalise
from personahub.core.answers.reading.tokens import FUNCTIONS, GREEK, Unreadable
from personahub.core.answers.reading.wording import (
    choice_letter,
    clock,
    date,
    number_word,
    plain_words,
    same_time,
    words_key,
)
from personahub.core.answers.sentences import verdicts

_DECIMAL_COMMA = re.compile(
    r"^(?:\\\$|[^\d()\[\]{}|,]){0,4}(?:0,\d+|\d+,(?!\d{3}\b)\d+)(?:[^\d()\[\]{}|,]|\\text\{[^{}\d,]*\})*$"
)
_ONLY_WORDS = re.compile(r"^(?:\\text\{[A-Za-z][A-Za-z .,'’-]*\}|[A-Za-z][A-Za-z .,'’-]*)$")
_SENTENCE_START = re.compile(r"^[A-Z][a-z]+ (?:[a-z]{2,} )+(?:[a-z]{2,}|-?\d|\\\$)[^=:<>]*\d[^=:<>]*$")
_SHORT_WORDS = {"no", "up", "on", "in", "ne", "nw", "se", "sw"}
_SAID_AT_LENGTH = re.compile(  # isosceles triangle; neither even nor odd
    r"triangle|quadrilateral|angle|numbers?|integers?|lines|functions?|series|sequence|curve|matrix|(?<=neither )\w+ nor \w+"
)
_VERB = re.compile(r"(?:con|di)verges(?: [a-z]+ly| to (?:plus |minus )?infinity)?|exists|increases|decreases|commutes")
_DENIED = re.compile(r"\b(?:not|never|no|neither|nor|none|if|unless|whether|false|nothing|while|but|when)\b|n't\b")
_YES_OR_NO = re.compile(r"(yes|no|true|false) ?[,.;:] ", re.IGNORECASE)
_SYMBOLS = re.compile("[\u2190-\u22ff\u27c0-\u27ff\u2900-\u2aff]")  # arrows and operators of logic, sets and geometry
_CALCULUS = {  # commands that math-verify handles: it treats a relation that it does not know as a product
    *FUNCTIONS, *GREEK, "int", "iint", "iiint", "oint", "lim", "limsup", "liminf", "to", "rightarrow", "infty", "pi",
    "text", "le", "ge", "ne", "lt", "gt", "times", "cdot", "div", "pm", "mp", "ast", "over", "choose", "cup", "cap",
    "setminus", "in", "dots", "begin", "end", "cr", "lvert", "rvert", "vert", "langle", "rangle", "lfloor", "rfloor",
    "lceil", "rceil", "mathbb", "prime", "degree", "emptyset", "sup", "inf", "left", "right",
}  # fmt: skip
_EUROPEAN = re.compile(r"^[^\d.,]*(\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,})[^\d.,]*$")  # 12.345,67
_PYTHON_COMPLEX = re.compile(r"^[\d.+\-*() ]*\d[\d.+\-*() ]*j\)?$")
_LONE_PAIR = re.compile(r"^\\?[(\[{]\s?-?\d{1,3},\d{3}\s?\\?[)\]}]$")  # (100,101) is not a number in brackets
_BRACKETED_GROUP = re.compile(r"\d,\d{3}(?!\d)")


def equivalent(gold: str, pred: str, policy: Policy) -> str | None:
    """Returns the name of the rule by which `pred` equals `gold`, or None.

    Args:
        gold: the reference answer alone, LaTeX or plain.
        pred: the predicted answer alone.
        policy: contested cases.
    """
    if gold == pred:
        return "same text"
    if max(len(gold), len(pred)) > 2 * guards.MAX_ANSWER:
        return None
    a, b = _normal(gold), _normal(pred)
    if not a or not b:
        return None
    if key(a) == key(b):
        return "same text"
    refused = guards.refusal(a) or guards.refusal(b)
    if refused:
        return None
    points, others = _points(a), _points(b)
    if points and others:
        return _same_points(points, others)
    try:
        left, right = clock(a), clock(b)
        if left and right and same_time(left, right):
            return "time of day"
        if left and right and (left.meridiem or right.meridiem):
            return None  # 2 p.m. and 2 a.m.
        day = date(a)
        if day is not None and day == date(b):
            return "date"
        return _choice(a, b, policy) or _parsed(a, b, policy) or _worded(a, b, policy) or _second_opinion(a, b, policy)
    except RecursionError:  # the caller's stack was nearly exhausted: the parser itself stops far below the limit
        return None


@lru_cache(maxsize=1024)
def _normal(text: str) -> str:
    return normalise(text)


_POINTS = re.compile(
    r"(?P<sign>-?)\s*(?P<head>\\(?:overrightarrow|vec|overline|bar|angle|measuredangle|triangle|widehat))?\s*\{?\s*"
    r"(?P<points>[A-Z]{2,5})\s*\}?"
)


def _points(text: str) -> re.Match[str] | None:
    """Matches points written together: `AB`, `\\overrightarrow{AB}`, `\\angle ABC`."""
    return _POINTS.fullmatch(text)


def _same_points(gold: re.Match[str], pred: re.Match[str]) -> str | None:
    """Compares names of points, whose order matters except in a segment and an angle."""
    heads = [(match["head"] or "").strip("\\").replace("overrightarrow", "vec") for match in (gold, pred)]
    a, b = gold["points"], pred["points"]
    if "vec" in heads and "vec" != heads[0] == heads[1]:
        return None
    if heads == ["vec", "vec"] and gold["sign"] != pred["sign"]:
        return "same expression" if a == b[::-1] else None
    if gold["sign"] != pred["sign"] or ("vec" in heads and heads[0] != heads[1]):
        return None
    reversible = set(heads) & {"overline", "bar", "angle", "measuredangle", "widehat"}
    return "same expression" if a == b or (reversible and a == b[::-1]) else None


def _choice(a: str, b: str, policy: Policy) -> str | None:
    left, right = choice_letter(a), choice_letter(b)
    if left is None and right is None:
        return None
    if left and right:
        return "choice" if left[0] == right[0] and (not left[1] or not right[1] or left[1] == right[1]) else None
    lettered, other = (left, b) if left else (right, a)
    if lettered is None or not lettered[1]:
        return None
    gold, pred = (lettered[1], other) if left else (other, lettered[1])
    return "choice text" if equivalent(gold, pred, policy) else None


def _parsed(a: str, b: str, policy: Policy) -> str | None:
    golds, preds = (_readings(text, policy.comma_as_decimal_point) for text in (a, b))
    for gold in golds:
        for pred in preds:
            if isinstance(gold, Ratio) and isinstance(pred, Ratio) and clock(a) and clock(b):
                continue  # 12:00 and 1:00 compare as times
            rule = same(gold, pred, policy)
            if rule is not None:
                return rule
    return None


def _second_opinion(a: str, b: str, policy: Policy) -> str | None:
    """Asks math-verify if a side is notation, not a sentence, and could not be parsed."""
    if not policy.math_verify:
        return None
    unread = [text for text in (a, b) if isinstance(_readings(text, policy.comma_as_decimal_point)[0], Words)]
    return symbolically_equal(a, b) if unread and all(map(_is_notation, unread)) else None


def _is_notation(text: str) -> bool:
    """Returns whether unparsed text is LaTeX, not a sentence. The symbolic fallback can then help."""
    letters = re.sub(r"\\[a-zA-Z]+|[^a-zA-Z ]", " ", text)
    known = all(command in _CALCULUS for command in re.findall(r"\\([a-zA-Z]+)", text))
    return known and "\\" in text.replace(r"\text", "") and not re.search(r"[A-Za-z]{4,}", letters)


@lru_cache(maxsize=1024)
def _readings(text: str, decimal_comma: bool) -> tuple[Node, ...]:
    """Returns the readings of an answer, likeliest first.

    `1,234` is a number, `(1,234)` a pair, `(0, 1,234)` either.
    """
    if _is_prose(text):
        return (Words(text),)
    if _PYTHON_COMPLEX.match(text):
        text = text.replace("j", "i")
    readings: list[Node] = []
    for grouped in (True, False) if _BRACKETED_GROUP.search(text) and re.search(r"[(\[{]", text) else (True,):
        try:
            node = parse(text, grouped)
        except (Unreadable, RecursionError):
            continue
        if not (grouped and _LONE_PAIR.match(text)):
            readings.append(node)
    if decimal_comma and _DECIMAL_COMMA.match(text):
        readings += _readings(text.replace(",", ".", 1), False)
    if decimal_comma and (european := _EUROPEAN.match(text)):
        number = european.group(1).replace(".", "").replace(",", ".")
        readings += _readings(text.replace(european.group(1), number), False)
    return tuple(readings) or (Words(text),)


def _is_prose(text: str) -> bool:
    """Returns whether the text is words before a value. Words too long for products of variables count too."""
    if _SENTENCE_START.match(text):
        return True
    if not _ONLY_WORDS.match(text):
        return False
    if number_word(text) is not None:
        return True
    words = [w for w in re.findall(r"[A-Za-z]+", text.replace(r"\text", "")) if w.lower() not in ("and", "or")]
    long = [word for word in words if len(word) >= 3 and word not in FUNCTIONS and word not in GREEK]
    return any(len(word) >= 4 for word in long) or (bool(long) and len(words) > 1)


def _case_is_spelling(text: str) -> bool:
    """Returns whether case is only spelling. It is in `Odd` and `Tom is taller`, not in `F = mA` and `XY`."""
    if isinstance(_readings(text, True)[0], Words):
        return True
    words = re.findall(r"[A-Za-z]+", text)
    spelled = all(word.islower() or word.isupper() or word.istitle() for word in words)
    sounded = all(len(word) > 2 and re.search(r"[aeiouy]", word, re.IGNORECASE) for word in words)
    return spelled and (sounded or text.lower() in _SHORT_WORDS) and not re.search(r"[=<>+*/^_|]", text)


def is_readable(text: str) -> bool:
    """Returns whether an answer, as written, parses as mathematics, a choice or a time."""
    if len(text) > 2 * guards.MAX_ANSWER:
        return False
    normal = _normal(text)
    if not normal or guards.refusal(normal):
        return False
    return not isinstance(_readings(normal, True)[0], Words) or bool(
        clock(normal) or date(normal) or choice_letter(normal)
    )


def is_name(text: str) -> bool:
    """Returns whether an answer is one to three words, which compare letter by letter."""
    return bool(_ONLY_WORDS.match(text)) and len(text.split()) <= 3


def _worded(a: str, b: str, policy: Policy) -> str | None:
    """Compares answers in words; one may be a sentence that ends in the other."""
    left, right = words_key(a, policy.ignore_case), words_key(b, policy.ignore_case)
    if not left or not right or not re.search(r"[A-Za-z]{2}", left):
        return None
    if any("\\" in text.replace(r"\text", "") or _SYMBOLS.search(text) for text in (a, b)):
        return None
    if left == right:
        cased = words_key(a, False) != words_key(b, False)
        return None if cased and not (_case_is_spelling(a) and _case_is_spelling(b)) else "words"
    if right.startswith(left + " ") and _SAID_AT_LENGTH.fullmatch(right, len(left) + 1):
        return "words"
    verdict = _YES_OR_NO.match(plain_words(b))
    if verdict and left in ("true", "false"):
        return "words" if words_key(verdict.group(1), True) == left and len(verdicts(b)) == 1 else None
    if _VERB.fullmatch(left) and (subject := right.removesuffix(" " + left)) != right:
        return None if _DENIED.search(subject) or len(subject.split()) > 4 else "words"  # the series diverges
    said = re.match(
        r"^(?:[A-Za-z' -]+ (?:is|are|was|be)|it's) (?!not |no )(?:an? |the )?(.+)$", plain_words(b), re.IGNORECASE
    )
    return "words" if said and words_key(said.group(1), policy.ignore_case) == left else None
