"""Finds answers in sentences: formulas, numbers with units, leading or bold words.

Every rule runs in time linear in the sentence.
"""

from __future__ import annotations

import re

from personahub.core.answers.reading.units import CHANGES_VALUE, dimension

FORMULA = re.compile(
    r"\$\$(.{1,2000}?)\$\$|\\\[(.{1,2000}?)\\\]|\\\((.{1,1000}?)\\\)|(?<!\\)\$((?:[^$\\]|\\.){1,1000}?)\$(?!\d)",
    re.DOTALL,
)
_BOUND = re.compile(  # words that make a number a bound or a condition
    r"\b(?:not|at (?:least|most)|(?:more|less|fewer|greater|larger|smaller|other) than|over|under|above|below|between"
    r"|up to|except|only if|otherwise|unless|depend\w*|might|may|could|perhaps|maybe|possibly)\b",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\b(?:not|never|no|neither|nor|cannot|if|whether|false|wrong)\b|n['’]t\b|[不非没無无未若]|如果|假设|아니|만약|ない|もし|\b(?:не|если)\b",
    re.IGNORECASE,
)
_REMARK = re.compile(r"((?:[^()A-Za-z\\]|\\[A-Za-z]+(?![A-Za-z])|[a-z](?![a-z])){1,200}) \(([^()]{3,300})\)\.?")
_WORDS = re.compile(r"[a-z]{2,} ")
_UNIT = re.compile(
    r" ?((?:square |cubic )?[A-Za-z]{2,}(?:(?: per | an? (?=hour|minute|second|day|week|month|year)| ?/ ?)[A-Za-z]+)?)"
    r"(?![A-Za-z]| (?:Celsius|Fahrenheit|[CF])\b)"
)
_NO_UNITS = frozenset(("in", "second", "pound", "pounds"))  # more often not a unit, or ambiguous
_COUNT = (
    r"(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen"
    r"|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|million)"
)
_COUNTED = re.compile(
    r"\b(?:is|are|was|were|has|have|needs?|takes?|makes?|gets?|exactly|total of) "
    rf"(?!one\b(?! such))({_COUNT}(?:[ -](?:and )?{_COUNT})*)\b"
    r"(?![ -](?:of (?!them|these|those)|(?:out|or|and|to|in|per|by|times|more|less|fewer|percent|hal(?:f|ves)|thirds?"
    r"|quarters?|fourths?|fifths?|sixths?|eighths?|tenths?)\b))",
    re.IGNORECASE,
)
_ANY_COUNT = re.compile(rf"\b(?:{_COUNT}|half|dozen|twice|double|pairs?|both)\b", re.IGNORECASE)
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_FOREIGN = re.compile(r"[^\W\d_A-Za-z]{2}")
_BETWEEN_FORMULAS = re.compile(r",? ?(?:and|or)? ?(?:at|in|by)? ?")
_JOINED = re.compile(r"(?:and|or) ?(?:(?:at|in|by) ?)?\Z")
_VERDICT = re.compile(r"(?:^|[.!?:]\s|\n)[*\s]{0,4}(yes|no|true|false)\b\*{0,2}(?=[,.;:!*]|$)", re.IGNORECASE)
_BOLD_WORDS = re.compile(r"\*\*([A-Za-z][A-Za-z ]{1,40})\*\*[.!]?$")


def body(formula: re.Match[str]) -> str:
    """Returns a match of `FORMULA` without its delimiters."""
    return next(group for group in formula.groups() if group is not None).strip()


def only_formula(sentence: str) -> str | None:
    """Returns the only formula in a sentence without Latin letters. None if the sentence negates it."""
    formulas = list(FORMULA.finditer(sentence))
    if len(formulas) != 1 or _DENIED.search(sentence) or not _FOREIGN.search(FORMULA.sub(" ", sentence)):
        return None
    return body(formulas[0])


def denies(sentence: str) -> bool:
    """Returns whether a sentence negates or only supposes something."""
    return _DENIED.search(sentence) is not None


def without_remark(sentence: str) -> str:
    """Removes the remark from `60 (we exclude 5 of the 65 cases)`. Other sentences stay unchanged."""
    match = _REMARK.fullmatch(sentence)
    said = match.group(2) if match else ""
    remark = said.startswith("not ") or (_WORDS.search(said) and len(said.split()) > 2)
    return match.group(1) if match and remark else sentence


_COPULA = re.compile(
    r"(?:^|\s)(?:is|are|was|were|equals?(?: to)?|be|becomes|gives|get|has|have|make|take|need|pay|=)(?=[\s$\\*])|:(?=\s)"
    r"|(?:^|\s)(?!divides|exceeds|times|minus|plus|less)[a-z]{3,}s(?=\s[\s$\\*]*\d)"  # costs 9, weighs 9
)
_LEAD_IN = re.compile(
    r"(?:(?:the|a|an|our|my|her|his|its|their|final|correct|exact|numerical|answer|(?:value|result|total|solution|number)"
    r"(?: of)?|exactly|precisely|about|around|approximately|approx\.?|roughly|only|just|simply|therefore|thus|so|hence|then"
    r"|we|get|have|obtain|there|given by|equal to|equals?|is|are|by|US)[\s,:]+|US(?=\\?\$))*",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"(?P<sign>(?:negative|minus)\s+)?(?P<value>(?:[^A-Za-z\u3040-\u9fff\uac00-\ud7af]|(?<![A-Za-z])[A-Za-z](?![A-Za-z]))+)(?P<rest>[A-Za-z].*)?",
    re.IGNORECASE,
)
_JOINS = re.compile(r"(?:and|or|to) (?:[^A-Za-z]|(?<![A-Za-z])[A-Za-z](?![A-Za-z]))+")

_TWO_FORMULAS = re.compile(r" ?\$(?:(?:, ?|,? (?:and|or) )\$)+ ?")


def stated_value(sentence: str) -> str | None:
    """Returns the value that a sentence states, or None. Only some words are allowed: see `extract.value_in`."""
    if several := listed_formulas(sentence):
        return several
    if _TWO_FORMULAS.fullmatch(FORMULA.sub("$", predicate := _COPULA.split(sentence, maxsplit=1)[-1])):
        return predicate.strip(" .")
    masked = FORMULA.sub(lambda match: "0" * len(match.group()), sentence)
    masked = _COMMAND.sub(lambda match: "0" * len(match.group()), masked)
    start = 0
    for copula in _COPULA.finditer(masked):
        if not (_BOUND.search(masked, 0, copula.start()) or _DENIED.search(masked, 0, copula.start())):
            start = copula.end()
    start += len(masked[start:]) - len(masked[start:].lstrip())
    lead_in = _LEAD_IN.match(masked, start)
    start = lead_in.end() if lead_in else start
    stated = _STATED.fullmatch(masked, start)
    if stated is None or not re.search(r"[\d∞]", stated["value"]):
        return None
    rest = stated["rest"] or ""
    if _JOINS.fullmatch(rest):
        return sentence[stated.start("value") :].strip(" ,.*")  # a list (`4 and 9`) or a ratio (`2 to 5`)
    if CHANGES_VALUE.match(rest) or len(rest.split()) > 12:
        return None
    begin, end = stated.span("value")
    value = sentence[begin:end].strip(" ,.*")
    if any(value.count(left) != value.count(right) for left, right in ("()", "[]", "{}")):
        return None
    unit = unit_behind(" " + sentence[end:]) if rest else ""
    return ("-" if stated["sign"] else "") + value + unit


def unit_behind(rest: str) -> str:
    """Returns the unit after a number in a sentence. With ` minutes`, 90 minutes can be 1.5 hours."""
    match = _UNIT.match(rest)
    if match is None:
        return ""
    words = re.sub(" an? ", " per ", match.group(1))
    for unit in (words, words.split(" per ")[0].split("/")[0].strip()):
        if unit not in _NO_UNITS and dimension(unit) is not None:
            return " " + unit
    return ""


def counted(sentence: str) -> str | None:
    """Returns the only number word of a sentence: `There are twelve such triangles`."""
    found = _COUNTED.search(sentence)
    if found is None or _BOUND.search(sentence) or _DENIED.search(sentence):
        return None
    return None if _ANY_COUNT.search(_COUNTED.sub(" ", sentence, count=1)) else found.group(1)


def listed_formulas(sentence: str) -> str | None:
    """Returns the adjacent formulas at a sentence's end. `They meet at $(4, -2)$ and at $(0, 0)$` has two."""
    formulas = list(FORMULA.finditer(sentence))
    if len(formulas) < 2 or sentence[formulas[-1].end() :].strip(" .*"):
        return None
    chain = [formulas[-1]]
    for formula in reversed(formulas[:-1]):
        if not _BETWEEN_FORMULAS.fullmatch(sentence, formula.end(), chain[-1].start()):
            break
        chain.append(formula)
    listed = ", ".join(body(formula) for formula in reversed(chain))
    derived = "=" in listed or not _JOINED.search(
        sentence, chain[-1].end(), chain[0].start()
    )  # `At $t = 2$, $x$ is $5$`
    return None if len(chain) < 2 or derived else listed


def verdicts(text: str) -> set[str]:
    """Returns which of yes, no, true and false start a sentence: both for `No. Wait: yes, it is`."""
    return {match.group(1).lower() for match in _VERDICT.finditer(text)}


def first_or_last_words(text: str) -> tuple[str, ...]:
    """Returns leading or final answers in words. `No, because ...`, `so the day is **Tuesday**`."""
    text = text.strip()
    first = _VERDICT.match(text)
    found = [first.group(1)] if first and len(verdicts(text)) == 1 else []
    line = text[text.rfind("\n") + 1 :]
    bold = _BOLD_WORDS.search(line) if line.count("**") == 2 else None
    if bold and not _DENIED.search(line):
        found.append(bold.group(1))
    return tuple(found)
