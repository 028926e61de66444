"""How the commands of a shell print: what the common options say of a single one."""

from __future__ import annotations

from dataclasses import dataclass

from entrenar_common.output import Output
from entrenar_shell.session import Session
from entrenar_shell.settings import preference

__all__ = ["Manner"]

_COLOR = {"auto": None, "on": True, "off": False}


@dataclass(frozen=True)
class Manner:
    """What was asked of the shell as a whole; see the common options of every command.

    `color` is None where the session's setting, the terminal and NO_COLOR decide.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    color: bool | None = None
    debug: bool = False

    @staticmethod
    def of(out: Output) -> Manner:
        """That of a command line."""
        return Manner(out.json, out.quiet, out.verbose, out.color, out.debug)

    def output(self, session: Session) -> Output:
        """What one command prints by."""
        color = self.color if self.color is not None else _COLOR[preference("color", session)]
        return Output(
            json=self.json, quiet=self.quiet, verbose=self.verbose, color=color, debug=self.debug
        )
