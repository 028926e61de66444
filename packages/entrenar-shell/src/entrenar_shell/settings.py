"""The settings of a session: what commands get that does not say otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from entrenar_common.errors import ConfigError, NotFoundError, UsageError
from entrenar_common.text import escape_controls, nearest
from entrenar_shell.command import Kind
from entrenar_shell.knowledge import meant
from entrenar_shell.session import Session

__all__ = ["SETTINGS", "Setting", "checked", "is_key", "preference"]

Check = Callable[[str, Session], str]


@dataclass(frozen=True)
class Setting:
    """A setting: what it says, what completes its value, how the value is checked and written, and
    what holds where it is not set."""

    name: str
    help: str
    check: Check
    kind: Kind | None = None
    choices: tuple[str, ...] = ()
    default: str = ""


def _model(value: str, session: Session) -> str:
    """The source of a loaded model, a path in full, or a name on the hub."""
    from entrenar_core.io.hub_model import is_hub_name

    source = meant(value, session)
    path = Path(source).expanduser()
    if path.exists():
        return str(path.absolute())
    if not is_hub_name(source.removeprefix("hf://")):
        raise NotFoundError(
            f"{escape_controls(source)}: no such file or folder",
            hint="give a loaded model's name, a path, or org/name on the hub",
        )
    return source


def _file(value: str, session: Session) -> str:
    path = Path(meant(value, session)).expanduser()
    if not path.is_file():
        raise NotFoundError(f"{escape_controls(value)}: no such file", hint="check the path")
    return str(path.absolute())


def _folder(value: str, _session: Session) -> str:
    return str(Path(value).expanduser().absolute())


def _one_of(*choices: str) -> Check:
    def check(value: str, _session: Session) -> str:
        if value in choices:
            return value
        raise ConfigError(
            f"'{escape_controls(value)}' is none of {', '.join(choices)}",
            hint=f"give {' or '.join(choices)}",
        )

    return check


SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("model", "model that commands are about [the one loaded last]", _model, "model"),
        Setting("teacher", "teacher of a distillation [the model]", _model, "model"),
        Setting("student", "student of a distillation", _model, "model"),
        Setting("config", "YAML file of a distillation or a training", _file, "file"),
        Setting("output", "folder of what is trained", _folder, "folder"),
        Setting(
            "history", "whether lines are kept for later sessions", _one_of("on", "off"),
            choices=("on", "off"), default="on",
        ),
        Setting(
            "yes", "whether long work starts without a question", _one_of("on", "off"),
            choices=("on", "off"), default="off",
        ),
        Setting(
            "color", "whether to colour", _one_of("auto", "on", "off"),
            choices=("auto", "on", "off"), default="auto",
        ),
    )
}  # fmt: skip
"""The settings by name. Besides these, any key of a configuration can be set."""


def is_key(name: str) -> bool:
    """Whether a setting is a key of a configuration, which is passed on by --set."""
    return name not in SETTINGS


def checked(name: str, value: str, session: Session) -> str:
    """The value of a setting as it is kept.

    Raises UsageError for a name that there is not, and ConfigError or NotFoundError for a value
    that makes no sense. The value of a configuration's key is checked by the command that gets it.
    """
    if name in SETTINGS:
        return SETTINGS[name].check(value, session)
    from entrenar_shell.configuration import is_known, keys

    if not (is_known(name, "distill") or is_known(name, "train")):
        near = nearest(name, [*SETTINGS, *keys("distill"), *keys("train")])
        raise UsageError(
            f"no such setting: {escape_controls(name)}",
            hint=f"did you mean {near}?"
            if near
            else "'config' lists the settings; docs/config.md "
            "and docs/train.md the keys of configurations",
        )
    return value


def preference(name: str, session: Session) -> str:
    """The value of a setting, or what holds without it."""
    return session.settings.get(name, SETTINGS[name].default)
