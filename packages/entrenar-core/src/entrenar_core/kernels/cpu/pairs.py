"""Products of bfloat16 numbers: what the processor does with pairs of them.

`vdpbf16ps` takes 16 sums and two vectors of 16 pairs, and adds to each sum the products of one pair
with another: 32 multiplications at once, twice as many as with float32. So both operands are laid
out in pairs of neighbours along k, the axis that is summed over, while they are rounded:

      op(a)  M × K                        op(b)  K × N

    k → 0 1 2 3 …                     n → 0      1      2  …  47
    m 0 ┌───┬───┐                   k 0 ┌──────┬──────┬──────────┐ one step of a panel of b:
      1 │0 1│2 3│                     1 │ 0,1  │ 0,1  │ …        │ 48 pairs, three vectors
      … │   │   │                     2 ├──────┼──────┼──────────┤
      7 └───┴───┘                     3 │ 2,3  │ 2,3  │ …        │
     a panel of a: 8 rows               └──────┴──────┴──────────┘
     step 0: (0,1) of rows 0 … 7

A panel holds its steps one after the other, so a tile of the result, 8 × 48, is computed by reading
two panels from their beginnings to their ends: of each step three vectors of b, and eight pairs of
a, each spread over a vector. That makes 24 sums, which with the four vectors they are made from fit
into the 32 registers: enough additions at once to hide how long one takes, and 11 loads for 24
operations.

A sum is over ascending k whatever the sizes and the number of threads are, so a row of a result
does not depend on the rows beside it. Where K is odd, or a panel ragged, there are zeros.

bfloat16 is rounded to nearest, ties to even, as everywhere; what is smaller than the least normal
number is zero, for these instructions and for what they are given.
Source: Intel 64 and IA-32 Architectures Software Developer's Manual, VCVTNE2PS2BF16, VDPBF16PS.
"""

from typing import Any

from llvmlite import ir

from entrenar_core.kernels.cpu.vectors import (
    BYTES,
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
    fetch,
    load,
    place,
    plus,
    routine,
    spread,
    store,
    variable,
    whole,
)

ROWS = 8
"""Rows of a panel of a."""

VECTORS = 3
"""Vectors of a panel of b."""

COLUMNS = VECTORS * WIDTH

STEPS = 16
"""A panel has room for a multiple of so many steps, what a transposition yields."""

PAIR = 4
"""Bytes."""

AHEAD = 8
"""Rows that are fetched before they are packed into panels across: each is on a page of its own,
so the processor does not foresee it."""

_HALVES = ir.VectorType(ir.IntType(16), 2 * WIDTH)
_BIT = ir.IntType(1)


def dot(builder: Builder, total: Any, x: Any, y: Any) -> Any:
    """`total` plus, lane by lane, the products of a pair of x with a pair of y. The pairs are those
    of bits of `rounded`."""
    name = "llvm.x86.avx512bf16.dpbf16ps.512"
    return builder.call(declared(builder, name, VECTOR, VECTOR, WHOLES, WHOLES), [total, x, y])


def rounded(builder: Builder, low: Any, high: Any) -> Any:
    """The bits of the 32 bfloat16 that are nearest to two vectors of float32, as 16 pairs of
    neighbours: those of `low` come first."""
    name = "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
    found = builder.call(declared(builder, name, _HALVES, VECTOR, VECTOR), [high, low])
    return builder.bitcast(found, WHOLES)


def interleaved(builder: Builder, first: Any, second: Any) -> Any:
    """The 16 pairs (first[i], second[i]) of two vectors of float32."""
    halves = builder.bitcast(rounded(builder, first, second), _HALVES)
    order = [I32(i + side * WIDTH) for i in range(WIDTH) for side in range(2)]
    mask = ir.Constant(ir.VectorType(I32, 2 * WIDTH), order)
    return builder.bitcast(builder.shuffle_vector(halves, halves, mask), WHOLES)


def below(builder: Builder, count: Any) -> Any:
    """For each lane whether its number is less than `count`."""
    least = builder.select(builder.icmp_signed("<", count, I64(0)), I64(0), count)
    least = builder.select(builder.icmp_signed(">", least, I64(WIDTH)), I64(WIDTH), least)
    lanes = whole(WHOLES, *range(WIDTH))
    return builder.icmp_signed("<", lanes, spread(builder, builder.trunc(least, I32)))


def load_some(builder: Builder, address: Any, mask: Any) -> Any:
    """The lanes of a vector where `mask` is set, and zeros: nothing else is read."""
    kind = VECTOR.as_pointer()
    read = declared(
        builder, "llvm.masked.load.v16f32.p0", VECTOR, kind, I32, ir.VectorType(_BIT, WIDTH), VECTOR
    )
    return builder.call(read, [builder.inttoptr(address, kind), I32(4), mask, constant(0.0)])


def store_some(builder: Builder, value: Any, address: Any, mask: Any) -> None:
    kind = VECTOR.as_pointer()
    write = declared(
        builder, "llvm.masked.store.v16f32.p0", ir.VoidType(), VECTOR, kind, I32,
        ir.VectorType(_BIT, WIDTH),
    )  # fmt: skip
    builder.call(write, [value, builder.inttoptr(address, kind), I32(4), mask])


# --- one tile of the result ----------------------------------------------------------------------


def _sums(builder: Builder, rows: int, steps: Any, a: Any, b: Any) -> list[list[Any]]:
    """The sums of `rows` rows with all columns of a panel."""
    totals = [[variable(builder, constant(0.0)) for _ in range(VECTORS)] for _ in range(rows)]
    with counting(builder, steps) as step:
        at_a, at_b = place(builder, a, step, ROWS * PAIR), place(builder, b, step, COLUMNS * PAIR)
        of_b = [load(builder, place(builder, at_b, I64(j), BYTES), WHOLES) for j in range(VECTORS)]
        for i, row in enumerate(totals):
            x = spread(builder, load(builder, place(builder, at_a, I64(i), PAIR), I32))
            for total, y in zip(row, of_b, strict=True):
                builder.store(dot(builder, builder.load(total), y, x), total)
    return [[builder.load(total) for total in row] for row in totals]


def _put(builder: Builder, sums: Any, c: Any, c_row: Any, columns: Any, add: Any) -> None:
    """Write sums to c, or add them to what is there; in the first `columns` columns."""
    cells = [
        (value, place(builder, place(builder, c, I64(i), c_row), I64(j), BYTES), j)
        for i, row in enumerate(sums)
        for j, value in enumerate(row)
    ]

    def each(read: Any, write: Any) -> None:
        with builder.if_else(builder.icmp_signed("!=", add, I64(0))) as (adding, writing):
            with adding:
                for value, target, j in cells:
                    write(plus(builder, read(target, j), value), target, j)
            with writing:
                for value, target, j in cells:
                    write(value, target, j)

    with builder.if_else(builder.icmp_signed(">=", columns, I64(COLUMNS))) as (whole_tile, ragged):
        with whole_tile:
            each(lambda at, _: load(builder, at), lambda value, at, _: store(builder, value, at))
        with ragged:
            masks = [below(builder, builder.sub(columns, I64(j * WIDTH))) for j in range(VECTORS)]
            each(
                lambda at, j: load_some(builder, at, masks[j]),
                lambda value, at, j: store_some(builder, value, at, masks[j]),
            )


@routine(*(INTEGER,) * 8)
def tile(builder, steps, a, b, c, c_row, rows, columns, add):
    """c (+)= a panel of a times a panel of b, of the `rows` × `columns` that there are. `add` is 0
    or 1, `c_row` the bytes from row to row."""
    for count in range(ROWS, 0, -1):
        least = I64(count)
        taken = builder.icmp_signed(">=" if count == ROWS else "==", rows, least)
        with builder.if_then(taken):
            for i in range(count):
                row = place(builder, c, I64(i), c_row)
                for j in range(VECTORS):
                    fetch(builder, place(builder, row, I64(j), BYTES), writes=True)
            sums = _sums(builder, count, steps, a, b)
            _put(builder, sums, c, c_row, columns, add)


# --- panels --------------------------------------------------------------------------------------


def _exchanged(builder: Builder, vectors: list[Any], distance: int) -> list[Any]:
    """Vectors after each has swapped lanes with the one `distance` further, as in a transposition:
    lanes whose number has the bit `distance` with those that have not."""
    upper = [lane if not lane & distance else WIDTH + lane - distance for lane in range(WIDTH)]
    lower = [lane + distance if not lane & distance else WIDTH + lane for lane in range(WIDTH)]
    found = list(vectors)
    for i in range(len(vectors)):
        if not i & distance:
            pair = vectors[i], vectors[i + distance]
            found[i] = builder.shuffle_vector(*pair, whole(WHOLES, *upper))
            found[i + distance] = builder.shuffle_vector(*pair, whole(WHOLES, *lower))
    return found


def across(builder: Builder, rows: list[Any]) -> list[Any]:
    """Rows of 16 pairs as columns: 16 rows become 16 vectors of a step each, 8 rows 8 vectors of
    two steps each."""
    distance = len(rows) // 2
    while distance:
        rows = _exchanged(builder, rows, distance)
        distance //= 2
    if len(rows) == WIDTH:
        return rows
    # of each vector the left half is of one step, and the right half of the eighth after it
    found = []
    for i in range(0, WIDTH, 2):
        first, second = rows[i % ROWS], rows[i % ROWS + 1]
        half = list(range(ROWS)) if i < ROWS else list(range(ROWS, WIDTH))
        order = half + [WIDTH + lane for lane in half]
        found.append(builder.shuffle_vector(first, second, whole(WHOLES, *order)))
    return found


def _pack_block(builder: Builder, source: Any, stride: Any, target: Any, step: int, some: Any):
    """`count` rows of 32 float32 at `source` as steps 0 to 15 at `target`, `step` bytes apart.
    `some`: how many rows, and numbers of each, there are; None for all."""
    count = min(WIDTH, step // PAIR)
    rows = []
    for i in range(count):
        at = place(builder, source, I64(i), stride)
        behind = builder.add(at, I64(BYTES))
        if some is None:
            low, high = load(builder, at), load(builder, behind)
        else:
            there, numbers = some
            exists = builder.icmp_signed(">", there, I64(i))
            numbers = builder.select(exists, numbers, I64(0))
            low = load_some(builder, at, below(builder, numbers))
            high = load_some(builder, behind, below(builder, builder.sub(numbers, I64(WIDTH))))
        rows.append(rounded(builder, low, high))
    vectors = across(builder, rows)
    apart = step * (STEPS // len(vectors))
    for i, vector in enumerate(vectors):
        store(builder, vector, builder.add(target, I64(i * apart)))


def pack_along(builder: Builder, width: int, given: Any) -> None:
    """Panels of `width` of an operand whose rows, of the source, run along k."""
    source, stride, lines, depth, target, panel = given
    at_once, step = min(width, WIDTH), width * PAIR
    blocks = builder.sdiv(builder.add(depth, I64(2 * WIDTH - 1)), I64(2 * WIDTH))
    groups = builder.sdiv(builder.add(lines, I64(at_once - 1)), I64(at_once))
    per_panel = width // at_once
    with counting(builder, groups) as group:
        first = builder.mul(group, I64(at_once))
        there = builder.sub(lines, first)
        begin = place(builder, source, first, stride)
        into = place(builder, target, builder.sdiv(group, I64(per_panel)), panel)
        into = place(builder, into, builder.srem(group, I64(per_panel)), at_once * PAIR)
        with counting(builder, blocks) as block:
            left = builder.sub(depth, builder.mul(block, I64(2 * WIDTH)))
            at = place(builder, begin, block, 2 * BYTES)
            to = place(builder, into, block, STEPS * step)
            whole_block = builder.and_(
                builder.icmp_signed(">=", there, I64(at_once)),
                builder.icmp_signed(">=", left, I64(2 * WIDTH)),
            )
            with builder.if_else(whole_block) as (full, ragged):
                with full:
                    _pack_block(builder, at, stride, to, step, None)
                with ragged:
                    _pack_block(builder, at, stride, to, step, (there, left))


def _pack_beside(builder: Builder, width: int, given: Any) -> None:
    """The same of an operand whose rows, of the source, are numbers of one k."""
    source, stride, lines, depth, target, panel = given
    step = width * PAIR
    steps = builder.sdiv(builder.add(depth, I64(1)), I64(2))
    groups = builder.sdiv(builder.add(lines, I64(WIDTH - 1)), I64(WIDTH))
    ahead = builder.mul(stride, I64(AHEAD))
    with counting(builder, steps) as k:
        upper = place(builder, source, k, builder.mul(stride, I64(2)))
        two = builder.icmp_signed("<", builder.add(builder.mul(k, I64(2)), I64(1)), depth)
        lower = builder.select(two, builder.add(upper, stride), upper)
        into = place(builder, target, k, step)
        with counting(builder, groups) as group:
            left = builder.sub(lines, builder.mul(group, I64(WIDTH)))
            offset = builder.mul(group, I64(BYTES))
            first_at, second_at = builder.add(upper, offset), builder.add(lower, offset)
            for at in (first_at, second_at):
                fetch(builder, builder.add(at, ahead), writes=False)
            all_there = builder.and_(two, builder.icmp_signed(">=", left, I64(WIDTH)))
            with builder.if_else(all_there) as (full, ragged):
                with full:
                    pairs = interleaved(builder, load(builder, first_at), load(builder, second_at))
                    _put_pairs(builder, pairs, width, into, group, panel)
                with ragged:
                    first = load_some(builder, first_at, below(builder, left))
                    of_second = builder.select(two, left, I64(0))
                    second = load_some(builder, second_at, below(builder, of_second))
                    pairs = interleaved(builder, first, second)
                    _put_pairs(builder, pairs, width, into, group, panel)


def _put_pairs(builder: Builder, pairs: Any, width: int, into: Any, group: Any, panel: Any) -> None:
    """Write the pairs of the 16 lines of a group to their panel, or the two panels they are of."""
    if width < WIDTH:
        kind = ir.VectorType(I32, width)
        for part in range(WIDTH // width):
            lanes = [I32(part * width + lane) for lane in range(width)]
            some = builder.shuffle_vector(pairs, pairs, ir.Constant(kind, lanes))
            number = builder.add(builder.mul(group, I64(WIDTH // width)), I64(part))
            store(builder, some, place(builder, into, number, panel))
        return
    per_panel = I64(width // WIDTH)
    at = place(builder, into, builder.sdiv(group, per_panel), panel)
    store(builder, pairs, place(builder, at, builder.srem(group, per_panel), BYTES))


@routine(*(INTEGER,) * 6)
def pack_a_along(builder, source, stride, lines, depth, target, panel):
    """Panels of a, `panel` bytes apart, of `lines` rows of `depth` numbers, `stride` bytes apart.
    There has to be room for an even number of panels."""
    pack_along(builder, ROWS, (source, stride, lines, depth, target, panel))


@routine(*(INTEGER,) * 6)
def pack_a_beside(builder, source, stride, lines, depth, target, panel):
    """The same of aᵀ: `depth` rows of `lines` numbers."""
    _pack_beside(builder, ROWS, (source, stride, lines, depth, target, panel))


@routine(*(INTEGER,) * 6)
def pack_b_along(builder, source, stride, lines, depth, target, panel):
    """Panels of b, of bᵀ: `lines` rows of `depth` numbers."""
    pack_along(builder, COLUMNS, (source, stride, lines, depth, target, panel))


@routine(*(INTEGER,) * 6)
def pack_b_beside(builder, source, stride, lines, depth, target, panel):
    """Panels of b: `depth` rows of `lines` numbers."""
    _pack_beside(builder, COLUMNS, (source, stride, lines, depth, target, panel))


# --- and back ------------------------------------------------------------------------------------


def _widened(builder: Builder, pairs: Any) -> tuple[Any, Any]:
    """The 32 float32 that 16 pairs are."""
    first = builder.bitcast(builder.shl(pairs, whole(WHOLES, 16)), VECTOR)
    second = builder.bitcast(builder.and_(pairs, whole(WHOLES, 0xFFFF0000)), VECTOR)
    order = [i // 2 + i % 2 * WIDTH for i in range(2 * WIDTH)]
    low, high = (
        builder.shuffle_vector(first, second, whole(WHOLES, *half))
        for half in (order[:WIDTH], order[WIDTH:])
    )
    return low, high


@routine(*(INTEGER,) * 6)
def unpack_b(builder, source, panel, lines, depth, target, stride):
    """The float32 that panels of b are of: `lines` rows of `depth` numbers at `target`, `stride`
    bytes apart. What `pack_b_along` made of them, but for the rounding."""
    step = COLUMNS * PAIR
    groups = builder.sdiv(builder.add(lines, I64(WIDTH - 1)), I64(WIDTH))
    blocks = builder.sdiv(builder.add(depth, I64(2 * WIDTH - 1)), I64(2 * WIDTH))
    with counting(builder, groups) as group:
        first = builder.mul(group, I64(WIDTH))
        begin = place(builder, source, builder.sdiv(group, I64(VECTORS)), panel)
        begin = place(builder, begin, builder.srem(group, I64(VECTORS)), BYTES)
        with counting(builder, blocks) as block:
            at = place(builder, begin, block, STEPS * step)
            vectors = [load(builder, builder.add(at, I64(i * step)), WHOLES) for i in range(STEPS)]
            to = place(builder, place(builder, target, first, stride), block, 2 * BYTES)
            left = builder.sub(depth, builder.mul(block, I64(2 * WIDTH)))
            masks = below(builder, left), below(builder, builder.sub(left, I64(WIDTH)))
            for i, pairs in enumerate(across(builder, vectors)):
                exists = builder.icmp_signed("<", builder.add(first, I64(i)), lines)
                with builder.if_then(exists):
                    row = place(builder, to, I64(i), stride)
                    for j, part in enumerate(_widened(builder, pairs)):
                        store_some(builder, part, builder.add(row, I64(j * BYTES)), masks[j])
