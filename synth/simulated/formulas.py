"""Formulas and templates of problem families, compiled once to closures.

A formula is a Python expression of integers, strings, names, tuples, `+ - * / // % **`, comparisons, `and`, `or`,
`not`, `x if condition else y`, and calls of `FUNCTIONS`. Division is exact: `3 / 4` is a fraction.

A template is text with formulas in angle brackets, written as LaTeX: `$<a>^2 + <b>^2 = <total>$`.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Collection, Mapping
from fractions import Fraction
from math import comb, factorial, gcd, isqrt
from operator import itemgetter
from typing import Any

from synth.simulated.grammar import tex
from synth.simulated.notation import complex_tex, falling_product, pi_tex, product, root_tex, signed, square_factor

Values = Mapping[str, Any]
Formula = Callable[[Values], Any]

FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        *(comb, factorial, gcd, isqrt, max, min, pow),
        *(complex_tex, falling_product, pi_tex, product, root_tex, signed, square_factor),
    )
}
_PLACEHOLDER = re.compile(r"<([^<>]+)>")


def _divide(a: int | Fraction, b: int | Fraction) -> Fraction:
    return Fraction(a, b)


_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: _divide,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, items: item in items,
}


def compile_formula(source: str, names: Collection[str]) -> Formula:
    """Compiles a formula that uses `names`.

    Raises:
        ValueError: the source is not a formula, or uses an unknown name or function.
    """
    try:
        tree = ast.parse(source.strip(), mode="eval")
    except SyntaxError as error:
        raise ValueError(f"{source!r} is not a formula: {error.msg}") from error
    return _compile(tree.body, names)


def compile_template(source: str, names: Collection[str]) -> Callable[[Values], str]:
    """Compiles a template whose formulas use `names`.

    Raises:
        ValueError: same as for `compile_formula`.
    """
    pieces = _PLACEHOLDER.split(source)
    first, literals = pieces[0], pieces[2::2]
    formulas = [compile_formula(formula, names) for formula in pieces[1::2]]
    following = tuple(zip(formulas, literals, strict=True))

    def render(values: Values) -> str:
        text = first
        for formula, literal in following:
            value = formula(values)
            text += (tex(value) if isinstance(value, Fraction) else str(value)) + literal
        return text

    return render


def _compile(node: ast.expr, names: Collection[str]) -> Formula:
    """Compiles one node and what is below it. Only the kinds of nodes that are listed here are allowed."""

    def below(*nodes: ast.expr) -> tuple[Formula, ...]:
        return tuple(_compile(child, names) for child in nodes)

    match node:
        case ast.Constant(value=int() | str() as value):
            return lambda _: value
        case ast.Name(id=name):
            if name not in names:
                raise ValueError(f"unknown name {name!r}. Known here: {', '.join(sorted(names))}")
            return itemgetter(name)
        case ast.Tuple(elts=items):
            parts = below(*items)
            return lambda values: tuple([part(values) for part in parts])
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            apply, (inner,) = _OPERATORS[type(op)], below(operand)
            return lambda values: apply(inner(values))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _binary(_OPERATORS[type(op)], *below(left, right))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
            return _binary(_OPERATORS[type(op)], *below(left, right))
        case ast.Compare(left=left, ops=[op, *ops], comparators=[middle, *rest]) if ops:
            chain: list[ast.expr] = [ast.Compare(left, [op], [middle]), ast.Compare(middle, ops, rest)]
            return _compile(ast.BoolOp(ast.And(), chain), names)
        case ast.BoolOp(op=op, values=items):
            parts, until = below(*items), isinstance(op, ast.Or)
            return lambda values: until if any(bool(part(values)) is until for part in parts) else not until
        case ast.IfExp(test=test, body=body, orelse=orelse):
            condition, then, other = below(test, body, orelse)
            return lambda values: then(values) if condition(values) else other(values)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            parts = below(*arguments)
            if function := FUNCTIONS.get(name):
                return lambda values: function(*[part(values) for part in parts])
            (called,) = below(node.func)
            return lambda values: called(values)(*[part(values) for part in parts])
    raise ValueError(f"{ast.unparse(node)!r} is not allowed in a formula")


def _binary(apply: Callable[[Any, Any], Any], left: Formula, right: Formula) -> Formula:
    return lambda values: apply(left(values), right(values))
