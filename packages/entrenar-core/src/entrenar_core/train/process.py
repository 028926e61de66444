"""What training asks of its process: signals that wait for the step to end, and memory.

Entered by the training loop only: importing this changes nothing.
"""

import ctypes
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from entrenar_common.errors import InterruptedRun

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


class StopRequest:
    """Whether SIGINT, SIGTERM or SIGHUP has asked the run to stop at the end of its step."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def check(self, doing: str) -> None:
        """Raise InterruptedRun if a stop was asked for, where all that matters is saved already."""
        if self:
            raise InterruptedRun(
                f"stopped while {doing}; everything before that is saved",
                hint="go on with --resume auto",
            )

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Take a signal. Raises KeyboardInterrupt for a second SIGINT."""
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: do not wait for the step
        self.signal = signal.Signals(number)


@contextmanager
def stop_at_step_end(request: StopRequest | None = None) -> Iterator[StopRequest]:
    """Turn the signals that end a process into a request that the training loop looks at, or into
    `request`, which decides for itself what a signal is.

    A second SIGINT interrupts at once. Outside the main thread, where Python allows no handlers,
    the signals keep their meaning. The former handlers come back at the end.
    """
    if request is None:
        request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP"):
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, request.receive) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does, so that what has been begun
    is cleared away. Outside the main thread they keep their meaning."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {n: signal.signal(n, interrupt) for n in (getattr(signal, name) for name in names)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def keep_freed_memory() -> None:
    """Ask glibc to keep freed memory instead of giving it back to the system after every step.

    Without this every large array of every step is mapped anew: thousands of page faults. Does
    nothing where the C library has no mallopt.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, -1)  # never
        mallopt(_M_TOP_PAD, 1 << 26)


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
