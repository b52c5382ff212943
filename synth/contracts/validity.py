r"""Rules that find unsound problems from their text and from the agreed answer.

    check_problem("Prove that there are infinitely many primes.")          # Rejected: proof_only
    check_answer("What is the probability that it rains?", r"\frac{7}{5}")   # Rejected: contradictory

The rules are designed to rarely hit a sound problem (docs/verification.md has their false alarms on MATH
and GSM8K), so they miss most unsound ones. For example, no rule sees a missing number; it only shows in
samples that disagree.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from personahub.core.errors import Rejected
from synth.contracts.additions import check_additions

MOST_PARTS = 2  # sub-problems allowed in one problem

_SENTENCE = re.compile(r"(?<=[.?!])\s+|\n\s*\n")
_ASKS = (
    r"(?:what|which|who|why|how|find|compute|calculate|determine|evaluate|estimate|express|simplify|solve|give|state|is|are"
    r"|does|do|can|will)\b"
)
_PROVES = r"(?:prove|show|demonstrate|justify|verify|deduce|disprove)\b"
_PART = re.compile(
    rf"(?:^|[\s;.:?*])[(\[]?(?:[a-h]|i{{1,3}}|iv|v|[1-8])[)\].][\s*]+(?:{_ASKS}|{_PROVES})",
    re.IGNORECASE | re.MULTILINE,
)
_PROOF = re.compile(
    rf"^(?:\W*(?:then|now|hence|please)?\W*){_PROVES}(?:\s+\w+){{0,2}}\s+(?:that|if|why)\b", re.IGNORECASE
)
_QUESTION = re.compile(rf"\?|^\W*(?:then|now|also|and|finally)?\W*{_ASKS}|\b(?:and|to|then) {_ASKS}", re.IGNORECASE)
_SOURCE = r"(?:figure|diagram|graph|table|chart|picture|image|drawing|map)"
_ELSEWHERE = re.compile(
    rf"\b{_SOURCE}s? (?:\d+ )?(?:above|below|attached|provided|opposite)\b|\b(?:above|following|attached|accompanying) {_SOURCE}\b"
    rf"|\b(?:shown|pictured|depicted|illustrated|given|listed) (?:in|on|by) (?:the|this) {_SOURCE}\b",
    re.IGNORECASE,
)
_SHOWS_IT = re.compile(r"\[asy\]|\\begin\{(?:tabular|array|tikzpicture)|^\s*\|.*\||!\[|\\hline", re.MULTILINE)
_PLACEHOLDER = re.compile(
    r"(?<!\\)\[(?:insert|your|value|number|name|amount)\b[^\]]{0,40}\]|<(?:number|value|name)>|\bTBD\b", re.I
)


def check_problem(text: str) -> None:
    """Checks from the wording whether a problem can have exactly one answer.

    Raises:
        Rejected: `multi_part` (more than `MOST_PARTS` sub-problems), `proof_only`, or `missing_condition` (the problem
            refers to a figure or table that it does not have, or has a placeholder instead of a value), or a reason of
            `synth.contracts.additions.check_additions`.
    """
    parts = count_parts(text)
    if parts > MOST_PARTS:
        raise Rejected("multi_part", f"{parts} sub-problems")
    check_additions(text)
    sentences = _SENTENCE.split(text.strip())
    proof = next((sentence for sentence in sentences if _PROOF.search(sentence)), None)
    if proof is not None and not any(_QUESTION.search(s) for s in sentences if not _PROOF.search(s)):
        raise Rejected("proof_only", proof[:80])
    elsewhere = _ELSEWHERE.search(text)
    if elsewhere and not _SHOWS_IT.search(text):
        raise Rejected("missing_condition", f"the text has no {elsewhere.group()!r}")
    placeholder = _PLACEHOLDER.search(text)
    if placeholder:
        raise Rejected("missing_condition", f"{placeholder.group()!r} instead of a value")


def count_parts(text: str) -> int:
    """Counts labeled sub-problems such as `(a) Find ...`. Labeled conditions and choices do not count."""
    return len(_PART.findall(text))


# A sentence about the answer itself, and the conditions that it can state.
_ANSWER = (
    r"\b(?:the|this|that|its|your|our) (?:final |correct |right |exact |required |desired |resulting )?"
    r"(?:answer|result|solution|outcome)"
    r" (?:(?:is|must be|should be|has to be|turns out to be|will be|comes out(?: as)?|lies|to be)"
    r" (?:known to be |exactly |always )?|(?=exceeds|does not exceed|is not))"
)
_VALUE = r"\$?(-?\d[\d,]*(?:\.\d+)?|-?\\[dt]?frac\s*\{-?\d+\}\s*\{\d+\})"
_CONDITIONS: tuple[tuple[str, Callable[..., bool]], ...] = (
    (rf"(?:strictly )?(?:greater|more|larger|higher|bigger) than {_VALUE}", lambda x, a: x > a),
    (rf"(?:strictly )?(?:less|smaller|lower|fewer) than {_VALUE}", lambda x, a: x < a),
    (rf"(?:above|over|beyond) {_VALUE}", lambda x, a: x > a),
    (rf"(?:below|under) {_VALUE}", lambda x, a: x < a),
    (rf"exceeds {_VALUE}", lambda x, a: x > a),
    (rf"(?:at least|no less than|not less than|no smaller than) {_VALUE}", lambda x, a: x >= a),
    (rf"(?:at most|no more than|not more than|no greater than|no larger than) {_VALUE}", lambda x, a: x <= a),
    (rf"does not exceed {_VALUE}", lambda x, a: x <= a),
    (rf"between {_VALUE}\$? and {_VALUE}", lambda x, a, b: a <= x <= b),
    (r"(?:an )?even\b(?! though)", lambda x: x.denominator == 1 and x % 2 == 0),
    (r"(?:an )?odd\b", lambda x: x.denominator == 1 and x % 2 == 1),
    (r"(?:an? )?(?:integer|whole number)", lambda x: x.denominator == 1),
    (r"(?:a )?positive (?:integer|whole number)", lambda x: x.denominator == 1 and x > 0),
    (r"(?:a )?positive\b", lambda x: x > 0),
    (r"(?:a )?negative\b", lambda x: x < 0),
    (rf"(?:a multiple of|divisible by) {_VALUE}", lambda x, a: a != 0 and x % a == 0),
)
_STATED = tuple((re.compile(_ANSWER + condition, re.IGNORECASE), holds) for condition, holds in _CONDITIONS)
_PROBABILITY = re.compile(r"^\W*(?:then |so )?(?:what is|find|compute|determine) the probability\b", re.IGNORECASE)
_OTHER_FORM = re.compile(r"percent|\\?%|\bodds\b|m\s*\+\s*n|p\s*\+\s*q|a\s*\+\s*b|remainder|sum of its", re.IGNORECASE)
_COUNT = re.compile(r"^\W*how many\b", re.IGNORECASE)
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)(?:\s*/\s*(\d+))?|(-?)\\[dt]?frac\s*\{(-?\d+)\}\s*\{(\d+)\}")


def check_answer(problem: str, answer: str) -> None:
    """Checks the agreed answer against the conditions in the problem.

    Raises:
        Rejected: `contradictory`: the answer breaks a condition that the problem states for it (a bound, a sign,
            parity, divisibility), a probability is outside [0, 1], or a count is negative.
    """
    value = _number(answer)
    if value is None:
        return
    for condition, holds in _STATED:
        for stated in condition.finditer(problem):
            limits = [limit for limit in map(_number, stated.groups()) if limit is not None]
            if len(limits) == len(stated.groups()) and not holds(value, *limits):
                raise Rejected("contradictory", f"the agreed answer is {answer}, but {stated.group()!r}")
    question = _SENTENCE.split(problem.strip())[-1]
    if _PROBABILITY.search(question) and not _OTHER_FORM.search(problem) and not 0 <= value <= 1:
        raise Rejected("contradictory", f"the agreed answer is {answer}, which is not a probability")
    if _COUNT.search(question) and value < 0:
        raise Rejected("contradictory", f"the agreed answer is {answer}, which is not a count")


def _number(answer: str) -> Fraction | None:
    """Returns the value of an integer, decimal or fraction, or None for other answers."""
    found = _NUMBER.fullmatch(answer.strip().strip("$").strip().replace(",", ""))
    if found is None or len(answer) > 40:
        return None
    whole, below, sign, top, bottom = found.groups()
    if int(below or bottom or 1) == 0:
        return None
    if whole is not None:
        return Fraction(whole) / int(below or 1)
    return Fraction(int(top), int(bottom)) * (-1 if sign else 1)
