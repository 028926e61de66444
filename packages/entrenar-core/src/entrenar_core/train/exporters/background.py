"""A bounded queue with a thread behind it: what is sent over a network never holds up a step."""

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["BackgroundQueue", "Undelivered"]

T = TypeVar("T")

_BETWEEN_WARNINGS = 600.0  # seconds
_alive: "weakref.WeakSet[BackgroundQueue]" = weakref.WeakSet()


class Undelivered(Exception):
    """Raised by what delivers items where `lost` of them, and no others, did not arrive."""

    def __init__(self, message: str, *, lost: int):
        super().__init__(message)
        self.lost = lost


class BackgroundQueue(Generic[T]):
    """Takes items at once and has a thread of its own `deliver` them, in their order.

    `deliver` gets up to `batch` items, when so many wait or `interval` seconds after the first of
    them. What it raises is no error of the training: its items are lost, or as many of them as an
    `Undelivered` says. So are those that find `capacity` others waiting. One who waits in
    `deliver`, as between two attempts, does it with `closing.wait(seconds)`, which ends early when
    the queue is closed.

    `warn` is told what was lost and why, at most once in ten minutes, by the thread that calls
    `put` or `close`, which therefore has to be one. `name` says in it where things go to.

    After a fork the child has an empty queue and a thread of its own: what waits is the parent's.

    >>> found = []
    >>> queue = BackgroundQueue(found.extend, name="a list", warn=print)
    >>> for n in range(3):
    ...     queue.put(n)
    >>> queue.close(), found
    (0, [0, 1, 2])
    """

    def __init__(
        self,
        deliver: Callable[[list[T]], None],
        *,
        capacity: int = 10_000,
        batch: int = 500,
        interval: float = 1.0,
        name: str,
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self.name = name
        self._deliver, self._capacity, self._batch = deliver, capacity, batch
        self._interval, self._warn, self._clock = interval, warn, clock
        self._warned: float | None = None
        self._begin()
        _alive.add(self)

    def _begin(self) -> None:
        """Nothing waits and nothing was lost, as in a child after a fork."""
        self.closing = threading.Event()
        """Set when the queue is closed."""
        self.dropped = 0
        """How many items were lost."""
        self._changed = threading.Condition()
        self._waiting: deque[T] = deque()
        self._in_flight = 0
        self._trouble = ""
        self._thread: threading.Thread | None = None

    def put(self, item: T) -> None:
        """Hand over `item`; never waits. Without room, or after `close`, it is lost."""
        with self._changed:
            if self.closing.is_set():
                self.dropped += 1
            elif len(self._waiting) >= self._capacity:
                self._lose(1, f"{self._capacity} wait already")
            else:
                self._waiting.append(item)
                if len(self._waiting) in (1, self._batch):
                    self._changed.notify()
            if self._thread is None and not self.closing.is_set():
                self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
                self._thread.start()
        self._tell()

    def close(self, timeout: float = 2.0) -> int:
        """Deliver what waits, within `timeout` seconds, and no more after that.

        Returns how many of all the items were not delivered, or are not known to be.
        """
        with self._changed:
            self.closing.set()
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)
        with self._changed:
            if left := len(self._waiting) + self._in_flight:
                self._waiting.clear()
                self._in_flight = 0
                self._lose(left, f"it took more than {timeout:g} s at the end")
        self._tell()
        return self.dropped

    def _work(self) -> None:
        while items := self._next():
            try:
                self._deliver(items)
            except Undelivered as error:
                self._delivered(str(error), lost=error.lost)
            except Exception as error:
                self._delivered(f"{type(error).__name__}: {error}")
            else:
                self._delivered()

    def _next(self) -> list[T]:
        """The next items to deliver, once it is time; none when there will be no others."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.closing.is_set())
            self._changed.wait_for(
                lambda: len(self._waiting) >= self._batch or self.closing.is_set(), self._interval
            )
            items = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
            self._in_flight = len(items)
            return items

    def _delivered(self, trouble: str = "", *, lost: int | None = None) -> None:
        with self._changed:
            if trouble:
                self._lose(min(self._in_flight, self._in_flight if lost is None else lost), trouble)
            self._in_flight = 0

    def _lose(self, count: int, why: str) -> None:
        self.dropped += count
        if count:  # those in flight when the queue was closed are counted already
            self._trouble = why

    def _tell(self) -> None:
        """Warn of what was lost since the last warning, if that was long ago."""
        now = self._clock()
        if not self._trouble or (
            self._warned is not None and now - self._warned < _BETWEEN_WARNINGS
        ):
            return
        why, self._trouble, self._warned = self._trouble, "", now
        self._warn(f"{self.name}: {self.dropped} records were lost so far ({why})")


def _after_fork() -> None:
    for queue in list(_alive):
        queue._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
