"""The commands about the shell itself: help, files of commands, the end."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import click

from entrenar_common.cli import Command as ClickCommand
from entrenar_common.cli import Output, common_options
from entrenar_common.tables import Table, Text
from entrenar_shell.command import Command, Group
from entrenar_shell.own import workbench

__all__ = ["COMMANDS", "Overview", "help_text", "overview"]

_BEYOND = (
    "'help COMMAND' or 'COMMAND ?' shows the options of one. The tools' own lines can be typed "
    "too: entrenar-lora plan --model 7B --ram 16GB. !LINE is for the system's shell; "
    "COMMAND | less, COMMAND > FILE and COMMAND & (in the background) do what they do there. "
    "_3 is the output of entry 3 of the history."
)


@dataclass(frozen=True)
class CommandLine:
    """A command in the overview."""

    command: str
    group: Group
    summary: str


@dataclass(frozen=True)
class Overview:
    """All commands, in the order of their groups."""

    commands: tuple[CommandLine, ...]

    def __view__(self) -> list[Any]:
        parts: list[Any] = []
        for group, lines in groupby(self.commands, key=lambda line: line.group):
            rows = [[Text(line.command, "name"), line.summary] for line in lines]
            parts.append(Table(group, ["command", ""], rows))
        return [*parts, Text(_BEYOND, "note")]


def overview() -> Overview:
    """All commands of the registry."""
    from entrenar_shell.registry import commands

    return Overview(
        tuple(CommandLine(" ".join(c.path), c.group, c.summary) for c in commands().values())
    )


def help_text(command: Command, *, width: int | None = None) -> str:
    """The help of a command: usage, arguments, options."""
    grammar = command.grammar()
    context = click.Context(
        grammar, info_name=" ".join(command.path), terminal_width=width, **grammar.context_settings
    )
    return grammar.get_help(context)


@click.command("help", cls=ClickCommand)
@click.argument("command", nargs=-1)
@common_options
def _help(out: Output, command: tuple[str, ...]) -> None:
    """List all commands, or show the options of one."""
    from entrenar_shell.registry import commands, find, subcommands

    below = subcommands(command[0]) if len(command) == 1 else []
    if not command:
        out.emit(overview(), schema="entrenar.shell.help/1")
    elif below:
        found = [commands()[command[0], name] for name in below]
        lines = tuple(CommandLine(" ".join(c.path), c.group, c.summary) for c in found)
        out.emit(Overview(lines), schema="entrenar.shell.help/1")
    else:
        click.echo(help_text(find(command)[0]))


@click.command("source", cls=ClickCommand)
@click.argument("file", type=click.Path())
@click.option("--keep-going", is_flag=True, help="Go on after a command that fails.")
@common_options
def _source(out: Output, file: str, keep_going: bool) -> int:  # noqa: ARG001
    """Carry out the commands in a file, one in each line; '#' begins a comment.

    It stops at the first that fails, and ends with its exit code.
    """
    from entrenar_shell.script import lines_of_file, run_lines

    bench = workbench()
    with bench.sourcing(file):
        return run_lines(bench, lines_of_file(file), keep_going=keep_going)


@click.command("quit", cls=ClickCommand)
@common_options
def _quit(out: Output) -> None:  # noqa: ARG001
    """Leave; the session is saved."""
    workbench().ended = True


COMMANDS: tuple[Command, ...] = (
    Command(
        ("help",), "system", "List all commands, or show the options of one.", lambda: _help,
        values=(("command", "command"),),
    ),
    Command(
        ("source",), "system", "Carry out the commands in a file.", lambda: _source,
        values=(("file", "file"),),
    ),
    Command(("quit",), "system", "Leave.", lambda: _quit, aliases=("exit", "q")),
)  # fmt: skip
