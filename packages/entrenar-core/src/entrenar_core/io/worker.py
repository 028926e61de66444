"""Threads that read, hash and write while another one computes, and how busy they are."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from weakref import WeakSet

WINDOW = 0.02
"""Seconds over which it is seen how much of the time a worker is at work."""

MUCH = 0.5
"""Of that time. One that is at work for less is no reason to compute with fewer threads."""

_workers: WeakSet["Worker"] = WeakSet()
_changing = threading.Lock()


class Worker(ThreadPoolExecutor):
    """One thread, which does one thing after another."""

    def __init__(self, name: str) -> None:
        super().__init__(1, name)
        self._worked, self._began = 0.0, None
        self._seen = time.monotonic(), 0.0
        self._is_busy = False
        with _changing:
            _workers.add(self)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have it do this after all else."""
        return super().submit(self._do, fn, *args, **kwargs)

    def _do(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._began, before = time.monotonic(), time.thread_time()
        try:
            return fn(*args, **kwargs)
        finally:
            self._began = None
            self._worked += time.thread_time() - before  # it may have waited for a disk

    def is_busy(self) -> bool:
        """Whether it is at work for much of the time; what it does now is taken to be work."""
        now, began = time.monotonic(), self._began
        before, worked_before = self._seen
        if now - before >= WINDOW:
            worked = self._worked + (now - began if began is not None else 0)
            self._is_busy = worked - worked_before >= MUCH * (now - before)
            self._seen = now, worked
        return self._is_busy


def busy_workers() -> int:
    """How many workers of this process are at work for much of the time."""
    with _changing:
        return sum(worker.is_busy() for worker in _workers)
