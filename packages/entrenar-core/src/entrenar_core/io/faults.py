"""For tests: makes the k-th file operation fail, once or for ever, or kill the process."""

import dataclasses
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from entrenar_core.io.os_calls import os_calls


@dataclasses.dataclass
class Faults:
    """How many operations were made, and by name which; operations are counted from 1."""

    calls: list[str] = dataclasses.field(default_factory=list)


@contextmanager
def inject(
    at: int = 0, *, errno: int = 0, forever: bool = False, kill: bool = False
) -> Iterator[Faults]:
    """While the body runs, operation `at` (and with `forever` all after it) fails with `errno`.

    With `kill` the process ends at that operation, before it is done. With `at` of 0 nothing fails
    and the operations are only counted.
    """
    faults, counting = Faults(), threading.Lock()
    names = [field.name for field in dataclasses.fields(os_calls)]
    before = {name: getattr(os_calls, name) for name in names}

    def wrap(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with counting:  # a file is synced in one thread and written in another
                faults.calls.append(name)
                number = len(faults.calls)
            if number == at or (forever and number > at > 0):
                if kill:
                    os.kill(os.getpid(), signal.SIGKILL)
                if name == "close":  # a close that fails closes all the same
                    call(*args, **kwargs)
                raise OSError(errno, os.strerror(errno))
            return call(*args, **kwargs)

        return wrapped

    try:
        for name, call in before.items():
            setattr(os_calls, name, wrap(name, call))
        yield faults
    finally:
        for name, call in before.items():
            setattr(os_calls, name, call)
