"""Loops over the rows and columns of tiles of numbers, in vectors.

Why not in Python: numba's loops over a few vectors spend as long on checks of aliasing and on left
over numbers as on the vectors.
"""

from entrenar_core.kernels.cpu.past_caches import store_past
from entrenar_core.kernels.cpu.vectors import (
    BYTES,
    F32,
    I32,
    I64,
    INTEGER,
    LONGS,
    NUMBER,
    UNSIGNED,
    WIDTH,
    constant,
    counting,
    each_vector,
    exponential,
    folded,
    greater,
    load,
    numbered,
    place,
    plus,
    routine,
    spread,
    store,
    swapped,
    times,
    variable,
    whole,
)
from entrenar_core.kernels.dropout import GOLDEN, MIX_1, MIX_2


@routine(*(INTEGER,) * 4, NUMBER)
def fill(builder, at, row, rows, vectors, number):
    """Write one number everywhere."""
    value = spread(builder, number)
    with counting(builder, rows) as r, each_vector(builder, vectors) as offset:
        store(builder, value, builder.add(place(builder, at, r, row), offset))


@routine(*(INTEGER,) * 5)
def scale_rows(builder, at, row, rows, vectors, factors):
    """Multiply row i by the i-th number at `factors`."""
    with counting(builder, rows) as r:
        number = load(builder, place(builder, factors, r, 4), F32)
        factor = spread(builder, number)
        changes = builder.fcmp_unordered("!=", number, F32(1.0))
        with builder.if_then(changes), each_vector(builder, vectors) as offset:
            target = builder.add(place(builder, at, r, row), offset)
            store(builder, builder.fmul(load(builder, target), factor), target)


@routine(*(INTEGER,) * 6)
def add_rows(builder, source, source_row, target, target_row, rows, vectors):
    """target += source"""
    with counting(builder, rows) as r, each_vector(builder, vectors) as offset:
        to = builder.add(place(builder, target, r, target_row), offset)
        value = load(builder, builder.add(place(builder, source, r, source_row), offset))
        store(builder, builder.fadd(load(builder, to), value), to)


@routine(*(INTEGER,) * 6)
def copy_rows(builder, source, source_row, target, target_row, rows, vectors):
    with counting(builder, rows) as r, each_vector(builder, vectors) as offset:
        value = load(builder, builder.add(place(builder, source, r, source_row), offset))
        store(builder, value, builder.add(place(builder, target, r, target_row), offset))


@routine(*(INTEGER,) * 6)
def dot_columns(builder, a, b, row, rows, vectors, out):
    """Write the sum of the products of each pair of columns to `out`, in the order of `product`."""
    with each_vector(builder, vectors) as offset:
        total = variable(builder, constant(0.0))
        with counting(builder, rows) as r:
            at = place(builder, offset, r, row)
            x, y = load(builder, builder.add(a, at)), load(builder, builder.add(b, at))
            builder.store(plus(builder, builder.load(total), times(builder, x, y)), total)
        store(builder, builder.load(total), builder.add(out, offset))


@routine(*(INTEGER,) * 5)
def raise_peaks(builder, at, row, rows, vectors, peaks):
    """Write the maximum of each column, and of what is there already, to `peaks`."""
    with each_vector(builder, vectors) as offset:
        column, target = builder.add(at, offset), builder.add(peaks, offset)
        peak = variable(builder, load(builder, target))
        with counting(builder, rows) as r:
            x = load(builder, place(builder, column, r, row))
            builder.store(greater(builder, x, builder.load(peak)), peak)
        store(builder, builder.load(peak), target)


@routine(*(INTEGER,) * 4)
def rescale(builder, vectors, peaks, totals, factors):
    """Let `factors`, which hold the peaks that the totals are relative to, be by what those change,
    and make them relative to `peaks`."""
    with each_vector(builder, vectors) as offset:
        source, target = builder.add(factors, offset), builder.add(totals, offset)
        difference = builder.fsub(load(builder, source), load(builder, builder.add(peaks, offset)))
        factor = exponential(builder, difference)
        store(builder, factor, source)
        store(builder, builder.fmul(load(builder, target), factor), target)


@routine(*(INTEGER,) * 3)
def copy(builder, source, target, vectors):
    with each_vector(builder, vectors) as offset:
        value = load(builder, builder.add(source, offset))
        store(builder, value, builder.add(target, offset))


@routine(*(INTEGER,) * 6)
def soften(builder, at, row, rows, vectors, peaks, totals):
    """Turn each x into exp(x − peak of its column), and add them up in `totals`."""
    with each_vector(builder, vectors) as offset:
        column, target = builder.add(at, offset), builder.add(totals, offset)
        peak = load(builder, builder.add(peaks, offset))
        total = variable(builder, load(builder, target))
        with counting(builder, rows) as r:
            cell = place(builder, column, r, row)
            e = exponential(builder, builder.fsub(load(builder, cell), peak))
            store(builder, e, cell)
            builder.store(builder.fadd(builder.load(total), e), total)
        store(builder, builder.load(total), target)


@routine(*(INTEGER,) * 6)
def differentiate(builder, weights, dtile, row, rows, vectors, dots):
    """Turn each x of `dtile` into weight · (x − dot of its column)."""
    with each_vector(builder, vectors) as offset:
        dot = load(builder, builder.add(dots, offset))
        with counting(builder, rows) as r:
            cell = builder.add(place(builder, dtile, r, row), offset)
            weight = load(builder, builder.add(place(builder, weights, r, row), offset))
            store(builder, builder.fmul(weight, builder.fsub(load(builder, cell), dot)), cell)


@routine(*(INTEGER,) * 6)
def keep_band(builder, at, row, rows, vectors, low, high):
    """−∞ in row r for each column i unless i + low ≤ r ≤ i + high."""
    with counting(builder, rows) as r, counting(builder, vectors) as vector:
        columns = numbered(builder, builder.mul(vector, I64(WIDTH)))
        here = spread(builder, r)
        seen = builder.and_(
            builder.icmp_signed("<=", builder.add(columns, spread(builder, low)), here),
            builder.icmp_signed("<=", here, builder.add(columns, spread(builder, high))),
        )
        cell = place(builder, place(builder, at, r, row), vector, BYTES)
        store(builder, builder.select(seen, load(builder, cell), constant(float("-inf"))), cell)


@routine(*(INTEGER,) * 6, UNSIGNED, UNSIGNED, NUMBER)
def drop(builder, at, row, rows, vectors, number, step, key, threshold, factor):
    """Multiply by `factor` what `dropout.kept` keeps, and write 0 to the rest; column i of row r
    has the number `number` + r + i·step."""
    with counting(builder, rows) as r, counting(builder, vectors) as vector:
        columns = numbered(builder, builder.mul(vector, I64(WIDTH)))
        z = builder.mul(columns, spread(builder, step))
        z = builder.add(z, spread(builder, builder.add(builder.add(number, r), I64(1))))
        z = builder.add(builder.mul(z, whole(LONGS, GOLDEN)), spread(builder, key))
        z = builder.xor(z, builder.lshr(z, whole(LONGS, 30)))
        z = builder.mul(z, whole(LONGS, MIX_1))
        z = builder.xor(z, builder.lshr(z, whole(LONGS, 27)))
        z = builder.mul(z, whole(LONGS, MIX_2))
        z = builder.xor(z, builder.lshr(z, whole(LONGS, 31)))
        kept = builder.icmp_unsigned(">=", z, spread(builder, threshold))
        cell = place(builder, place(builder, at, r, row), vector, BYTES)
        used = builder.fmul(load(builder, cell), spread(builder, factor))
        store(builder, builder.select(kept, used, constant(0.0)), cell)


@routine(*(INTEGER,) * 5, NUMBER)
def transpose(builder, source, source_row, count, target, target_row, scale):
    """Write 16 × 16 numbers at `source`, transposed and times `scale`, to `target`: zeros for the
    rows of `source` from `count` ≥ 1 on, which are not read."""
    rows = []
    for i in range(WIDTH):
        there = builder.icmp_signed("<", I64(i), count)
        index = builder.select(there, I64(i), I64(0))
        row = load(builder, place(builder, source, index, source_row))
        rows.append(builder.select(there, row, constant(0.0)))
    distance = 1
    while distance < WIDTH:  # swap the off-diagonal blocks of ever larger blocks
        for i in range(WIDTH):
            if not i & distance:
                pair = rows[i], rows[i + distance]
                rows[i], rows[i + distance] = swapped(builder, *pair, distance)
        distance *= 2
    factor = spread(builder, scale)
    for i, row in enumerate(rows):
        store(builder, builder.fmul(row, factor), place(builder, target, I64(i), target_row))


@routine(*(INTEGER,) * 6, NUMBER)
def dot_with_rows(builder, x, rows_at, row, count, vectors, out, scale):
    """Write scale · x·row of each of `count` rows to `out`, and −∞ up to a whole vector."""
    pieces = builder.sdiv(builder.add(count, I64(WIDTH - 1)), I64(WIDTH))
    with counting(builder, pieces) as piece:
        first = builder.mul(piece, I64(WIDTH))
        sums = [variable(builder, constant(0.0)) for _ in range(WIDTH)]
        places = []
        for i in range(WIDTH):
            index = builder.add(first, I64(i))
            index = builder.select(builder.icmp_signed("<", index, count), index, first)
            places.append(place(builder, rows_at, index, row))
        with each_vector(builder, vectors) as offset:
            factor = load(builder, builder.add(x, offset))
            for total, at in zip(sums, places, strict=True):
                product_ = times(builder, factor, load(builder, builder.add(at, offset)))
                builder.store(plus(builder, builder.load(total), product_), total)
        left, distance = [builder.load(total) for total in sums], WIDTH // 2
        while distance:  # half the rows of the transposed, added to the other half
            left = [
                builder.fadd(*swapped(builder, left[i], left[i + distance], distance))
                for i in range(distance)
            ]
            distance //= 2
        found = builder.fmul(left[0], spread(builder, scale))
        there = builder.icmp_signed("<", numbered(builder, first), spread(builder, count))
        found = builder.select(there, found, constant(float("-inf")))
        store(builder, found, place(builder, out, piece, BYTES))


@routine(*(INTEGER,) * 7)
def soften_rows(builder, at, row, rows, vectors, peaks, totals, factors):
    """Turn each x of a row into exp(x − peak), with the row's peak so far and here; update `peaks`
    and `totals`, and write by what earlier sums are too large to `factors`."""
    with counting(builder, rows) as r:
        here, offset = place(builder, at, r, row), builder.mul(r, I64(4))
        peak_at, total_at = builder.add(peaks, offset), builder.add(totals, offset)
        old = spread(builder, load(builder, peak_at, F32))
        highest, total = variable(builder, old), variable(builder, constant(0.0))
        with each_vector(builder, vectors) as step:
            x = load(builder, builder.add(here, step))
            builder.store(greater(builder, x, builder.load(highest)), highest)
        peak = folded(builder, builder.load(highest), greater)
        with each_vector(builder, vectors) as step:
            cell = builder.add(here, step)
            e = exponential(builder, builder.fsub(load(builder, cell), peak))
            store(builder, e, cell)
            builder.store(builder.fadd(builder.load(total), e), total)
        factor = exponential(builder, builder.fsub(old, peak))
        before = builder.fmul(spread(builder, load(builder, total_at, F32)), factor)
        after = builder.fadd(before, folded(builder, builder.load(total), plus))
        for value, target in (
            (peak, peak_at),
            (after, total_at),
            (factor, builder.add(factors, offset)),
        ):
            store(builder, builder.extract_element(value, I32(0)), target)


@routine(*(INTEGER,) * 6, NUMBER)
def rotate(builder, x, y, heads, vectors, cos, sin, sign):
    """`kernels.rope` of one position: heads of 2 · `vectors` vectors, written past the caches."""
    half = builder.mul(vectors, I64(BYTES))
    with counting(builder, heads) as h, each_vector(builder, vectors) as offset:
        at = builder.add(builder.mul(h, builder.mul(half, I64(2))), offset)
        first = load(builder, builder.add(x, at))
        second = load(builder, builder.add(builder.add(x, at), half))
        c = load(builder, builder.add(cos, offset))
        s = builder.fmul(load(builder, builder.add(sin, offset)), spread(builder, sign))
        target = builder.add(y, at)
        for value, address in (
            (builder.fsub(times(builder, first, c), times(builder, second, s)), target),
            (
                plus(builder, times(builder, second, c), times(builder, first, s)),
                builder.add(target, half),
            ),
        ):
            store_past(builder, value, address)
