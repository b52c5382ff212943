"""Precalculus: vectors, matrices, trigonometry and motion in the plane."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from synth.simulated.grammar import (
    Difficulty,
    Family,
    Scratch,
    Working,
    draw,
    product,
    require,
    root_tex,
    signed,
    working,
)

_SUBJECT = "Precalculus"


def _sample_dot(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    a, c = (draw(rng, difficulty, (2, 9), (-12, 20), (-60, 90)) for _ in range(2))
    b, d = (draw(rng, difficulty, (1, 3), (-12, 20), (-60, 90)) for _ in range(2))
    return {"a": a, "b": b, "c": c, "d": d}


def _work_dot(note: Scratch, a: int, b: int, c: int, d: int) -> Working:
    left, right = note(a * c), note(b * d)
    total = note(left + right)
    return working(
        total,
        f"{a} * {signed(c)} = {left}.",
        f"{b} * {signed(d)} = {right}.",
        f"{left} + {signed(right)} = {total}.",
    )


def _sample_determinant(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    a, d = (draw(rng, difficulty, (3, 9), (-12, 20), (-60, 90)) for _ in range(2))
    b, c = (draw(rng, difficulty, (1, 3), (-12, 20), (-60, 90)) for _ in range(2))
    return {"a": a, "b": b, "c": c, "d": d}


def _work_determinant(note: Scratch, a: int, b: int, c: int, d: int) -> Working:
    left, right = note(a * d), note(b * c)
    value = note(left - right)
    return working(
        value,
        f"{a} * {signed(d)} = {left}.",
        f"{b} * {signed(c)} = {right}.",
        f"{left} - {signed(right)} = {value}.",
    )


def _sample_wave(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {
        "level": draw(rng, difficulty, (1, 9), (12, 90), (-80, 400)),
        "scale": draw(rng, difficulty, (2, 9), (3, 25), (11, 60)),
        "swing": draw(rng, difficulty, (2, 9), (4, 30), (13, 80)),
    }


def _work_wave(note: Scratch, level: int, scale: int, swing: int) -> Working:
    rise = note(scale * swing)
    top = note(rise + level)
    return working(top, f"{product(scale, swing, rise)}.", f"{rise} + {signed(level)} = {top}.")


def _sample_third_side(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {name: draw(rng, difficulty, (0, 0), (7, 40), (25, 150)) for name in ("first", "second")}


def _work_third_side(note: Scratch, first: int, second: int) -> Working:
    left, right, between = note(first * first), note(second * second), note(first * second)
    total = note(left + right)
    square = note(total - between)
    return working(
        square,
        f"{product(first, first, left)}.",
        f"{product(second, second, right)}.",
        f"{product(first, second, between)}.",
        f"{left} + {right} = {total} and {total} - {between} = {square}.",
    )


def _sample_motion(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    x, y = (draw(rng, difficulty, (1, 9), (-20, 20), (-90, 90)) for _ in range(2))
    dx, dy = (draw(rng, difficulty, (2, 9), (-9, 15), (-30, 40)) for _ in range(2))
    return {"x": x, "y": y, "dx": dx, "dy": dy, "time": draw(rng, difficulty, (2, 6), (5, 20), (12, 60))}


def _work_motion(note: Scratch, x: int, y: int, dx: int, dy: int, time: int) -> Working:
    across, up = note(dx * time), note(dy * time)
    end_x, end_y = note(x + across), note(y + up)
    return working(
        f"({end_x},{end_y})",
        f"{dx} * {time} = {across} and {x} + {signed(across)} = {end_x}.",
        f"{dy} * {time} = {up} and {y} + {signed(up)} = {end_y}.",
    )


# Angles with a simple sine. Twice the sine is the square root of this number.
_SINE_SQUARES = {0: 0, 30: 1, 45: 2, 60: 3, 90: 4}


def _sample_sine(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    turns = draw(rng, difficulty, (0, 0), (0, 1), (2, 12))
    return {
        "angle": 360 * turns + rng.choice((120, 135, 150, 210, 225, 240, 300, 315, 330)),
        "factor": 2 * draw(rng, difficulty, (0, 0), (1, 15), (8, 90)),
    }


def _work_sine(note: Scratch, angle: int, factor: int) -> Working:
    turn = note(angle % 360)
    reference = min(turn % 180, 180 - turn % 180)
    require(reference in _SINE_SQUARES, f"the sine of {angle} degrees has no simple exact form")
    half = note(factor // 2)
    signed_half = half if turn < 180 else -half
    size = root_tex(_SINE_SQUARES[reference], signed_half)
    sign = "positive" if turn < 180 else "negative"
    return working(
        size,
        f"Without full turns the angle is {turn} degrees, where the sine is {sign}.",
        rf"Its reference angle is {reference} degrees, and the sine of that is $\frac{{{root_tex(_SINE_SQUARES[reference])}}}{{2}}$.",
        f"Half of {factor} is {half}, so the value is ${size}$.",
    )


def _sample_radians(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {
        "each": draw(rng, difficulty, (0, 0), (1, 16), (7, 60)) * (5 if difficulty == "medium" else 3),
        "times": draw(rng, difficulty, (0, 0), (2, 9), (5, 25)),
    }


def _work_radians(note: Scratch, each: int, times: int) -> Working:
    degrees = note(each * times)
    share = note(Fraction(degrees, 180))
    result = _pi_tex(share)
    return working(
        result,
        f"Together the turns make {product(each, times, degrees)} degrees.",
        rf"180 degrees are $\pi$ radians, so this is $\frac{{{degrees}}}{{180}}\pi = {result}$.",
    )


def _pi_tex(share: Fraction) -> str:
    top = r"\pi" if share.numerator == 1 else rf"{share.numerator}\pi"
    return top if share.denominator == 1 else rf"\frac{{{top}}}{{{share.denominator}}}"


def _sample_length(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {name: draw(rng, difficulty, (0, 0), (1, 9), (-30, 30)) for name in ("a", "b", "c")} | {
        "scale": rng.randint(2, 9)
    }


def _work_length(note: Scratch, a: int, b: int, c: int, scale: int) -> Working:
    left, middle, right = note(a * a), note(b * b), note(c * c)
    square = note(left + middle + right)
    length = root_tex(square, scale)
    return working(
        length,
        f"The squared length is {signed(a)}^2 + {signed(b)}^2 + {signed(c)}^2 = {left} + {middle} + {right} = {square}.",
        rf"So the vector has length ${root_tex(square)}$, and {scale} times that is ${length}$.",
    )


def _sample_transform(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {name: draw(rng, difficulty, (0, 0), (-6, 9), (-20, 30)) for name in ("a", "b", "c", "d", "x", "y")}


def _work_transform(note: Scratch, a: int, b: int, c: int, d: int, x: int, y: int) -> Working:
    top = note(a * x + b * y)
    bottom = note(c * x + d * y)
    return working(
        f"({top},{bottom})",
        f"The first coordinate is {a} * {signed(x)} + {signed(b)} * {signed(y)} = {a * x} + {signed(b * y)} = {top}.",
        f"The second coordinate is {c} * {signed(x)} + {signed(d)} * {signed(y)} = {c * x} + {signed(d * y)} = {bottom}.",
    )


FAMILIES = (
    Family(
        "dot",
        _SUBJECT,
        (
            "<Who> rates <thing> with the vector $(<a>, <b?>)$ and <place> with $(<c>, <d>)$. "
            "What is the dot product of the two vectors?",
            "Compute the dot product of $(<a>, <b?>)$ and $(<c>, <d>)$, with which <who> compares <thing> at <place>.",
        ),
        "Multiply matching entries and add.",
        _sample_dot,
        _work_dot,
        "answer = <a> * <c> + <b> * <d>",
    ),
    Family(
        "determinant",
        _SUBJECT,
        (
            r"A table of <thing> at <place> is the matrix $\begin{pmatrix} <a> & <b?> \\ <c> & <d> \end{pmatrix}$. "
            "<Who> needs its determinant. What is it?",
            r"<Who> sorts <thing> at <place> into $\begin{pmatrix} <a> & <b?> \\ <c> & <d> \end{pmatrix}$. "
            "Find the determinant of this matrix.",
        ),
        "Multiply along the diagonals and subtract.",
        _sample_determinant,
        _work_determinant,
        "answer = <a> * <d> - <b> * <c>",
    ),
    Family(
        "wave",
        _SUBJECT,
        (
            r"<Who> models the height of <thing> at <place> by $<level> + <scale>(<swing?> \sin t)$. "
            "What is the maximum height?",
            r"At hour $t$, <place> earns $<level> + <scale>(<swing?> \sin t)$ dollars with <thing>, says <who>. "
            "What is the greatest possible number of dollars?",
        ),
        "The sine is at most 1, so multiply the factors and add the constant.",
        _sample_wave,
        _work_wave,
        "# the sine is at most 1\nanswer = <level> + <scale> * <swing>",
    ),
    Family(
        "third_side",
        _SUBJECT,
        (
            "<Who> ties <thing> to a triangle at <place>. Two sides measure <first> and <second?>, and the angle "
            "between them is sixty degrees. What is the square of the third side?",
            "From one corner of <place>, <who> walks to two stands with <thing>, <first> and <second?> metres away. The "
            "paths meet at sixty degrees. Find the squared distance between the stands.",
        ),
        "By the law of cosines, add the squares and subtract the product.",
        _sample_third_side,
        _work_third_side,
        "# law of cosines; the cosine of sixty degrees is one half\n"
        "answer = <first> ** 2 + <second> ** 2 - <first> * <second>",
        ("medium", "hard"),
    ),
    Family(
        "motion",
        _SUBJECT,
        (
            "A drone carries <thing> for <who> above <place>. It starts at $(<x>, <y>)$ and moves by $(<dx>, <dy?>)$ "
            "each second. Where is it after <time> seconds?",
            "<Who> pushes <thing> across <place> from $(<x>, <y>)$ with velocity $(<dx>, <dy?>)$. "
            "Find the position at time <time>.",
        ),
        "Add the velocity times the time to the start.",
        _sample_motion,
        _work_motion,
        'answer = f"({<x> + <dx> * <time>}, {<y> + <dy> * <time>})"',
    ),
    Family(
        "sine",
        _SUBJECT,
        (
            r"A wheel with <thing> at <place> turns by $<angle>^\circ$. <Who> computes the height "
            r"$<factor?> \sin <angle>^\circ$. What is its exact value?",
            r"Find the exact value of $<factor?> \sin <angle>^\circ$, which <who> needs to hang <thing> at <place>.",
        ),
        "Reduce the angle to its reference angle.",
        _sample_sine,
        _work_sine,
        "import sympy\n\nanswer = <factor> * sympy.sin(sympy.rad(<angle>))",
        ("medium", "hard"),
    ),
    Family(
        "radians",
        _SUBJECT,
        (
            "To show <thing> from all sides, <who> turns a stage at <place> <times?> times by <each> degrees, always in "
            "the same direction. By how many radians does the stage turn altogether?",
            "A dial for <thing> at <place> moves <each> degrees per click. <Who> clicks it <times?> times. "
            "Express the total angle in radians.",
        ),
        "Add up the turns in degrees and convert.",
        _sample_radians,
        _work_radians,
        "import sympy\n\nanswer = sympy.rad(<each> * <times>)",
        ("medium", "hard"),
    ),
    Family(
        "length",
        _SUBJECT,
        (
            "A cable to <thing> at <place> runs along <scale?> copies of the vector $(<a>, <b>, <c>)$, placed end to "
            "end by <who>. How long is the cable, in simplest radical form?",
            r"<Who> moves <thing> through <place> along $<scale?> \cdot (<a>, <b>, <c>)$. "
            "Find the length of this vector in simplest radical form.",
        ),
        "The length of a multiple is that multiple of the length.",
        _sample_length,
        _work_length,
        "import sympy\n\nanswer = <scale> * sympy.sqrt((<a>) ** 2 + (<b>) ** 2 + (<c>) ** 2)",
        ("medium", "hard"),
    ),
    Family(
        "transform",
        _SUBJECT,
        (
            r"The map of <place> is changed by $\begin{pmatrix} <a> & <b?> \\ <c> & <d> \end{pmatrix}$. "
            "<Who> marks <thing> at $(<x>, <y>)$. What are the coordinates of the image of this point?",
            r"<Who> stores a picture of <thing> from <place> and applies "
            r"$\begin{pmatrix} <a> & <b?> \\ <c> & <d> \end{pmatrix}$ to it. "
            "To which point does the matrix send $(<x>, <y>)$?",
        ),
        "Multiply each row of the matrix by the point.",
        _sample_transform,
        _work_transform,
        'answer = f"({<a> * <x> + <b> * <y>}, {<c> * <x> + <d> * <y>})"',
        ("medium", "hard"),
    ),
)
