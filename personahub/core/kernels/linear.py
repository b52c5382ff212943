"""Compiled product of float32 rows with a matrix, in 16-bit integers.

`personahub.core.embedding.linear_int16` explains the method. One tile is 8 rows by 32 outputs and keeps the 256
sums in registers while it reads the inputs. As in `kernels.vectors`, LLVM picks the processor's instruction
(vpdpwssd or vpmaddwd).
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

ROWS, LANES = 8, 16  # of a tile, which has 2 * LANES outputs
UNROLLED = 4  # pairs of inputs


@intrinsic
def tile_product(_context, integers, row, packed, tile, row_scale, scale, bias, out, out_row):
    """Multiplies `integers[row : row + 8]` with `packed[tile]`. Scales, adds the bias and stores 32 outputs."""

    def generate(context, builder, signature, arguments):
        word, sums = ir.IntType(32), ir.VectorType(ir.IntType(32), LANES)
        halves, wide = ir.VectorType(ir.IntType(16), 2 * LANES), ir.VectorType(ir.IntType(32), 2 * LANES)
        floats = ir.VectorType(ir.FloatType(), LANES)
        even, odd = (ir.Constant(sums, list(range(first, 2 * LANES, 2))) for first in (0, 1))
        long = ir.IntType(64)
        arrays = {i: make_array(signature.args[i])(context, builder, arguments[i]) for i in (0, 2, 4, 5, 6, 7)}

        def at(argument, position, kind):
            return builder.bitcast(builder.gep(arrays[argument].data, [position]), kind.as_pointer())

        def width(argument):
            return cgutils.unpack_tuple(builder, arrays[argument].shape)[-1]

        def every(value, vector):
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, word(0))
            return builder.shuffle_vector(one, one, ir.Constant(sums, [0] * LANES))

        inputs = width(0)
        pairs = builder.lshr(inputs, long(1))
        left = [at(0, builder.mul(builder.add(arguments[1], long(i)), inputs), word) for i in range(ROWS)]
        right = at(2, builder.mul(arguments[3], width(2)), sums)
        total = [cgutils.alloca_once_value(builder, ir.Constant(sums, [0] * LANES)) for _ in range(2 * ROWS)]
        for cell in total:
            builder.store(ir.Constant(sums, [0] * LANES), cell)
        with cgutils.for_range_slice(builder, long(0), pairs, long(UNROLLED)) as (first, _):
            for k in (builder.add(first, long(step)) for step in range(UNROLLED)):
                columns = []
                for j in range(2):
                    pointer = builder.gep(right, [builder.add(builder.shl(k, long(1)), long(j))])
                    columns.append(builder.sext(builder.bitcast(builder.load(pointer, align=2), halves), wide))
                for i in range(ROWS):
                    both = every(builder.load(builder.gep(left[i], [k]), align=2), sums)
                    repeated = builder.sext(builder.bitcast(both, halves), wide)
                    for j in range(2):
                        products = builder.mul(repeated, columns[j])
                        summed = builder.add(
                            *(builder.shuffle_vector(products, products, part) for part in (even, odd))
                        )
                        cell = total[2 * i + j]
                        builder.store(builder.add(builder.load(cell), summed), cell)

        outputs, column = width(7), builder.mul(arguments[3], long(2 * LANES))
        for j in range(2):
            here = builder.add(column, long(j * LANES))
            scales, added = (builder.load(at(argument, here, floats), align=4) for argument in (5, 6))
            for i in range(ROWS):
                row = builder.add(arguments[1], long(i))
                factor = every(builder.load(builder.gep(arrays[4].data, [row])), floats)
                value = builder.sitofp(builder.load(total[2 * i + j]), floats)
                value = builder.fadd(builder.fmul(value, builder.fmul(factor, scales)), added)
                position = builder.add(builder.mul(builder.add(arguments[8], long(i)), outputs), here)
                builder.store(value, at(7, position, floats), align=4)
        return context.get_dummy_value()

    return types.void(integers, row, packed, tile, row_scale, scale, bias, out, out_row), generate


@njit(nogil=True, fastmath={"reassoc", "contract"})
def norm(rows, row):
    """Returns the norm of a row, summed in any order."""
    squares = np.float32(0)
    for i in range(rows.shape[1]):
        squares += rows[row, i] * rows[row, i]
    return np.sqrt(squares)


def linear_int16(rows, norm_of_rows, packed, scale, bias, integers, row_scale, out):
    """Writes `rows @ W.T + bias` to `out`, in blocks of `len(integers)` rows.

    `packed` and `scale` represent W. `integers` and `row_scale` are buffers for one block, a multiple of 8 rows,
    which is rounded to integers of norm `norm_of_rows`. `out` has room for a multiple of 8 rows.
    """
    for first in range(0, len(rows), len(integers)):
        count = min(len(integers), len(rows) - first)
        padded = (count + ROWS - 1) // ROWS * ROWS
        for i in range(count):
            row_scale[i] = norm(rows, first + i) / np.float32(norm_of_rows)
            inverse = np.float32(1) / row_scale[i] if row_scale[i] > 0 else np.float32(0)
            for k in range(rows.shape[1]):
                integers[i, k] = np.int16(np.rint(rows[first + i, k] * inverse))
        integers[count:padded] = 0
        for tile in range(len(packed)):
            for row in range(0, padded, ROWS):
                tile_product(integers, row, packed, tile, row_scale, scale, bias, out, first + row)  # pyright: ignore[reportCallIssue]
