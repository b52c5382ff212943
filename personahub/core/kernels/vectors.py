"""Compiled inner loop of the exact search among vectors; `bounds` explains the method and owns the arrays.

One tile is 8 rows against 32 columns, whose 256 products stay in registers. It is written in LLVM's
own terms: of a product of pairs of 16-bit integers and their sum, LLVM makes the instruction that
a processor has for it (vpdpwssd, vpmaddwd), or several where it has none.
"""

from __future__ import annotations

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from personahub.core.kernels.intrinsics import ONE, U, trailing_zeros

ROWS, LANES = 8, 16  # of a tile; it has two times so many lanes
WIDTH = 64  # integers of a row


@intrinsic
def tile_above(_context, rows, row, packed, tile, limit, masks):
    """Multiply `rows[row : row + 8]` with the columns of `packed[tile : tile + 2]`.

    `masks[2 * i + j]` gets one bit for each column of tile `j`: whether its product with row `i` is
    above `limit`. Returns whether any is.
    """

    def generate(context, builder, signature, arguments):
        word, sums = ir.IntType(32), ir.VectorType(ir.IntType(32), LANES)
        halves, wide = ir.VectorType(ir.IntType(16), 2 * LANES), ir.VectorType(ir.IntType(32), 2 * LANES)
        even, odd = (ir.Constant(sums, list(range(first, 2 * LANES, 2))) for first in (0, 1))

        def at(argument, index, kind):
            """Pointer to a row of an array, or to the array."""
            data = make_array(signature.args[argument])(context, builder, arguments[argument]).data
            return builder.bitcast(builder.gep(data, [builder.mul(index, ir.Constant(index.type, WIDTH))]), kind)

        left = at(0, arguments[1], word.as_pointer())
        right = at(2, builder.mul(arguments[3], ir.Constant(arguments[3].type, LANES)), sums.as_pointer())
        total = [ir.Constant(sums, [0] * LANES)] * (2 * ROWS)
        for k in range(WIDTH // 2):  # two integers of each row and column
            columns = []
            for j in range(2):
                pointer = builder.gep(right, [word(j * WIDTH // 2 + k)])
                columns.append(builder.sext(builder.bitcast(builder.load(pointer, align=2), halves), wide))
            for i in range(ROWS):
                both = builder.load(builder.gep(left, [word(i * WIDTH // 2 + k)]), align=2)
                one = builder.insert_element(ir.Constant(sums, ir.Undefined), both, word(0))
                every = builder.shuffle_vector(one, one, ir.Constant(sums, [0] * LANES))
                repeated = builder.sext(builder.bitcast(every, halves), wide)
                for j in range(2):
                    products = builder.mul(repeated, columns[j])
                    pairs = [builder.shuffle_vector(products, products, which) for which in (even, odd)]
                    total[2 * i + j] = builder.add(total[2 * i + j], builder.add(*pairs))

        floor = builder.trunc(arguments[4], word)
        one = builder.insert_element(ir.Constant(sums, ir.Undefined), floor, word(0))
        floors = builder.shuffle_vector(one, one, ir.Constant(sums, [0] * LANES))
        out, some = make_array(signature.args[5])(context, builder, arguments[5]).data, ir.IntType(LANES)(0)
        for number, values in enumerate(total):
            mask = builder.bitcast(builder.icmp_signed(">", values, floors), ir.IntType(LANES))
            builder.store(mask, builder.gep(out, [word(number)]))
            some = builder.or_(some, mask)
        return builder.zext(some, ir.IntType(64))

    return types.int64(rows, row, packed, tile, limit, masks), generate


@njit(nogil=True, fastmath=True)
def product(vectors, a, b):
    """In float32, the sum in any order."""
    total = vectors[a, 0] * vectors[b, 0]
    for i in range(1, vectors.shape[1]):
        total += vectors[a, i] * vectors[b, i]
    return total


def near_pairs(
    rows, row_of, packed, column_of, first, last, limit, vectors, least, after, masks, found_rows, found_columns
):
    """Find rows and columns of which neither the bound nor the float32 product rules out that they are similar.

    `rows` are integers of the vectors `row_of`, a multiple of 8 of them; `packed[first:last]`, two
    tiles or a multiple, those of `column_of`. Pairs are looked at if their bound is above `limit`, and
    taken if their product is above `least` and the column's position more than the row's plus
    `after`. Returns how many were written, or -1 if there is no room for all.
    """
    found = 0
    for tile in range(first, last, 2):
        end = min(LANES * (tile + 2), len(column_of))
        for row in range(0, len(row_of), ROWS):
            if end <= row + after:
                break
            if tile_above(rows, row, packed, tile, limit, masks) == 0:  # pyright: ignore[reportCallIssue]
                continue
            for i in range(2 * ROWS):
                bits = U(masks[i])
                while bits != U(0):
                    column = LANES * (tile + i % 2) + trailing_zeros(bits)  # pyright: ignore[reportCallIssue]
                    bits &= bits - ONE
                    position = row + i // 2
                    if position >= len(row_of) or column >= len(column_of) or column <= position + after:
                        continue
                    if product(vectors, row_of[position], column_of[column]) > least:
                        if found == len(found_rows):
                            return -1
                        found_rows[found], found_columns[found] = position, column
                        found += 1
    return found
