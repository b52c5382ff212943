"""How solutions write numbers: products, roots, fractions of pi, complex numbers."""

from __future__ import annotations

from fractions import Fraction


def product(a: int, b: int, result: int) -> str:
    """Writes `a * b = result`. Adds partial products that a person would need."""
    if 12 < a < 1000 and 12 < b < 1000 and a % 10 and b % 10:
        tens = b - b % 10
        return f"{a} * {b} = {a * tens} + {a * (b % 10)} = {result}"
    return f"{a} * {b} = {result}"


def falling_product(first: int, count: int) -> str:
    """Writes `count` factors that fall by one: `5 * 4 * 3`."""
    return " * ".join(str(first - i) for i in range(count))


def signed(value: int) -> str:
    """Formats `value` for use after an operator: negative values are in parentheses."""
    return f"({value})" if value < 0 else str(value)


def square_part(square: int) -> tuple[int, int]:
    """Returns `(m, r)` with m * m * r = `square` and r square-free, or (0, 0) for 0."""
    outside, inside, factor = 1, square, 2
    while factor * factor <= inside:
        if inside % (factor * factor):
            factor += 1
        else:
            outside, inside = outside * factor, inside // (factor * factor)
    return (outside, inside) if square else (0, 0)


def square_factor(square: int) -> int:
    """Returns the largest number whose square divides `square`."""
    return square_part(square)[0]


def root_tex(square: int, times: int = 1) -> str:
    r"""Formats `times` times the root of `square` in simplest form. Examples: `6`, `\sqrt{5}`, `-3\sqrt{2}`."""
    outside, inside = square_part(square)
    outside *= times
    if inside <= 1 or outside == 0:
        return str(outside)
    front = {1: "", -1: "-"}.get(outside, str(outside))
    return rf"{front}\sqrt{{{inside}}}"


def pi_tex(share: Fraction) -> str:
    r"""Formats a multiple of pi: `\pi`, `3\pi`, `\frac{2\pi}{3}`."""
    top = r"\pi" if share.numerator == 1 else rf"{share.numerator}\pi"
    return top if share.denominator == 1 else rf"\frac{{{top}}}{{{share.denominator}}}"


def complex_tex(real: int, imaginary: int) -> str:
    """Formats a complex number: `3 + 2i`, `3 - i`, `3`."""
    if imaginary == 0:
        return str(real)
    size = "" if abs(imaginary) == 1 else str(abs(imaginary))
    return f"{real} {'+' if imaginary > 0 else '-'} {size}i"
