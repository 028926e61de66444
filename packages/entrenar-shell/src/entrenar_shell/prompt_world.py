"""What the session has to name in a line, for completion and hints."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from entrenar_common.errors import EntrenarError
from entrenar_shell.command import Command, Kind
from entrenar_shell.world import FileName

if TYPE_CHECKING:
    from entrenar_shell.jobs import Jobs
    from entrenar_shell.session import Session

__all__ = ["SessionWorld", "TensorNames"]


class SessionWorld:
    """The world of a session (`world.World`), read in the thread that completes."""

    def __init__(self, session: Callable[[], Session], jobs: Jobs) -> None:
        self._session = session
        self._jobs = jobs
        self._names = TensorNames()

    @property
    def commands(self) -> Mapping[tuple[str, ...], Command]:
        """Every command by its path."""
        from entrenar_shell.registry import commands

        return commands()

    @property
    def models(self) -> Mapping[str, str]:
        """Where the loaded models come from, by their names; the last one first."""
        models = list(self._session().models.values())
        return {model.name: model.source for model in reversed(models)}

    @property
    def outputs(self) -> Mapping[str, str]:
        """What the entries wrote, by names such as _1; the latest first."""
        entries = list(self._session().entries)
        return {f"_{e.number}": e.outputs[0].path for e in reversed(entries) if e.outputs}

    @property
    def entries(self) -> Mapping[int, str]:
        """What was typed, by number; the latest first."""
        return {entry.number: entry.line for entry in reversed(list(self._session().entries))}

    @property
    def jobs(self) -> Mapping[int, str]:
        """What the jobs were started with, by number; the latest first."""
        return {job.number: job.line for job in reversed(list(self._jobs))}

    @property
    def settings(self) -> Mapping[str, str]:
        """The names of the settings, and what they are; then the keys of configurations."""
        from entrenar_shell.configuration import keys
        from entrenar_shell.settings import SETTINGS

        of_configurations = sorted(keys("distill") | keys("train"))
        return {s.name: s.help for s in SETTINGS.values()} | {
            key: "" for key in of_configurations if not key.endswith(".*")
        }

    def choices(self, setting: str) -> Kind | tuple[str, ...]:
        """What a setting can be."""
        from entrenar_shell.settings import SETTINGS

        found = SETTINGS.get(setting)
        return (found.kind or found.choices) if found else ()

    def tensors(self, model: str | None) -> Sequence[str]:
        """The names of a model's tensors, once its headers are read."""
        from entrenar_shell import knowledge

        session = self._session()
        with suppress(EntrenarError):
            source = knowledge.meant(model, session) if model else knowledge.model(session, {})
            return self._names(source) if source else ()
        return ()

    def files(self, folder: str) -> Sequence[FileName]:
        """What is in a folder."""
        with suppress(OSError, RuntimeError), os.scandir(Path(folder).expanduser()) as found:
            return [FileName(entry.name, entry.is_dir()) for entry in found]
        return ()


class TensorNames:
    """The sorted names of tensors of models on this machine, of which headers are read once, in a
    thread, and again when the model has changed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, Sequence[str]]] = {}
        self._reading: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, source: str) -> Sequence[str]:
        """The names that are known by now; none where there is no such model."""
        try:
            changed = Path(source).stat().st_mtime_ns
        except (OSError, ValueError):
            return ()
        with self._lock:
            known = self._known.get(source)
            if known and known[0] == changed:
                return known[1]
            if source not in self._reading:
                self._reading.add(source)
                threading.Thread(target=self._read, args=(source, changed), daemon=True).start()
        return ()

    def _read(self, source: str, changed: int) -> None:
        from entrenar_inspect.opening import open_artifact

        names: Sequence[str] = ()
        try:
            with suppress(EntrenarError, OSError), open_artifact(source) as model:
                names = sorted(model.tensors)
        finally:
            with self._lock:
                self._known[source] = (changed, names)
                self._reading.discard(source)
