"""What a session knows: its models, its settings, and what was done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Entry", "FileState", "LoadedModel", "Session"]


@dataclass(frozen=True)
class FileState:
    """A file or a folder that a command read or wrote: its bytes and when it was changed last, in
    nanoseconds, as the command left it. A folder's are those of all files in it together."""

    path: str
    size: int
    changed: int


@dataclass(frozen=True)
class LoadedModel:
    """A model with a name: an absolute path, or a model on the hub (org/name)."""

    name: str
    source: str


@dataclass(frozen=True)
class Entry:
    """One command that was carried out.

    `line` is what was typed, and `plain` what it stood for: none, one or several command lines of
    the entrenar tools, program first, with every name and setting of the session put in, run in
    the folder `folder`. `started` is seconds since the epoch, `seconds` how long it took, `code`
    how it ended. `metrics` are figures of its result by name.
    """

    number: int
    line: str
    plain: tuple[tuple[str, ...], ...]
    folder: str
    started: float
    seconds: float
    code: int
    inputs: tuple[FileState, ...] = ()
    outputs: tuple[FileState, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Session:
    """A session: `models` by their names in the order they were loaded, `settings` (see
    `settings.py`) by theirs, and the `entries` of its history."""

    name: str
    models: dict[str, LoadedModel] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
