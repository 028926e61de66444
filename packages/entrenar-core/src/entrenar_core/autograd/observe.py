"""Watching operations: how long each call of one took, forward and backward, and for which module.

Nothing is measured, and nothing is paid for it, until somebody watches.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from entrenar_core.autograd.counting import Work, work

__all__ = ["Call", "Watcher", "inside", "watching_operations"]


class Call(NamedTuple):
    """A call of an operation.

    direction:      "forward" or "backward"
    started, ended: nanoseconds of `time.perf_counter_ns`
    shapes:         of its inputs, () for a number
    needs:          which of them have a gradient
    place:          the module that called it, as `inside` has it; empty for none
    work:           what it took, as far as that is counted
    """

    name: str
    direction: str
    started: int
    ended: int
    shapes: tuple[tuple[int, ...], ...]
    needs: tuple[bool, ...]
    place: str
    work: Work


Watcher = Callable[[Call], None]
"""Told of each call when it ends, so of one that another makes before that other."""

_watcher: Watcher | None = None
_place = ""


@contextmanager
def watching_operations(watcher: Watcher) -> Iterator[None]:
    """Tell `watcher` of every operation inside, in whatever thread. The former one comes back.

    >>> from entrenar_core import Tensor
    >>> calls = []
    >>> with watching_operations(lambda call: calls.append((call.name, call.direction))):
    ...     x = Tensor([2.0], requires_grad=True)
    ...     (x * x).sum().backward()
    >>> calls
    [('mul', 'forward'), ('sum', 'forward'), ('sum', 'backward'), ('mul', 'backward')]
    """
    global _watcher
    former, _watcher = _watcher, watcher
    try:
        yield
    finally:
        _watcher = former


@contextmanager
def inside(place: str) -> Iterator[None]:
    """Operations inside, and their way back, are told of as those of `place`."""
    global _place
    former, _place = _place, place
    try:
        yield
    finally:
        _place = former


def forward(
    name: str, function: Callable[..., Any], arrays: Any, options: Any, needs: tuple[bool, ...]
) -> tuple[Any, Call | None]:
    """Call `function`, which returns a value and what belongs to it, and tell of it. Returns that,
    and what is to be told of the way back, None where nobody watches."""
    watcher = _watcher
    if watcher is None:
        return function(*arrays, **options), None
    started = time.perf_counter_ns()
    made = function(*arrays, **options)
    ended = time.perf_counter_ns()
    there, back = work(name, arrays, made[0], needs, options)
    shapes = tuple(map(_shape, arrays))
    watcher(Call(name, "forward", started, ended, shapes, needs, _place, there))
    return made, Call(name, "backward", 0, 0, shapes, needs, _place, back)


def backward(node: Any, pull_back: Callable[[], None]) -> None:
    """Call `pull_back` of a node of the tape, and tell of it. Where nobody watched on the way
    there, the shapes are known of the inputs that have a gradient, and nothing else is."""
    watcher = _watcher
    if watcher is None:
        pull_back()
        return
    told = node.told
    if told is None:
        needs = tuple(edge is not None for edge in node.edges)
        told = Call(node.name, "backward", 0, 0, tuple(node.shapes), needs, "", Work())
    started = time.perf_counter_ns()
    pull_back()
    watcher(told._replace(started=started, ended=time.perf_counter_ns()))


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(getattr(array, "shape", ()))
