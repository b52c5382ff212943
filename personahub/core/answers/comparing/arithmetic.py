"""Arithmetic on answer values: exact rationals if possible, else 60-digit floats."""

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
_GUARD = 8  # differences confined to this many last digits are rounding errors and count as zero

Value = Any  # Fraction, mpf or mpc: arithmetic mixes them
_LOCAL = threading.local()


class NoValue(Exception):
    """Raised when a node has no numeric value. Sets, unknown functions and undefined or huge values have none."""


def context() -> Any:
    """Returns the mpmath context of this thread. The precision of the global context is shared between threads."""
    if not hasattr(_LOCAL, "mp"):
        from mpmath import MPContext

        _LOCAL.mp = MPContext()
        _LOCAL.mp.dps = DIGITS
    return _LOCAL.mp


@contextmanager
def precision(digits: int) -> Iterator[None]:
    """Evaluates the block with a working precision other than `DIGITS`."""
    mp = context()
    mp.dps = digits
    try:
        yield
    finally:
        mp.dps = DIGITS


def inexact(value: Value) -> Value:
    """Converts a `Fraction` to a 60-digit float; returns other values unchanged."""
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
    """Returns whether a value is a rounding error of zero. `size` is the size of its operands."""
    return bool(abs(value) <= below(size, _GUARD))


def below(size: Value, spare: int) -> Value:
    """Scales `size` down to the last `spare` digits of the working precision. Uses a power of two, which is cheap."""
    mp = context()
    return mp.ldexp(size, int((spare - mp.dps) * _BITS_PER_DIGIT))


def subtract(a: Value, b: Value) -> Value:
    """Returns `a - b`. It is exact if both are, and exactly zero if only rounding error remains."""
    return plus(a, -b)


def divide(a: Value, b: Value) -> Value:
    """Returns `a / b`, exact when both are exact."""
    return aligned(a, b, lambda x, y: x / y)


def power(base: Value, exponent: Value) -> Value:
    """Returns `base ** exponent`.

    Exact for a rational base and a moderate integer exponent, else the principal value.
    """
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
    """Returns the positive root of a positive rational if the root is rational."""
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
    """Returns the real root if one exists, else the principal root. Odd roots of negative numbers are real."""
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
