"""A line of the shell, taken apart: words, and what is to be done with the command they form.

load ./teacher as t          words; 'quotes' and "quotes" keep spaces, a backslash one character
inspect layers t | less      a program of the system reads what is printed
models > models.txt          a file gets it; >> adds to it
distill --yes &              a job in the background
distill ?                    the help of a command
!ls -l                       a line for the system's own shell
# a comment
"""

from __future__ import annotations

from dataclasses import dataclass

from entrenar_common.errors import UsageError

__all__ = ["IncompleteLine", "Line", "Word"]


class IncompleteLine(UsageError):
    """When a quote is open or the line ends in a backslash: it goes on in the next."""


@dataclass(frozen=True)
class Word:
    """One word without its quotes and backslashes, and where it stands in the line: from `start`
    up to, not including, `end`. A `quoted` word is never an operator or the name of a model."""

    text: str
    start: int
    end: int
    quoted: bool = False


@dataclass(frozen=True)
class Line:
    """What a line says. At most one of `pipe`, `file` and `background` is there, and with `system`
    or `help` none."""

    words: tuple[Word, ...] = ()
    background: bool = False
    pipe: str | None = None
    file: str | None = None
    append: bool = False
    system: str | None = None
    help: bool = False

    @property
    def texts(self) -> list[str]:
        """The words alone."""
        return [word.text for word in self.words]
