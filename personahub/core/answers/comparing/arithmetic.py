"""Numbers as we compute with them: exact rationals as long as they last, 60-digit floats after that."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

DIGITS = 60
MAX_BITS = 200_000  # size of an exact power
MAX_EXPONENT = 10**6  # |log2| of an inexact power stays below this
_BITS_PER_DIGIT = 3.3219
_GUARD = 8  # last digits of the working precision in which a difference is rounding, and so zero

Value = Any  # Fraction, mpf or mpc: arithmetic mixes them
_LOCAL = threading.local()


class NoValue(Exception):
    """The node is no number: it is a set, an unknown function, undefined, or too large to compute."""


def context() -> Any:
    """This thread's own mpmath context (the global one's precision is shared between threads)."""
    if not hasattr(_LOCAL, "mp"):
        from mpmath import MPContext

        _LOCAL.mp = MPContext()
        _LOCAL.mp.dps = DIGITS
    return _LOCAL.mp


@contextmanager
def precision(digits: int) -> Iterator[None]:
    """Evaluate in another working precision than `DIGITS`."""
    mp = context()
    mp.dps = digits
    try:
        yield
    finally:
        mp.dps = DIGITS


def inexact(value: Value) -> Value:
    """A `Fraction` as a 60-digit float; other values unchanged."""
    if isinstance(value, Fraction):
        return context().mpf(value.numerator) / value.denominator
    return value


def aligned(a: Value, b: Value, operation: Any) -> Value:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return operation(a, b)
    return operation(inexact(a), inexact(b))


def plus(a: Value, b: Value) -> Value:
    total = aligned(a, b, lambda x, y: x + y)
    if isinstance(total, Fraction):
        return total
    return Fraction(0) if is_rounding(total, max(abs(inexact(a)), abs(inexact(b)))) else total


def is_rounding(value: Value, size: Value) -> bool:
    """Whether a value is what rounding leaves of zero, computed from values of that size."""
    return bool(abs(value) <= below(size, _GUARD))


def below(size: Value, spare: int) -> Value:
    """`size` in the last but `spare` digits of the working precision (by a power of two, which costs nothing)."""
    mp = context()
    return mp.ldexp(size, int((spare - mp.dps) * _BITS_PER_DIGIT))


def subtract(a: Value, b: Value) -> Value:
    """`a - b`, exact when both are, and exactly zero when only rounding is left of it."""
    return plus(a, -b)


def divide(a: Value, b: Value) -> Value:
    """`a / b`, exact when both are."""
    return aligned(a, b, lambda x, y: x / y)


def power(base: Value, exponent: Value) -> Value:
    """`base ** exponent`, exact for rational bases and whole exponents of bearable size; the principal value else."""
    if isinstance(exponent, Fraction) and isinstance(base, Fraction):
        if exponent.denominator == 1:
            return whole_power(base, exponent.numerator)
        if exponent.denominator <= 64:
            root = _exact_root(base, exponent.denominator)
            if root is not None:
                return whole_power(root, exponent.numerator)
    mp = context()
    base, exponent = inexact(base), inexact(exponent)
    if base == 0:
        if mp.re(exponent) <= 0:
            raise NoValue("power of zero")
        return Fraction(0)
    if abs(mp.log(base, 2) * exponent) > MAX_EXPONENT:
        raise NoValue("power too large")
    return mp.power(base, exponent)


def whole_power(base: Fraction, exponent: int) -> Value:
    if base == 0 and exponent <= 0:
        raise NoValue("power of zero")
    if base in (0, 1):
        return base
    if base == -1:
        return Fraction(1 if exponent % 2 == 0 else -1)
    size = max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent)
    if size <= MAX_BITS:
        return base**exponent
    if size > MAX_EXPONENT * 64:
        raise NoValue("power too large")
    return context().power(inexact(base), exponent)


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    """The positive root of a positive rational when it is rational."""
    if value < 0 or max(value.numerator, value.denominator).bit_length() > 2_000:
        return None
    top, bottom = _integer_root(value.numerator, degree), _integer_root(value.denominator, degree)
    return Fraction(top, bottom) if top is not None and bottom is not None else None


def _integer_root(value: int, degree: int) -> int | None:
    if degree == 2:
        root = math.isqrt(value)
    elif value < 2:
        root = value
    else:
        root = 1 << -(-value.bit_length() // degree)
        while True:  # Newton from above
            following = ((degree - 1) * root + value // root ** (degree - 1)) // degree
            if following >= root:
                break
            root = following
    return root if root**degree == value else None


def root(radicand: Value, degree: Value) -> Value:
    """The real root where there is one (odd roots of negative numbers), the principal one elsewhere."""
    if not isinstance(degree, Fraction):
        return power(radicand, 1 / degree)
    if degree == 0:
        raise NoValue("zeroth root")
    real = isinstance(radicand, (Fraction, context().mpf))
    if real and radicand < 0 and degree.denominator == 1 and degree.numerator % 2:
        return -power(-radicand, 1 / degree)
    if isinstance(radicand, Fraction) and radicand < 0 and degree == 2:
        return context().mpc(0, 1) * inexact(power(-radicand, Fraction(1, 2)))
    return power(radicand, 1 / degree)
