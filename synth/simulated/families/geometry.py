"""Geometry: lengths, angles, areas, volumes and points."""

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
    root_tex,
    signed,
    square_part,
    tex,
    working,
)

_SUBJECT = "Geometry"


def _sample_fence(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {
        "length": draw(rng, difficulty, (2, 9), (15, 90), (60, 900)),
        "width": draw(rng, difficulty, (2, 9), (8, 70), (40, 700)),
        "gate": draw(rng, difficulty, (1, 7), (2, 30), (15, 150)),
    }


def _work_fence(note: Scratch, length: int, width: int, gate: int) -> Working:
    half = note(length + width)
    around = note(2 * half)
    fence = note(around - gate)
    return working(fence, f"{length} + {width} = {half}.", f"2 * {half} = {around}.", f"{around} - {gate} = {fence}.")


def _sample_third_angle(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    first = 10 * rng.randint(2, 9) if difficulty == "easy" else draw(rng, difficulty, (0, 0), (11, 120), (3, 140))
    return {"first": first, "second": rng.randint(2, 170 - first) if difficulty == "hard" else rng.randint(10, 49)}


def _work_third_angle(note: Scratch, first: int, second: int) -> Working:
    known = note(first + second)
    third = note(180 - known)
    return working(third, f"{first} + {second} = {known}.", f"180 - {known} = {third}.")


def _sample_frame(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    length, width = (draw(rng, difficulty, (4, 9), (12, 60), (60, 250)) for _ in range(2))
    side, height = (draw(rng, difficulty, (1, 3), (3, 11), (13, 55)) for _ in range(2))
    return {"length": length, "width": width, "side": side, "height": height}


def _work_frame(note: Scratch, length: int, width: int, side: int, height: int) -> Working:
    outer = note(length * width)
    inner = note(side * height)
    left = note(outer - inner)
    return working(
        left, f"{product(length, width, outer)}.", f"{product(side, height, inner)}.", f"{outer} - {inner} = {left}."
    )


def _sample_box(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {
        "length": draw(rng, difficulty, (0, 0), (8, 40), (25, 120)),
        "width": draw(rng, difficulty, (0, 0), (6, 30), (15, 90)),
        "height": draw(rng, difficulty, (0, 0), (4, 20), (12, 60)),
    }


def _work_box(note: Scratch, length: int, width: int, height: int) -> Working:
    floor = note(length * width)
    volume = note(floor * height)
    return working(volume, f"{product(length, width, floor)}.", f"{product(floor, height, volume)}.")


def _sample_midpoint(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    x1, y1 = (draw(rng, difficulty, (1, 9), (-20, 20), (-95, 95)) for _ in range(2))
    dx, dy = (draw(rng, difficulty, (1, 4), (1, 20), (1, 90)) for _ in range(2))
    return {"x1": x1, "y1": y1, "x2": x1 + 2 * dx, "y2": y1 + 2 * dy}


def _work_midpoint(note: Scratch, x1: int, y1: int, x2: int, y2: int) -> Working:
    across, up = note(x1 + x2), note(y1 + y2)
    x, y = note(Fraction(across, 2)), note(Fraction(up, 2))
    return working(
        f"({tex(x)},{tex(y)})",
        f"{x1} + {signed(x2)} = {across} and {across} / 2 = {tex(x)}.",
        f"{y1} + {signed(y2)} = {up} and {up} / 2 = {tex(y)}.",
    )


def _sample_tank(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    radius = draw(rng, difficulty, (2, 3), (4, 20), (11, 45))
    height = draw(rng, difficulty, (2, 12), (5, 40), (16, 90))
    return {"radius": radius, "height": height, "taken": draw(rng, difficulty, (2, 7), (5, 60), (40, 900))}


def _work_tank(note: Scratch, radius: int, height: int, taken: int) -> Working:
    square = note(radius * radius)
    volume = note(square * height)
    left = note(volume - taken)
    return working(
        rf"{left}\pi",
        f"{product(radius, radius, square)}.",
        f"{product(square, height, volume)}.",
        f"{volume} - {taken} = {left}.",
    )


def _sample_ring(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    inner = draw(rng, difficulty, (0, 0), (2, 15), (9, 60))
    return {"outer": inner + draw(rng, difficulty, (0, 0), (1, 12), (4, 40)), "inner": inner}


def _work_ring(note: Scratch, outer: int, inner: int) -> Working:
    large, small = note(outer * outer), note(inner * inner)
    area = note(large - small)
    return working(
        rf"{area}\pi",
        rf"The large disc has area $\pi * {outer}^2 = {large}\pi$ and the small one ${small}\pi$.",
        rf"The ring is what remains: ${large}\pi - {small}\pi = {area}\pi$.",
    )


def _sample_diagonal(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {name: draw(rng, difficulty, (0, 0), (2, 16), (9, 48)) for name in ("length", "width")}


def _work_diagonal(note: Scratch, length: int, width: int) -> Working:
    left, right = note(length * length), note(width * width)
    square = note(left + right)
    outside, _ = square_part(square)
    simplified = root_tex(square)
    last = rf"$\sqrt{{{square}}} = {simplified}$" if outside > 1 else rf"$\sqrt{{{square}}}$, which is in simplest form"
    return working(
        simplified,
        f"By the Pythagorean theorem the squared distance is {length}^2 + {width}^2 = {left} + {right} = {square}.",
        f"Its square root is {last}.",
    )


def _sample_polygon(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {
        "sides": draw(rng, difficulty, (0, 0), (5, 20), (13, 90)),
        "other": draw(rng, difficulty, (0, 0), (3, 12), (5, 60)),
    }


def _work_polygon(note: Scratch, sides: int, other: int) -> Working:
    first = note(Fraction(180 * (sides - 2), sides))
    second = note(Fraction(180 * (other - 2), other))
    total = note(first + second)
    return working(
        total,
        f"A regular polygon with {sides} sides has angles of 180 * ({sides} - 2) / {sides} = ${tex(first)}$ degrees.",
        f"One with {other} sides has angles of 180 * ({other} - 2) / {other} = ${tex(second)}$ degrees.",
        f"Their sum is ${tex(total)}$.",
    )


FAMILIES = (
    Family(
        "fence",
        _SUBJECT,
        (
            "<Who> fences a rectangle of <length> by <width> metres for <thing> at <place>, leaving a gate of <gate?> "
            "metres open. How many metres of fence are needed?",
            "A plot for <thing> at <place> is <length> metres long and <width> metres wide. <Who> puts a fence around it, "
            "except for a gap of <gate?> metres. How long is the fence in metres?",
        ),
        "The perimeter is twice length plus width; then subtract the gap.",
        _sample_fence,
        _work_fence,
        "around = 2 * (<length> + <width>)\nanswer = around - <gate>",
    ),
    Family(
        "third_angle",
        _SUBJECT,
        (
            "<Who> cuts a triangular sign about <thing> for <place>. Two of its angles measure <first> and <second?> "
            "degrees. How many degrees does the third angle measure?",
            "A triangle in the logo of <place> has angles of <first> and <second?> degrees, notes <who>, who prints it "
            "on <thing>. What is the third angle in degrees?",
        ),
        "The angles of a triangle add up to 180 degrees.",
        _sample_third_angle,
        _work_third_angle,
        "answer = 180 - (<first> + <second>)",
    ),
    Family(
        "frame",
        _SUBJECT,
        (
            "A wall at <place> is <length> by <width> metres. <Who> covers a part of <side?> by <height> metres with "
            "<thing>. How many square metres stay free?",
            "From a <length> by <width> sheet at <place>, <who> cuts a piece of <side?> by <height> to make <thing>. "
            "What area of the sheet is left?",
        ),
        "Subtract the small area from the large one.",
        _sample_frame,
        _work_frame,
        "answer = <length> * <width> - <side> * <height>",
    ),
    Family(
        "box",
        _SUBJECT,
        (
            "<Who> ships <thing> to <place> in a box that is <length> cm long, <width> cm wide and <height?> cm high. "
            "What is its volume in cubic centimetres?",
            "A crate of <thing> at <place> measures <length> by <width> by <height?> feet, as <who> reports. "
            "How many cubic feet does it hold?",
        ),
        "The volume is length times width times height.",
        _sample_box,
        _work_box,
        "answer = <length> * <width> * <height>",
        ("medium", "hard"),
    ),
    Family(
        "midpoint",
        _SUBJECT,
        (
            "On a grid of <place>, <who> stores <thing> at $(<x1>, <y1>)$ and $(<x2>, <y2?>)$. "
            "Which point lies halfway between them?",
            "<Who> stretches a rope for <thing> at <place> from $(<x1>, <y1>)$ to $(<x2>, <y2?>)$. "
            "Find the coordinates of the midpoint of the rope.",
        ),
        "The midpoint has the mean of each coordinate.",
        _sample_midpoint,
        _work_midpoint,
        "from fractions import Fraction\n\n"
        "x = Fraction(<x1> + (<x2>), 2)\ny = Fraction(<y1> + (<y2>), 2)\n"
        'answer = f"({x}, {y})"',
    ),
    Family(
        "tank",
        _SUBJECT,
        (
            "A round tank for <thing> at <place> has radius <radius> and height <height?> and is full. <Who> lets out "
            r"$<taken>\pi$ cubic units. What volume is left, in terms of $\pi$?",
            "From a cylinder of radius <radius> and height <height?>, which holds <thing> at <place>, <who> removes "
            r"$<taken>\pi$ cubic units. What volume remains, in terms of $\pi$?",
        ),
        "The full volume is pi times the radius squared times the height.",
        _sample_tank,
        _work_tank,
        "import sympy\n\nanswer = (<radius> ** 2 * <height> - <taken>) * sympy.pi",
    ),
    Family(
        "ring",
        _SUBJECT,
        (
            "<Who> lays a circular path of <thing> around a pond at <place>. The pond has radius <inner?> metres and "
            r"the outer edge of the path has radius <outer> metres. Find the area of the path in terms of $\pi$.",
            "Two circles with the same centre and radii <inner?> and <outer> bound the region at <place> which <who> "
            r"covers with <thing>. What is the area of that region? Express your answer in terms of $\pi$.",
        ),
        "Subtract the area of the small disc from that of the large one.",
        _sample_ring,
        _work_ring,
        "import sympy\n\nanswer = sympy.pi * (<outer> ** 2 - <inner> ** 2)",
        ("medium", "hard"),
    ),
    Family(
        "diagonal",
        _SUBJECT,
        (
            "<Who> walks <length> blocks east and then <width?> blocks north to bring <thing> to <place>. "
            "How far, in blocks, is the straight line back? Express your answer in simplest radical form.",
            "A rectangular table of <thing> at <place> has sides <length> and <width?>, measured by <who>. "
            "What is the length of its diagonal in simplest radical form?",
        ),
        "The two directions are perpendicular.",
        _sample_diagonal,
        _work_diagonal,
        "import sympy\n\nanswer = sympy.sqrt(<length> ** 2 + <width> ** 2)",
        ("medium", "hard"),
    ),
    Family(
        "polygon",
        _SUBJECT,
        (
            "For a mosaic of <thing> at <place>, <who> joins a regular polygon with <sides> sides and a regular polygon "
            "with <other?> sides. What is the sum, in degrees, of one interior angle of each?",
            "<Who> cuts <thing> for <place> in the shape of regular polygons with <sides> and <other?> sides. "
            "Add an interior angle of the first to one of the second. How many degrees is the sum?",
        ),
        "An interior angle of a regular polygon with n sides measures 180(n - 2)/n degrees.",
        _sample_polygon,
        _work_polygon,
        "from fractions import Fraction\n\n"
        "answer = Fraction(180 * (<sides> - 2), <sides>) + Fraction(180 * (<other> - 2), <other>)",
        ("medium", "hard"),
    ),
)
