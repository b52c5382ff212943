"""Intermediate Algebra: roots, remainders, series, exponents, complex numbers."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from synth.simulated.grammar import Difficulty, Family, Scratch, Working, draw, product, require, tex, working

_SUBJECT = "Intermediate Algebra"


def _sample_root_squares(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    low = draw(rng, difficulty, (0, 0), (2, 15), (7, 60))
    high = low + draw(rng, difficulty, (0, 0), (1, 20), (5, 80))
    return {"total": low + high, "multiple": low * high + rng.randint(1, 9)}


def _work_root_squares(note: Scratch, total: int, multiple: int) -> Working:
    square = note(total * total)
    twice = note(2 * multiple)
    result = note(square - twice)
    return working(
        result, f"{product(total, total, square)}.", f"2 * {multiple} = {twice}.", f"{square} - {twice} = {result}."
    )


def _sample_poly_remainder(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {
        "linear": draw(rng, difficulty, (2, 9), (5, 40), (15, 99)),
        "constant": draw(rng, difficulty, (1, 9), (10, 99), (50, 800)),
        "root": draw(rng, difficulty, (2, 5), (4, 20), (11, 60)),
    }


def _work_poly_remainder(note: Scratch, linear: int, constant: int, root: int) -> Working:
    square = note(root * root)
    middle = note(linear * root)
    part = note(square + middle)
    rest = note(part + constant)
    return working(
        rest,
        f"{product(root, root, square)}.",
        f"{product(linear, root, middle)}.",
        f"{square} + {middle} = {part}.",
        f"{part} + {constant} = {rest}.",
    )


def _sample_series(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    mean = draw(rng, difficulty, (3, 9), (15, 80), (60, 400))
    first = rng.randint(1, mean - 1)
    return {
        "terms": draw(rng, difficulty, (3, 9), (10, 40), (25, 150)),
        "first": first,
        "last": 2 * mean - first + (difficulty == "hard"),
    }


def _work_series(note: Scratch, terms: int, first: int, last: int) -> Working:
    pair = note(first + last)
    mean = note(Fraction(pair, 2))
    total = note(mean * terms)
    return working(
        total, f"{first} + {last} = {pair}.", f"{pair} / 2 = {tex(mean)}.", f"{tex(mean)} * {terms} = {tex(total)}."
    )


def _sample_exponents(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    inner, outer = draw(rng, difficulty, (2, 9), (4, 20), (8, 40)), draw(rng, difficulty, (2, 9), (3, 12), (6, 30))
    return {
        "base": rng.choice((2, 3, 5, 7)),
        "inner": inner,
        "outer": outer,
        "less": rng.randint(1, min(9, inner * outer - 1) if difficulty == "easy" else inner * outer - 1),
    }


def _work_exponents(note: Scratch, base: int, inner: int, outer: int, less: int) -> Working:
    power = note(inner * outer)
    result = note(power - less)
    return working(
        result,
        f"{product(inner, outer, power)}.",
        f"{power} - {less} = {result}.",
        f"The power is ${base}^{{{result}}}$.",
    )


def _sample_discriminant(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {
        "a": draw(rng, difficulty, (1, 5), (2, 15), (7, 40)),
        "b": draw(rng, difficulty, (5, 12), (7, 40), (21, 120)),
        "c": draw(rng, difficulty, (1, 5), (2, 20), (8, 60)),
    }


def _work_discriminant(note: Scratch, a: int, b: int, c: int) -> Working:
    square = note(b * b)
    twice = note(a * c)
    four = note(4 * twice)
    result = note(square - four)
    return working(
        result,
        f"{product(b, b, square)}.",
        f"{product(a, c, twice)}.",
        f"4 * {twice} = {four}.",
        f"{square} - {four} = {result}.",
    )


def _sample_complex(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {name: draw(rng, difficulty, (0, 0), (1, 9), (5, 30)) for name in ("a", "b", "c", "d")}


def _work_complex(note: Scratch, a: int, b: int, c: int, d: int) -> Working:
    left, right = note(a * c), note(b * d)
    real = note(left + right)
    first, second = note(b * c), note(a * d)
    imaginary = note(first - second)
    result = _complex_tex(real, imaginary)
    return working(
        result,
        f"The real part is {a} * {c} + {b} * {d} = {left} + {right} = {real}, since $i^2 = -1$.",
        f"The imaginary part is {b} * {c} - {a} * {d} = {first} - {second} = {imaginary}.",
        f"The product is ${result}$.",
    )


def _complex_tex(real: int, imaginary: int) -> str:
    if imaginary == 0:
        return str(real)
    size = "" if abs(imaginary) == 1 else str(abs(imaginary))
    return f"{real} {'+' if imaginary > 0 else '-'} {size}i"


def _sample_geometric(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {
        "first": draw(rng, difficulty, (0, 0), (1, 9), (3, 30)),
        "ratio": draw(rng, difficulty, (0, 0), (2, 4), (2, 6)),
        "terms": draw(rng, difficulty, (0, 0), (4, 7), (5, 9)),
    }


def _work_geometric(note: Scratch, first: int, ratio: int, terms: int) -> Working:
    require(0 < terms <= 100, "at most 100 terms")
    power = note(ratio**terms)
    over = note(power - 1)
    scaled = note(first * over)
    total = note(Fraction(scaled, ratio - 1))
    return working(
        total,
        f"The sum of a geometric series is the first term times (ratio^{terms} - 1) / (ratio - 1).",
        f"{ratio}^{terms} = {power} and {power} - 1 = {over}.",
        f"{product(first, over, scaled)}, and {scaled} / {ratio - 1} = {tex(total)}.",
    )


def _sample_infinite(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    bottom = draw(rng, difficulty, (0, 0), (2, 9), (5, 30))
    return {
        "first": draw(rng, difficulty, (0, 0), (2, 20), (7, 90)),
        "top": rng.randint(1, bottom - 1),
        "bottom": bottom,
    }


def _work_infinite(note: Scratch, first: int, top: int, bottom: int) -> Working:
    rest = note(1 - Fraction(top, bottom))
    total = note(first / rest)
    return working(
        total,
        rf"The ratio $\frac{{{top}}}{{{bottom}}}$ is less than 1, so the series has the sum first / (1 - ratio).",
        rf"$1 - \frac{{{top}}}{{{bottom}}} = {tex(rest)}$.",
        f"{first} divided by ${tex(rest)}$ is ${tex(total)}$.",
    )


FAMILIES = (
    Family(
        "root_squares",
        _SUBJECT,
        (
            "For <thing> at <place>, <who> needs both roots of $x^2 - <total>x + <multiple?> = 0$. "
            "What is the sum of the squares of the roots?",
            "<Who> finds the equation $x^2 - <total>x + <multiple?> = 0$ in a report on <thing> at <place>. "
            "If its roots are $r$ and $s$, find $r^2 + s^2$.",
        ),
        "The squares of the roots add up to the square of their sum minus twice their product.",
        _sample_root_squares,
        _work_root_squares,
        "# r + s and r * s stand in the equation\nanswer = <total> ** 2 - 2 * <multiple>",
        ("medium", "hard"),
    ),
    Family(
        "poly_remainder",
        _SUBJECT,
        (
            "<Who> tracks <thing> at <place> with $x^2 + <linear>x + <constant?>$. "
            "What is the remainder when this polynomial is divided by $x - <root>$?",
            "Find the remainder of the division of $x^2 + <linear>x + <constant?>$ by $x - <root>$, which <who> uses to "
            "label <thing> at <place>.",
        ),
        "By the remainder theorem, put the root into the polynomial.",
        _sample_poly_remainder,
        _work_poly_remainder,
        "x = <root>\nanswer = x ** 2 + <linear> * x + <constant>",
    ),
    Family(
        "series",
        _SUBJECT,
        (
            "The <terms?> numbers on <thing> at <place> form an arithmetic sequence from <first> to <last>. "
            "<Who> adds them all up. What is the sum?",
            "<Who> finds <terms?> prices for <thing> at <place>, an arithmetic sequence that begins with <first> and ends "
            "with <last> dollars. What do they add up to?",
        ),
        "The sum is the mean of the first and last terms times the number of terms.",
        _sample_series,
        _work_series,
        "from fractions import Fraction\n\nanswer = Fraction(<first> + <last>, 2) * <terms>",
    ),
    Family(
        "exponents",
        _SUBJECT,
        (
            "A code for <thing> at <place> uses $(<base>^{<inner>})^{<outer?>} / <base>^{<less>}$. <Who> writes it as "
            "$<base>^n$. What is $n$?",
            r"<Who> labels <thing> at <place> with $<base>^n$, where $<base>^n \cdot <base>^{<less>} = "
            "(<base>^{<inner>})^{<outer?>}$. Find $n$.",
        ),
        "Multiply the exponents of a power of a power; subtract when dividing.",
        _sample_exponents,
        _work_exponents,
        "answer = <inner> * <outer> - <less>",
    ),
    Family(
        "discriminant",
        _SUBJECT,
        (
            "The path of <thing> thrown by <who> at <place> follows $<a>x^2 + <b>x + <c?>$. "
            "What is the discriminant of this quadratic?",
            "<Who> studies <thing> at <place> and meets the quadratic $<a>x^2 + <b>x + <c?>$. "
            "Compute its discriminant.",
        ),
        "The discriminant is b squared minus 4ac.",
        _sample_discriminant,
        _work_discriminant,
        "answer = <b> ** 2 - 4 * <a> * <c>",
    ),
    Family(
        "complex_product",
        _SUBJECT,
        (
            "To rotate pictures of <thing> at <place>, <who> multiplies the complex numbers $<a> + <b>i$ and "
            "$<c> - <d?>i$. What is the product, in the form $p + qi$?",
            "Simplify $(<a> + <b>i)(<c> - <d?>i)$, where $i^2 = -1$, as <who> does to draw <thing> for <place>.",
        ),
        "Multiply out and collect real and imaginary parts.",
        _sample_complex,
        _work_complex,
        "import sympy\n\nvalue = sympy.expand((<a> + <b> * sympy.I) * (<c> - <d> * sympy.I))\n"
        'answer = str(value).replace("*I", "i").replace("I", "i")',
        ("medium", "hard"),
    ),
    Family(
        "geometric",
        _SUBJECT,
        (
            "In the first month <who> sells <first?> <thing> at <place>, and in every later month <ratio> times as many "
            "as in the month before. How many are sold in the first <terms> months altogether?",
            "A geometric series for <thing> at <place> starts with <first?> and has common ratio <ratio>, notes <who>. "
            "What is the sum of its first <terms> terms?",
        ),
        "Use the formula for a finite geometric series.",
        _sample_geometric,
        _work_geometric,
        "answer = sum(<first> * <ratio> ** i for i in range(<terms>))",
        ("medium", "hard"),
    ),
    Family(
        "infinite_series",
        _SUBJECT,
        (
            r"<Who> drops <thing> at <place>. The first bounce reaches <first?> feet, and each later one "
            r"$\frac{<top>}{<bottom>}$ of the one before. What is the sum, in feet, of all the bounce heights?",
            r"An infinite geometric series has first term <first?> and common ratio $\frac{<top>}{<bottom>}$; <who> uses "
            "it to price <thing> at <place>. Find its sum.",
        ),
        "Use the formula for an infinite geometric series.",
        _sample_infinite,
        _work_infinite,
        "from fractions import Fraction\n\nanswer = <first> / (1 - Fraction(<top>, <bottom>))",
        ("medium", "hard"),
    ),
)
