"""A command of the shell: one entry of the registry that parsing, help, completion and the docs
are made of.

There are two kinds. A plain command stands for command lines of the entrenar tools: `lower` puts
in what the session knows, and gives what to type in another shell for the same. An own command is
about the session itself (`models`, `set`, `history`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import click

    from entrenar_shell.session import Session

__all__ = ["GROUPS", "After", "Command", "Group", "Kind", "Lower", "PlainLine"]

Group = Literal["models", "memory", "train", "adapters", "export", "system"]
GROUPS: tuple[Group, ...] = ("models", "memory", "train", "adapters", "export", "system")

Kind = Literal["model", "adapter", "file", "folder", "tensor", "setting", "command", "job", "entry"]
"""What completes a parameter's value; of one without a kind, its click type does."""

PlainLine = tuple[str, ...]
"""A command line of a tool: ("entrenar-inspect", "layers", "/models/teacher")."""

Lower = Callable[[Sequence[str], "Session"], list[PlainLine]]

After = Callable[[Any, "Session"], str]
"""What a command's record means for the session; gives what to print below it, "" for nothing."""


@dataclass(frozen=True)
class Command:
    """A command called by `path`, one or two words: ("inspect", "layers").

    `grammar` imports and gives the click command that has its options, arguments and help text:
    of a plain command with what the session fills in made optional. `lower` is of a plain command
    alone; it raises UsageError for words that are no such command. `asks` says that it is long
    work, which a person confirms first and a script with --yes. `values` say, by the name of a
    click parameter, what completes it. `after` is called when a plain command has succeeded.
    """

    path: tuple[str, ...]
    group: Group
    summary: str
    grammar: Callable[[], click.Command]
    lower: Lower | None = None
    asks: bool = False
    values: tuple[tuple[str, Kind], ...] = ()
    aliases: tuple[str, ...] = ()
    after: After | None = None
