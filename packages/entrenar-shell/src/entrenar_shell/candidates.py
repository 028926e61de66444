"""What can stand where a word is typed: options, and values by their kind or their click type."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import click

from entrenar_common.text import escape_controls
from entrenar_shell.call import Call, Slot, names
from entrenar_shell.command import Command, Kind
from entrenar_shell.matching import Match, fit, natural, sorted_names
from entrenar_shell.world import World

__all__ = ["commands", "files", "first_sentence", "options", "setting_before", "values"]

_MODELS = (".safetensors", ".gguf", ".apr", ".safetensors.index.json")
_ADAPTERS = (".safetensors",)


def commands(world: World, before: tuple[str, ...], typed: str) -> list[Match]:
    """The words that go on from `before` to the path of a command; an alias, once it begins so."""
    found: dict[str, list[Command]] = {}
    for path, command in world.commands.items():
        if path[: len(before)] == before and len(path) > len(before):
            found.setdefault(path[len(before)], []).append(command)
    offered = [(word, _summary(word, of)) for word, of in sorted(found.items())]
    if typed and not before:
        aliases = {name: c for c in world.commands.values() for name in c.aliases}
        offered += [
            (name, f"= {' '.join(command.path)}")
            for name, command in sorted(aliases.items())
            if name.startswith(typed)
        ]
    return _fitting(offered, typed)


def _summary(word: str, found: list[Command]) -> str:
    if len(found) == 1 and found[0].path[-1] == word:
        return found[0].summary
    return ", ".join(sorted(c.path[-1] for c in found if c.path[-1] != word))


def options(made: Call, typed: str) -> list[Match]:
    """The names of options that can be given yet: those that every command has, and the short
    ones, last."""
    found = []
    for option in made.addable() if made.options else ():
        for name in names(option):
            rank = _option_fit(name, typed)
            if rank is not None:
                order = (not option.expose_value, not name.startswith("--"), name)
                found.append((order, Match(name, note=first_sentence(option), rank=rank)))
    return [match for _, match in sorted(found, key=lambda item: item[0])]


def _option_fit(name: str, typed: str) -> int | None:
    """The rank of an option's name: after two hyphens any part of it can be typed, and without
    them its beginning."""
    if name.startswith(typed):
        return 0
    if typed.startswith("--") and name.startswith("--"):
        return fit(name[2:], typed[2:])
    return 1 if name.startswith(f"--{typed}") else None


def first_sentence(parameter: click.Parameter) -> str:
    """The help of a parameter up to its first full stop."""
    text = " ".join((getattr(parameter, "help", None) or "").split())
    return text.partition(". ")[0].removesuffix(".")


def values(world: World, made: Call, slot: Slot, typed: str) -> list[Match]:
    """What a value can be: of a setting, what that says; else by the kind that the command gives
    it, or by its type."""
    setting = setting_before(made, slot)
    if setting is not None:
        return _choices(world, made, slot, setting, typed)
    kind = dict(made.command.values).get(slot.name)
    return _KINDS[kind](world, made, slot, typed) if kind else _by_type(world, slot, typed)


def _fitting(offered: Iterable[tuple[str, str]], typed: str) -> list[Match]:
    """The matches of names that are offered with a note on each."""
    return [
        Match(name, note=escape_controls(note), rank=rank)
        for name, note in offered
        if (rank := fit(name, typed)) is not None
    ]


# ------------------------------------------------------------------------------- files


def files(world: World, typed: str, *endings: str) -> list[Match]:
    """The folders, and the files with one of these endings or with any: hidden ones only where a
    dot was typed."""
    folder = typed[: typed.rfind("/") + 1]
    name = typed[len(folder) :]
    found = [
        file
        for file in world.files(folder)
        if (file.folder or not endings or file.name.endswith(endings))
        and (name.startswith(".") or not file.name.startswith("."))
    ]
    return [
        Match(
            f"{folder}{file.name}{'/' if file.folder else ''}",
            shown=f"{file.name}{'/' if file.folder else ''}",
            note="folder" if file.folder else "",
            goes_on=file.folder,
            rank=rank,
        )
        for file in sorted(found, key=lambda file: natural(file.name))
        if (rank := fit(file.name, name)) is not None
    ]


def _any_file(world: World, _made: Call, _slot: Slot, typed: str) -> list[Match]:
    return [*_outputs(world, typed), *files(world, typed)]


def _folders(world: World, _made: Call, _slot: Slot, typed: str) -> list[Match]:
    return [*_outputs(world, typed), *(m for m in files(world, typed) if m.goes_on)]


def _outputs(world: World, typed: str) -> list[Match]:
    return [replace(match, bare=True) for match in _fitting(world.outputs.items(), typed)]


# ------------------------------------------------------------------------------- names of a session


def _models(world: World, _made: Call, _slot: Slot, typed: str) -> list[Match]:
    loaded = _fitting(world.models.items(), typed)
    return [
        *(replace(match, bare=True) for match in loaded),
        *_outputs(world, typed),
        *files(world, typed, *_MODELS),
    ]


def _adapters(world: World, _made: Call, _slot: Slot, typed: str) -> list[Match]:
    return [*_outputs(world, typed), *files(world, typed, *_ADAPTERS)]


def _tensors(world: World, made: Call, _slot: Slot, typed: str) -> list[Match]:
    kinds = dict(made.command.values)
    models = [
        value for name, given in made.given.items() if kinds.get(name) == "model" for value in given
    ]
    return sorted_names(world.tensors(models[-1] if models else None), typed)


def _jobs(world: World, _made: Call, _slot: Slot, typed: str) -> list[Match]:
    return _fitting(((str(number), line) for number, line in world.jobs.items()), typed)


def _entries(world: World, _made: Call, _slot: Slot, typed: str) -> list[Match]:
    return _fitting(((f"_{number}", line) for number, line in world.entries.items()), typed)


def _commands(world: World, made: Call, slot: Slot, typed: str) -> list[Match]:
    return commands(world, tuple(made.given.get(slot.name, [])), typed)


# ------------------------------------------------------------------------------- settings


def _settings(world: World, made: Call, slot: Slot, typed: str) -> list[Match]:
    """Names of settings; in an option NAME=VALUE, with the value."""
    name, equals, value = typed.partition("=")
    if equals:
        found = _choices(world, made, slot, name, value)
        return [replace(m, text=f"{name}={m.text}", shown=m.shown or m.text) for m in found]
    found = _fitting(world.settings.items(), typed)
    if isinstance(slot.parameter, click.Option):
        return [replace(match, text=f"{match.text}=", goes_on=True) for match in found]
    return found


def setting_before(made: Call, slot: Slot) -> str | None:
    """The setting that the argument before this one names, where it names one."""
    kinds = dict(made.command.values)
    arguments = [p.name for p in made.parameters if isinstance(p, click.Argument)]
    if slot.name not in arguments or slot.index:
        return None
    before = arguments[: arguments.index(slot.name)]
    name = before[-1] if before else None
    return made.given[name][0] if name and kinds.get(name) == "setting" else None


def _choices(world: World, made: Call, slot: Slot, setting: str, typed: str) -> list[Match]:
    choices = world.choices(setting)
    if isinstance(choices, str):
        return _KINDS[choices](world, made, slot, typed)
    return _fitting(((choice, "") for choice in choices), typed)


# ------------------------------------------------------------------------------- click types


def _by_type(world: World, slot: Slot, typed: str) -> list[Match]:
    kind = slot.type
    if isinstance(kind, click.Path):
        found = files(world, typed)
        return found if kind.file_okay else [match for match in found if match.goes_on]
    if isinstance(kind, click.File):
        return files(world, typed)
    if isinstance(kind, click.Choice):
        return _fitting(((str(choice), "") for choice in kind.choices), typed)
    if isinstance(kind, click.types.BoolParamType):
        return _fitting((("true", ""), ("false", "")), typed)
    return []


_KINDS: dict[Kind, Callable[[World, Call, Slot, str], list[Match]]] = {
    "model": _models,
    "adapter": _adapters,
    "file": _any_file,
    "folder": _folders,
    "tensor": _tensors,
    "setting": _settings,
    "command": _commands,
    "job": _jobs,
    "entry": _entries,
}
