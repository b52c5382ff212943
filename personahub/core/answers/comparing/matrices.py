"""Folds matrix sums, products and scalar multiples into one matrix, cell by cell."""

from __future__ import annotations

from fractions import Fraction

from personahub.core.answers.comparing.arithmetic import NoValue
from personahub.core.answers.comparing.values import evaluate, free_symbols
from personahub.core.answers.reading.nodes import (
    Call,
    Constant,
    Matrix,
    Node,
    Number,
    Power,
    Product,
    Sum,
    Symbol,
    rebuilt,
)

_MAX_SIZE = 4  # largest matrix that is multiplied out: cells are expressions that grow with every factor
_MAX_FACTORS = 3
_TRANSPOSED = (Symbol("T"), Symbol("\\top"), Symbol("\\intercal"))
_UNIT_VECTORS: dict[Node, Node] = {
    Constant("i"): Symbol("i"), Symbol("imath"): Symbol("i"), Symbol("jmath"): Symbol("j"),
}  # fmt: skip


def folded(node: Node) -> Node:
    """Folds `2 \\begin{pmatrix}1 \\\\ 2\\end{pmatrix}` into one matrix of products. Returns other nodes unchanged."""
    if isinstance(node, Sum):
        terms = [term for term in map(folded, node.terms) if isinstance(term, Matrix)]
        return (len(terms) == len(node.terms) and _added(terms)) or node
    if isinstance(node, Call) and node.name in ("det", "abs") and len(node.arguments) == 1:
        inner = folded(node.arguments[0])
        return determinant(inner.rows) or node if isinstance(inner, Matrix) else node
    if isinstance(node, Product):
        return _multiplied([folded(factor) for factor in node.factors]) or node
    if isinstance(node, Power) and node.exponent in _TRANSPOSED:
        base = folded(node.base)
        if isinstance(base, Matrix) and len({len(row) for row in base.rows}) == 1:
            return Matrix(tuple(zip(*base.rows, strict=True)))
    return node


def in_components(node: Node, other: tuple[Node, ...] | None) -> tuple[Node, ...] | None:
    """Reads `4i - j + 2k` as (4, -1, 2) if the other side is a 3-vector. None for anything else."""
    if other is None or len(other) not in (2, 3) or not isinstance(node, Sum):
        return None
    units = rebuilt(node, lambda part: _UNIT_VECTORS.get(part))
    names = ("i", "j", "k")[: len(other)]
    if not free_symbols(units) <= set(names) or any(
        isinstance(part, Constant) and part.name == "i" for part in units.terms
    ):
        return None
    try:
        values = [evaluate(units, {name: Fraction(at == name) for name in names}) for at in (*names, "")]
        total = evaluate(units, {name: Fraction(2 + at) for at, name in enumerate(names)})
    except NoValue:
        return None
    linear = all(isinstance(value, Fraction) for value in (*values, total)) and values.pop() == 0
    if not linear or total != sum((2 + at) * value for at, value in enumerate(values)):
        return None
    return tuple(Number(value) for value in values)


def determinant(rows: tuple[tuple[Node, ...], ...]) -> Node | None:
    """Returns the determinant of a square matrix as an expression. None above four rows."""
    size = len(rows)
    if size > 4 or any(len(row) != size for row in rows):
        return None
    if size == 1:
        return rows[0][0]
    terms: list[Node] = []
    for column, cell in enumerate(rows[0]):
        minor = determinant(tuple(row[:column] + row[column + 1 :] for row in rows[1:]))
        if minor is None:
            return None
        terms.append(Product((Number(Fraction(-1 if column % 2 else 1)), cell, minor)))
    return Sum(tuple(terms))


def _added(terms: list[Matrix]) -> Matrix | None:
    if len({tuple(len(row) for row in term.rows) for term in terms}) != 1:
        return None
    rows = zip(*(term.rows for term in terms), strict=True)
    return Matrix(tuple(tuple(Sum(cells) for cells in zip(*row, strict=True)) for row in rows))


def _multiplied(factors: list[Node]) -> Node | None:
    matrices = [factor for factor in factors if isinstance(factor, Matrix)]
    scalars = tuple(factor for factor in factors if not isinstance(factor, Matrix))
    if not 0 < len(matrices) <= _MAX_FACTORS or any(
        isinstance(s, Power) and isinstance(s.base, Matrix) for s in scalars
    ):
        return None
    result = matrices[0]
    for other in matrices[1:]:
        product = _matrix_product(result, other)
        if product is None:
            return None
        result = product
    if not scalars:
        return result
    return Matrix(tuple(tuple(Product((*scalars, cell)) for cell in row) for row in result.rows))


def _matrix_product(a: Matrix, b: Matrix) -> Matrix | None:
    inner = len(b.rows)
    width = len(b.rows[0])
    if max(inner, width, len(a.rows)) > _MAX_SIZE:
        return None
    if any(len(row) != inner for row in a.rows) or any(len(row) != width for row in b.rows):
        return None
    columns = list(zip(*b.rows, strict=True))
    zero = Number(Fraction(0))
    return Matrix(
        tuple(
            tuple(Sum((zero, *(Product((x, y)) for x, y in zip(row, column, strict=True)))) for column in columns)
            for row in a.rows
        )
    )
