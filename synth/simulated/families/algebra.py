"""Algebra: linear equations, sequences, lines, functions and quadratics."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt
from random import Random

from synth.simulated.grammar import Difficulty, Family, Scratch, Working, draw, product, signed, tex, working

_SUBJECT = "Algebra"


def _sample_linear(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    factor = draw(rng, difficulty, (2, 9), (6, 25), (13, 60))
    shift = draw(rng, difficulty, (1, 9), (10, 99), (60, 400))
    root = draw(rng, difficulty, (2, 9), (5, 40), (15, 99))
    return {"factor": factor, "shift": shift, "total": factor * root + shift}


def _work_linear(note: Scratch, factor: int, shift: int, total: int) -> Working:
    scaled = note(total - shift)
    root = note(Fraction(scaled, factor))
    return working(root, f"{total} - {shift} = {scaled}.", f"{scaled} / {factor} = {tex(root)}.")


def _sample_term(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {
        "first": draw(rng, difficulty, (1, 9), (5, 80), (-90, 200)),
        "step": draw(rng, difficulty, (2, 9), (3, 25), (11, 70)),
        "place_no": draw(rng, difficulty, (3, 10), (12, 60), (40, 250)),
    }


def _work_term(note: Scratch, first: int, step: int, place_no: int) -> Working:
    steps = note(place_no - 1)
    rise = note(steps * step)
    term = note(first + rise)
    return working(term, f"{place_no} - 1 = {steps}.", f"{product(steps, step, rise)}.", f"{first} + {rise} = {term}.")


def _sample_slope(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    run = draw(rng, difficulty, (2, 9), (2, 15), (4, 40))
    rise = run * rng.randint(2, 9) if difficulty == "easy" else draw(rng, difficulty, (0, 0), (-20, 30), (-90, 90))
    x, y = (draw(rng, difficulty, (1, 9), (-9, 12), (-40, 40)) for _ in range(2))
    return {"x1": x, "y1": y, "x2": x + run, "y2": y + rise}


def _work_slope(note: Scratch, x1: int, y1: int, x2: int, y2: int) -> Working:
    rise, run = note(y2 - y1), note(x2 - x1)
    slope = note(Fraction(rise, run))
    return working(
        slope,
        f"The rise is {y2} - {signed(y1)} = {rise}.",
        f"The run is {x2} - {signed(x1)} = {run}.",
        f"The slope is {rise} / {run} = {tex(slope)}.",
    )


def _sample_parts(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    small = draw(rng, difficulty, (2, 40), (15, 150), (120, 900))
    more = draw(rng, difficulty, (1, 9), (7, 120), (55, 700))
    return {"total": 2 * small + more, "more": more}


def _work_parts(note: Scratch, total: int, more: int) -> Working:
    double = note(total - more)
    small = note(Fraction(double, 2))
    return working(small, f"{total} - {more} = {double}.", f"{double} / 2 = {tex(small)}.")


def _sample_compose(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {
        "factor": draw(rng, difficulty, (2, 9), (4, 20), (11, 45)),
        "shift": draw(rng, difficulty, (1, 9), (5, 60), (20, 300)),
        "inner": draw(rng, difficulty, (1, 4), (2, 20), (10, 60)),
        "at": draw(rng, difficulty, (1, 5), (3, 25), (10, 90)),
    }


def _work_compose(note: Scratch, factor: int, shift: int, inner: int, at: int) -> Working:
    middle = note(at + inner)
    scaled = note(factor * middle)
    value = note(scaled + shift)
    return working(
        value,
        f"{at} + {inner} = {middle}.",
        f"{product(factor, middle, scaled)}.",
        f"{scaled} + {shift} = {value}.",
    )


def _sample_expand(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {name: draw(rng, difficulty, (0, 0), (2, 9), (6, 25)) for name in ("a", "b", "c", "d")}


def _work_expand(note: Scratch, a: int, b: int, c: int, d: int) -> Working:
    square, outer, inner, constant = note(a * c), note(a * d), note(b * c), note(b * d)
    linear = note(outer + inner)
    result = f"{square}x^2 + {linear}x + {constant}"
    return working(
        result,
        f"The square term is {a} * {c} = {square}, and the constant is {b} * {d} = {constant}.",
        f"The cross terms are {a} * {d} = {outer} and {b} * {c} = {inner}, so {outer} + {inner} = {linear}.",
        f"Together the product is ${result}$.",
    )


def _sample_inequality(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    low = draw(rng, difficulty, (0, 0), (1, 15), (6, 40))
    high = low + draw(rng, difficulty, (0, 0), (1, 15), (3, 60))
    return {"total": low + high, "multiple": low * high}


def _work_inequality(note: Scratch, total: int, multiple: int) -> Working:
    squared = note(total * total - 4 * multiple)
    root = isqrt(max(squared, 0))
    low, high = note(Fraction(total - root, 2)), note(Fraction(total + root, 2))
    return working(
        f"[{tex(low)},{tex(high)}]",
        f"The discriminant is {total} * {total} - 4 * {multiple} = {squared}, whose square root is {root}.",
        f"The zeros are ({total} - {root}) / 2 = {tex(low)} and ({total} + {root}) / 2 = {tex(high)}.",
        "The parabola opens upward, so the expression is at most 0 between its zeros, both included.",
    )


FAMILIES = (
    Family(
        "linear",
        _SUBJECT,
        (
            "<Who> writes the equation $<factor>x + <shift?> = <total>$ on a card about <thing> at <place>. "
            "What value of $x$ makes it true?",
            "At <place>, <who> packs <thing> into <factor> equal boxes. With <shift?> more in a bag there are <total>. "
            "How many are in each box?",
            "The price of <thing> at <place> solves $<factor>x + <shift?> = <total>$, says <who>. Find $x$.",
        ),
        "Undo the addition, then the multiplication.",
        _sample_linear,
        _work_linear,
        "from fractions import Fraction\n\nanswer = Fraction(<total> - <shift>, <factor>)",
    ),
    Family(
        "term",
        _SUBJECT,
        (
            "In week 1 <who> has <first> <thing> at <place>. Every week adds <step?> more. "
            "How many are there in week <place_no>?",
            "<Who> lays out <thing> at <place>: <first> in row 1, and <step?> more in each new row than in the last. "
            "How many are in row <place_no>?",
        ),
        "Count the steps after the first one, and add that many increases.",
        _sample_term,
        _work_term,
        "answer = <first> + (<place_no> - 1) * <step>",
    ),
    Family(
        "slope",
        _SUBJECT,
        (
            "On a map of <place>, <who> draws a line for <thing> through $(<x1>, <y1>)$ and $(<x2>, <y2?>)$. "
            "What is the slope of this line?",
            "<Who> plots sales of <thing> at <place> as a straight line from $(<x1>, <y1>)$ to $(<x2>, <y2?>)$. "
            "Find the slope of the line.",
        ),
        "The slope is rise over run.",
        _sample_slope,
        _work_slope,
        "from fractions import Fraction\n\nanswer = Fraction(<y2> - (<y1>), <x2> - (<x1>))",
    ),
    Family(
        "parts",
        _SUBJECT,
        (
            "<Who> sorts <total> <thing> at <place> into a big pile and a small pile. "
            "The big pile has <more?> more. How many are in the small pile?",
            "Two shelves at <place> hold <total> <thing> together. <Who> sees that one shelf holds <more?> more "
            "than the other. How many does the smaller shelf hold?",
        ),
        "Take away the difference, then halve.",
        _sample_parts,
        _work_parts,
        "from fractions import Fraction\n\nanswer = Fraction(<total> - <more>, 2)",
    ),
    Family(
        "compose",
        _SUBJECT,
        (
            "For <thing> at <place>, <who> uses $f(x) = <factor>x + <shift?>$ and $g(x) = x + <inner>$. "
            "What is $f(g(<at>))$?",
            "<Who> models demand for <thing> at <place> by $f(x) = <factor>x + <shift?>$ with $g(x) = x + <inner>$. "
            "Compute $f(g(<at>))$.",
        ),
        "Work out the inner function first.",
        _sample_compose,
        _work_compose,
        "inner = <at> + <inner>\nanswer = <factor> * inner + <shift>",
    ),
    Family(
        "expand",
        _SUBJECT,
        (
            "A poster of <thing> that <who> designs for <place> measures $<a>x + <b>$ by $<c>x + <d?>$ centimetres. "
            "Write its area as a polynomial in $x$, expanded.",
            "<Who> describes the profit from <thing> at <place> by the product $(<a>x + <b>)(<c>x + <d?>)$. "
            "Expand the product.",
        ),
        "Multiply every term by every term.",
        _sample_expand,
        _work_expand,
        'import sympy\n\nx = sympy.symbols("x")\nanswer = sympy.expand((<a>*x + <b>) * (<c>*x + <d>))',
        ("medium", "hard"),
    ),
    Family(
        "inequality",
        _SUBJECT,
        (
            r"<Who> finds that <thing> at <place> make no loss when $x^2 - <total>x + <multiple?> \le 0$. "
            "For which values of $x$ is this true? Express your answer in interval notation.",
            r"Solve $x^2 - <total>x + <multiple?> \le 0$, the condition under which <who> lends <thing> to <place>. "
            "Give the solution set as an interval.",
        ),
        "Find the zeros of the quadratic with the quadratic formula.",
        _sample_inequality,
        _work_inequality,
        "from math import isqrt\n\nroot = isqrt(<total>**2 - 4 * <multiple>)\n"
        'answer = f"[{(<total> - root) // 2}, {(<total> + root) // 2}]"',
        ("medium", "hard"),
    ),
)
