"""Command lines of the tools themselves, typed in the shell as in any other."""

from __future__ import annotations

from collections.abc import Sequence

import click

from entrenar_common.errors import UsageError
from entrenar_common.text import escape_controls, nearest
from entrenar_shell.command import Command, Kind
from entrenar_shell.form import HUB, Form, command
from entrenar_shell.tools import TOOLS, tool

__all__ = ["PROGRAMS", "find"]

PROGRAMS = frozenset(TOOLS)

_KINDS: dict[str, Kind] = {
    "model": "model", "models": "model", "a": "model", "b": "model", "base": "model",
    "tuned": "model", "source": "model", "teacher": "model", "student": "model",
    "adapter": "adapter", "adapters": "adapter", "other": "adapter", "config": "file",
}  # fmt: skip
"""What the parameters of tools take, by their names."""


def find(program: str, words: Sequence[str]) -> tuple[Command, list[str]]:
    """The command of a tool that `words` begin with, and the words after it.

    Raises UsageError where the tool has no such command.
    """
    known = tool(program).commands
    if not words or words[0] not in known:
        near = nearest(words[0], known) if words else None
        named = f" '{escape_controls(words[0])}'" if words else ""
        raise UsageError(
            f"{program}: no such command{named}",
            hint=f"did you mean {program} {near}?" if near else f"one of {', '.join(known)}",
        )
    return _command(program, words[0], known[words[0]]), list(words[1:])


def _command(program: str, name: str, own: click.Command) -> Command:
    kinds: list[tuple[str, Kind]] = [
        (name, _KINDS[name]) for name in map(_name, own.params) if name in _KINDS
    ]
    hub = HUB if program == "entrenar-inspect" else ""
    form = Form(program, name, values=tuple(kinds), hub=hub)
    return command(f"{program} {name}", "system", own.get_short_help_str(200), form)


def _name(param: click.Parameter) -> str:
    return str(param.name)
