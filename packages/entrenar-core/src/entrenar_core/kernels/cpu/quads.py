"""Products of integers of 8 bits: what the processor does with quads of them.

`vpdpbusd` takes 16 sums of 32 bits and two vectors of 16 quads, one of numbers without a sign and
one of numbers with it, and adds to each sum the four products of one quad with another: 64
multiplications at once, four times as many as with float32. Nothing is cut off: a sum is exact
modulo 2³².

The weights are the numbers without a sign, integers q + 128 (see `kernels.int8_panels`). What that
adds to a sum over a block, 128 times the sum of the integers it is multiplied with, depends on
these alone: sums begin with its negative, found when they are rounded.

A panel of a, of 8 rows, has quads of the rows one step after the other, as panels of b have; behind
them the sums' beginnings, 8 for each block, and the rows' 8 scales. A tile of the result, 8 × 48,
takes 24 sums, as in `pairs`.
Source: Intel 64 and IA-32 Architectures Software Developer's Manual, VPDPBUSD.
"""

from typing import Any

from llvmlite import ir

from entrenar_core.kernels.cpu.pairs import (
    ROWS,
    VECTORS,
    below,
    load_some,
    store_some,
)
from entrenar_core.kernels.cpu.vectors import (
    BYTES,
    F32,
    I8,
    I32,
    I64,
    INTEGER,
    VECTOR,
    WHOLES,
    WIDTH,
    Builder,
    constant,
    counting,
    declared,
    load,
    place,
    routine,
    spread,
    store,
    variable,
    whole,
)
from entrenar_core.kernels.int8_panels import COLUMNS, QUAD, ZERO
from entrenar_core.kernels.matmul_int8 import HIGHEST

assert COLUMNS == VECTORS * WIDTH

NUMBER = 4
"""Bytes of a float32, and of a sum."""

LINE = ROWS * QUAD
"""Bytes of a step of a panel of a, of the beginnings of a block, and of the scales of its rows."""

_HALVES = ir.VectorType(ir.HalfType(), WIDTH)
_QUADS = ir.VectorType(I32, WIDTH // QUAD)
_SHORT = ir.VectorType(I8, WIDTH)
_INFINITE = 0x7F800000


def dot(builder: Builder, total: Any, x: Any, y: Any) -> Any:
    """`total` plus, lane by lane, the products of a quad of x, without signs, with a quad of y."""
    name = "llvm.x86.avx512.vpdpbusd.512"
    return builder.call(declared(builder, name, WHOLES, WHOLES, WHOLES, WHOLES), [total, x, y])


def _fused(builder: Builder, x: Any, y: Any, z: Any) -> Any:
    """x·y + z, rounded once."""
    fma = declared(builder, "llvm.fma.v16f32", VECTOR, VECTOR, VECTOR, VECTOR)
    return builder.call(fma, [x, y, z])


# --- one tile of the result ----------------------------------------------------------------------


def _of_block(builder: Builder, rows: int, steps: Any, starts: Any, a: Any, b: Any) -> Any:
    """The sums over one block, of `rows` rows with all columns of a panel, as float32."""
    sums = []
    for i in range(rows):
        start = spread(builder, load(builder, place(builder, starts, I64(i), NUMBER), I32))
        sums.append([variable(builder, start) for _ in range(VECTORS)])
    with counting(builder, steps) as step:
        at_a, at_b = place(builder, a, step, LINE), place(builder, b, step, COLUMNS * QUAD)
        of_b = [load(builder, place(builder, at_b, I64(j), BYTES), WHOLES) for j in range(VECTORS)]
        for i, row in enumerate(sums):
            x = spread(builder, load(builder, place(builder, at_a, I64(i), QUAD), I32))
            for total, y in zip(row, of_b, strict=True):
                builder.store(dot(builder, builder.load(total), y, x), total)
    return [[builder.sitofp(builder.load(each), VECTOR) for each in row] for row in sums]


def _scales(builder: Builder, address: Any, kind: Any) -> list[Any]:
    """The scales of a block for all columns of a panel, of which `kind` has 16."""
    size = BYTES if kind is VECTOR else BYTES // 2
    found = []
    for j in range(VECTORS):
        value = builder.load(
            builder.inttoptr(place(builder, address, I64(j), size), kind.as_pointer())
        )
        value.align = 2
        found.append(value if kind is VECTOR else builder.fpext(value, VECTOR))
    return found


def _totals(builder: Builder, rows: int, kind: Any, given: Any) -> list[list[Any]]:
    """The rows of a tile, which are Σ over blocks scale · sum, times the scale of the row."""
    blocks, steps, a, starts, b, scales = given
    totals = [[variable(builder, constant(0.0)) for _ in range(VECTORS)] for _ in range(rows)]
    width = COLUMNS * (NUMBER if kind is VECTOR else NUMBER // 2)
    with counting(builder, blocks) as block:
        first = builder.mul(block, steps)
        sums = _of_block(
            builder, rows, steps, place(builder, starts, block, LINE),
            place(builder, a, first, LINE), place(builder, b, first, COLUMNS * QUAD),
        )  # fmt: skip
        of_block = _scales(builder, place(builder, scales, block, width), kind)
        for row, found in zip(totals, sums, strict=True):
            for total, value, scale in zip(row, found, of_block, strict=True):
                builder.store(_fused(builder, scale, value, builder.load(total)), total)
    of_rows = place(builder, starts, blocks, LINE)
    result = []
    for i, row in enumerate(totals):
        scale = spread(builder, load(builder, place(builder, of_rows, I64(i), NUMBER), F32))
        result.append([builder.fmul(builder.load(total), scale) for total in row])
    return result


def _put(builder: Builder, found: Any, c: Any, c_row: Any, columns: Any, add: Any) -> None:
    """Write a tile to c, or add it to what is there; in the first `columns` columns."""
    masks = [below(builder, builder.sub(columns, I64(j * WIDTH))) for j in range(VECTORS)]
    cells = [
        (value, place(builder, place(builder, c, I64(i), c_row), I64(j), BYTES), masks[j])
        for i, row in enumerate(found)
        for j, value in enumerate(row)
    ]
    with builder.if_else(builder.icmp_signed("!=", add, I64(0))) as (adding, writing):
        with adding:
            for value, at, mask in cells:
                store_some(builder, builder.fadd(load_some(builder, at, mask), value), at, mask)
        with writing:
            for value, at, mask in cells:
                store_some(builder, value, at, mask)


def _tile(builder: Builder, kind: Any, given: Any, target: Any) -> None:
    c, c_row, rows, columns, add = target
    for count in range(ROWS, 0, -1):
        taken = builder.icmp_signed(">=" if count == ROWS else "==", rows, I64(count))
        with builder.if_then(taken):
            _put(builder, _totals(builder, count, kind, given), c, c_row, columns, add)


@routine(*(INTEGER,) * 11)
def quad_tile(builder, blocks, steps, a, starts, b, scales, c, c_row, rows, columns, add):
    """c (+)= a panel of a times a panel of b, of the `rows` × `columns` that there are. A block is
    `steps` long and has float32 `scales`. `add` is 0 or 1, `c_row` the bytes from row to row."""
    given, target = (blocks, steps, a, starts, b, scales), (c, c_row, rows, columns, add)
    _tile(builder, VECTOR, given, target)


@routine(*(INTEGER,) * 11)
def quad_tile_of_halves(builder, blocks, steps, a, starts, b, scales, c, c_row, rows, columns, add):
    """The same with float16 `scales`."""
    given, target = (blocks, steps, a, starts, b, scales), (c, c_row, rows, columns, add)
    _tile(builder, _HALVES, given, target)


# --- rounding ------------------------------------------------------------------------------------


def _reduced(builder: Builder, how: str, vector: Any) -> Any:
    name = f"llvm.vector.reduce.{how}.v16i32"
    return builder.call(declared(builder, name, I32, WHOLES), [vector])


def _numbers(builder: Builder, source: Any, vector: Any, count: Any) -> Any:
    left = builder.sub(count, builder.mul(vector, I64(WIDTH)))
    return load_some(builder, place(builder, source, vector, BYTES), below(builder, left))


def _peak(builder: Builder, source: Any, count: Any) -> Any:
    """The bits of the largest magnitude; those of NaN are greater than those of infinity."""
    most = variable(builder, whole(WHOLES, 0))
    vectors = builder.sdiv(builder.add(count, I64(WIDTH - 1)), I64(WIDTH))
    with counting(builder, vectors) as vector:
        bits = builder.bitcast(_numbers(builder, source, vector, count), WHOLES)
        bits = builder.and_(bits, whole(WHOLES, 0x7FFFFFFF))
        before = builder.load(most)
        larger = builder.icmp_signed(">", bits, before)
        builder.store(builder.select(larger, bits, before), most)
    return _reduced(builder, "smax", builder.load(most))


def _factors(builder: Builder, peak: Any) -> tuple[Any, Any]:
    """A row's scale, and its inverse; NaN and 0 where a number is not finite."""
    finite = builder.icmp_signed("<", peak, I32(_INFINITE))
    scale = builder.fdiv(builder.bitcast(peak, F32), F32(float(HIGHEST)))
    inverse = builder.fdiv(F32(1.0), scale)
    largest = F32(3.4028234663852886e38)
    fits = builder.fcmp_ordered("<", inverse, largest)
    inverse = builder.select(fits, inverse, largest)
    return (
        builder.select(finite, scale, F32(float("nan"))),
        builder.select(finite, inverse, F32(0.0)),
    )


def _integers(builder: Builder, numbers: Any, inverse: Any) -> Any:
    rint = declared(builder, "llvm.rint.v16f32", VECTOR, VECTOR)
    near = builder.call(rint, [builder.fmul(numbers, inverse)])
    # infinity times 0 is NaN, and no integer
    is_number = builder.fcmp_ordered("<=", near, constant(float(HIGHEST)))
    return builder.fptosi(builder.select(is_number, near, constant(0.0)), WHOLES)


@routine(*(INTEGER,) * 6)
def round_row(builder, source, count, blocks, vectors, target, starts):
    """`count` float32 as a row of a panel of a: quads from `target` on, the beginnings of sums from
    `starts` on, and behind them the scale. A block is `vectors` long."""
    scale, inverse = _factors(builder, _peak(builder, source, count))
    store(builder, scale, place(builder, starts, blocks, LINE))
    inverse = spread(builder, inverse)
    with counting(builder, blocks) as block:
        total = variable(builder, whole(WHOLES, 0))
        with counting(builder, vectors) as index:
            vector = builder.add(builder.mul(block, vectors), index)
            integers = _integers(builder, _numbers(builder, source, vector, count), inverse)
            builder.store(builder.add(builder.load(total), integers), total)
            quads = builder.bitcast(builder.trunc(integers, _SHORT), _QUADS)
            at = place(builder, target, vector, WIDTH // QUAD * LINE)
            for i in range(WIDTH // QUAD):
                quad = builder.extract_element(quads, I32(i))
                store(builder, quad, builder.add(at, I64(i * LINE)))
        start = builder.mul(_reduced(builder, "add", builder.load(total)), I32(-ZERO))
        store(builder, start, place(builder, starts, block, LINE))
