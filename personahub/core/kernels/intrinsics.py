"""Constants, hash functions and processor instructions for the compiled kernels.

All integers that are combined with a 64-bit hash are `uint64`, because numba turns a mix of signed and unsigned
integers into a float.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

U = np.uint64
ZERO, ONE = U(0), U(1)


@njit(inline="always")
def mix(value):
    """Applies SplitMix64's finalizer, a bijection on 64 bits. Every input bit affects every output bit."""
    value = (value ^ (value >> U(30))) * U(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> U(27))) * U(0x94D049BB133111EB)
    return value ^ (value >> U(31))


@njit(inline="always")
def second(word):
    """Second hash of a word, for the upper half of a set's hash. A linear map would add nothing to the sum."""
    value = word * U(0xD1B54A32D192ED03)
    return value ^ (value >> U(32))


@intrinsic
def popcount(_context, value):
    """Counts the bits that are set."""
    return types.int64(value), lambda _, builder, _signature, arguments: builder.ctpop(arguments[0])


@intrinsic
def trailing_zeros(_context, value):
    """Returns the position of the lowest bit that is set. `value` must not be 0."""

    def generate(_, builder, _signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(value), generate


@intrinsic
def eight_bytes(_context, data, index):
    """Reads `data[index : index + 8]` as one number. Little-endian, as on all processors that numba supports here."""

    def generate(context, builder, signature, arguments):
        array = make_array(signature.args[0])(context, builder, arguments[0])
        pointer = builder.gep(array.data, [arguments[1]])
        return builder.load(builder.bitcast(pointer, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(data, index), generate


@intrinsic
def fetch(_context, data, index):
    """Prefetches the cache line of `data[index]` without waiting for it."""

    def generate(context, builder, signature, arguments):
        array = make_array(signature.args[0])(context, builder, arguments[0])
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        prefetch = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, number, number, number]), "llvm.prefetch.p0"
        )
        pointer = builder.bitcast(builder.gep(array.data, [arguments[1]]), byte)
        builder.call(prefetch, [pointer, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(data, index), generate
