"""Find the answer in a completion: the last box, what follows "answer is", the last line, the last number."""

from __future__ import annotations

import re

from personahub.core.answers import guards
from personahub.core.answers.normalise import closing_brace
from personahub.core.answers.verdict import Extracted

_BOX = re.compile(r"(?:\\|\x08)?(?:boxed|fbox|framebox|oxed(?=\{))\s*(?P<brace>\{)?|\\(?:boxed|fbox)\s*(?P<bare>[\w.]+)")
_HASHES = re.compile(r"####\s*(.+)")
_PHRASE = re.compile(
    r"(?:final\s+answer|correct\s+answer|answer|correct\s+(?:option|choice)|final\s+result|答案)"
    r"(?:\s+(?:to\s+the\s+(?:problem|question)|here|choice|option|therefore))?"
    r"\s*(?:\*\*|\}|\$)*\s*(?:is|are|:|=|is\s+given\s+by|would\s+be|must\s+be|should\s+be|为|是|：)+\s*(?:therefore|thus|simply|for\s+sure|just|then|equal\s+to|option|choice|approximately|about|to\s+be)?\s*:?",
    re.IGNORECASE,
)
_MATH = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<!\\)\$((?:[^$\\]|\\.)+?)\$", re.DOTALL)
_SENTENCE_END = re.compile(r"(?<!\d)[.!?](?=\s|$|\*)|(?<=\d)[.!?](?=\s|$|\*)|\n|<\|")
_CLAUSE_END = re.compile(
    r",?\s+(?:because|since|so|as|which|where|but|it|when|given|after|before|due|not|and\s+not|for\s+all)\b|,\s+(?:and|which|because)\s+(?=[a-z]{3})"
)
_NUMBER = re.compile(
    r"[-−+]?\s?(?:\\?[$€£]\s?)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+(?:,\d+(?![\d,]))?|(?=\.\d))(?:\.\d+)?(?:e[+-]?\d+)?(?:\s?/\s?\d+(?!\d|\.\d))?\s?(?:\\?%|°)?"
)
_PROSE = re.compile(r"[A-Za-z]{3,}")
_COMMANDS = re.compile(r"\\(?:text|mathrm|textbf|mbox|mathbf|operatorname|textit)\s*\{[^{}]*\}|\\[a-zA-Z]+|\\begin\{\w+\}|\\end\{\w+\}")
_GAP = re.compile(r"^[\s$.,;:\\()\[\]*{}=_a-zA-Z0-9]*$")


def extract(text: str) -> Extracted:
    """The answer of a completion, a solution or an answer alone, and the rule that found it.

    Order: the last balanced \\boxed or \\fbox; `#### 42`; what follows the last "answer is"; a text that
    is nothing but an answer; the last line, formula or number. See `Extracted.rule`.
    """
    text = text[-guards.MAX_COMPLETION :]
    for rule in (_boxed, _hashes, _bare, _phrased, _last):
        found = rule(text)
        if found is not None:
            return found
    return Extracted(None, "none")


def boxes(text: str) -> list[tuple[int, int, str]]:
    """Start, end and content of every balanced, non-empty, outermost box."""
    found: list[tuple[int, int, str]] = []
    position = 0
    while (match := _BOX.search(text, position)) is not None:
        position = match.end()
        if match.group("brace") is None:
            bare = re.match(r"\s*([A-Za-z0-9.]+)", text[match.end() :]) if text[match.start()] == "\\" else None
            if bare:
                found.append((match.start(), match.end() + bare.end(), bare.group(1)))
            continue
        end = closing_brace(text, match.end() - 1)
        if end is None:
            continue
        content = text[match.end() : end].strip()
        if content:
            found.append((match.start(), end + 1, content))
        position = end + 1
    return found


def _boxed(text: str) -> Extracted | None:
    if "boxed" not in text and "fbox" not in text and "framebox" not in text and "oxed{" not in text:
        return None
    found = boxes(text)
    if not found:
        return _unclosed(text)
    others = [_neighbours(text, found), _final_phrase(text[found[-1][1] :])]
    return Extracted(found[-1][2], "boxed", tuple(other for other in others if other))


def _final_phrase(rest: str) -> str | None:
    """What "the final answer is" names after the last box, which then was not the last word."""
    found = _phrased(rest) if re.search(r"final answer", rest, re.IGNORECASE) else None
    return found.answer if found else None


def _unclosed(text: str) -> Extracted | None:
    """A box that the end of the text cut off: what is there, up to the end of its line."""
    match = None
    for match in re.finditer(r"\\(?:boxed|fbox)\s*\{", text):
        pass
    if match is None:
        return None
    content = text[match.end() :].strip().split("\n")[0].strip(" $")
    return Extracted(content, "boxed_unclosed") if content else None


def _neighbours(text: str, found: list[tuple[int, int, str]]) -> str | None:
    """The last boxes of one sentence as a list: `\\boxed{1} and \\boxed{2}`."""
    chain = [found[-1]]
    for box in reversed(found[:-1]):
        gap = text[box[1] : chain[0][0]]
        if len(gap) > 40 or "\n\n" in gap or re.search(r"[.!?]\s", gap) or not _joins(gap):
            break
        chain.insert(0, box)
    contents = list(dict.fromkeys(content for _, _, content in chain))
    return ", ".join(contents) if len(contents) > 1 else None


def _joins(gap: str) -> bool:
    words = re.findall(r"[A-Za-z]{2,}", _COMMANDS.sub(" ", gap))
    return bool(_GAP.match(gap)) and len(words) <= 3 and (not words or "and" in words or "or" in words)


def _hashes(text: str) -> Extracted | None:
    found = _HASHES.findall(text)
    return Extracted(found[-1].strip(), "hashes") if found else None


def _bare(text: str) -> Extracted | None:
    """A text that is an answer and nothing else."""
    line = text.strip()
    if not line or (len(line) > 400 and " " in line) or "\n\n" in line or (_PHRASE.search(line)):
        return None
    if not looks_bare(line):
        return None
    inner = _last(line) if _PROSE.search(_COMMANDS.sub(" ", line)) else None
    return Extracted(line, "bare", (inner.answer,) if inner is not None and inner.answer else ())


def looks_bare(line: str) -> bool:
    """Whether a line is an answer rather than prose: hardly a word outside of LaTeX's commands and texts."""
    if "\n" in line and not re.search(r"\\begin|^\s*(?:\$\$|\\\[)", line):
        return False
    words = _PROSE.findall(_COMMANDS.sub(" ", line))
    if re.search(r"[.!?]\s+[A-Z]", line) or len(words) > 8:
        return False
    numbers = len(re.findall(r"\d", line))
    return len(words) <= (2 if numbers else 8)


def _phrased(text: str) -> Extracted | None:
    match = None
    for match in _PHRASE.finditer(text):
        pass
    if match is None:
        return None
    answer = _clause(text[match.end() :])
    return Extracted(answer, "answer_is") if answer else None


def _clause(rest: str) -> str:
    """The answer at the head of what follows the phrase."""
    rest = rest.lstrip(" :*\n\t\"")
    rest = rest.removeprefix("**").strip()
    display = re.match(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]", rest, re.DOTALL)
    if display:
        return (display.group(1) or display.group(2)).strip()
    end = _SENTENCE_END.search(rest)
    while end is not None and _inside_math(rest[: end.start()]):
        end = _SENTENCE_END.search(rest, end.end())
    clause = rest[: end.start()] if end else rest
    clause = clause.split("**")[0].strip() if clause.count("**") == 1 else clause
    cut = _CLAUSE_END.search(_COMMANDS.sub(lambda m: "#" * len(m.group()), clause))
    clause = clause[: cut.start()] if cut and cut.start() > 0 else clause
    clause = clause.strip(" *.\"")
    clause = _predicate(clause)
    if looks_bare(clause):
        return clause
    inner = _last(clause)
    return inner.answer if inner is not None and inner.answer else clause


def _predicate(clause: str) -> str:
    """`The largest $n$ is 34` says 34."""
    parts = re.split(r"(?<=[\w$)}])\s+(?:is|are|equals)\s+(?=[\d$\\(-])", clause)
    return parts[-1] if len(parts) > 1 and not _inside_math(" is ".join(parts[:-1])) else clause


def _inside_math(head: str) -> bool:
    return len(re.findall(r"(?<!\\)\$", head)) % 2 == 1 or head.count("\\(") > head.count("\\)")


def _last(text: str) -> Extracted | None:
    """The last line if it is an answer alone, else the last formula or number, whichever ends later."""
    lines = [line.strip() for line in text.strip().split("\n") if line.strip()]
    if lines and len(lines) > 1 and looks_bare(lines[-1].strip("*")) and re.search(r"\d|\\[a-zA-Z]", lines[-1]):
        return Extracted(lines[-1].strip("* "), "last_line")
    formula = number = None
    for formula in _MATH.finditer(text):
        pass
    for number in _NUMBER.finditer(text):
        pass
    if formula is not None and (number is None or formula.end() >= number.end() or formula.start() <= number.start() < formula.end()):
        body = next(group for group in formula.groups() if group is not None)
        return Extracted(body.strip(), "last_math")
    if number is not None and re.search(r"\d", number.group()):
        return Extracted(number.group().strip(), "last_number")
    letters = re.findall(r"(?<![\w'])\(?([A-E])\)?(?=[.,;:!\s]*$|[.,;:)](?!\w))", text)
    return Extracted(letters[-1], "last_letter") if letters else None
