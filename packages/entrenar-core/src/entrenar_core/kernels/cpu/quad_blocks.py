"""A product with a matrix of integers, of tiles (see `quads`).

All rows of a are rounded first. Then threads take groups of panels of b, which they read once, and
go through all rows with each of them. A few rows each thread rounds for itself, which takes less
time than waking the others twice.
"""

import numba
import numpy as np

from entrenar_core.kernels.cpu.compile import inner_exactly
from entrenar_core.kernels.cpu.crew import Crew
from entrenar_core.kernels.cpu.pairs import ROWS
from entrenar_core.kernels.cpu.quads import LINE, quad_tile, quad_tile_of_halves, round_row
from entrenar_core.kernels.cpu.vectors import BYTES, WIDTH, carray, take
from entrenar_core.kernels.int8_panels import COLUMNS, QUAD, Int8Panels

FEW = 16
"""Rows that every thread rounds for itself."""

ALONE = 1_000_000
"""Multiplications up to which one thread is as fast as two."""

GROUPS = 8
"""Units of work for each thread, if there are so many panels."""

A, B, C, SIZES, PANELS, GROUP, ROOM, PHASE = range(8)
"""Rows of a plan. A: address, and bytes from row to row. B: addresses of codes and of scales, and
whether these are halves. C: address, bytes from row to row, whether it is added to. SIZES: M, N, K,
and blocks. PANELS: bytes of a panel of a and of the quads in it, of one of b and of its scales.
GROUP: panels of b, and of a, that make up a unit of work; steps and vectors of a block. ROOM:
address of a's panels, and bytes from one thread's to the next, or 0 where all share them. PHASE: 0
to round what is shared, 1 to multiply; and the address of a counter."""

PLAN = (8, 4)


@inner_exactly
def _round(plan, panel, room):
    """The rows of a panel of a."""
    at = room + panel * plan[PANELS, 0]
    starts = at + plan[PANELS, 1]
    for i in range(min(ROWS, plan[SIZES, 0] - panel * ROWS)):
        round_row(
            plan[A, 0] + (panel * ROWS + i) * plan[A, 1], plan[SIZES, 2], plan[SIZES, 3],
            plan[GROUP, 3], at + i * QUAD, starts + i * QUAD,
        )  # fmt: skip


@inner_exactly
def _multiply(plan, i, j, room):
    """The tile of panel i of a and panel j of b."""
    a = room + i * plan[PANELS, 0]
    b, scales = plan[B, 0] + j * plan[PANELS, 2], plan[B, 1] + j * plan[PANELS, 3]
    row, column = i * ROWS, j * COLUMNS
    c = plan[C, 0] + row * plan[C, 1] + column * 4
    rows, columns = plan[SIZES, 0] - row, plan[SIZES, 1] - column
    if plan[B, 2]:
        quad_tile_of_halves(
            plan[SIZES, 3], plan[GROUP, 2], a, a + plan[PANELS, 1], b, scales,
            c, plan[C, 1], rows, columns, plan[C, 2],
        )  # fmt: skip
    else:
        quad_tile(
            plan[SIZES, 3], plan[GROUP, 2], a, a + plan[PANELS, 1], b, scales,
            c, plan[C, 1], rows, columns, plan[C, 2],
        )  # fmt: skip


@inner_exactly
def _multiply_all(plan, room):
    """Units of work until none is left."""
    panels_a = (plan[SIZES, 0] + ROWS - 1) // ROWS
    panels_b = (plan[SIZES, 1] + COLUMNS - 1) // COLUMNS
    each_b, each_a = plan[GROUP, 0], plan[GROUP, 1]
    units_a = (panels_a + each_a - 1) // each_a
    units = (panels_b + each_b - 1) // each_b * units_a
    unit = take(plan[PHASE, 1])
    while unit < units:
        first_b, first_a = unit // units_a * each_b, unit % units_a * each_a
        for j in range(first_b, min(first_b + each_b, panels_b)):
            for i in range(first_a, min(first_a + each_a, panels_a)):
                _multiply(plan, i, j, room)
        unit = take(plan[PHASE, 1])


def _work(pointer, thread):
    plan = carray(pointer, PLAN)
    room = plan[ROOM, 0] + thread * plan[ROOM, 1]
    panels = (plan[SIZES, 0] + ROWS - 1) // ROWS
    if plan[PHASE, 0] == 0:
        panel = take(plan[PHASE, 1])
        while panel < panels:
            _round(plan, panel, room)
            panel = take(plan[PHASE, 1])
        return
    if plan[ROOM, 1]:
        for panel in range(panels):
            _round(plan, panel, room)
    _multiply_all(plan, room)


_crew = Crew(_work, fastmath=False)


def _up(size: int, step: int) -> int:
    return -(-size // step) * step


def multiply(a: np.ndarray, b: Int8Panels, *, out: np.ndarray, add: bool) -> None:
    """out (M, N) (+)= a (M, K) times the transposed of b (N, K), none of them empty and the rows of
    a and out contiguous."""
    (m, k), n = a.shape, b.shape[0]
    panels_a, (panels_b, steps, _, _) = -(-m // ROWS), b.codes.shape
    threads = numba.get_num_threads() if m * n * k > ALONE else 1
    vectors = -(-b.length // WIDTH)
    quads = b.blocks * vectors * (WIDTH // QUAD) * LINE
    panel = quads + (b.blocks + 1) * LINE
    shared = m > FEW
    room = _up(panels_a * panel, BYTES)
    memory = np.empty((1 if shared else threads) * room + BYTES, np.uint8)
    each_b = max(1, panels_b // (GROUPS * threads))
    each_a = max(1, panels_a * min(panels_b, GROUPS * threads) // (GROUPS * threads))
    counter = np.zeros(1, np.int64)
    plan = np.array(
        [
            (a.ctypes.data, a.strides[0], 0, 0),
            (*b.addresses, b.scales.dtype == np.float16, 0),
            (out.ctypes.data, out.strides[0], add, 0),
            (m, n, k, b.blocks),
            (panel, quads, b.codes[0].nbytes, b.scales[0].nbytes),
            (each_b, each_a, steps // b.blocks, vectors),
            (_up(memory.ctypes.data, BYTES), 0 if shared else room, 0, 0),
            (0, counter.ctypes.data, 0, 0),
        ],
        np.int64,
    )
    if shared:
        _crew(plan, threads)
    plan[PHASE, 0], counter[0] = 1, 0
    _crew(plan, threads)
    del memory  # until here
