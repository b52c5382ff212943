"""Compiled inner loop of the exact vector search.

`bounds` explains the method and owns the arrays. One tile multiplies 8 rows with 32 columns and keeps the 256
products in registers. It is written as LLVM IR. LLVM turns a product of pairs of 16-bit integers and their sum into
the processor's instruction for it (vpdpwssd or vpmaddwd), or into several instructions.
"""

from __future__ import annotations

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from personahub.core.kernels.intrinsics import ONE, U, trailing_zeros

ROWS, LANES = 8, 16  # of a tile, which has 2 * LANES columns
WIDTH = 64  # integers per row


@intrinsic
def tile_above(_context, rows, row, packed, tile, limit, masks):
    """Multiplies `rows[row : row + 8]` with the columns of `packed[tile : tile + 2]`.

    `masks[2 * i + j]` gets one bit per column of tile `j`, set if its product with row `i` is above `limit`.
    Returns whether any bit is set.
    """

    def generate(context, builder, signature, arguments):
        word, sums = ir.IntType(32), ir.VectorType(ir.IntType(32), LANES)
        halves, wide = ir.VectorType(ir.IntType(16), 2 * LANES), ir.VectorType(ir.IntType(32), 2 * LANES)
        even, odd = (ir.Constant(sums, list(range(first, 2 * LANES, 2))) for first in (0, 1))

        def at(argument, index, kind):
            """Returns a pointer to a row of an array."""
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
    """Dot product in float32, summed in any order."""
    total = vectors[a, 0] * vectors[b, 0]
    for i in range(1, vectors.shape[1]):
        total += vectors[a, i] * vectors[b, i]
    return total


def near_pairs(
    rows, row_of, packed, column_of, first, last, limit, vectors, least, after, masks, found_rows, found_columns
):
    """Finds pairs of rows and columns that may be similar.

    Both the bound and the float32 product must allow it. `rows` holds the integers of the vectors `row_of`, padded to
    a multiple of 8 rows. `packed[first:last]` holds those of `column_of`, in a multiple of two tiles. A pair is
    examined if its bound is above `limit`. It is taken if its product is above `least` and the column's position is
    greater than the row's plus `after`. Returns the number of pairs written, or -1 if there is not enough room.
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
