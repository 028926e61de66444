"""Tensors that are made while their file is written, hashed and written in another thread."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import numpy as np

from entrenar_core.io.files import AtomicWriter
from entrenar_core.io.worker import Worker

WAITING_BYTES = 16 * 2**20
"""What may wait to be written, unless it is one array alone."""


@runtime_checkable
class Streamed(Protocol):
    """A tensor that need not exist whole: `pieces` has its elements in C order, in contiguous
    arrays of `dtype` that follow each other and are not changed any more."""

    @property
    def dtype(self) -> np.dtype: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    def pieces(self) -> Iterator[np.ndarray]: ...


@contextmanager
def written_behind(file: AtomicWriter) -> Iterator[Callable[[memoryview | bytes], None]]:
    """A function that hands memory to another thread, which hashes and writes it to `file`.

    It returns as soon as little enough waits to be written. At the end of the body all is written;
    what failed in the other thread is raised by a later call, or there. Where there is no memory
    for another thread, this one writes.
    """
    waiting: deque[tuple[int, Future[None]]] = deque()
    with Worker("write-behind") as worker:
        if not _starts(worker):
            yield file.write
            return

        def write(memory: memoryview | bytes) -> None:
            size = memoryview(memory).nbytes
            while waiting and sum(n for n, _ in waiting) + size > WAITING_BYTES:
                waiting.popleft()[1].result()
            waiting.append((size, worker.submit(file.write, memory)))

        yield write
        for _, written in waiting:
            written.result()


def _starts(worker: Worker) -> bool:
    try:
        worker.submit(int).result()
    except RuntimeError:  # as Python has it where the system starts no thread
        return False
    return True
