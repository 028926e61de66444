"""Loops over tiles of numbers, written in LLVM's vectors of 16.

Why not in Python: numba's loops over a few vectors spend as long on checks of aliasing and on left
over numbers as on the vectors, and a product cannot be kept in registers. Why not BLAS: it packs
both operands, which costs more than it gains where they are skinny and in the cache already.

Everything is given by address and by strides in bytes, so one compilation serves all layouts in
memory. A count of vectors is `vectors`, 16 numbers wide each.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

from entrenar_core.kernels.cpu.compile import KEEPS_NAN
from entrenar_core.kernels.dropout import GOLDEN, MIX_1, MIX_2

WIDTH = 16
"""Numbers in a vector, whatever the CPU has: LLVM splits them where its registers are shorter."""

BYTES = 4 * WIDTH

inner = numba.njit(
    fastmath=KEEPS_NAN, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
)
"""For functions that kernels call in their parallel loops. They are compiled and cached as parts of
the kernels."""

I8, I32, I64, F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
VECTOR = ir.VectorType(F32, WIDTH)
WHOLES = ir.VectorType(I32, WIDTH)
LONGS = ir.VectorType(I64, WIDTH)
INTEGER, NUMBER, UNSIGNED = types.int64, types.float32, types.uint64

Builder = Any


def routine(*arguments: Any, name: str = "") -> Callable[[Callable[..., None]], Any]:
    """Make `build(builder, *arguments)`, which writes a function's body, callable in kernels.

    It is compiled as a function of its own, once for each kernel, and never copied into callers.
    """
    signature = types.void(*arguments)

    def decorate(build: Callable[..., None]) -> Any:
        symbol = f"entrenar_{name or build.__name__}"

        def generate(context: Any, builder: Builder, _signature: Any, values: Any) -> Any:
            if symbol not in builder.module.globals:
                kinds = [context.get_value_type(argument) for argument in arguments]
                function = ir.Function(
                    builder.module, ir.FunctionType(ir.VoidType(), kinds), name=symbol
                )
                # with this linkage and attribute LLVM makes no copies of it and unrolls no loops
                function.linkage = "linkonce"
                function.attributes.add("optsize")
                inside = ir.IRBuilder(function.append_basic_block("entry"))
                build(inside, *function.args)
                inside.ret_void()
            builder.call(builder.module.globals[symbol], values)
            return context.get_dummy_value()

        def called(_typing: Any, *_given: Any) -> Any:
            return signature, generate

        called.__name__ = symbol
        called.__signature__ = inspect.signature(build)  # type: ignore[attr-defined]
        return intrinsic(called)

    return decorate


# --- what routines are made of -------------------------------------------------------------------


def load(builder: Builder, address: Any, kind: Any = VECTOR) -> Any:
    found = builder.load(builder.inttoptr(address, kind.as_pointer()))
    found.align = 4
    return found


def store(builder: Builder, value: Any, address: Any) -> None:
    stored = builder.store(value, builder.inttoptr(address, value.type.as_pointer()))
    stored.align = 4


def spread(builder: Builder, number: Any) -> Any:
    """A vector of one number."""
    kind = ir.VectorType(number.type, WIDTH)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, number, I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(WHOLES, None))


def constant(number: float) -> Any:
    return ir.Constant(VECTOR, [F32(number)] * WIDTH)


def whole(kind: Any, *numbers: int) -> Any:
    """A vector of integers: one number everywhere, or 16 numbers."""
    return ir.Constant(kind, [kind.element(n) for n in numbers * (WIDTH // len(numbers))])


def place(builder: Builder, base: Any, index: Any, stride: Any) -> Any:
    return builder.add(base, builder.mul(index, I64(stride) if isinstance(stride, int) else stride))


def plus(builder: Builder, x: Any, y: Any) -> Any:
    return builder.fadd(x, y, flags=("contract",))


def times(builder: Builder, x: Any, y: Any) -> Any:
    return builder.fmul(x, y, flags=("contract",))


def greater(builder: Builder, x: Any, y: Any) -> Any:
    """x where x > y, else y."""
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


def variable(builder: Builder, value: Any) -> Any:
    """A place for a number or vector that a loop changes; LLVM keeps it in a register."""
    return cgutils.alloca_once_value(builder, value)


def exponential(builder: Builder, x: Any) -> Any:
    """eˣ as `compile.exp` computes it, but 0 below e⁻⁸⁷, so also for −∞. NaN stays NaN."""
    name = "llvm.floor.v16f32"
    floor = builder.module.globals.get(name)
    if floor is None:
        floor = ir.Function(builder.module, ir.FunctionType(VECTOR, [VECTOR]), name=name)
    tiny = builder.fcmp_ordered("<", x, constant(-87.0))
    x = builder.select(tiny, constant(-87.0), x)
    k = builder.call(floor, [plus(builder, times(builder, x, constant(1.44269504)), constant(0.5))])
    r = plus(builder, x, times(builder, k, constant(-0.693359375)))
    r = plus(builder, r, times(builder, k, constant(2.12194440e-4)))
    p = constant(1.9875691500e-4)
    for coefficient in (
        1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1,
    ):  # fmt: skip
        p = plus(builder, times(builder, p, r), constant(coefficient))
    p = plus(builder, times(builder, p, times(builder, r, r)), r)
    p = plus(builder, p, constant(1.0))
    power = builder.add(builder.fptosi(k, WHOLES), whole(WHOLES, 127))
    power = builder.bitcast(builder.shl(power, whole(WHOLES, 23)), VECTOR)
    return builder.select(tiny, constant(0.0), builder.fmul(p, power))


@contextmanager
def counting(builder: Builder, count: Any) -> Iterator[Any]:
    """A loop over 0 ≤ i < count."""
    with cgutils.for_range(builder, count) as loop:
        yield loop.index


@contextmanager
def each_vector(builder: Builder, vectors: Any) -> Iterator[Any]:
    """A loop over the offsets of vectors in bytes."""
    with counting(builder, vectors) as index:
        yield builder.mul(index, I64(BYTES))


# --- products ------------------------------------------------------------------------------------


def _has_avx512() -> bool:
    chosen = config.CPU_FEATURES  # pyright: ignore[reportAttributeAccessIssue]
    features = llvmlite.binding.get_host_cpu_features().flatten() if chosen is None else chosen
    return "+avx512f" in features.split(",")


MANY_REGISTERS = _has_avx512()
"""32 registers of 16 numbers hold results of 4 × 64; 16 registers of 8 numbers, of 4 × 16."""


def _block(builder: Builder, rows: int, vectors: int, operands: Any, depth: Any, add: Any) -> None:
    """c[i, j] (+)= Σₚ a[i, p]·b[p, j] over p < depth, for i < `rows` and j < 16 · `vectors`: in
    rows · vectors registers."""
    a, a_row, a_step, b, b_step, c, c_row = operands
    sums = [[variable(builder, constant(0.0)) for _ in range(vectors)] for _ in range(rows)]
    with counting(builder, depth) as p:
        at_a, at_b = place(builder, a, p, a_step), place(builder, b, p, b_step)
        row_of_b = [load(builder, place(builder, at_b, I64(j), BYTES)) for j in range(vectors)]
        for i in range(rows):
            x = spread(builder, load(builder, place(builder, at_a, I64(i), a_row), F32))
            for total, y in zip(sums[i], row_of_b, strict=True):
                new = plus(builder, builder.load(total), times(builder, x, y))
                builder.store(new, total)
    cells = [
        (builder.load(sums[i][j]), place(builder, place(builder, c, I64(i), c_row), I64(j), BYTES))
        for i in range(rows)
        for j in range(vectors)
    ]
    with builder.if_else(builder.icmp_signed("!=", add, I64(0))) as (adding, writing):
        with adding:
            for value, target in cells:
                store(builder, builder.fadd(load(builder, target), value), target)
        with writing:
            for value, target in cells:
                store(builder, value, target)


def _panel(builder: Builder, vectors: int, operands: Any, rows: Any, depth: Any, add: Any) -> None:
    """The same for any number of rows, with at least 8 sums at a time while there are so many rows,
    which hides how long an addition takes."""
    a, a_row, a_step, b, b_step, c, c_row = operands
    at_once = 8 if vectors < 4 and MANY_REGISTERS else 4
    full = builder.sdiv(rows, I64(at_once))
    for size, first, count in (
        (at_once, I64(0), full),
        (1, builder.mul(full, I64(at_once)), builder.srem(rows, I64(at_once))),
    ):
        with counting(builder, count) as i:
            row = builder.add(first, builder.mul(i, I64(size)))
            at_a, at_c = place(builder, a, row, a_row), place(builder, c, row, c_row)
            _block(
                builder, size, vectors, (at_a, a_row, a_step, b, b_step, at_c, c_row), depth, add
            )


@routine(*(INTEGER,) * 11)
def product(builder, a, a_row, a_step, b, b_step, c, c_row, rows, vectors, depth, add):
    """c (+)= a·b, with a[i, p] at a + i·a_row + p·a_step, and contiguous rows of b and c. Every sum
    runs over ascending p. `add` is 0 or 1."""
    widest = 4 if MANY_REGISTERS else 1
    done = variable(builder, I64(0))
    for width in range(widest, 0, -1):
        head, body, end = (builder.append_basic_block() for _ in range(3))
        builder.branch(head)
        builder.position_at_end(head)
        left = builder.sub(vectors, builder.load(done))
        fits = builder.icmp_signed(">=", left, I64(width))
        if width == 4:  # 5 and 6 go better in two pieces of nearly one size
            for odd in (5, 6):
                fits = builder.and_(fits, builder.icmp_signed("!=", left, I64(odd)))
        builder.cbranch(fits, body, end)
        builder.position_at_end(body)
        offset = builder.mul(builder.load(done), I64(BYTES))
        at_b, at_c = builder.add(b, offset), builder.add(c, offset)
        operands = (a, a_row, a_step, at_b, b_step, at_c, c_row)
        _panel(builder, width, operands, rows, depth, add)
        builder.store(builder.add(builder.load(done), I64(width)), done)
        builder.branch(head)
        builder.position_at_end(end)


# --- rows and columns of a tile ------------------------------------------------------------------


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


def _numbered(builder: Builder, first: Any) -> Any:
    """first, first + 1, …"""
    return builder.add(spread(builder, first), whole(LONGS, *range(WIDTH)))


@routine(*(INTEGER,) * 6)
def keep_band(builder, at, row, rows, vectors, low, high):
    """−∞ in row r for each column i unless i + low ≤ r ≤ i + high."""
    with counting(builder, rows) as r, counting(builder, vectors) as vector:
        columns = _numbered(builder, builder.mul(vector, I64(WIDTH)))
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
        columns = _numbered(builder, builder.mul(vector, I64(WIDTH)))
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
                rows[i], rows[i + distance] = _swapped(builder, *pair, distance)
        distance *= 2
    factor = spread(builder, scale)
    for i, row in enumerate(rows):
        store(builder, builder.fmul(row, factor), place(builder, target, I64(i), target_row))


def _swapped(builder: Builder, upper: Any, lower: Any, distance: int) -> tuple[Any, Any]:
    """The rows after the right half of `upper`'s blocks is swapped with the left of `lower`'s."""
    above = [WIDTH + j - distance if j & distance else j for j in range(WIDTH)]
    below = [WIDTH + j if j & distance else j + distance for j in range(WIDTH)]
    first, second = (
        builder.shuffle_vector(upper, lower, whole(WHOLES, *order)) for order in (above, below)
    )
    return first, second


# --- a few rows against many ---------------------------------------------------------------------


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
                builder.fadd(*_swapped(builder, left[i], left[i + distance], distance))
                for i in range(distance)
            ]
            distance //= 2
        found = builder.fmul(left[0], spread(builder, scale))
        there = builder.icmp_signed("<", _numbered(builder, first), spread(builder, count))
        found = builder.select(there, found, constant(float("-inf")))
        store(builder, found, place(builder, out, piece, BYTES))


def _across(builder: Builder, vector: Any, combine: Callable[..., Any]) -> Any:
    """A vector of what `combine` makes of all numbers of one."""
    for distance in (8, 4, 2, 1):
        order = whole(WHOLES, *((j + distance) % WIDTH for j in range(WIDTH)))
        vector = combine(builder, vector, builder.shuffle_vector(vector, vector, order))
    return vector


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
        peak = _across(builder, builder.load(highest), greater)
        with each_vector(builder, vectors) as step:
            cell = builder.add(here, step)
            e = exponential(builder, builder.fsub(load(builder, cell), peak))
            store(builder, e, cell)
            builder.store(builder.fadd(builder.load(total), e), total)
        factor = exponential(builder, builder.fsub(old, peak))
        before = builder.fmul(spread(builder, load(builder, total_at, F32)), factor)
        after = builder.fadd(before, _across(builder, builder.load(total), plus))
        for value, target in (
            (peak, peak_at),
            (after, total_at),
            (factor, builder.add(factors, offset)),
        ):
            store(builder, builder.extract_element(value, I32(0)), target)


# --- numbers in memory, and what threads share ---------------------------------------------------


@intrinsic
def number_at(_typing, _address):
    """The float32 at an address."""

    def generate(_context, builder, _signature, arguments):
        return load(builder, arguments[0], F32)

    return types.float32(types.int64), generate


@intrinsic
def integer_at(_typing, _address):
    """The int64 at an address."""

    def generate(_context, builder, _signature, arguments):
        return load(builder, arguments[0], I64)

    return types.int64(types.int64), generate


@intrinsic
def byte_at(_typing, _address):
    """The byte at an address."""

    def generate(_context, builder, _signature, arguments):
        return builder.zext(builder.load(builder.inttoptr(arguments[0], I8.as_pointer())), I64)

    return types.int64(types.int64), generate


@intrinsic
def put_number(_typing, _address, _number):
    """Write a float32 to an address."""

    def generate(context, builder, _signature, arguments):
        store(builder, arguments[1], arguments[0])
        return context.get_dummy_value()

    return types.void(types.int64, types.float32), generate


@intrinsic
def take(_typing, _address):
    """The integer at an address, which is counted up: no two threads get the same."""

    def generate(_context, builder, _signature, arguments):
        counter = builder.inttoptr(arguments[0], I64.as_pointer())
        return builder.atomic_rmw("add", counter, I64(1), "monotonic")

    return types.int64(types.int64), generate


@intrinsic
def apart(_typing):
    """Keep LLVM from copying the function that calls this into its callers: kernels would take
    several times as long to compile."""

    def generate(context, builder, _signature, _arguments):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate
