r"""Find what models write around a problem: titles, solutions, commentary, chat.

    strip_additions("**Bees**\n\nHow many of 12 bees stay if 5 leave?\n\nAnswer: 7")    # "How many of 12 bees ..."
    check_additions("The rest is therefore 7. How many of 12 bees stay if 5 leave?")     # Rejected: contains_solution

An addition is cut only where this is safe: fences, quotation marks and a title around the problem, and a solution,
commentary or chat that starts after a question and is not followed by another question. Any other addition rejects the
problem. Strong patterns count anywhere in the text. Weak patterns (`Therefore`, `First, we`, `6 * 4 = 24`) also occur in
problems, so they count only after the question. docs/verification.md has the false alarms on MATH and GSM8K.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from personahub.core.errors import Rejected
from synth.contracts import addition_patterns as patterns

SOLUTION, COMMENTARY, SEVERAL, INSTRUCTION = "contains_solution", "commentary", "several_problems", "instruction"


class Addition(NamedTuple):
    """An addition: why it does not belong to the problem, and where it starts. `clear` tells strong from weak."""

    reason: str
    start: int
    clear: bool
    heads_section: bool


class _Piece(NamedTuple):
    text: str
    start: int
    fresh: bool  # starts a line


def _pieces(text: str) -> list[_Piece]:
    """Splits a text into sentences and labelled lines. Figures and tables are blanked."""
    text = patterns.BLOCKED.sub(lambda block: "x" * len(block.group()), text)
    pieces, start = [], 0
    for gap in [*patterns.BREAK.finditer(text), None]:
        end = gap.start() if gap else len(text)
        if text[start:end].strip():
            pieces.append(_Piece(text[start:end], start, "\n" in text[max(0, start - 3) : start] or start == 0))
        start = gap.end() if gap else end
    return pieces


def _asks(piece: str) -> bool:
    return bool(re.search(r"[?？]", piece) or patterns.COMMAND.search(piece) or patterns.MENTIONS.search(piece))


def _has_question(text: str) -> bool:
    return any(_asks(piece.text) for piece in _pieces(text))


def _restates(text: str, before: str) -> bool:
    """Whether a section headed `Question:` repeats what the text in front of it has asked."""
    label = patterns.RESTATED.match(text)
    if label is None or not patterns.ASKS_MARK.search(before):
        return False
    words = set(re.findall(r"\w{3,}", text[label.end() :].lower()))
    return len(words & set(re.findall(r"\w{3,}", before.lower()))) >= 0.6 * len(words)


def _classify(piece: _Piece, before: str, asked: bool, last: bool) -> Addition | None:
    """Returns the addition that a sentence starts, or None. `before` is the text in front of it."""
    text, start = re.sub(r"[ \t]+", " ", piece.text), piece.start
    if piece.fresh or asked or text[0] in "([":
        for reason, label in ((SOLUTION, patterns.SOLUTION_LABEL), (COMMENTARY, patterns.REMARK_LABEL)):
            if label.match(text):
                return Addition(reason, start, True, True)
    if asked and _restates(text, before):
        return Addition(COMMENTARY, start, True, True)
    if patterns.CLEAR_CHAT.match(text) or patterns.CLEAR_REMARK.match(text):
        return Addition(COMMENTARY, start, True, False)
    if patterns.ASKS_MARK.search(text):
        return None
    if patterns.CLEAR_SOLUTION.match(text):
        return Addition(SOLUTION, start, True, False)
    inside = text[0] == "(" or before.count("(") > before.count(")")
    worked = patterns.ARITHMETIC.search(text)
    poses = patterns.POSES.search(text) or (patterns.FINAL_COMMAND.match(text) and not worked)
    if not asked or inside or poses or patterns.CHOICE.search(before) or patterns.NOT_WORKED.match(text):
        return None
    bare = last and piece.fresh and patterns.BARE.match(text)
    return Addition(SOLUTION, start, False, False) if worked or bare or patterns.WEAK_SOLUTION.match(text) else None


def _find(text: str) -> tuple[Addition, bool] | None:
    """Returns the first addition in a text and whether it can be cut with all that follows, or None."""
    numbered = list(patterns.NUMBERED.finditer(text))
    pieces = _pieces(text)
    asked = False
    for index, piece in enumerate(pieces):
        if asked and any(label.start() >= piece.start - 1 for label in numbered):
            return Addition(SEVERAL, piece.start, True, True), False
        found = _classify(piece, text[: piece.start], asked, index == len(pieces) - 1)
        if found is None:
            asked = asked or _asks(piece.text)
            continue
        rest = [piece.text for piece in pieces[index + 1 :] if not patterns.CLEAR_CHAT.match(piece.text)]
        later = any(map(patterns.ASKS_MARK.search, rest)) or bool(rest and patterns.POSED.match(rest[-1]))
        if later and not found.clear:
            continue
        several = found.heads_section and any(label.start() > found.start for label in numbered)
        if several and asked:
            return Addition(SEVERAL, piece.start, True, True), False
        if found.heads_section:
            later = any(map(patterns.ASKS_MARK.search, rest)) or any(map(patterns.PART.match, rest))
            later = later or (bool(rest) and piece.text[0] == "(")
        return found, asked and not later
    return None


def _unwrap(text: str) -> str:
    """Removes fences, tags, quotation marks, a title and a label around a problem."""
    while True:
        before, text = text, text.strip()
        for wrapper in (patterns.FENCE, patterns.TAGGED):
            if (found := wrapper.match(text)) and _has_question(found.group(2)):
                text = found.group(2) + "\n\n" + text[found.end() :]
                text = text.strip()
        for opening, closing in patterns.QUOTES.items():
            inner = text[len(opening) : -len(closing)]
            if text.startswith(opening) and text.endswith(closing) and opening not in inner and closing not in inner:
                text = inner.strip()
        for heading in (patterns.TITLE, patterns.HEADING):
            found = heading.match(text)
            if found and _has_question(text[found.end() :]) and not ("$" in found.group() or "\\" in found.group()):
                text = text[found.end() :]
        if text.strip() == before.strip():
            return text.strip()


def strip_additions(text: str) -> str:
    """Returns the problem in a text without what surrounds it.

    Raises:
        Rejected: `contains_solution`, `commentary`, `several_problems` or `instruction`: an addition that cannot be
            cut safely.
    """
    text = _unwrap(text)
    while (found := _find(text)) is not None and found[1]:
        kept = patterns.RULE.sub("", text[: found[0].start]).rstrip()
        text = _unwrap(kept.removeprefix("**") if kept.count("**") % 2 else kept)
    check_additions(text)
    return text


def check_additions(text: str) -> None:
    """Checks that a problem has no solution, commentary or second problem, and is not preceded by another request.

    Raises:
        Rejected: `contains_solution`, `commentary`, `several_problems` or `instruction`.
    """
    text = _unwrap(text)
    sentences = [piece.text.strip() for piece in _pieces(text) if len(piece.text) > 25]
    if (again := next((s for s in sentences if sentences.count(s) > 2), None)) is not None:
        raise Rejected(SEVERAL, f"repeats {again[:80]!r}")
    first, *rest = [piece.text for piece in _pieces(text)] or [""]
    request = patterns.REQUEST.match(first.lower()) and patterns.REQUEST_WORDS.search(first)
    if any(map(_asks, rest)) and (patterns.REQUEST_LABEL.match(text) or (request and not re.search(r"[$\\=]", first))):
        raise Rejected(INSTRUCTION, first[:80])
    found = _find(text)
    if found is not None:
        raise Rejected(found[0].reason, text[found[0].start :].strip()[:80])


def asks(text: str) -> bool:
    """Whether a text asks anything at all: a question mark, an imperative such as `find`, a gap or choices."""
    return patterns.ASKS_AT_ALL.search(text) is not None


def find_stated_answer(problem: str, answer: str) -> str | None:
    """Returns the sentence of a problem that states the answer as a result, or None.

    A number that is merely given does not count: the sentence must say that something follows (`therefore`, `in total`,
    `=`), or stand after the question. Sentences with a condition or a question do not count either.
    """
    wanted = _plain(answer.strip())
    if not re.search(r"\d", wanted) or len(wanted) > 40:
        return None
    pieces = _pieces(problem)
    last = max(
        (i for i, piece in enumerate(pieces) if re.search(r"[?？]", piece.text) or patterns.COMMAND.search(piece.text)),
        default=len(pieces),
    )
    for index, piece in enumerate(pieces):
        text = piece.text
        if patterns.SUPPOSES.search(text) or patterns.CHOICES.search(text) or patterns.NOT_WORKED.match(text):
            continue
        if text[0] == "(" or (index <= last and patterns.COMMAND.match(text)):
            continue
        result = patterns.RESULT.search(text) or patterns.ARITHMETIC.search(text)
        if index > last and len(re.findall(r"\b[a-z]{2,}\b", text)) >= 3 and "=" not in text:
            begin = 0  # nothing is asked after it, and a question has been asked
        elif result is not None:
            begin = result.start() if text[result.start()].isdigit() else result.end()
        else:
            continue
        if any(_same(value.group(), wanted) for value in patterns.VALUES.finditer(text, begin)):
            return text.strip()
    return None


def check_stated_answer(problem: str, answer: str) -> None:
    """Checks that a problem does not state the agreed answer.

    Raises:
        Rejected: `answer_in_problem`; see `find_stated_answer`.
    """
    stated = find_stated_answer(problem, answer)
    if stated is not None:
        raise Rejected("answer_in_problem", f"the agreed answer is {answer}, and the problem says {stated[:160]!r}")


def _same(value: str, wanted: str) -> bool:
    value = _plain(value)
    try:
        return float(value) == float(wanted)
    except ValueError:
        return value == wanted


def _plain(number: str) -> str:
    return re.sub(r"[,$\\\s]|(?<=\\)[dt](?=frac)", "", number)
