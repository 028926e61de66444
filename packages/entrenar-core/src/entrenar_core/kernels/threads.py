"""How many threads kernels share their work out to."""

from collections.abc import Iterator
from contextlib import contextmanager

from entrenar_core.kernels.registry import code_of


@contextmanager
def spared(processors: int) -> Iterator[None]:
    """While the body runs, kernels that this thread calls leave so many processors to other
    threads, as long as one is left for themselves.

    The threads of a kernel wait for each other at its end: one that shares its processor with
    something else holds the others up for longer than it helps them.
    """
    threads = code_of("cpu", "threads")
    if threads is None:
        yield
        return
    before = threads.number_of_threads()
    threads.use_threads(max(1, before - processors))
    try:
        yield
    finally:
        threads.use_threads(before)
