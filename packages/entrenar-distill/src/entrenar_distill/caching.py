"""Making a cache of a teacher's predictions: what it will be, and what became of it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_common.progress import NullProgress, Progress
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_bytes, format_count, format_duration
from entrenar_core.autograd.precision import multiplied_in
from entrenar_core.distill import LiveTeacher
from entrenar_core.distill.cache import (
    CachedTeacher,
    CacheFolder,
    CacheWriter,
    Fidelity,
    Settings,
    fidelity,
)
from entrenar_core.io import files
from entrenar_distill.cached import keys_of
from entrenar_distill.config import DistillConfig
from entrenar_distill.inputs import read_inputs


@dataclass(frozen=True)
class CachePlan:
    """What would be written. `bytes` is what the first batch of rows makes one expect of all of
    them, `rows_done` how many are there already, of a command that was interrupted."""

    teacher: str
    output: str
    rows: int
    rows_done: int
    tokens: int
    temperatures: tuple[float, ...]
    mass: float
    max_k: int
    precision: str
    bytes: int
    free_bytes: int

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / self.tokens

    def in_a_line(self) -> str:
        """Said before it begins."""
        done = f", {self.rows_done} of them done" if self.rows_done else ""
        return (
            f"{self.rows} rows{done}, {format_count(self.tokens)} tokens: about "
            f"{self.bytes_per_token:.0f} bytes a token, {format_bytes(self.bytes)} in all, of "
            f"{format_bytes(self.free_bytes)} that are free"
        )

    def __view__(self) -> list[Any]:
        return [
            Fields(
                "What would be written",
                [
                    ("teacher", self.teacher),
                    ("rows", f"{self.rows}, {self.rows_done} are there"),
                    ("tokens", format_count(self.tokens)),
                    ("temperatures", ", ".join(f"{t:g}" for t in self.temperatures)),
                    ("kept", f"{self.mass:g} of the probability, {self.max_k} ids at most"),
                    ("stored as", self.precision),
                    ("bytes a token", f"about {self.bytes_per_token:.0f}"),
                    ("size", f"about {format_bytes(self.bytes)}"),
                    ("free", format_bytes(self.free_bytes)),
                    ("output", self.output),
                ],
            ),
            Text("Everything was checked, and nothing was written."),
        ]


@dataclass(frozen=True)
class AtTemperature:
    """`mass` is the mean probability of what was kept, over all tokens; `outcomes` and `spread` are
    `rounding` and `spread` of `Fidelity`, in nats."""

    temperature: float
    mass: float
    outcomes: float
    spread: float


@dataclass(frozen=True)
class CacheReport:
    """What was written: `ids_per_token` is the mean number of kept ids; `fingerprint` is of every
    byte."""

    teacher: str
    output: str
    rows: int
    tokens: int
    ids_per_token: float
    bytes_per_token: float
    bytes: int
    precision: str
    at: tuple[AtTemperature, ...]
    seconds: float
    fingerprint: str

    def __view__(self) -> list[Any]:
        return [
            Fields(
                "Teacher's predictions",
                [
                    ("teacher", self.teacher),
                    ("rows", self.rows),
                    ("tokens", format_count(self.tokens)),
                    ("kept", f"{self.ids_per_token:.1f} ids a token, as {self.precision}"),
                    ("bytes a token", f"{self.bytes_per_token:.1f}"),
                    ("size", format_bytes(self.bytes)),
                    ("took", format_duration(self.seconds)),
                    ("output", self.output),
                ],
            ),
            Table(
                "Beside the teacher",
                ["temperature", "kept mass", "KL of outcomes", "KL spread"],
                [
                    [f"{x.temperature:g}", f"{x.mass:.5f}", f"{x.outcomes:.2e}", f"{x.spread:.2e}"]
                    for x in self.at
                ],
                caption="nats a token on a sample of rows; outcomes: the kept ids and the rest as "
                "one, which a student is compared on; spread: the rest evenly on what was left out",
            ),
        ]


def settings(
    config: DistillConfig,
    *,
    mass: float,
    max_k: int,
    temperatures: Sequence[float],
    precision: str,
) -> Settings:
    """Those of a cache for runs of `config`: without `temperatures`, for its own and for 1."""
    chosen = tuple(temperatures) or tuple(dict.fromkeys((config.distillation.temperature, 1.0)))
    return Settings(chosen, mass=mass, max_k=max_k, precision=precision)


class Caching:
    """A cache for runs of `config`, which may name one already, to be made in the folder `output`.

    All is read and checked here, and `plan` says what follows. Raises what reading a run's inputs
    raises, RefusedError for a folder that holds something else, and StorageError where there is too
    little space.
    """

    def __init__(
        self,
        config: DistillConfig,
        output: str,
        settings: Settings,
        *,
        progress: Progress | None = None,
    ):
        self._progress = progress or NullProgress()
        teacher, *others = config.teachers
        if others:
            raise ConfigError(
                f"a cache is of one teacher's predictions, and there are {len(config.teachers)}",
                hint="give a configuration with one of them",
            )
        live = teacher.model_copy(update={"cache": None})
        inputs = read_inputs(config.model_copy(update={"teacher": live}), progress=self._progress)
        shared = inputs.teachers[0].vocabulary.shared
        self._teacher = LiveTeacher(inputs.teacher, shared=shared)
        self._batches, keys = inputs.batches, keys_of(inputs)
        self._writer = CacheWriter(
            Path(output), self._teacher, inputs.batches, keys=keys, settings=settings
        )
        self._products = config.training.products
        with multiplied_in(self._products):
            size = self._writer.estimate()
        done = self._writer.begun
        needed = size * (keys.rows - done) // keys.rows
        self.plan = CachePlan(
            teacher=teacher.model_id,
            output=output,
            rows=keys.rows,
            rows_done=done,
            tokens=keys.rows * keys.seq_len,
            temperatures=settings.temperatures,
            mass=settings.mass,
            max_k=min(settings.max_k, keys.shared),
            precision=settings.precision,
            bytes=size,
            free_bytes=files.probe_writable(_nearest(Path(output)), need_bytes=needed),
        )

    def run(self) -> CacheReport:
        """Write what is missing, and compare a sample of it with the teacher."""
        begun = time.perf_counter()
        with multiplied_in(self._products):
            folder = self._writer.write(progress=self._progress)
            found = fidelity(CachedTeacher(folder), self._teacher, self._batches)
        return _report(self.plan, folder, found, time.perf_counter() - begun)


def _report(
    plan: CachePlan, folder: CacheFolder, found: Sequence[Fidelity], seconds: float
) -> CacheReport:
    index, targets = folder.index, max(1, int(folder.index["targets"].sum()))
    mass = index["mass"].sum(axis=0) / targets
    return CacheReport(
        teacher=plan.teacher,
        output=plan.output,
        rows=plan.rows,
        tokens=plan.tokens,
        ids_per_token=int(index["kept"].sum()) / targets,
        bytes_per_token=folder.size / plan.tokens,
        bytes=folder.size,
        precision=plan.precision,
        at=tuple(
            AtTemperature(near.temperature, float(kept), near.rounding, near.spread)
            for near, kept in zip(found, mass, strict=True)
        ),
        seconds=seconds,
        fingerprint=folder.fingerprint,
    )


def _nearest(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder
