"""Reads answers in words: choices, times, dates, names, number words, and "none"."""

from __future__ import annotations

import re
from fractions import Fraction

from personahub.core.answers.reading.nodes import Clock

_ARTICLES = {
    "the",
    "a",
    "an",
    "and",
    "is",
    "are",
    "of",
    "on",
    "at",
    "it",
}  # words that a list or a name may have or lack
_ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_PARTS = {
    "half": 2,
    "halve": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "eighth": 8,
    "tenth": 10,
}
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_SAME = {
    "no solution": "none", "no solutions": "none", "no real solution": "none", "no real solutions": "none",
    "none": "none", "empty set": "none", "no real roots": "none", "no roots": "none", "no value": "none",
    "no values": "none", "no such value exists": "none", "there no solution": "none", "there no solutions": "none",
    "no real values": "none", "nosolution": "none",
    "does not exist": "undefined", "dne": "undefined", "undefined": "undefined", "not defined": "undefined",
    "all real numbers": "reals", "all reals": "reals", "any real number": "reals", "all real values": "reals",
    "real numbers": "reals", "every real number": "reals",
    "yes": "true", "true": "true", "no": "false", "false": "false",
    "infinity": "infinity", "infinite": "infinity", "infinitely many": "infinity",
}  # fmt: skip
_CLOCK = re.compile(
    r"^(?:at )?(?P<hour>\d{1,2})(?::(?P<minute>\d{2}))?(?::00)?\s*(?P<meridiem>[ap]\.?\s?m\b\.?|noon|midnight|o'?clock)?$",
    re.IGNORECASE,
)
_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
           "december")  # fmt: skip
_MONTH = r"([A-Z][a-z]{2,8})\.?"
_DATE = re.compile(rf"(?:on )?(?:the )?(?:{_MONTH} (\d{{1,2}})|(\d{{1,2}}) (?:of )?{_MONTH})(?:,? ?(\d{{4}}))?")
_DATED = re.compile(r"[A-Z][a-z]{2}|\d{4}-\d")
_ISO_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_LETTER = re.compile(
    r"^[^a-zA-Z0-9+*/^=<>-]*(?:option|choice|answer)?[^a-zA-Z0-9+*/^=<>-]*([A-Ja-j])[^a-zA-Z0-9+*/^=<>!'-]*$",
    re.IGNORECASE,
)
_LETTERED = re.compile(r"^\W*\(?([A-J])(?:\)\s*[.:]?|[.:])(?:\s+|(?=[$\\]))(?![+*/^=<>,)])(.+)$", re.DOTALL)


def plain_words(text: str) -> str:
    """Returns the letters and digits of a text answer without LaTeX text commands."""
    text = re.sub(r"\\(?:text|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}", r" \1 ", text)
    return re.sub(r"[^\w+\-/.,:%<>=^*|!]+", " ", re.sub(r"\\[,;:! ]|[{}$\\]", " ", text)).strip(" .,:")


def words_key(text: str, ignore_case: bool) -> str:
    """Returns a text answer without punctuation and articles; synonyms share one key."""
    text = plain_words(text)
    if ignore_case:
        text = text.lower()
    words = [word.strip(".,:!") for word in re.split(r"[\s,]+|(?<=[A-Za-z])-(?=[A-Za-z])", text)]
    kept = " ".join(word for word in words if word and (not ignore_case or word not in _ARTICLES))
    return _SAME.get(kept, kept)


def choice_letter(text: str) -> tuple[str, str] | None:
    """Reads `(C)`, `C.` and `C) 12` as the letter and the text after it. Returns None if it is not a choice."""
    plain = re.sub(r"\\(?:text|mathrm|mathbf)\s*\{([^{}]*)\}", r" \1 ", text).strip()
    match = _LETTER.match(plain)
    if match:
        letter = match.group(1)
        return (letter.upper(), "") if letter.isupper() or "(" in plain else None
    match = _LETTERED.match(plain)
    return (match.group(1), match.group(2).strip()) if match else None


def clock(text: str) -> Clock | None:
    """Reads a time of day, or returns None. `12:30` alone may be a time or a ratio; the other side decides."""
    plain = re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text)
    match = _CLOCK.match(re.sub(r"\s+", " ", plain).strip())
    if match is None or (match["minute"] is None and match["meridiem"] is None):
        return None
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    if hour > 24 or minute > 59:
        return None
    said = re.sub(r"[^a-z]", "", (match["meridiem"] or "").lower())
    meridiem = {"noon": "pm", "midnight": "am", "oclock": ""}.get(said, said)
    return Clock(hour, minute, meridiem)


def date(text: str) -> tuple[int, int, int] | None:
    """Reads `March 14, 2021` and `14 March 2021` as (2021, 3, 14). A missing year is 0. None for anything else."""
    if len(text) > 60 or not _DATED.search(text):
        return None
    plain = re.sub(r"\s+", " ", re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text)).strip()
    iso = _ISO_DATE.fullmatch(plain)
    if iso:
        return int(iso[1]), int(iso[2]), int(iso[3])
    match = _DATE.fullmatch(plain)
    if match is None:
        return None
    name = (match[1] or match[4]).lower()
    month = next((number for number, full in enumerate(_MONTHS, 1) if name in (full, full[:3], full[:4])), None)
    return (int(match[5] or 0), month, int(match[2] or match[3])) if month else None


def same_time(a: Clock, b: Clock) -> bool:
    """Whether two times of day are equal. If one side lacks am or pm, either reading counts."""
    if a.meridiem and b.meridiem and a.meridiem != b.meridiem:
        return False
    return bool(_minutes(a) & _minutes(b))


def _minutes(time: Clock) -> set[int]:
    if time.meridiem and time.hour <= 12:
        return {(time.hour % 12 + 12 * (time.meridiem == "pm")) * 60 + time.minute}
    if time.hour > 12 or time.hour == 0:
        return {time.hour % 24 * 60 + time.minute}
    return {time.hour % 12 * 60 + time.minute, (time.hour % 12 + 12) * 60 + time.minute}


def number_word(text: str) -> Fraction | None:
    """Reads `twenty-one` as 21. Returns None for anything but a number of up to five English words."""
    words = re.sub(r"[\s\-]+", " ", re.sub(r"\\text|[{}]", " ", text.lower())).replace(" and ", " ").strip().split()
    if words in (["half"], ["a", "half"]):
        return Fraction(1, 2)
    if len(words) == 2 and words[1].rstrip("s") in _PARTS and words[0] in _ONES:
        return Fraction(_ONES.index(words[0]), _PARTS[words[1].rstrip("s")])
    if not words or len(words) > 5:
        return None
    if words[0] in ("negative", "minus"):
        positive = number_word(" ".join(words[1:]))
        return None if positive is None else -positive
    total = current = 0
    for word in words:
        if word in _ONES:
            current += _ONES.index(word)
        elif word in _TENS:
            current += 20 + 10 * _TENS.index(word)
        elif word == "hundred" and current:
            current *= 100
        elif word in _LARGE and current:
            total, current = total + current * _LARGE[word], 0
        else:
            return None
    return Fraction(total + current)
