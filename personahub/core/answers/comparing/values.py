"""Computes values of nodes: exact rationals, or 60-digit complex numbers.

Nothing here can run long: exponents, factorials and function arguments are bounded before they are
computed. A node that exceeds a bound has no value (`NoValue`) and is compared by structure.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from personahub.core.answers.comparing.arithmetic import (
    MAX_BITS,
    MAX_EXPONENT,
    NoValue,
    Value,
    aligned,
    context,
    inexact,
    is_rounding,
    plus,
    power,
    root,
    whole_power,
)
from personahub.core.answers.reading.nodes import (
    Based,
    Call,
    Constant,
    Node,
    Number,
    Power,
    Product,
    Quantity,
    Root,
    Sum,
    Symbol,
    walk,
)

_MAX_ARGUMENT = 10**9  # largest argument of a trigonometric function or exponential
_MAX_FACTORIAL = 3_000  # largest factorial computed exactly; above it, the gamma function is used
_MAX_TERMS = 200  # of a sum or product
_MAX_GAMMA = 10**12
_ABSORBED = 10**15  # ratio of two terms at which the smaller one still affects 40 agreeing digits, with a margin
_VANISHING = {"sin", "cos", "tan", "cot", "ln", "log", "lg", "arccos"}  # functions with zeros other than zero


def free_symbols(node: Any) -> frozenset[str]:
    """Returns the names of the variables in a node."""
    return frozenset(part.name for part in walk(node) if isinstance(part, Symbol))


def sample(names: frozenset[str], round_: int) -> dict[str, Fraction]:
    """Returns a rational for each variable, the same in every process.

    Rounds 2 and 5 use negative values, rounds 4 and 5 large ones (|x - 5| is not 5 - x). From round 6 on,
    all values are between 0 and 1.
    """
    point = {}
    for index, name in enumerate(sorted(names)):
        seed = hashlib.blake2b(f"{name}:{round_}".encode(), digest_size=8).digest()
        size = Fraction(int.from_bytes(seed[:4], "big") % 100_003 + 100_003, 70_001)  # in (1.4, 2.9)
        if round_ >= 6:
            point[name] = 1 / size
            continue
        size = 37 * size if round_ >= 4 else size
        size += 3 * index  # pairwise differences stay above 1, so that none of their powers vanishes
        negative = round_ % 3 == 2 and (round_ == 2 or index % 2 == 0)
        point[name] = -size if negative else size
    return point


def evaluate(node: Node, point: Mapping[str, Value] | None = None) -> Value:
    """Returns the value of a node, with the variables taken from `point`.

    Raises:
        NoValue: see the class.
    """
    try:
        return _tidy(_evaluate(node, point or {}))
    except (ZeroDivisionError, OverflowError, ValueError, TypeError, MemoryError) as error:
        raise NoValue(str(error)) from None


def _tidy(value: Value) -> Value:
    """Converts a complex number without imaginary part to a real one. Rejects infinities and NaN."""
    if isinstance(value, Fraction):
        return value
    mp = context()
    if isinstance(value, mp.mpc):
        if value.imag == 0:
            value = value.real
        elif not (mp.isfinite(value.real) and mp.isfinite(value.imag)):
            raise NoValue("infinite")
        else:
            return value
    if not mp.isfinite(value):
        raise NoValue("infinite")
    return value


def _evaluate(node: Node, point: Mapping[str, Value]) -> Value:
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Sum):
        return _total([_evaluate(term, point) for term in node.terms])
    if isinstance(node, Product):
        return _multiplied([_evaluate(factor, point) for factor in node.factors])
    if isinstance(node, Power):
        if isinstance(node.base, Constant) and node.base.name == "e":
            return _function("exp", [_evaluate(node.exponent, point)])
        return power(_evaluate(node.base, point), _evaluate(node.exponent, point))
    if isinstance(node, Root):
        return root(_evaluate(node.radicand, point), _evaluate(node.degree, point))
    if isinstance(node, Symbol):
        if node.name not in point:
            raise NoValue(f"{node.name} is free")
        return point[node.name]
    if isinstance(node, Constant):
        return _constant(node.name)
    if isinstance(node, Call) and node.name in ("sum", "prod"):
        return _series(node, point)
    if isinstance(node, Call):
        return _function(node.name, [_evaluate(argument, point) for argument in node.arguments])
    if isinstance(node, Based):
        return based_value(node)
    if isinstance(node, Quantity):
        value = _evaluate(node.value, point)
        if node.unit == "degree":
            return inexact(value) * context().pi / 180
        if node.unit == "percent":
            return value / 100
        raise NoValue("unit")
    raise NoValue(type(node).__name__)


def _constant(name: str) -> Value:
    mp = context()
    if name == "oo":
        raise NoValue("infinity")
    return {"pi": +mp.pi, "e": +mp.e, "i": mp.mpc(0, 1)}[name]


def _total(values: list[Value]) -> Value:
    """Returns the sum. Raises NoValue if a term is lost in the working precision (e^200 + 1 is not e^200 + 2)."""
    total = values[0]
    for value in values[1:]:
        total = plus(total, value)
    if not all(isinstance(value, Fraction) for value in values):
        sizes = [abs(inexact(value)) for value in values if value != 0]
        if sizes and max(sizes) > min(sizes) * _ABSORBED:
            raise NoValue("terms of too different size")
    return total


def _multiplied(values: list[Value]) -> Value:
    product = values[0]
    for value in values[1:]:
        product = aligned(product, value, lambda a, b: a * b)
        if (
            isinstance(product, Fraction)
            and product.numerator.bit_length() + product.denominator.bit_length() > MAX_BITS
        ):
            product = inexact(product)
    return product


def based_value(node: Based) -> Fraction:
    """Returns the value of a numeral in a base. Raises NoValue if a digit does not exist in the base."""
    sign = -1 if node.digits.startswith("-") else 1
    whole, _, tail = node.digits.removeprefix("-").partition(".")
    try:
        value = Fraction(int(whole or "0", node.base))
        return sign * (value + (Fraction(int(tail, node.base), node.base ** len(tail)) if tail else 0))
    except ValueError as error:
        raise NoValue(str(error)) from None


_DIRECT = {
    "sin": "sin", "cos": "cos", "tan": "tan", "cot": "cot", "sec": "sec", "csc": "csc", "arcsin": "asin",
    "arccos": "acos", "arctan": "atan", "arccot": "acot", "arcsec": "asec", "arccsc": "acsc", "sinh": "sinh",
    "cosh": "cosh", "tanh": "tanh", "coth": "coth", "sech": "sech", "csch": "csch", "arcsinh": "asinh",
    "arccosh": "acosh", "arctanh": "atanh", "exp": "exp", "ln": "ln", "Re": "re", "Im": "im", "cis": "expj",
}  # fmt: skip
_EXACT_AT_ZERO = {"sin": 0, "tan": 0, "arcsin": 0, "arctan": 0, "sinh": 0, "tanh": 0, "exp": 1, "cos": 1, "cosh": 1}


def _function(name: str, arguments: list[Value]) -> Value:
    value = arguments[0]
    if name in ("log", "lg", "ln"):
        return _logarithm(name, arguments)
    if name == "abs":
        return abs(value)
    if name in ("gcd", "lcm", "max", "min"):
        return _of_many(name, arguments)
    if name in ("factorial", "Gamma"):
        return _factorial(value - 1 if name == "Gamma" else value)
    if name == "binomial" and len(arguments) == 2:
        return _binomial(*arguments)
    if name in ("floor", "ceil", "sign"):
        return _stepped(name, value)
    if name not in _DIRECT or len(arguments) != 1:
        raise NoValue(name)
    if value == 0 and name in _EXACT_AT_ZERO:
        return Fraction(_EXACT_AT_ZERO[name])
    value = inexact(value)
    if abs(value) > _MAX_ARGUMENT or (name in ("exp", "sinh", "cosh") and abs(value) > MAX_EXPONENT):
        raise NoValue("argument too large")
    return _settled(name, value, getattr(context(), _DIRECT[name])(value))


def _settled(name: str, argument: Value, value: Value) -> Value:
    """Rounds sin(pi) to zero, but not sin(10^-60)."""
    if name in ("Re", "Im"):
        return Fraction(0) if is_rounding(value, abs(argument)) else value
    if name in _VANISHING and abs(argument) > 1e-10 and is_rounding(value, max(1, abs(argument))):
        return Fraction(0)
    return value


def _series(node: Call, point: Mapping[str, Value]) -> Value:
    """Evaluates a finite sum or product with integer bounds. Nested series have no value."""
    variable, first, last, body = node.arguments
    low, high = _evaluate(first, point), _evaluate(last, point)
    whole = all(isinstance(bound, Fraction) and bound.denominator == 1 for bound in (low, high))
    if not (isinstance(variable, Symbol) and whole and high - low < _MAX_TERMS) or any(
        isinstance(part, Call) and part.name in ("sum", "prod") for part in walk(body)
    ):
        raise NoValue("series")
    terms = [_evaluate(body, {**point, variable.name: Fraction(k)}) for k in range(int(low), int(high) + 1)]
    if node.name == "sum":
        return _total([Fraction(0), *terms])
    return _multiplied([Fraction(1), *terms])


def _logarithm(name: str, arguments: list[Value]) -> Value:
    """Evaluates a logarithm. `log` without a base is natural, `\\log_{10}` and `lg` are base ten."""
    if arguments[0] == 0:
        raise NoValue("log of zero")
    if arguments[0] == 1:
        return Fraction(0)
    base = arguments[1] if len(arguments) == 2 else Fraction(10) if name == "lg" else None
    mp = context()
    value = mp.ln(inexact(arguments[0]))
    if base is None:
        return _settled(name, arguments[0], value)
    quotient = value / mp.ln(inexact(base))
    nearest = mp.nint(mp.re(quotient))
    if isinstance(arguments[0], Fraction) and isinstance(base, Fraction) and abs(nearest) < 5_000:
        exponent = int(nearest)
        if abs(quotient - nearest) < mp.mpf(10) ** -40 and whole_power(base, exponent) == arguments[0]:
            return Fraction(exponent)
    return quotient


def _of_many(name: str, arguments: list[Value]) -> Value:
    if name in ("max", "min"):
        return max(arguments) if name == "max" else min(arguments)
    if not all(isinstance(a, Fraction) and a.denominator == 1 for a in arguments):
        raise NoValue(name)
    return Fraction((math.gcd if name == "gcd" else math.lcm)(*(a.numerator for a in arguments)))


def _factorial(value: Value) -> Value:
    if isinstance(value, Fraction) and value.denominator == 1 and 0 <= value <= _MAX_FACTORIAL:
        return Fraction(math.factorial(value.numerator))
    if abs(value) > _MAX_GAMMA:
        raise NoValue("factorial too large")
    return context().gamma(inexact(value) + 1)


def _binomial(n: Value, k: Value) -> Value:
    whole = isinstance(n, Fraction) and isinstance(k, Fraction) and n.denominator == k.denominator == 1
    if whole and 0 <= n <= _MAX_FACTORIAL and k >= 0:
        return Fraction(math.comb(n.numerator, k.numerator))
    if abs(n) > _MAX_GAMMA or abs(k) > _MAX_GAMMA:
        raise NoValue("binomial too large")
    mp = context()
    n, k = inexact(n), inexact(k)
    return mp.exp(mp.loggamma(n + 1) - mp.loggamma(k + 1) - mp.loggamma(n - k + 1))


def _stepped(name: str, value: Value) -> Value:
    mp = context()
    if isinstance(value, mp.mpc):
        raise NoValue(name)
    if name == "sign":
        return Fraction((value > 0) - (value < 0))
    if not isinstance(value, Fraction) and abs(value) > mp.mpf(10) ** 40:
        raise NoValue(name)
    if isinstance(value, Fraction):
        return Fraction(math.floor(value) if name == "floor" else math.ceil(value))
    return Fraction(int(mp.floor(value) if name == "floor" else mp.ceil(value)))
