"""The prompt on a terminal that cannot move its cursor (TERM=dumb), as in an editor's window: it is
written, and a line is read as the terminal gives it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from entrenar_shell.prompt_text import prompt_text
from entrenar_shell.statements import statements

if TYPE_CHECKING:
    from entrenar_shell.history_file import HistoryFile
    from entrenar_shell.session import Session

__all__ = ["PlainPrompt"]


class PlainPrompt:
    """Reads what is typed; see `prompt_terminal`, which has more to show."""

    reading = False
    """A signal interrupts this reading by itself."""

    def __init__(
        self, session: Callable[[], Session], *, history: HistoryFile, keep: Callable[[], bool]
    ) -> None:
        self._session = session
        self._history = history
        self._keep = keep

    def read(self) -> str:
        """What is typed next, with the lines that it goes on in.

        Raises KeyboardInterrupt for Ctrl-C, and EOFError at the end of the input.
        """
        text = _line(prompt_text(self._session()))
        while statements(text)[-1].open:
            text += "\n" + _line("... ")
        if self._keep():
            self._history.append(text)
        return text

    def close(self) -> None:
        """Nothing has to be told."""


def _line(shown: str) -> str:
    sys.stdout.write(shown)
    sys.stdout.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.removesuffix("\n")
