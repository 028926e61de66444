"""The output folder of a run: who may write there, and whether it continues or starts."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from entrenar_common.errors import CheckpointError, RefusedError, StorageError
from entrenar_core.io import files
from entrenar_core.train.checkpoint import Checkpoint, CheckpointStore
from entrenar_core.train.loop import TrainingLoop
from entrenar_core.train.metrics import MetricsLog

__all__ = ["ADAPTER", "AUTO", "DATASET_REVISION", "NEVER", "Identity", "RunFolder", "go_on"]

RUN, METRICS = "run.json", "metrics.jsonl"
REPORT, CHECKPOINTS, ADAPTER = "report.json", "checkpoints", "adapter"
LOCK = ".lock"
NEVER, AUTO = "never", "auto"
"""What --resume may say, besides a checkpoint's folder."""
DATASET_REVISION = "dataset_revision"
"""What the commit of a dataset on the hub is called among the inputs of a run."""

_SHOWN = 10


@dataclass(frozen=True)
class Identity:
    """What a run is, and must be continued as.

    config:      the whole configuration, as JSON has it
    config_hash: of that part of it which decides the result
    text:        the configuration as a file that a next run can be given
    inputs:      a hash of each thing that is read, by what it is
    """

    config: Mapping[str, Any]
    config_hash: str
    text: str
    inputs: Mapping[str, str]


class RunFolder:
    """The files of one run. `run_id` is a function of the config and the `inputs`, a hash of each
    by what it is: both are known once it is opened. A subclass says what its runs are called."""

    schema: ClassVar[str]
    """The schema of `run.json`."""
    config_name: ClassVar[str]
    """The name of the file with the whole configuration."""
    decides_nothing: ClassVar[tuple[str, ...]]
    """Keys, and beginnings of keys, of a configuration that `Identity.config_hash` leaves out."""

    def __init__(self, path: Path):
        self.path = path
        self.run_id, self.config_hash, self.inputs = "", "", dict[str, str]()
        self.metrics = MetricsLog(path / METRICS)

    @property
    def report(self) -> Path:
        """Written last: a folder that has it holds a finished run."""
        return self.path / REPORT

    @property
    def config(self) -> Path:
        """The whole configuration, as a file that a next run can be given."""
        return self.path / self.config_name

    @property
    def holds_run(self) -> bool:
        return (self.path / RUN).exists()

    @property
    def nearest(self) -> Path:
        """The folder itself, or where it would be made: the first above it that there is."""
        nearest = self.path
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        return nearest

    def checkpoints(self, phase: str) -> Path:
        return self.path / CHECKPOINTS / phase

    def check(self, resume: str, phases: tuple[str, ...]) -> None:
        """Find out whether a run may use the folder, before anything is read or left in it.

        Raises CheckpointError when another process is using it, what `open` raises about `resume`,
        and StorageError when it cannot be written.
        """
        if self.holds_run:
            with files.lock(self.path / LOCK):
                pass
        self._permit(resume, phases)
        nearest = self.nearest
        if not nearest.is_dir():
            raise StorageError(
                f"{self.path}: cannot be made: {nearest} is not a folder",
                hint="give another --output",
            )
        files.probe_writable(nearest)

    def _permit(self, resume: str, phases: tuple[str, ...]) -> None:
        if resume not in (NEVER, AUTO):
            self._check_checkpoint(Path(resume), phases)
        elif self.holds_run and resume == NEVER:
            raise RefusedError(
                f"{self.path}: already holds a run",
                hint="go on with it by --resume auto, or give another --output",
            )
        if not self.holds_run:
            self._refuse_foreign()

    def _check_checkpoint(self, checkpoint: Path, phases: tuple[str, ...]) -> None:
        own = {self.checkpoints(phase).resolve() for phase in phases}
        if self.holds_run and checkpoint.resolve().parent in own:
            return
        missing = "" if checkpoint.exists() else " (there is no such folder)"
        raise CheckpointError(
            f"{checkpoint}: is no checkpoint of the run in {self.path}{missing}",
            hint=f"--resume takes auto, never, or a folder in {self.checkpoints(phases[0])}",
        )

    def _refuse_foreign(self) -> None:
        if not self.path.is_dir():
            return
        # the configuration alone is what a run leaves that was killed before it had begun
        present = sorted(
            p.name
            for p in self.path.iterdir()
            if not p.name.startswith(".") and p.name != self.config_name
        )
        if present:
            more = f" and {len(present) - _SHOWN} more" if len(present) > _SHOWN else ""
            raise RefusedError(
                f"{self.path}: is not empty and holds no run: {', '.join(present[:_SHOWN])}{more}",
                hint="give an empty or new folder as --output",
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, prove that it can be written, and keep other processes out."""
        files.make_folder(self.path)
        files.probe_writable(self.path)
        with files.lock(self.path / LOCK):
            yield

    def enter(self, identity: Identity, *, resume: str, phases: tuple[str, ...]) -> None:
        """Take the folder, which is locked, for the run that `identity` describes.

        Raises RefusedError when it holds something that would be overwritten, and CheckpointError
        when it holds a run that differs from this one or `resume` is no checkpoint of its run.
        """
        self._permit(resume, phases)
        record = {
            "schema": self.schema,
            "config_hash": identity.config_hash,
            "inputs": dict(identity.inputs),
            "config": dict(identity.config),
        }
        self.config_hash, self.inputs = identity.config_hash, dict(identity.inputs)
        decides = json.dumps([record["config_hash"], record["inputs"]])
        self.run_id = hashlib.sha256(decides.encode()).hexdigest()[:32]
        if not self.holds_run:
            files.write_text(self.config, identity.text)
            files.write_json(self.path / RUN, record)  # last: it makes the folder a run's
            return
        differences = _differences(files.read_json(self.path / RUN), record, self.decides_nothing)
        if differences:
            more = len(differences) - _SHOWN
            raise CheckpointError(
                f"{self.path}: holds a run that differs from this one",
                details=differences[:_SHOWN] + ([f"and {more} more"] if more > 0 else []),
                hint="give another --output, or the config that the run was started with",
            )

    def store(self, phase: str, *, keep_last: int) -> CheckpointStore:
        """The checkpoints of a phase of the run, which is entered."""
        return CheckpointStore(
            self.checkpoints(phase),
            run_id=self.run_id,
            keep_last=keep_last,
            config_hash=self.config_hash,
        )

    def checkpoint(self, path: Path, *, keep_last: int) -> Checkpoint:
        """The checkpoint at `path` to go back to. From here on the run is not finished, if it was.

        Raises CheckpointError for one of another run, and what opening it raises.
        """
        found = self.store(path.resolve().parent.name, keep_last=keep_last).open(path)
        if found.manifest.run_id != self.run_id:
            raise CheckpointError(
                f"{path}: is a checkpoint of another run",
                hint=f"give one of the run in {self.path}",
            )
        if self.report.exists():
            files.remove_tree(self.report)
        return found


def go_on(
    trainer: TrainingLoop,
    store: CheckpointStore,
    metrics: MetricsLog,
    *,
    explicit: Checkpoint | None,
    warn: Callable[[str], None],
) -> None:
    """Let `trainer` continue: from the checkpoint `explicit`, where that is one of its phase, else
    from the newest whole one. `warn` is told what was passed over and what is done again."""
    if explicit and explicit.path.resolve().parent == store.folder.resolve():
        trainer.restore(explicit)
        store.discard_after(trainer.step)
        return
    trainer.resume()
    for text in store.warnings:
        warn(text)
    repeated = metrics.rewind(trainer.phase, trainer.step)
    if repeated:
        start = f"step {trainer.step}" if trainer.step else "its beginning: nothing was saved"
        warn(f"{trainer.phase} goes on from {start}; {repeated} steps are done again")


def _differences(found: Any, wanted: dict[str, Any], decides_nothing: tuple[str, ...]) -> list[str]:
    """One line for each thing that decides the result and has changed."""
    if not isinstance(found, dict) or not isinstance(found.get("inputs"), dict):
        return [f"{RUN} is damaged"]
    lines: list[str] = []
    if found.get("config_hash") != wanted["config_hash"]:
        old, new = _flat(found.get("config", {})), _flat(wanted["config"])
        lines = [
            f"{key}: was {_shown(old, key)}, is {_shown(new, key)}"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key) and not key.startswith(decides_nothing)
        ] or ["the configuration differs"]
    inputs = found["inputs"]
    lines += [
        _changed(name, inputs[name], wanted["inputs"][name])
        for name in sorted(inputs.keys() & wanted["inputs"].keys())
        if inputs[name] != wanted["inputs"][name]
    ]
    return lines


def _changed(name: str, old: Any, new: str) -> str:
    if name == DATASET_REVISION:
        return f"dataset: was commit {old}, is {new}; dataset.revision chooses one"
    return f"{name}: its files have changed since"


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else "not given"


def _flat(section: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(section, dict):
        return {prefix[:-1]: section}
    return {
        k: v for key, part in section.items() for k, v in _flat(part, f"{prefix}{key}.").items()
    }
