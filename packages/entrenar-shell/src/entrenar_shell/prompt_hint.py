"""The hint for the line being typed, found beside the typing: what it is made of may first have to
be imported, or read from a model."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["HintBeside"]


class HintBeside:
    """Gives the latest hint there is, and has `find` look for that of the present line in a thread;
    `changed` is called there when it has another one."""

    def __init__(self, find: Callable[[str, int], str], *, changed: Callable[[], None]) -> None:
        self._find = find
        self._changed = changed
        self._lock = threading.Lock()
        self._asked: tuple[str, int] = ("", 0)
        self._answered: tuple[str, int] | None = None
        self._hint = ""
        self._working = False

    def __call__(self, text: str, cursor: int) -> str:
        """The latest hint; that of another line, or none, while the right one is looked for."""
        with self._lock:
            self._asked = (text, cursor)
            if self._asked != self._answered and not self._working:
                self._working = True
                threading.Thread(target=self._work, daemon=True).start()
            return self._hint

    def _work(self) -> None:
        while True:
            with self._lock:
                asked = self._asked
                if asked == self._answered:
                    self._working = False
                    return
            try:
                hint = self._find(*asked)
            except BaseException:
                with self._lock:
                    self._answered, self._working = asked, False
                raise
            with self._lock:
                self._answered, changed = asked, hint != self._hint
                self._hint = hint
            if changed:
                self._changed()
