"""What completion and hints may ask about the world: a protocol, so that they stay pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from entrenar_shell.command import Command, Kind

__all__ = ["FileName", "World"]


@dataclass(frozen=True)
class FileName:
    """A file or a folder by its name in the folder it is in."""

    name: str
    folder: bool = False


class World(Protocol):
    """What there is to name in a line. The answers must come at once: nothing here reads a model,
    and a mapping's order is the one in which its names are offered."""

    @property
    def commands(self) -> Mapping[tuple[str, ...], Command]:
        """Every command by its path."""
        ...

    @property
    def models(self) -> Mapping[str, str]:
        """The loaded models: by their names, where they come from."""
        ...

    @property
    def outputs(self) -> Mapping[str, str]:
        """What the entries of the session wrote: by names such as _1, the path."""
        ...

    @property
    def entries(self) -> Mapping[int, str]:
        """The lines of the session by their numbers."""
        ...

    @property
    def jobs(self) -> Mapping[int, str]:
        """The lines of the jobs by their numbers."""
        ...

    @property
    def settings(self) -> Mapping[str, str]:
        """The names of settings, with a few words on each."""
        ...

    def choices(self, setting: str) -> Kind | tuple[str, ...]:
        """What a setting can be: one of these texts, where there are any, or a value of a kind."""
        ...

    def tensors(self, model: str | None) -> Sequence[str]:
        """The sorted names of the tensors of a model, called as in a line; None is the one that a
        command without a model is about. Empty where they are not known yet."""
        ...

    def files(self, folder: str) -> Sequence[FileName]:
        """What is in a folder, named as it was typed: "" is the present one, the others end in a
        slash. Empty where it cannot be read."""
        ...
