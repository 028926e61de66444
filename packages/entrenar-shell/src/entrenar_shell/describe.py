"""A command and its parameters in a few words: what the toolbar shows of them."""

from __future__ import annotations

import click

from entrenar_shell.call import Call, Slot, names, width
from entrenar_shell.candidates import first_sentence
from entrenar_shell.command import Kind
from entrenar_shell.world import World

__all__ = ["about", "about_setting", "metavar", "syntax"]

_KINDS: dict[Kind, str] = {
    "model": "a loaded model, a file or folder, or org/name on the hub",
    "adapter": "the folder of an adapter",
    "file": "a file",
    "folder": "a folder",
    "tensor": "the name of a tensor",
    "setting": "the name of a setting",
    "command": "a command",
    "job": "the number of a job",
    "entry": "an entry of the history, such as _1",
}


def syntax(made: Call, slot: Slot | None) -> str:
    """How the command is called, with what `slot` is in guillemets.

    An option stands there where it is the slot, else all of them as [options].
    """
    parts = [" ".join(made.command.path)]
    if slot is not None and isinstance(slot.parameter, click.Option):
        parts.append(_option(made, slot.parameter))
    elif any(isinstance(parameter, click.Option) for parameter in made.parameters):
        parts.append("[options]")
    for argument in made.parameters:
        if isinstance(argument, click.Argument):
            marked = slot is not None and slot.parameter is argument
            parts.append(_argument(made, argument, marked))
    return " ".join(parts)


def _argument(made: Call, argument: click.Argument, marked: bool) -> str:
    word = metavar(made, argument)
    word = f"«{word}»" if marked else word
    word += "..." if argument.nargs != 1 else ""
    return word if argument.required else f"[{word}]"


def _option(made: Call, option: click.Option) -> str:
    return f"{_long(option)} «{metavar(made, option)}»" if width(option) else f"«{_long(option)}»"


def _long(option: click.Option) -> str:
    return max(names(option), key=lambda name: name.startswith("--"))


def metavar(made: Call, parameter: click.Parameter) -> str:
    """What stands for a value of the parameter: a word that can only be one text is that text."""
    if isinstance(parameter.type, click.Choice) and len(parameter.type.choices) == 1:
        return str(parameter.type.choices[0])
    if parameter.metavar:
        return parameter.metavar.strip("[]")
    if not isinstance(parameter, click.Option):
        return (parameter.name or "").upper()
    if isinstance(parameter.type, click.Choice):
        return _long(parameter).lstrip("-").upper()
    kind = dict(made.command.values).get(parameter.name or "")
    return (kind or parameter.type.name.removesuffix(" range")).upper()


def about(made: Call, parameter: click.Parameter) -> str:
    """What a parameter is, what it can be, and what it is when it is not given."""
    kind = dict(made.command.values).get(parameter.name or "")
    what = first_sentence(parameter) or (_KINDS[kind] if kind else "")
    limits = ", ".join(part for part in (_limits(parameter.type), _default(parameter)) if part)
    return f"{what} ({limits})" if what and limits else what or limits


def about_setting(name: str, world: World) -> str:
    """What a setting can be."""
    choices = world.choices(name)
    can_be = _KINDS[choices] if isinstance(choices, str) else " | ".join(choices)
    what = world.settings.get(name, "")
    return f"{what} ({can_be})" if what and can_be else what or can_be


def _limits(kind: click.ParamType) -> str:
    if isinstance(kind, click.Choice):
        return " | ".join(map(str, kind.choices)) if len(kind.choices) > 1 else ""
    if not isinstance(kind, click.IntRange | click.FloatRange):
        return ""
    least = f"{'above' if kind.min_open else 'at least'} {kind.min}" if kind.min is not None else ""
    most = f"{'below' if kind.max_open else 'at most'} {kind.max}" if kind.max is not None else ""
    if least and most and not (kind.min_open or kind.max_open):
        return f"{kind.min} to {kind.max}"
    return " and ".join(part for part in (least, most) if part)


def _default(parameter: click.Parameter) -> str:
    """Only of an option with a value: that a flag is off goes without saying."""
    value = parameter.default
    of_option = isinstance(parameter, click.Option) and width(parameter)
    known = isinstance(value, str | int | float) and not isinstance(value, bool)
    return f"{value} unless given" if of_option and known else ""
