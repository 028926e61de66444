"""The commands about the settings of a session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from entrenar_common.cli import Command as ClickCommand
from entrenar_common.cli import Output, common_options
from entrenar_common.errors import NotFoundError
from entrenar_common.tables import Table, Text
from entrenar_common.text import escape_controls, nearest
from entrenar_shell.command import Command
from entrenar_shell.own import workbench
from entrenar_shell.session import Session
from entrenar_shell.settings import SETTINGS, checked

__all__ = ["COMMANDS", "Shown", "all_settings"]


@dataclass(frozen=True)
class Shown:
    """A setting and its value; `value` is what holds by default where `given` is false."""

    name: str
    value: str
    given: bool
    help: str


@dataclass(frozen=True)
class Settings:
    """All settings of a session."""

    settings: tuple[Shown, ...]

    def __view__(self) -> list[Any]:
        rows = [[s.name, Text(s.value, "" if s.given else "note"), s.help] for s in self.settings]
        return [Table(None, ["setting", "value", ""], rows)]


@dataclass(frozen=True)
class Configured:
    """A setting that was given a value."""

    name: str
    value: str

    def __view__(self) -> list[Any]:
        what = f"{self.name.capitalize()} model" if self.name in _MODELS else self.name
        return [Text(f"{what} configured: {self.value}", "good")]


_MODELS = ("model", "teacher", "student")


def all_settings(session: Session) -> Settings:
    """The shell's own settings, then the keys of configurations that are set."""
    own = [
        Shown(s.name, session.settings.get(s.name, s.default), s.name in session.settings, s.help)
        for s in SETTINGS.values()
    ]
    keys = [
        Shown(name, value, True, "passed on by --set")
        for name, value in session.settings.items()
        if name not in SETTINGS
    ]
    return Settings((*own, *keys))


@click.command("set", cls=ClickCommand, context_settings={"ignore_unknown_options": True})
@click.argument("name", required=False)
@click.argument("value", nargs=-1)
@common_options
def _set(out: Output, name: str | None, value: tuple[str, ...]) -> None:
    """Give a setting a value, or show it; without a name, show them all.

    NAME is model, teacher, student, config, output, a preference (history, yes, color), or any key
    of a configuration, such as training.learning_rate: docs/config.md and docs/train.md have them.

    \b
    Examples:
      set student TinyLlama/TinyLlama-1.1B
      set training.learning_rate 1e-4
      set yes on
    """
    session = workbench().session
    if name is None:
        out.emit(all_settings(session), schema="entrenar.shell.config/1")
        return
    given = " ".join(value)
    if not value:
        out.emit(Settings((_one(name, session),)), schema="entrenar.shell.config/1")
        return
    session.settings[name] = checked(name, given, session)
    out.emit(Configured(name, session.settings[name]), schema="entrenar.shell.set/1")


def _one(name: str, session: Session) -> Shown:
    found = [shown for shown in all_settings(session).settings if shown.name == name]
    if not found:
        raise _not_set(name, session)
    return found[0]


def _not_set(name: str, session: Session) -> NotFoundError:
    near = nearest(name, [*SETTINGS, *session.settings])
    return NotFoundError(
        f"{escape_controls(name)} is not set",
        hint=f"did you mean {near}?" if near else "'config' lists the settings",
    )


@click.command("unset", cls=ClickCommand)
@click.argument("name")
@common_options
def _unset(out: Output, name: str) -> None:
    """Take a setting's value away, so that the default holds."""
    session = workbench().session
    if name not in session.settings:
        raise _not_set(name, session)
    out.note(f"{name} was {session.settings.pop(name)}")


@click.command("config", cls=ClickCommand)
@common_options
def _config(out: Output) -> None:
    """Show all settings: what commands get that do not say otherwise."""
    out.emit(all_settings(workbench().session), schema="entrenar.shell.config/1")


COMMANDS: tuple[Command, ...] = (
    Command(
        ("set",), "system", "Give a setting a value.", lambda: _set,
        values=(("name", "setting"), ("value", "model")),
    ),
    Command(
        ("unset",), "system", "Take a setting's value away.", lambda: _unset,
        values=(("name", "setting"),),
    ),
    Command(("config",), "system", "Show all settings.", lambda: _config),
)  # fmt: skip
