"""The searches of `kernels.k_blocks` for 16 parts at a time, each in a lane of its own: so sums are
in order without being slow.

Parts are given transposed: a row has one number of each part.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from entrenar_core.kernels.cpu.lanes import (
    Lanes,
    Variable,
    choose,
    counted,
    least,
    most,
    read,
    write,
)
from entrenar_core.kernels.cpu.vectors import (
    BYTES,
    F32,
    I64,
    INTEGER,
    WIDTH,
    counting,
    place,
    routine,
)
from entrenar_core.kernels.k_blocks import TINY

OFFSET_ROWS, SYMMETRIC_ROWS = 32, 16
"""Numbers in a part."""

SCALE, OFFSET, INVERSE, LOWEST = range(4)
"""The vectors that a search writes; the codes that it found are the nearest to
INVERSE·(x − LOWEST), or as `fit_symmetric` says."""


ROUNDER = 1.5 * 2**23
"""A number plus this has its nearest integer in its lowest bits."""


def nearest(x: Lanes) -> Lanes:
    """`k_blocks._nearest`."""
    return ((x + ROUNDER).bits() & 0x7FFFFF) - 0x400000


def clipped(x: Lanes, low: int, high: int) -> Lanes:
    """The nearest integers, but at least `low` and at most `high`."""
    return least(most(nearest(x), low), high)


def _lanes(builder: Any, number: float) -> Lanes:
    return counted(builder, F32, *[number] * WIDTH)


@contextmanager
def _rows(builder: Any, count: int) -> Iterator[Any]:
    """A loop over the offsets in bytes of rows."""
    with counting(builder, I64(count)) as row:
        yield builder.mul(row, I64(BYTES))


def _row(builder: Any, base: Any, offset: Any) -> Lanes:
    return read(builder, builder.add(base, offset), F32, WIDTH)


def _put(numbers: Lanes, base: Any, offset: Any) -> None:
    write(numbers, numbers.builder.add(base, offset))


def _tenths(builder: Any, i: Any, first: float, base: float) -> Lanes:
    """base + (first + i/10) for a loop's index, as float32 rounds it."""
    tenth = Lanes(builder, builder.sitofp(i, F32)) * 0.1
    return (tenth + first) + base


class _OffsetSearch:
    """What a search in parts with offsets has in its hands."""

    def __init__(self, builder: Any, parts: Any, weights: Any, codes: Any, top: int):
        self.builder, self.parts, self.weights, self.codes = builder, parts, weights, codes
        self.top = top

    def weigh(self) -> None:
        """Write the weights, and find what all candidates need."""
        b = self.builder
        squares = Variable(_lanes(b, 0.0))
        with _rows(b, OFFSET_ROWS) as at:
            x = _row(b, self.parts, at)
            squares.set(squares.get() + x * x)
        mean = (squares.get() / float(OFFSET_ROWS)).root()
        sums = [Variable(_lanes(b, 0.0)) for _ in range(2)]
        lowest, highest = Variable(_lanes(b, 0.0)), Variable(_lanes(b, float("-inf")))
        with _rows(b, OFFSET_ROWS) as at:
            x = _row(b, self.parts, at)
            weight = mean + x.magnitude()
            _put(weight, self.weights, at)
            sums[0].set(sums[0].get() + weight)
            sums[1].set(sums[1].get() + weight * x)
            lowest.set(least(x, lowest.get()))
            highest.set(most(x, highest.get()))
        self.sum_w, self.sum_x = (total.get() for total in sums)
        self.lowest, self.highest = lowest, highest.get()

    def code(self, at: Any, inverse: Lanes, lowest: Lanes) -> Lanes:
        x = _row(self.builder, self.parts, at)
        codes = clipped(inverse * (x - lowest), 0, self.top).floats()
        _put(codes, self.codes, at)
        return codes

    def error(self, scale: Lanes, lowest: Lanes) -> Lanes:
        """Of the codes that were written last."""
        b = self.builder
        total = Variable(_lanes(b, 0.0))
        with _rows(b, OFFSET_ROWS) as at:
            difference = scale * _row(b, self.codes, at) + lowest - _row(b, self.parts, at)
            weight = _row(b, self.weights, at)
            total.set(total.get() + weight * (difference * difference))
        return total.get()

    def sums(self, inverse: Lanes, lowest: Lanes) -> tuple[Lanes, Lanes, Lanes]:
        """Σwl, Σwlx and Σwl² of the codes l of a candidate."""
        b = self.builder
        totals = [Variable(_lanes(b, 0.0)) for _ in range(3)]
        with _rows(b, OFFSET_ROWS) as at:
            codes = self.code(at, inverse, lowest)
            weighted = _row(b, self.weights, at) * codes
            terms = weighted, weighted * _row(b, self.parts, at), weighted * codes
            for total, term in zip(totals, terms, strict=True):
                total.set(total.get() + term)
        sum_l, sum_xl, sum_l2 = (total.get() for total in totals)
        return sum_l, sum_xl, sum_l2


def _fit_offsets(top: int, first: float, candidates: int) -> Any:
    """A routine: `k_blocks._offset_fit`, from parts, with room for weights and codes."""

    def build(builder: Any, parts: Any, weights: Any, codes: Any, found: Any) -> None:
        search = _OffsetSearch(builder, parts, weights, codes, top)
        search.weigh()
        lowest, highest = search.lowest, search.highest
        inverse = float(top) / (highest - lowest.get())
        with _rows(builder, OFFSET_ROWS) as at:
            search.code(at, inverse, lowest.get())
        scale, best_inverse = Variable(1.0 / inverse), Variable(inverse)
        origin = Variable(lowest.get())  # of the best codes, where `lowest` is that of the best fit
        best = Variable(search.error(scale.get(), lowest.get()))
        with counting(builder, I64(candidates)) as i:
            base = lowest.get()
            inverse = _tenths(builder, i, first, float(top)).spread(WIDTH) / (highest - base)
            sum_l, sum_xl, sum_l2 = search.sums(inverse, base)
            sum_w, sum_x = search.sum_w, search.sum_x
            determinant = sum_w * sum_l2 - sum_l * sum_l
            new_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant
            new_lowest = (sum_l2 * sum_x - sum_l * sum_xl) / determinant
            positive = new_lowest > 0.0
            new_scale = choose(positive, sum_xl / sum_l2, new_scale)
            new_lowest = choose(positive, new_lowest.like(0.0), new_lowest)
            error = search.error(new_scale, new_lowest)
            better = (determinant > 0.0) & (error < best.get())
            for kept, new in (
                (best, error), (scale, new_scale), (lowest, new_lowest), (best_inverse, inverse),
                (origin, base),
            ):  # fmt: skip
                kept.set(choose(better, new, kept.get()))
        for number, vector in (
            (SCALE, scale.get()), (OFFSET, -lowest.get()), (INVERSE, best_inverse.get()),
            (LOWEST, origin.get()),
        ):  # fmt: skip
            write(vector, place(builder, found, I64(number), BYTES))

    return routine(*(INTEGER,) * 4, name=f"fit_{top}")(build)


fit_15 = _fit_offsets(15, -1.0, 21)
fit_31 = _fit_offsets(31, -0.5, 16)


@routine(INTEGER, INTEGER, INTEGER)
def fit_symmetric(builder, parts, powers, found):
    """`k_blocks._symmetric_fit`, from parts: SCALE, INVERSE and OFFSET, to which codes are nearest
    in INVERSE·x + OFFSET. Of parts that are taken for zeros the offset is below all codes. There
    is room at `powers` for x² and x³ of all numbers."""

    def cube(at: Any) -> Any:
        return builder.add(at, I64(SYMMETRIC_ROWS * BYTES))

    peak = Variable(_lanes(builder, 0.0))
    with _rows(builder, SYMMETRIC_ROWS) as at:
        x = _row(builder, parts, at)
        _put(x * x, powers, at)
        _put(x * x * x, powers, cube(at))
        peak.set(choose(x.magnitude() > peak.get().magnitude(), x, peak.get()))

    def sums(inverse: Lanes) -> tuple[Lanes, Lanes]:
        totals = [Variable(_lanes(builder, 0.0)) for _ in range(2)]
        with _rows(builder, SYMMETRIC_ROWS) as at:
            # floats already: no code is far from ±32 but in parts that are taken for zeros
            codes = (inverse * _row(builder, parts, at) + ROUNDER) - ROUNDER
            codes = least(most(codes, -32.0), 31.0)
            totals[0].set(totals[0].get() + _row(builder, powers, cube(at)) * codes)
            totals[1].set(totals[1].get() + _row(builder, powers, at) * codes * codes)
        sum_xl, sum_l2 = (total.get() for total in totals)
        return sum_xl, sum_l2

    first = -32.0 / peak.get()
    sum_xl, sum_l2 = sums(first)
    scale = Variable(choose(sum_l2.equals(0.0), sum_l2.like(0.0), sum_xl / sum_l2))
    best, best_inverse = Variable(scale.get() * sum_xl), Variable(first)
    with counting(builder, I64(18)) as i:
        number = builder.add(i, builder.zext(builder.icmp_signed(">", i, I64(8)), I64))
        tenths = Lanes(builder, builder.sitofp(builder.sub(number, I64(9)), F32)) * 0.1 + 32.0
        inverse = (-tenths).spread(WIDTH) / peak.get()
        sum_xl, sum_l2 = sums(inverse)
        better = (sum_l2 > 0.0) & (sum_xl * sum_xl > best.get() * sum_l2)
        new_scale = sum_xl / sum_l2
        for kept, new in (
            (scale, new_scale), (best, new_scale * sum_xl), (best_inverse, inverse)
        ):  # fmt: skip
            kept.set(choose(better, new, kept.get()))
    zero = peak.get().like(0.0)
    empty = peak.get().magnitude() < float(TINY)
    for number, vector in ((SCALE, scale.get()), (INVERSE, best_inverse.get()), (OFFSET, zero)):
        written = choose(empty, zero - 64.0 if number == OFFSET else zero, vector)
        write(written, place(builder, found, I64(number), BYTES))
