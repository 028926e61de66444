"""All commands of the shell: parsing, help, completion and the documentation are made of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from entrenar_common.errors import UsageError
from entrenar_common.text import escape_controls, nearest
from entrenar_shell import (
    lowering_adapters,
    lowering_export,
    lowering_models,
    lowering_tools,
    lowering_train,
    own_generate,
    own_history,
    own_jobs,
    own_models,
    own_session,
    own_settings,
    own_system,
    own_training,
)
from entrenar_shell.command import GROUPS, Command

__all__ = ["commands", "find", "subcommands"]

_COMMANDS: tuple[Command, ...] = (
    *own_models.COMMANDS,
    *lowering_models.MODELS,
    *own_generate.COMMANDS,
    *lowering_models.MEMORY,
    *lowering_train.TRAIN_MEMORY,
    *lowering_train.TRAIN,
    *own_training.COMMANDS,
    *own_jobs.COMMANDS,
    *lowering_adapters.ADAPTERS,
    *lowering_export.EXPORT,
    *own_history.COMMANDS,
    *own_settings.COMMANDS,
    *own_session.COMMANDS,
    *own_system.COMMANDS,
)


@cache
def commands() -> Mapping[tuple[str, ...], Command]:
    """Every command by its path, in the order of the groups."""
    ordered = sorted(_COMMANDS, key=lambda command: GROUPS.index(command.group))
    return {command.path: command for command in ordered}


def subcommands(name: str) -> list[str]:
    """The second words of the commands whose first is `name`; none where it is one by itself."""
    return [path[1] for path in commands() if path[0] == name and len(path) == 2]


def find(words: Sequence[str]) -> tuple[Command, list[str]]:
    """The command that a line begins with, and the words after it.

    A line may also begin with the name of a tool (`entrenar-lora plan ...`). Raises UsageError
    where there is no such command, with the most similar one.
    """
    assert words
    first, rest = words[0], list(words[1:])
    if first in lowering_tools.PROGRAMS:
        return lowering_tools.find(first, rest)
    for path, command in _called():
        if len(path) == 1 and path[0] == first:
            return command, rest
    seconds = subcommands(first)
    if not seconds:
        raise _unknown(first)
    if not rest:
        raise UsageError(f"{first}: what of it?", hint=f"one of {', '.join(seconds)}")
    if rest[0] not in seconds:
        near = nearest(rest[0], seconds)
        raise UsageError(
            f"{first} has no '{escape_controls(rest[0])}'",
            hint=f"did you mean {first} {near}?" if near else f"one of {', '.join(seconds)}",
        )
    return commands()[first, rest[0]], rest[1:]


def _called() -> Iterator[tuple[tuple[str, ...], Command]]:
    """Every command by its path and by its aliases."""
    for path, command in commands().items():
        yield path, command
        yield from (((alias,), command) for alias in command.aliases)


def _unknown(name: str) -> UsageError:
    near = nearest(name, {path[0] for path, _ in _called()})
    return UsageError(
        f"no such command: {escape_controls(name)}",
        hint=f"did you mean {near}?" if near else "'help' lists the commands",
    )
