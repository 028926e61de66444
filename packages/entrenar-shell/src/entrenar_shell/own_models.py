"""The commands about the models that a session has by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

from entrenar_common.cli import Command as ClickCommand
from entrenar_common.cli import Output, common_options
from entrenar_common.errors import ConfigError, NotFoundError, UsageError
from entrenar_common.text import escape_controls, nearest
from entrenar_shell.command import Command
from entrenar_shell.own import workbench
from entrenar_shell.session import LoadedModel, Session

__all__ = ["COMMANDS", "check_name", "name_for"]

_NAME = re.compile(r"[A-Za-z][\w.-]*", re.ASCII)


def check_name(name: str) -> str:
    """The name of a model, where it can be one: a letter, then letters, digits and `_.-`."""
    if _NAME.fullmatch(name):
        return name
    raise ConfigError(
        f"'{escape_controls(name)}' cannot be a model's name",
        hint="give a letter and after it letters, digits, '.', '_' or '-'",
    )


def name_for(source: str) -> str:
    """What a model is called that was given no name: the last part of where it is."""
    last = source.rstrip("/").rpartition("/")[2].partition("@")[0]
    stem = last.rpartition(".")[0] if last.endswith((".gguf", ".apr", ".safetensors")) else last
    fitting = re.sub(r"[^\w.-]", "-", stem, flags=re.ASCII).lstrip("-._0123456789")
    return fitting or "model"


def _called(words: Sequence[str], source: str) -> str:
    if not words:
        return name_for(source)
    if len(words) != 2 or words[0] != "as":
        raise UsageError(
            f"not a name: {escape_controls(' '.join(words))}", hint="write load PATH as NAME"
        )
    return check_name(words[1])


@click.command("load", cls=ClickCommand)
@click.argument("source", metavar="MODEL")
@click.argument("called", nargs=-1, metavar="[as NAME]")
@common_options
def _load(out: Output, source: str, called: tuple[str, ...]) -> None:
    """Give a model a name: a folder, a file, or org/name on the hub.

    Its headers are read, and nothing else until a command needs it.

    \b
    Examples:
      load ./teacher as teacher
      load student.gguf
      load org/name as base
    """
    from entrenar_shell.described import described

    session = workbench().session
    loaded = LoadedModel(_called(called, source), _source(source, session))
    found = described(loaded)
    session.models.pop(loaded.name, None)  # so that it is the last one
    session.models[loaded.name] = loaded
    out.emit(found, schema="entrenar.shell.load/1")


def _source(word: str, session: Session) -> str:
    """Where a model is; a name on the hub has its organisation before it."""
    from entrenar_shell.settings import SETTINGS

    source = SETTINGS["model"].check(word, session)
    if "/" not in source:
        raise NotFoundError(
            f"{escape_controls(word)}: no such file or folder",
            hint="check the path; a model on the hub is ORG/NAME",
        )
    return source


@click.command("models", cls=ClickCommand)
@common_options
def _models(out: Output) -> None:
    """List the models that are loaded: name, kind, size, and where they are."""
    from entrenar_shell.described import Models, seen

    found = tuple(seen(model) for model in workbench().session.models.values())
    out.emit(Models(found), schema="entrenar.shell.models/1")


@click.command("unload", cls=ClickCommand)
@click.argument("name")
@common_options
def _unload(out: Output, name: str) -> None:
    """Forget a model's name; its files stay as they are."""
    models = workbench().session.models
    if name not in models:
        near = nearest(name, models)
        raise NotFoundError(
            f"no model is called '{escape_controls(name)}'",
            hint=f"did you mean {near}?" if near else "'models' lists those that are loaded",
        )
    out.note(f"unloaded {name}; its files are as they were: {models.pop(name).source}")


COMMANDS: tuple[Command, ...] = (
    Command(
        ("load",), "models", "Give a model a name.", lambda: _load, values=(("source", "model"),)
    ),
    Command(("models",), "models", "List the models that are loaded.", lambda: _models),
    Command(
        ("unload",), "models", "Forget a model's name.", lambda: _unload,
        values=(("name", "model"),),
    ),
)  # fmt: skip
