"""Loops over rows of float32 numbers that become pairs of bfloat16 ones (see `pairs`), and over
columns of such pairs.

Rows along the axis that is summed over are packed as rows of pairs, or as columns of them; of rows
that are summed over, two become one row of pairs.
"""

import math
from typing import Any

from llvmlite import ir

from entrenar_core.kernels.attention_bf16 import FAR
from entrenar_core.kernels.cpu.pairs import across, dot, interleaved, rounded
from entrenar_core.kernels.cpu.vectors import (
    BYTES,
    F32,
    I32,
    I64,
    INTEGER,
    NUMBER,
    VECTOR,
    WHOLES,
    WIDTH,
    Builder,
    constant,
    counting,
    declared,
    each_vector,
    exponential,
    load,
    place,
    routine,
    spread,
    store,
    variable,
    whole,
)


def _nearest(builder: Builder, x: Any) -> Any:
    """A vector of float32 rounded to bfloat16."""
    halves = ir.VectorType(ir.IntType(16), 2 * WIDTH)
    pairs = builder.bitcast(rounded(builder, x, constant(0.0)), halves)
    some = builder.shuffle_vector(pairs, pairs, whole(WHOLES, *range(WIDTH)))
    return builder.bitcast(builder.shl(builder.zext(some, WHOLES), whole(WHOLES, 16)), VECTOR)


def _quotient(builder: Builder, x: Any, y: Any) -> Any:
    """x / y, rounded once: kernels are compiled to multiply by the inverse otherwise."""
    name, in_force = "llvm.x86.avx512.div.ps.512", I32(4)
    return builder.call(declared(builder, name, VECTOR, VECTOR, VECTOR, I32), [x, y, in_force])


@routine(*(INTEGER,) * 6)
def pack_columns(builder, source, stride, rows, vectors, target, target_row):
    """Write rows as columns of pairs of neighbours, with zeros up to a multiple of 16 columns, and
    of 32 numbers in each."""
    groups = builder.sdiv(builder.add(rows, I64(WIDTH - 1)), I64(WIDTH))
    pieces = builder.sdiv(builder.add(vectors, I64(1)), I64(2))
    nothing = whole(WHOLES, 0)
    half = whole(WHOLES, *(-(lane < WIDTH // 2) for lane in range(WIDTH)))
    with counting(builder, groups) as group, counting(builder, pieces) as piece:
        first = builder.mul(group, I64(WIDTH))
        corner = place(builder, place(builder, source, first, stride), piece, 2 * BYTES)
        behind = builder.add(builder.mul(piece, I64(2)), I64(1))
        two = builder.icmp_signed("<", behind, vectors)
        second, used = builder.select(two, I64(BYTES), I64(0)), whole(WHOLES, -1)
        used = builder.select(two, used, half)
        lines = []
        for i in range(WIDTH):
            there = builder.icmp_signed("<", builder.add(first, I64(i)), rows)
            at = place(builder, corner, builder.select(there, I64(i), I64(0)), stride)
            high = load(builder, builder.add(at, second))
            pairs = rounded(builder, load(builder, at), high)
            lines.append(builder.and_(pairs, builder.select(there, used, nothing)))
        to = place(builder, target, group, BYTES)
        to = place(builder, to, builder.mul(piece, I64(WIDTH)), target_row)
        for i, line in enumerate(across(builder, lines)):
            store(builder, line, place(builder, to, I64(i), target_row))


@routine(*(INTEGER,) * 6)
def pack_rows(builder, source, stride, rows, vectors, target, target_row):
    """Write rows as rows of pairs of neighbours, with zeros up to a multiple of 32 numbers."""
    whole_pairs = builder.sdiv(vectors, I64(2))
    left = builder.srem(vectors, I64(2))
    with counting(builder, rows) as r:
        at, to = place(builder, source, r, stride), place(builder, target, r, target_row)
        with counting(builder, whole_pairs) as i:
            low = place(builder, at, i, 2 * BYTES)
            high = load(builder, builder.add(low, I64(BYTES)))
            pairs = rounded(builder, load(builder, low), high)
            store(builder, pairs, place(builder, to, i, BYTES))
        with builder.if_then(builder.icmp_signed("!=", left, I64(0))):
            low = load(builder, place(builder, at, whole_pairs, 2 * BYTES))
            pairs = rounded(builder, low, constant(0.0))
            store(builder, pairs, place(builder, to, whole_pairs, BYTES))


@routine(*(INTEGER,) * 6)
def pair_rows(builder, source, stride, rows, vectors, target, target_row):
    """Write each two rows as one row of pairs (first[j], second[j]), zeros for a last second."""
    twos = builder.sdiv(rows, I64(2))
    with counting(builder, twos) as r, each_vector(builder, vectors) as offset:
        at = builder.add(place(builder, source, builder.mul(r, I64(2)), stride), offset)
        pairs = interleaved(builder, load(builder, at), load(builder, builder.add(at, stride)))
        store(builder, pairs, builder.add(place(builder, target, r, target_row), offset))
    with (
        builder.if_then(builder.icmp_signed("!=", builder.srem(rows, I64(2)), I64(0))),
        each_vector(builder, vectors) as offset,
    ):
        at = builder.add(place(builder, source, builder.mul(twos, I64(2)), stride), offset)
        pairs = interleaved(builder, load(builder, at), constant(0.0))
        store(builder, pairs, builder.add(place(builder, target, twos, target_row), offset))


@routine(*(INTEGER,) * 6)
def remainders(builder, source, stride, rows, vectors, target, target_row):
    """Write what each number is more than the bfloat16 next to it."""
    with counting(builder, rows) as r, each_vector(builder, vectors) as offset:
        x = load(builder, builder.add(place(builder, source, r, stride), offset))
        rest = builder.fsub(x, _nearest(builder, x))
        store(builder, rest, builder.add(place(builder, target, r, target_row), offset))


@routine(*(INTEGER,) * 6)
def add_dots_of_pairs(builder, a, b, row, rows, vectors, out):
    """Add the sum of the products of each column of a with that of b to `out`, in the order of
    `product_of_pairs`."""
    with each_vector(builder, vectors) as offset:
        total = variable(builder, constant(0.0))
        with counting(builder, rows) as r:
            at = place(builder, offset, r, row)
            x, y = (load(builder, builder.add(each, at), WHOLES) for each in (b, a))
            builder.store(dot(builder, builder.load(total), x, y), total)
        to = builder.add(out, offset)
        store(builder, builder.fadd(load(builder, to), builder.load(total)), to)


# --- a softmax whose weights are rounded ---------------------------------------------------------


@routine(*(INTEGER,) * 2)
def settle_peaks(builder, vectors, peaks):
    """`attention_bf16.next_to_peak`, in place."""
    rint = declared(builder, "llvm.rint.v16f32", VECTOR, VECTOR)
    with each_vector(builder, vectors) as offset:
        at = builder.add(peaks, offset)
        peak = load(builder, at)
        near = builder.and_(
            builder.fcmp_ordered("<", peak, constant(FAR)),
            builder.fcmp_ordered(">", peak, constant(-FAR)),
        )
        count = builder.call(rint, [builder.fmul(peak, constant(1 / math.log(2)))])
        settled = builder.fmul(count, constant(math.log(2)))
        store(builder, builder.select(near, settled, peak), at)


@routine(*(INTEGER,) * 3)
def multiply_each(builder, vectors, target, factors):
    """Multiply numbers by others."""
    with each_vector(builder, vectors) as offset:
        to, factor = builder.add(target, offset), load(builder, builder.add(factors, offset))
        store(builder, builder.fmul(load(builder, to), factor), to)


@routine(*(INTEGER,) * 7)
def soften_near(builder, at, row, rows, vectors, peaks, totals, near_totals):
    """Turn each x into exp(x − peak of its column) rounded to bfloat16. Add up in `totals` what was
    rounded, and in `near_totals` what it became."""
    with each_vector(builder, vectors) as offset:
        column = builder.add(at, offset)
        target, near_target = builder.add(totals, offset), builder.add(near_totals, offset)
        peak = load(builder, builder.add(peaks, offset))
        total = variable(builder, load(builder, target))
        near_total = variable(builder, load(builder, near_target))
        with counting(builder, rows) as r:
            cell = place(builder, column, r, row)
            e = exponential(builder, builder.fsub(load(builder, cell), peak))
            near = _nearest(builder, e)
            store(builder, near, cell)
            builder.store(builder.fadd(builder.load(total), e), total)
            builder.store(builder.fadd(builder.load(near_total), near), near_total)
        store(builder, builder.load(total), target)
        store(builder, builder.load(near_total), near_target)


@routine(*(INTEGER,) * 8)
def soften_to_pairs(builder, at, row, rows, vectors, peaks, totals, near_totals, target):
    """The same, with each two rows written as one row of pairs at `target`, which may be `at` or
    before it."""
    ones = whole(WHOLES, 0x3F803F80)
    twos = builder.sdiv(rows, I64(2))
    with each_vector(builder, vectors) as offset:
        places = [builder.add(total, offset) for total in (totals, near_totals)]
        total, near_total = found = [variable(builder, load(builder, each)) for each in places]
        peak = load(builder, builder.add(peaks, offset))

        def softened(cell: Any) -> Any:
            e = exponential(builder, builder.fsub(load(builder, cell), peak))
            builder.store(builder.fadd(builder.load(total), e), total)
            return e

        def put(pairs: Any, r: Any) -> None:
            builder.store(dot(builder, builder.load(near_total), pairs, ones), near_total)
            store(builder, pairs, builder.add(place(builder, target, r, row), offset))

        with counting(builder, twos) as r:
            cell = builder.add(place(builder, at, builder.mul(r, I64(2)), row), offset)
            first, second = softened(cell), softened(builder.add(cell, row))
            put(interleaved(builder, first, second), r)
        with builder.if_then(builder.icmp_signed("!=", builder.srem(rows, I64(2)), I64(0))):
            cell = builder.add(place(builder, at, builder.mul(twos, I64(2)), row), offset)
            put(interleaved(builder, softened(cell), constant(0.0)), twos)
        for value, each in zip(found, places, strict=True):
            store(builder, builder.load(value), each)


@routine(*(INTEGER,) * 4, NUMBER)
def scale_all(builder, at, row, rows, vectors, number):
    """Multiply every number by one."""
    factor = spread(builder, number)
    with counting(builder, rows) as r, each_vector(builder, vectors) as offset:
        cell = builder.add(place(builder, at, r, row), offset)
        store(builder, builder.fmul(load(builder, cell), factor), cell)


@routine(*(INTEGER,) * 5, NUMBER, INTEGER, INTEGER)
def divide_rows(builder, at, row, rows, vectors, divisors, number, target, target_row):
    """Write row i times `number` over the i-th one at `divisors`."""
    factor = spread(builder, number)
    with counting(builder, rows) as r:
        divisor = spread(builder, load(builder, place(builder, divisors, r, 4), F32))
        with each_vector(builder, vectors) as offset:
            x = load(builder, builder.add(place(builder, at, r, row), offset))
            quotient = _quotient(builder, builder.fmul(x, factor), divisor)
            store(builder, quotient, builder.add(place(builder, target, r, target_row), offset))
