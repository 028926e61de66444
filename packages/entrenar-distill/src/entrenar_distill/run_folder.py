"""The output folder of a run: who may write there, and whether it continues or starts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from entrenar_common.errors import CheckpointError, RefusedError
from entrenar_core.io import files
from entrenar_core.train.metrics import MetricsLog
from entrenar_distill.config import DistillConfig, config_hash

RUN, REPORT, METRICS, CHECKPOINTS = "run.json", "report.json", "metrics.jsonl", "checkpoints"

_SHOWN = 10


class RunFolder:
    """The files of one run. `run_id` is a function of the config and the inputs."""

    def __init__(self, path: Path):
        self.path = path
        self.run_id = ""
        self.metrics = MetricsLog(path / METRICS)

    @property
    def report(self) -> Path:
        """Written last: a folder that has it holds a finished run."""
        return self.path / REPORT

    def checkpoints(self, phase: str) -> Path:
        return self.path / CHECKPOINTS / phase

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, prove that it can be written, and keep other processes out."""
        files.make_folder(self.path)
        files.probe_writable(self.path)
        with files.lock(self.path / ".lock"):
            yield

    def open(self, config: DistillConfig, fingerprint: str, *, resume: bool) -> None:
        """Take the folder for a run of `config` on the inputs of `fingerprint`.

        Raises RefusedError when the folder holds something that would be overwritten, and
        CheckpointError when it holds a run that differs from this one.
        """
        identity = {
            "schema": "entrenar.distill.run-folder/1",
            "config_hash": config_hash(config),
            "inputs": fingerprint,
            "config": config.model_dump(mode="json"),
        }
        self.run_id = f"{identity['config_hash'][:16]}-{fingerprint[:16]}"
        if not (self.path / RUN).exists():
            self._refuse_foreign()
            files.write_json(self.path / RUN, identity)
            return
        if not resume:
            raise RefusedError(
                f"{self.path}: already holds a run",
                hint="go on with it by --resume auto, or give another --output",
            )
        found = files.read_json(self.path / RUN)
        differences = _differences(found, identity)
        if differences:
            raise CheckpointError(
                f"{self.path}: holds a run that differs from this one",
                details=differences[:_SHOWN],
                hint="give another --output, or the config that the run was started with",
            )

    def _refuse_foreign(self) -> None:
        present = sorted(p.name for p in self.path.iterdir() if not p.name.startswith("."))
        if present:
            raise RefusedError(
                f"{self.path}: is not empty and holds no run: {', '.join(present[:_SHOWN])}",
                hint="give an empty or new folder as --output",
            )


def _differences(found: Any, wanted: dict[str, Any]) -> list[str]:
    """One line for each thing that decides the result and has changed."""
    if not isinstance(found, dict):
        return [f"{RUN} is damaged"]
    lines: list[str] = []
    if found.get("config_hash") != wanted["config_hash"]:
        old, new = _flat(found.get("config", {})), _flat(wanted["config"])
        lines = [
            f"{key}: was {old.get(key)!r}, is {new.get(key)!r}"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key) and not key.startswith("output.")
        ] or ["the configuration differs"]
    if found.get("inputs") != wanted["inputs"]:
        lines.append("the teacher's files, its tokenizer or the documents have changed")
    return lines


def _flat(section: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(section, dict):
        return {prefix[:-1]: section}
    return {
        k: v for key, part in section.items() for k, v in _flat(part, f"{prefix}{key}.").items()
    }
