"""What a session puts into a command: its models by name, outputs of its entries, its settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from entrenar_common.errors import UsageError
from entrenar_shell.arguments import Quoted
from entrenar_shell.session import Session

__all__ = [
    "Fill",
    "config",
    "last_made",
    "meant",
    "model",
    "output",
    "place",
    "result",
    "student",
    "teacher",
]

Fill = Callable[[Session, Mapping[str, str | None]], str | None]
"""What a parameter gets when it was not typed, None for nothing; it sees what was typed, by the
names of the parameters."""

MADE_BY = (
    ("entrenar-distill", "run"), ("entrenar-distill", "train"), ("entrenar-lora", "merge"),
)  # fmt: skip
"""The command lines that make a model."""

_OUTPUT = re.compile(r"_([1-9]\d*)")


def meant(word: str, session: Session, *, hub: str = "") -> str:
    """What a word means where a model or a file is wanted: the source of the model of that name,
    the output of an entry (`_3`), or itself. `hub` goes before the name of a model on the hub.

    Raises UsageError where the entry that is meant has no output.
    """
    if isinstance(word, Quoted):
        return str(word)
    if word in session.models:
        return place(session.models[word].source, hub=hub)
    found = _OUTPUT.fullmatch(word)
    return _output_of(int(found[1]), session) if found else word


def place(source: str, *, hub: str = "") -> str:
    """The source of a loaded model as a tool takes it: those that are not absolute paths are on
    the hub."""
    return source if source.startswith(("/", "hf://")) else hub + source


def _output_of(number: int, session: Session) -> str:
    for entry in session.entries:
        if entry.number == number and entry.outputs:
            return entry.outputs[0].path
    raise UsageError(
        f"_{number} is no output: entry {number} wrote nothing",
        hint="'history' lists the entries; put a file of that name as ./_" + str(number),
    )


def model(session: Session, _typed: Mapping[str, str | None]) -> str | None:
    """The setting `model`, else the model that was loaded last."""
    if "model" in session.settings:
        return session.settings["model"]
    loaded = list(session.models.values())
    return loaded[-1].source if loaded else None


def result(session: Session, typed: Mapping[str, str | None]) -> str | None:
    """What was trained or merged last, else what `model` gives."""
    return last_made(session) or model(session, typed)


def last_made(session: Session) -> str | None:
    """Where the model is that was trained or merged last; None where none was."""
    for entry in reversed(session.entries):
        made = any(line[:2] in MADE_BY for line in entry.plain)
        if made and entry.code == 0 and entry.outputs:
            return entry.outputs[0].path
    return None


def teacher(session: Session, typed: Mapping[str, str | None]) -> str | None:
    """The setting `teacher`, else, where no configuration names one, the session's model: the one
    loaded last that is not the student."""
    if "teacher" in session.settings:
        return session.settings["teacher"]
    if config(session, typed) or typed.get("config"):
        return None
    learns = typed.get("student") or session.settings.get("student")
    loaded = [m.source for m in session.models.values() if learns not in (m.name, m.source)]
    return session.settings.get("model") or (loaded[-1] if loaded else None)


def student(session: Session, _typed: Mapping[str, str | None]) -> str | None:
    """The setting `student`."""
    return session.settings.get("student")


def config(session: Session, _typed: Mapping[str, str | None]) -> str | None:
    """The setting `config`."""
    return session.settings.get("config")


def output(default: str) -> Fill:
    """The setting `output`, else, where no configuration says where, `default`: what a line writes
    is then in its words, for whoever runs it elsewhere."""

    def fill(session: Session, typed: Mapping[str, str | None]) -> str | None:
        if "output" in session.settings:
            return session.settings["output"]
        configured = config(session, typed) or typed.get("config")
        return None if configured or "output.dir" in session.settings else default

    return fill
