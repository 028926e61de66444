"""A product of bfloat16 numbers in blocks that fit the caches, of tiles (see `pairs`).

One operand, that along the shorter side of the result, is packed into panels first and shared by
all threads. The other is cut into blocks of panels. A thread takes a block, packs it into memory of
its own, which stays in its second-level cache, and multiplies it with all panels of the shared one:

            shared b, all columns                  shared a, all rows
          ┌───────┬───────┬─ …                   ┌──────────┐
    block │ 8×48  │       │       or             │   8×48   │
     of a ├───────┼───────┤                      ├──────────┤
          │       │       │                      │          │
                                                  block of b

Both steps are one call of the threads: one that finds nothing more to pack waits until the others
have packed what they took.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np

from entrenar_core.kernels.cpu.arrays import address
from entrenar_core.kernels.cpu.compile import inner, jit
from entrenar_core.kernels.cpu.crew import Crew, run
from entrenar_core.kernels.cpu.pairs import (
    COLUMNS,
    PAIR,
    ROWS,
    STEPS,
    pack_a_along,
    pack_a_beside,
    pack_b_along,
    pack_b_beside,
    tile,
    unpack_b,
)
from entrenar_core.kernels.cpu.vectors import BYTES, await_handed, carray, hand_over, take
from entrenar_core.kernels.held import Rows

DEPTH = 1024
"""Numbers along k that are summed before the result is written, or added to. A panel of a is then
16 KiB, at most half of a first-level cache. A constant, since the order of sums follows from it."""

SHARE = 0.3
"""Of the second-level cache, what a block of panels may take: beside it pass the panels of the
other operand, and the result."""

TOGETHER = 3
LARGEST = 4 << 20
"""Blocks of k whose panels threads share at a time, and how many bytes these may take where it is
more than one block."""

ALONE = 1_000_000
"""Multiplications up to which one thread is as fast as two."""

READ = 4
"""To read a number from memory takes as long as so many multiplications."""

A, B, C, SIZES, PANELS, SHARED, ROOM, TASK, COUNTERS = range(9)
"""Rows of a plan. A, B: address, bytes from row to row, whether transposed. C: address, bytes from
row to row, whether it is added to. SIZES: M, N, K, and how many k a block has. PANELS: bytes of a
panel of a and of one of b; how many of each make up a block of k. SHARED: the address of the shared
operand's panels, whether that is a, how many of them are packed at a time, and into how many groups
they are cut for that, 0 where they are there already. ROOM: the memory of the first thread, bytes
from one's to the next, into how many groups the panels of the other operand are cut (to read back,
how many are read at a time); and the address of b's panels where they are there already, or 0.
TASK: `PACK`, `MULTIPLY` or `UNPACK`. COUNTERS: the address of those that follow: groups of the
shared operand that were taken, and that are packed; groups of the other that were taken."""

PLAN = (9, 4)

PACK, MULTIPLY, UNPACK = range(3)
"""Pack what is shared; multiply, after that; read panels of b back into the rows of B."""

UNUSED = (0, 0, 0, 0)

TAKEN, PACKED, BEGUN = 0, 8, 16
"""Where counters are, behind the address of the first."""


@functools.cache
def _second_level_cache() -> int:
    """Bytes, as the system tells; 1 MiB where it does not."""
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text("ascii").strip()
        return int(text.removesuffix("K")) * 1024
    except (OSError, ValueError):
        return 1 << 20


@inner
def _pack(plan, of_a, first, lines, first_k, depth, target, panel):
    """Panels of an operand, from its line `first` on."""
    operand = A if of_a else B
    source, stride, transposed = plan[operand, 0], plan[operand, 1], plan[operand, 2]
    along = transposed == 0 if of_a else transposed != 0  # its rows run along k
    if along:
        source += first * stride + 4 * first_k
    else:
        source += first_k * stride + 4 * first
    if of_a and along:
        pack_a_along(source, stride, lines, depth, target, panel)
    elif of_a:
        pack_a_beside(source, stride, lines, depth, target, panel)
    elif along:
        pack_b_along(source, stride, lines, depth, target, panel)
    else:
        pack_b_beside(source, stride, lines, depth, target, panel)


@inner
def _pack_shared(plan):
    """Groups of panels of the shared operand until none is left."""
    of_a, each, depth, k = plan[SHARED, 1] == 1, plan[SHARED, 2], plan[SIZES, 3], plan[SIZES, 2]
    width, side = (ROWS, 0) if of_a else (COLUMNS, 1)
    lines, panel, room = plan[SIZES, side], plan[PANELS, side], plan[PANELS, 2 + side]
    groups, blocks = plan[SHARED, 3], (k + depth - 1) // depth
    unit = take(plan[COUNTERS, 0] + TAKEN)
    while unit < groups * blocks:
        first, block = unit % groups * each, unit // groups
        first_k = block * depth
        target = plan[SHARED, 0] + (block * room + first) * panel
        count = min(each * width, lines - first * width)
        _pack(plan, of_a, first * width, count, first_k, min(depth, k - first_k), target, panel)
        hand_over(plan[COUNTERS, 0] + PACKED)
        unit = take(plan[COUNTERS, 0] + TAKEN)
    await_handed(plan[COUNTERS, 0] + PACKED, groups * blocks)


@inner
def _rows_of_tiles(plan, first, count, own, shared, steps, add):
    """The tiles of `count` panels of a, from the first on, with all of b."""
    m, n, c, c_row = plan[SIZES, 0], plan[SIZES, 1], plan[C, 0], plan[C, 1]
    for j in range((n + COLUMNS - 1) // COLUMNS):
        for i in range(count):
            row, column = (first + i) * ROWS, j * COLUMNS
            tile(
                steps, own + i * plan[PANELS, 0], shared + j * plan[PANELS, 1],
                c + row * c_row + 4 * column, c_row, m - row, n - column, add,
            )  # fmt: skip


@inner
def _columns_of_tiles(plan, first, count, own, shared, steps, add):
    """The tiles of `count` panels of b, from the first on, with all of a."""
    m, n, c, c_row = plan[SIZES, 0], plan[SIZES, 1], plan[C, 0], plan[C, 1]
    for i in range((m + ROWS - 1) // ROWS):
        for j in range(count):
            row, column = i * ROWS, (first + j) * COLUMNS
            tile(
                steps, shared + i * plan[PANELS, 0], own + j * plan[PANELS, 1],
                c + row * c_row + 4 * column, c_row, m - row, n - column, add,
            )  # fmt: skip


@inner
def _multiply(plan, thread):
    """Groups of panels of the operand that is not shared, until none is left."""
    own_a, groups, depth, k = plan[SHARED, 1] == 0, plan[ROOM, 2], plan[SIZES, 3], plan[SIZES, 2]
    width, side = (ROWS, 0) if own_a else (COLUMNS, 1)
    lines, panel, there = plan[SIZES, side], plan[PANELS, side], plan[ROOM, 3]
    panels = (lines + width - 1) // width
    unit = take(plan[COUNTERS, 0] + BEGUN)
    while unit < groups:
        first = unit * panels // groups
        count = (unit + 1) * panels // groups - first
        for block in range((k + depth - 1) // depth):
            first_k = block * depth
            some = min(depth, k - first_k)
            own = plan[ROOM, 0] + thread * plan[ROOM, 1]
            if there and not own_a:
                own = there + (block * plan[PANELS, 3] + first) * panel
            else:
                count_lines = min(count * width, lines - first * width)
                _pack(plan, own_a, first * width, count_lines, first_k, some, own, panel)
            shared = plan[SHARED, 0] + block * plan[PANELS, 3 - side] * plan[PANELS, 1 - side]
            add, steps = 1 if block else plan[C, 2], (some + 1) // 2
            if own_a:
                _rows_of_tiles(plan, first, count, own, shared, steps, add)
            else:
                _columns_of_tiles(plan, first, count, own, shared, steps, add)
        unit = take(plan[COUNTERS, 0] + BEGUN)


@inner
def _unpack(plan):
    """Groups of panels of b, as they are in ROOM, as rows of B, until none is left."""
    each, depth, k, lines = plan[ROOM, 2], plan[SIZES, 3], plan[SIZES, 2], plan[SIZES, 1]
    panel = plan[PANELS, 1]
    unit = take(plan[COUNTERS, 0] + BEGUN)
    while unit * each * COLUMNS < lines:
        first = unit * each
        count = min(each * COLUMNS, lines - first * COLUMNS)
        for block in range((k + depth - 1) // depth):
            source = plan[ROOM, 3] + (block * plan[PANELS, 3] + first) * panel
            target = plan[B, 0] + first * COLUMNS * plan[B, 1] + 4 * block * depth
            unpack_b(source, panel, count, min(depth, k - block * depth), target, plan[B, 1])
        unit = take(plan[COUNTERS, 0] + BEGUN)


def _work(pointer, thread):
    plan = carray(pointer, PLAN)
    if plan[TASK, 0] == UNPACK:
        _unpack(plan)
        return
    if plan[SHARED, 3]:
        _pack_shared(plan)
    if plan[TASK, 0] == MULTIPLY:
        _multiply(plan, thread)


_crew = Crew(_work)


class Cut:
    """How a product over `k` numbers is cut: the sizes of its panels."""

    def __init__(self, k: int):
        blocks = -(-k // DEPTH)
        self.blocks = blocks
        self.depth = -(-k // (2 * blocks)) * 2
        steps = -(-self.depth // (2 * STEPS)) * STEPS
        # a line more, so that not all of what is written to panels in turn is in one set of a cache
        self.panel_a, self.panel_b = (steps * n * PAIR + BYTES for n in (ROWS, COLUMNS))

    @staticmethod
    def room_a(m: int) -> int:
        """Panels that m rows of a block take: an even number, since two are packed at a time."""
        return -(-m // (2 * ROWS)) * 2

    @staticmethod
    def room_b(n: int) -> int:
        return -(-n // COLUMNS)


def _groups(panels: int, panel: int, threads: int) -> int:
    """Into how many groups of nearly one size panels are cut: as many for each thread, and each
    small enough for the cache."""
    most = max(1, int(SHARE * _second_level_cache()) // panel)
    groups = -(-panels // most)
    return min(panels, -(-groups // threads) * threads)


def _memory(size: int) -> tuple[np.ndarray, int]:
    """So many bytes, and from which address on they lie at multiples of a vector's size."""
    room = np.empty(size + BYTES, np.uint8)
    return room, -(-address(room) // BYTES) * BYTES


class Panels(Rows):
    """A matrix (N, K) in bfloat16, laid out for products with its transpose."""

    def __init__(self, matrix: np.ndarray):
        """`matrix` is float32, with contiguous rows, and not empty."""
        n, k = self.shape = matrix.shape
        self.cut, self.room = Cut(k), Cut.room_b(n)
        self.memory, self.at = _memory(self.cut.blocks * self.room * self.cut.panel_b)
        each = max(1, self.room // 8)
        shared = self.at, False, each, -(-self.room // each)
        _run(self._plan(matrix, n, PACK, shared=shared), _threads(matrix.size))

    @property
    def nbytes(self) -> int:
        return self.memory.nbytes

    def block(self, number: int) -> int:
        """Where the panels of a block of k begin."""
        return self.at + number * self.room * self.cut.panel_b

    def rows(self, low: int, high: int, out: np.ndarray) -> np.ndarray:
        begin = low // COLUMNS * COLUMNS
        whole = out if begin == low else np.empty((high - begin, self.shape[1]), np.float32)
        room = 0, 0, max(1, self.room // 8), self.at + begin // COLUMNS * self.cut.panel_b
        _run(self._plan(whole, high - begin, UNPACK, room=room), _threads(whole.size))
        if whole is not out:
            out[...] = whole[low - begin :]
        return out

    def gathered(self, ids: np.ndarray) -> np.ndarray:
        panels = np.frombuffer(self.memory, np.uint16, offset=self.at - address(self.memory))
        size = self.cut.panel_b // 2
        panels = panels[: self.cut.blocks * self.room * size].reshape(-1, self.room, size)
        panels = panels[..., : -BYTES // 2].reshape(self.cut.blocks, self.room, -1, COLUMNS, 2)
        found = panels[:, ids // COLUMNS, :, ids % COLUMNS]  # (ids, blocks, steps, 2)
        found = found.reshape(len(ids), self.cut.blocks, -1)[:, :, : self.cut.depth]
        found = found.reshape(len(ids), -1)[:, : self.shape[1]]
        return (found.astype(np.uint32) << 16).view(np.float32)

    def _plan(self, matrix, n, task, *, shared=UNUSED, room=UNUSED) -> list[tuple[int, ...]]:
        return [
            UNUSED,
            (address(matrix), matrix.strides[0], True, 0),
            UNUSED,
            (0, n, self.shape[1], self.cut.depth),
            (self.cut.panel_a, self.cut.panel_b, 0, self.room),
            shared,
            room,
            (task, 0, 0, 0),
        ]


def _threads(operations: int) -> int:
    return numba.get_num_threads() if operations > ALONE else 1


def _run(rows: list[tuple[int, ...]], threads: int) -> None:
    """Carry out a plan of all rows but the counters."""
    plan = np.array([*rows, UNUSED], np.int64)
    plan[COUNTERS, 0] = address(plan) + plan.itemsize * (COUNTERS * PLAN[1] + 1)
    _crew(plan, threads)


@dataclass(frozen=True)
class _Layout:
    """How a product of certain sizes is cut: how many blocks of k are done at a time, the bytes of
    memory that panels take meanwhile, and a plan without addresses and what the arrays tell."""

    cut: Cut
    blocks: int
    bytes: int
    plan: np.ndarray


@functools.lru_cache(maxsize=4096)
def _layout(m: int, n: int, k: int, packed: bool, threads: int) -> _Layout:
    """`packed`: b is there in panels already."""
    cut, shares_a = Cut(k), n >= m
    shared, own = (cut.room_a(m), cut.panel_a), (cut.room_b(n), cut.panel_b)
    panels = cut.panel_a, cut.panel_b, shared[0], own[0]
    if not shares_a:
        shared, own = own, shared
    groups = _groups(*own, threads)
    each = -(-own[0] // groups)
    each += each % 2  # two panels of a are packed together
    # so many blocks of k that what is shared stays small
    blocks = min(cut.blocks, TOGETHER, max(1, LARGEST // (shared[0] * shared[1])))
    at_a_time = max(2, shared[0] // (4 * threads) // 2 * 2)
    shared_there, own_there = packed and not shares_a, packed and shares_a
    shared_bytes = 0 if shared_there else blocks * shared[0] * shared[1]
    own_bytes = 0 if own_there else -(-each * own[1] // BYTES) * BYTES
    plan = [
        UNUSED,
        UNUSED,
        UNUSED,
        (m, n, k, cut.depth),
        panels,
        (0, shares_a, at_a_time, 0 if shared_there else -(-shared[0] // at_a_time)),
        (shared_bytes, own_bytes, groups, 0),
        (MULTIPLY, 0, 0, 0),
        UNUSED,
    ]
    room = shared_bytes + threads * own_bytes + BYTES
    return _Layout(cut, blocks, room, np.array(plan, np.int64))


@jit
def _multiply_blocks(function, plan, threads, a, b, out, memory, first, count, add):
    """A product over `count` numbers along k from the first on. a, out: arrays, and whether a is
    transposed; b: address and bytes from row to row, whether it is transposed, and the address of
    its panels if it is there in such."""
    (a, trans_a), (b_at, b_row, trans_b, there) = a, b
    plan = plan.copy()
    plan[A, 0] = a.ctypes.data + first * (a.strides[0] if trans_a else 4)
    plan[A, 1], plan[A, 2] = a.strides[0], trans_a
    plan[B, 0], plan[B, 1], plan[B, 2] = b_at, b_row, trans_b
    plan[C, 0], plan[C, 1], plan[C, 2] = out.ctypes.data, out.strides[0], add
    plan[SIZES, 2] = count
    at = (memory.ctypes.data + BYTES - 1) // BYTES * BYTES
    if plan[SHARED, 1]:
        plan[SHARED, 0], plan[ROOM, 3] = at, there
    else:
        plan[SHARED, 0] = there if there else at
    plan[ROOM, 0] += at
    plan[COUNTERS, 0] = plan.ctypes.data + 8 * (COUNTERS * PLAN[1] + 1)
    run(function, plan, threads)


def multiply(a, b, *, trans_a, trans_b, out, add) -> None:
    """out (+)= op(a) @ op(b), all float32 with contiguous rows and none of them empty; b may be
    `Panels` of op(b) transposed."""
    m, n = out.shape
    k, packed = a.shape[0] if trans_a else a.shape[1], isinstance(b, Panels)
    threads = _threads(max(m, READ) * n * k)
    layout = _layout(m, n, k, packed, threads)
    cut, memory = layout.cut, np.empty(layout.bytes, np.uint8)
    for block in range(0, cut.blocks, layout.blocks):
        first = block * cut.depth
        if packed:
            operand = 0, 0, True, b.block(block)
        else:
            step = 4 if trans_b else b.strides[0]
            operand = address(b) + first * step, b.strides[0], trans_b, 0
        count = min(k - first, layout.blocks * cut.depth)
        _multiply_blocks(
            _crew.address, layout.plan, threads, (a, trans_a), operand, out, memory, first, count,
            add or block > 0,
        )  # fmt: skip
