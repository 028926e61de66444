"""A product of skinny matrices that are in the cache already.

OpenBLAS packs both operands of a product first, which here costs more than it gains. This reads one
operand number by number, at any strides, and the other row by row, and keeps its part of the result
in registers: 99 % of what one core can do. Of bfloat16 numbers it takes pairs of neighbours along
the axis that is summed over (see `pairs`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from entrenar_core.kernels.cpu.features import compiles_for
from entrenar_core.kernels.cpu.pairs import dot
from entrenar_core.kernels.cpu.vectors import (
    BYTES,
    F32,
    I32,
    I64,
    INTEGER,
    VECTOR,
    WHOLES,
    Builder,
    constant,
    counting,
    load,
    place,
    plus,
    routine,
    spread,
    store,
    times,
    variable,
)

MANY_REGISTERS = compiles_for("avx512f")
"""32 registers of 16 numbers hold results of 4 × 64; 16 registers of 8 numbers, of 4 × 16."""


@dataclass(frozen=True)
class _Kind:
    """Of what the operands are: the type of one of a, that of a vector of b, and what adds their
    product to a vector of sums."""

    one: Any
    vector: Any
    add: Callable[[Builder, Any, Any, Any], Any]


_NUMBERS = _Kind(
    F32, VECTOR, lambda builder, total, x, y: plus(builder, total, times(builder, x, y))
)
_PAIRS = _Kind(I32, WHOLES, dot)


def _block(
    builder: Builder, kind: _Kind, rows: int, vectors: int, operands: Any, depth: Any, add: Any
) -> None:
    """c[i, j] (+)= Σₚ a[i, p]·b[p, j] over p < depth, for i < `rows` and j < 16 · `vectors`: in
    rows · vectors registers."""
    a, a_row, a_step, b, b_step, c, c_row = operands
    sums = [[variable(builder, constant(0.0)) for _ in range(vectors)] for _ in range(rows)]
    with counting(builder, depth) as p:
        at_a, at_b = place(builder, a, p, a_step), place(builder, b, p, b_step)
        places = [place(builder, at_b, I64(j), BYTES) for j in range(vectors)]
        row_of_b = [load(builder, at, kind.vector) for at in places]
        for i in range(rows):
            x = spread(builder, load(builder, place(builder, at_a, I64(i), a_row), kind.one))
            for total, y in zip(sums[i], row_of_b, strict=True):
                builder.store(kind.add(builder, builder.load(total), x, y), total)
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


def _panel(
    builder: Builder, kind: _Kind, vectors: int, operands: Any, rows: Any, depth: Any, add: Any
) -> None:
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
            of_rows = (at_a, a_row, a_step, b, b_step, at_c, c_row)
            _block(builder, kind, size, vectors, of_rows, depth, add)


def _product(builder: Builder, kind: _Kind, given: Any) -> None:
    """c (+)= a·b, as wide a piece of rows at a time as there are registers for."""
    a, a_row, a_step, b, b_step, c, c_row, rows, vectors, depth, add = given
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
        _panel(builder, kind, width, operands, rows, depth, add)
        builder.store(builder.add(builder.load(done), I64(width)), done)
        builder.branch(head)
        builder.position_at_end(end)


@routine(*(INTEGER,) * 11)
def product(builder, a, a_row, a_step, b, b_step, c, c_row, rows, vectors, depth, add):
    """c (+)= a·b, with a[i, p] at a + i·a_row + p·a_step, and contiguous rows of b and c. Every sum
    runs over ascending p. `add` is 0 or 1."""
    given = a, a_row, a_step, b, b_step, c, c_row, rows, vectors, depth, add
    _product(builder, _NUMBERS, given)


@routine(*(INTEGER,) * 11)
def product_of_pairs(builder, a, a_row, a_step, b, b_step, c, c_row, rows, vectors, depth, add):
    """The same where a[i, p] and b[p, j] are pairs of bfloat16 numbers, and c is float32."""
    given = a, a_row, a_step, b, b_step, c, c_row, rows, vectors, depth, add
    _product(builder, _PAIRS, given)
