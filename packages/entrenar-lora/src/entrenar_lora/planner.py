"""Choosing how to train a model in the memory that there is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from entrenar_core.estimate.engines import Engine
from entrenar_core.estimate.fitting import largest
from entrenar_core.estimate.operations import relative_cost
from entrenar_core.estimate.setup import Setup
from entrenar_core.estimate.shape import ModelShape
from entrenar_core.estimate.terms import Memory
from entrenar_core.estimate.trained import trained_parameters
from entrenar_lora.grid import AXES, Grid, Point, Wanted, make_grid


@dataclass(frozen=True)
class Choice:
    """A combination of the grid with its memory."""

    point: Point
    setup: Setup
    memory: Memory


@dataclass(frozen=True)
class GivenUp:
    """A preferred value that did not fit while everything else is as chosen."""

    axis: str
    value: object
    needs: int


@dataclass(frozen=True)
class Found:
    """What the search came to: the choice and, where it fits, why and how much more would fit.

    Where nothing fits, `choice` is the combination that takes the least memory, and `remedies`
    says what would fit: descriptions with their memory.
    """

    shape: ModelShape
    engine: Engine
    wanted: Wanted
    limit: int
    fits: bool
    searched: int
    choice: Choice
    trained: int
    cost: float
    given_up: tuple[GivenUp, ...]
    largest_batch: int
    largest_seq_len: int
    remedies: tuple[tuple[str, int], ...]


def search(shape: ModelShape, engine: Engine, wanted: Wanted, *, limit: int) -> Found:
    """The most preferred combination of the grid that fits `limit` bytes: see `grid.ORDER`.

    Raises what `grid.make_grid` raises.
    """
    grid = make_grid(shape, engine, wanted)
    chosen, least, searched = _first_that_fits(shape, engine, grid, limit)
    choice = chosen or least
    fits = chosen is not None
    return Found(
        shape=shape,
        engine=engine,
        wanted=wanted,
        limit=limit,
        fits=fits,
        searched=searched,
        choice=choice,
        trained=trained_parameters(shape, choice.setup),
        cost=relative_cost(shape, choice.setup),
        given_up=_given_up(shape, engine, grid, choice) if fits else (),
        largest_batch=_largest_batch(shape, engine, choice.setup, limit),
        largest_seq_len=_largest_seq_len(shape, engine, choice.setup, limit),
        remedies=() if fits else _remedies(shape, engine, wanted, limit),
    )


def _first_that_fits(
    shape: ModelShape, engine: Engine, grid: Grid, limit: int
) -> tuple[Choice | None, Choice, int]:
    """The first point that fits, else None; the one that takes the least; how many were tried."""
    least: Choice | None = None
    count = 0
    for count, point in enumerate(grid.points(), 1):
        setup = grid.setup(point)
        found = Choice(point, setup, engine.memory(shape, setup))
        if least is None or found.memory.total < least.memory.total:
            least = found
        if found.memory.total <= limit:
            return found, least, count
    assert least is not None  # every axis has a value
    return None, least, count


def _given_up(shape: ModelShape, engine: Engine, grid: Grid, choice: Choice) -> tuple[GivenUp, ...]:
    """For each axis the value that is preferred just above the chosen one. It cannot fit: with it,
    the combination would have come earlier."""
    found = []
    for axis in AXES:
        values = getattr(grid, axis)
        index = values.index(getattr(choice.point, axis))
        if index:
            other = replace(choice.point, **{axis: values[index - 1]})
            memory = engine.memory(shape, grid.setup(other))
            found.append(GivenUp(axis, values[index - 1], memory.total))
    return tuple(found)


def _largest_batch(shape: ModelShape, engine: Engine, setup: Setup, limit: int) -> int:
    """How many sequences fit at once; 0 for none."""
    return largest(lambda n: engine.memory(shape, replace(setup, batch=n)).total <= limit)


def _largest_seq_len(shape: ModelShape, engine: Engine, setup: Setup, limit: int) -> int:
    """How long the sequences of a batch may be, up to the positions that the model has."""
    fitting = largest(lambda n: engine.memory(shape, replace(setup, seq_len=n)).total <= limit)
    return min(fitting, shape.positions)


_FREED: Mapping[str, Callable[[Wanted], Wanted]] = {
    "--method auto": lambda w: replace(w, method="auto"),
    "--target-modules left to the plan": lambda w: replace(w, targets=None),
    "--rank left to the plan": lambda w: replace(w, rank=None),
    "--optimizer left to the plan": lambda w: replace(w, optimizer=None),
    "--checkpointing auto": lambda w: replace(w, checkpointing="auto"),
}


def _remedies(
    shape: ModelShape, engine: Engine, wanted: Wanted, limit: int
) -> tuple[tuple[str, int], ...]:
    """What would fit: one of the user's settings left free, all of them, or shorter sequences."""
    found = []
    free = replace(
        wanted, method="auto", targets=None, rank=None, optimizer=None, checkpointing="auto"
    )
    changes = [(name, change(wanted)) for name, change in _FREED.items()]
    for name, changed in [*changes, ("every choice left to the plan", free)]:
        if changed == wanted or any(changed == other for _, other, _ in found):
            continue
        grid = make_grid(shape, engine, changed)
        choice, _, _ = _first_that_fits(shape, engine, grid, limit)
        if choice is not None:
            found.append((name, changed, choice.memory.total))
    least = _first_that_fits(shape, engine, make_grid(shape, engine, wanted), limit)[1]
    shorter = _largest_seq_len(shape, engine, least.setup, limit)
    remedies = [(name, total) for name, _, total in found]
    if shorter:
        total = engine.memory(shape, replace(least.setup, seq_len=shorter)).total
        remedies.append((f"--seq-len {shorter}", total))
    return tuple(remedies)
