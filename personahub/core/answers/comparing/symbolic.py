"""Asks math-verify about text that our parser rejects, behind tight guards.

Only its ANTLR LaTeX grammar sees the text. Its other extraction path passes plain text to sympy's
`parse_expr`, which evaluates Python, so that path is never configured. Its timeouts use SIGALRM and
are disabled: the parent process enforces the deadline.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from personahub.core.answers import guards


def _nobody(_importing: bool) -> None:
    """Default hook: nobody enforces a deadline in the caller's own process."""


# A worker replaces this hook to notify its parent, so that the import (half a second) does not count against a check.
announce_import: Callable[[bool], None] = _nobody


def symbolically_equal(gold: str, pred: str) -> str | None:
    """Returns `symbolic` if math-verify finds two LaTeX answers equal, else None. Both have passed `guards.refusal`."""
    if guards.symbolic_refusal(gold) or guards.symbolic_refusal(pred):
        return None
    _import()
    a, b = _parsed(gold), _parsed(pred)
    if not a or not b:
        return None
    if _unevaluated(a[0]) or _unevaluated(b[0]):
        return "symbolic" if type(a[0]) is type(b[0]) and a[0] == b[0] else None
    from math_verify import verify

    try:
        either = ((a, b), (b, a))
        agreed = any(verify(x, y, float_rounding=8, timeout_seconds=None) for x, y in either)
        return "symbolic" if agreed and not _numbers_differ(a, b) else None
    except Exception:  # noqa: BLE001 - sympy raises anything when it cannot compare: treated as "not equal"
        return None


@lru_cache(maxsize=1)
def _import() -> None:
    announce_import(True)
    import math_verify  # noqa: F401

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    announce_import(False)


def _unevaluated(expression: Any) -> bool:
    """Keeps integrals, limits and similar nodes unevaluated. Their evaluation has no time bound."""
    from sympy import Basic, Derivative, Integral, Limit, Product, Sum

    return isinstance(expression, Basic) and expression.has(Integral, Limit, Derivative, Sum, Product)


@lru_cache(maxsize=256)
def _parsed(text: str) -> list[Any]:
    from math_verify import LatexExtractionConfig, parse

    try:
        limits: dict[str, Any] = {"parsing_timeout": None}  # its own timeout is an alarm signal
        return parse(f"${text}$", [LatexExtractionConfig()], fallback_mode="no_fallback", **limits)
    except Exception:  # noqa: BLE001 - as above
        return []


def _numbers_differ(a: list[Any], b: list[Any]) -> bool:
    """Returns whether two numbers differ in relative terms. 1/2^99 and 1/2^98 do, though reported as equal."""
    from sympy import Expr, Float

    left, right = a[0], b[0]
    if not (isinstance(left, Expr) and isinstance(right, Expr) and left.is_number and right.is_number):
        return False
    if left.has(Float) or right.has(Float):
        return False
    x, y = left.evalf(40), right.evalf(40)
    return bool(abs(x - y) > 1e-30 * max(abs(x), abs(y)))
