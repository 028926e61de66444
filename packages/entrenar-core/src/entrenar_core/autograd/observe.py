"""Watching operations: how long each call of one took, forward and backward.

Nothing is measured, and nothing is paid for it, until somebody watches.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Watcher", "watching_operations"]

Watcher = Callable[[str, str, int, int, tuple[tuple[int, ...], ...]], None]
"""Told of each call: the operation's name, "forward" or "backward", when it began and ended in
nanoseconds of `time.perf_counter_ns`, and the shapes of its inputs, () for a number."""

_watcher: Watcher | None = None


@contextmanager
def watching_operations(watcher: Watcher) -> Iterator[None]:
    """Tell `watcher` of every operation inside, in whatever thread. The former one comes back.

    >>> from entrenar_core import Tensor
    >>> calls = []
    >>> with watching_operations(lambda name, direction, *_: calls.append((name, direction))):
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


def forward(name: str, function: Callable[..., Any], arrays: Any, options: Any) -> Any:
    """Call `function`, and tell of it."""
    watcher = _watcher
    if watcher is None:
        return function(*arrays, **options)
    started = time.perf_counter_ns()
    value = function(*arrays, **options)
    watcher(name, "forward", started, time.perf_counter_ns(), tuple(map(_shape, arrays)))
    return value


def backward(name: str, shapes: Any, pull_back: Callable[[], None]) -> None:
    """Call `pull_back`, and tell of it. The shapes are of the inputs that have a gradient."""
    watcher = _watcher
    if watcher is None:
        pull_back()
        return
    started = time.perf_counter_ns()
    pull_back()
    watcher(name, "backward", started, time.perf_counter_ns(), tuple(shapes))


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(getattr(array, "shape", ()))
