"""Checks whether a program computes its answer from the numbers of its problem.

    flaw_of_program("A crate holds 12 jars. How many do 7 crates hold?", "print(12 * 7)")     # None
    flaw_of_program("... the same ...", "print(84)")              # "it computes nothing"
    flaw_of_program("... the same ...", "print(12 * 9)")          # "9 is not in the problem"

A program is worth more than another chain of thought because an interpreter does its arithmetic. This is not
true for two kinds of programs that models also write: one prints a result that was worked out in its
comments, and one fills a gap in the problem with an invented number. Both tend to agree with chains of
thought that made the same mistake.

A literal is known if the problem contains it, in digits or in words, if a word of the problem implies it
(a week has 7 days, a triangle 3 sides), or if it is common in formulas (0, 1, 2, powers of ten). Correct
programs sometimes use other numbers; docs/verification.md says how often.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fractions import Fraction

COMPUTES_NOTHING = "it computes nothing"

_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?!\d)|\d*\.\d+|\d+")
_WORD = re.compile(r"[a-z]+")
_FORMULAS = frozenset((0, 1, 2, Fraction(1, 2), *(10**power for power in range(1, 13))))
_COUNTED = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty"
)
_TENS = "thirty forty fifty sixty seventy eighty ninety"
_ORDINALS = "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_WORDS: dict[str, tuple[int, ...]] = {
    **{word: (value,) for value, word in enumerate(_COUNTED.split())},
    **{word: (10 * tens,) for tens, word in enumerate(_TENS.split(), 3)},
    **{word: (value,) for value, word in enumerate(_ORDINALS.split(), 3)},
    **dict.fromkeys(("triple", "thrice", "triplet", "trio", "triangle", "triangular"), (3, 180)),
    **dict.fromkeys(("quarter", "quadruple", "rectangle", "rectangular", "square", "parallelogram"), (4, 90, 360)),
    **dict.fromkeys(("pentagon", "pentagonal"), (5, 540)),
    **dict.fromkeys(("hexagon", "hexagonal"), (6, 720)),
    **dict.fromkeys(("octagon", "octagonal"), (8, 1080)),
    **dict.fromkeys(("polygon", "angle", "degree", "circle", "circular", "pie", "rotate"), (90, 180, 360)),
    **dict.fromkeys(("cube", "cubic", "cubed", "prism", "box"), (3, 4, 6, 8, 12)),
    **dict.fromkeys(("sphere", "spherical", "ball", "cone", "pyramid", "hemisphere"), (3, 4)),
    **dict.fromkeys(("die", "dice"), (6, 36)),
    **dict.fromkeys(("card", "deck"), (4, 13, 26, 52)),
    **dict.fromkeys(("coin", "penny", "nickel", "dime", "cent"), (5, 25)),
    **dict.fromkeys(("second", "minute", "hour", "noon", "midnight", "clock", "am", "pm"), (12, 24, 60, 3600)),
    **dict.fromkeys(("day", "daily", "week", "weekly", "weekday", "weekend"), (5, 7, 24)),
    **dict.fromkeys(("month", "monthly", "year", "yearly", "annual", "annually"), (3, 4, 7, 12, 30, 31, 52, 365)),
    **dict.fromkeys(("january", "february", "march", "april", "june", "august", "december"), (28, 29, 30, 31)),
    **dict.fromkeys(("dozen", "foot", "feet", "inch", "inches"), (12,)),
    **dict.fromkeys(("yard", "mile"), (3, 36, 1760, 5280)),
    **dict.fromkeys(("ounce", "pound", "cup", "pint", "quart", "gallon"), (4, 8, 16)),
    **dict.fromkeys(("alphabet", "letter"), (26,)),
    **dict.fromkeys(("digit",), (9,)),
    **dict.fromkeys(("decade",), (10,)),
    **dict.fromkeys(("quadratic", "discriminant", "parabola"), (4,)),
}
# Calls that convert a number or print it.
_FORMS = frozenset(("print", "int", "float", "str", "Fraction", "Rational", "Integer", "Float", "Decimal", "sympify"))


def flaw_of_program(problem: str, program: str) -> str | None:
    """Returns why a program that ran is not evidence for its answer, or None if it is."""
    try:
        tree = ast.parse(program)
        literals = list(_literals(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # another version of Python ran it
        return "it cannot be read"
    if not _computes(tree):
        return COMPUTES_NOTHING
    known = _numbers_known(problem)
    invented = next((value for value in literals if value not in known), None)
    return None if invented is None else f"{str(invented)[:20]} is not in the problem"


def _computes(tree: ast.AST) -> bool:
    """Returns whether the program calculates. It has an operation, or a call that does more than convert."""
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp | ast.AugAssign | ast.For | ast.While | ast.comprehension):
            return True
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            # Fraction(3, 4) divides, and int("102", 3) converts a base
            if name not in _FORMS or (name != "print" and len(node.args) > 1):
                return True
    return False


def _literals(tree: ast.AST) -> Iterator[Fraction]:
    """Yields the number literals of a program, without signs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield abs(Fraction(repr(node.value)))


def _numbers_known(problem: str) -> set[Fraction]:
    text = problem.lower()
    known = {Fraction(digits.replace(",", "")) for digits in _NUMBER.findall(text)}
    for word in _WORD.findall(text):
        known.update(map(Fraction, _WORDS.get(word) or _WORDS.get(word.removesuffix("s")) or ()))
    # A program may write a percentage as a share, as the remainder, or as a growth factor.
    known |= {share for value in known for share in (value / 100, abs(1 - value / 100), 1 + value / 100, 100 - value)}
    return known | _listed(text) | {Fraction(value) for value in _FORMULAS}


def _listed(text: str) -> set[Fraction]:
    """Returns how many numbers the problem lists, if it asks for their mean."""
    given = len(_NUMBER.findall(text))
    return {Fraction(given)} if re.search(r"\b(?:mean|average)\b", text) else set()
