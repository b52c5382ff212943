"""Matrix expressions folded into one matrix, cell by cell: sums, products, scalar multiples."""

from __future__ import annotations

from fractions import Fraction

from personahub.core.answers.nodes import Matrix, Node, Number, Power, Product, Sum

_MAX_CELLS = 150


def folded(node: Node) -> Node:
    """`2 \\begin{pmatrix}1 \\\\ 2\\end{pmatrix}` as the matrix of `2 * 1` and `2 * 2`; other nodes unchanged."""
    if isinstance(node, Sum):
        terms = [folded(term) for term in node.terms]
        if terms and all(isinstance(term, Matrix) for term in terms):
            total = terms[0]
            for term in terms[1:]:
                total = _added(total, term)
            return total
    if isinstance(node, Product):
        return _multiplied([folded(factor) for factor in node.factors]) or node
    return node


def _added(a: Node, b: Node) -> Node:
    assert isinstance(a, Matrix)
    assert isinstance(b, Matrix)
    if [len(row) for row in a.rows] != [len(row) for row in b.rows]:
        return Sum((a, b))
    return Matrix(
        tuple(
            tuple(Sum((x, y)) for x, y in zip(left, right, strict=True))
            for left, right in zip(a.rows, b.rows, strict=True)
        )
    )


def _multiplied(factors: list[Node]) -> Node | None:
    matrices = [factor for factor in factors if isinstance(factor, Matrix)]
    scalars = tuple(factor for factor in factors if not isinstance(factor, Matrix))
    if not matrices or any(isinstance(s, Power) and isinstance(s.base, Matrix) for s in scalars):
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
    if any(len(row) != inner for row in a.rows) or len(a.rows) * len(b.rows[0]) > _MAX_CELLS or inner > 12:
        return None
    if len({len(row) for row in b.rows}) != 1:
        return None
    columns = list(zip(*b.rows, strict=True))
    zero = Number(Fraction(0))
    return Matrix(
        tuple(
            tuple(Sum((zero, *(Product((x, y)) for x, y in zip(row, column, strict=True)))) for column in columns)
            for row in a.rows
        )
    )
