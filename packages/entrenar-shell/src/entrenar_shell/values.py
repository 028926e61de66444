"""Where the values are in a command line of a tool, and which of its parameters each is for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from entrenar_shell.tools import tool

__all__ = ["Value", "command_of", "values_of"]


@dataclass(frozen=True)
class Value:
    """What stands from `start` on in the word at `index` (`--output=x`: x; `x`: all of it)."""

    index: int
    start: int
    param: click.Parameter

    @property
    def may_be_path(self) -> bool:
        """Whether a text of any kind is meant, so not a number, a choice or a name."""
        text = isinstance(self.param.type, (click.types.StringParamType, click.Path))
        return text and self.param.metavar != "NAME"


def command_of(line: Sequence[str]) -> tuple[click.Command, int]:
    """The command of a tool that a line calls, and the index of the first word after its name.

    Raises UsageError for a program that is none of the tools.
    """
    found: click.Command = tool(line[0])
    index = 1
    while isinstance(found, click.Group) and index < len(line):
        if line[index] in found.commands:
            found = found.commands[line[index]]
        elif not line[index].startswith("-"):  # options before it have no values
            break
        index += 1
    return found, index


def values_of(line: Sequence[str]) -> Iterator[Value]:
    """The values in a line that its tool has taken."""
    command, index = command_of(line)
    options = {
        name: param
        for param in command.params
        if isinstance(param, click.Option)
        for name in (*param.opts, *param.secondary_opts)
    }
    loose: list[int] = []
    while index < len(line):
        word = line[index]
        name, equals, _ = word.partition("=")
        if word == "--":
            loose.extend(range(index + 1, len(line)))
            break
        if len(word) < 2 or not word.startswith("-"):
            loose.append(index)
        elif name in options and not options[name].is_flag:
            if not equals:
                index += 1
            if index < len(line):
                yield Value(index, len(name) + 1 if equals else 0, options[name])
        index += 1
    yield from _arguments(command, loose)


def _arguments(command: click.Command, loose: Sequence[int]) -> Iterator[Value]:
    """The words that are no options, in order; an argument that takes many has all it can."""
    params = [param for param in command.params if isinstance(param, click.Argument)]
    many = len(loose) - sum(param.nargs == 1 for param in params)
    begin = 0
    for param in params:
        end = begin + (1 if param.nargs == 1 else max(many, 0))
        for index in loose[begin:end]:
            yield Value(index, 0, param)
        begin = end
