"""The manifest of a checkpoint: what it is, and the size and hash of each of its files."""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import CheckpointError, EntrenarError, UnsupportedError
from entrenar_core.io import files
from entrenar_core.io.safetensors import Written

MANIFEST_NAME = "manifest.json"
SCHEMA = "entrenar.checkpoint/1"

_SCHEMA_PATTERN = re.compile(r"entrenar\.checkpoint/(\d{1,9})")
_FILE_PATTERN = re.compile(r"[\w-][\w.-]*", re.ASCII)
_ANOTHER = "use another checkpoint: this one is incomplete or damaged"


@dataclass(frozen=True)
class Manifest:
    """One checkpoint's record; `metric` is None when it was not finite or not given."""

    run_id: str
    step: int
    config_hash: str
    code_version: str
    metric: float | None
    files: dict[str, Written]

    def to_json(self) -> dict[str, Any]:
        """The record as JSON, with a checksum of itself as the last key."""
        record = {
            "schema": SCHEMA,
            "run_id": self.run_id,
            "step": self.step,
            "config_hash": self.config_hash,
            "code_version": self.code_version,
            "metric": self.metric if math.isfinite(self.metric or 0.0) else None,
            "files": [
                {"name": name, "size": file.size, "sha256": file.sha256}
                for name, file in self.files.items()
            ],
        }
        return {**record, "checksum": _checksum(record)}


def _checksum(record: dict[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint folder.

    Raises CheckpointError when it is missing, malformed or altered, and UnsupportedError when a
    newer version wrote it.
    """
    path = folder / MANIFEST_NAME
    try:
        record = files.read_json(path)
    except EntrenarError as error:
        raise CheckpointError(f"{error}", hint=_ANOTHER) from error
    if type(record) is not dict:
        raise CheckpointError(f"{path}: not a manifest", hint=_ANOTHER)
    _check_schema(record.get("schema"), path)
    checksum = record.pop("checksum", None)
    if checksum != _checksum(record):
        raise CheckpointError(f"{path}: altered: its checksum does not match", hint=_ANOTHER)
    try:
        return _from_json(record)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not a manifest: {error}", hint=_ANOTHER) from error


def _check_schema(schema: Any, path: Path) -> None:
    match = _SCHEMA_PATTERN.fullmatch(schema) if type(schema) is str else None
    if match is None:
        raise CheckpointError(f"{path}: not a checkpoint's manifest", hint=_ANOTHER)
    if schema != SCHEMA:
        raise UnsupportedError(
            f"{path}: written as {schema}, this version reads {SCHEMA}",
            hint="use the version of entrenar that wrote it",
        )


def _from_json(record: dict[str, Any]) -> Manifest:
    found = {
        entry["name"]: Written(int(entry["size"]), str(entry["sha256"]))
        for entry in record["files"]
    }
    if odd := [name for name in found if not _FILE_PATTERN.fullmatch(name)]:
        raise ValueError(f"{odd[0]!a} is not a plain file name")
    metric = record["metric"]
    return Manifest(
        run_id=str(record["run_id"]),
        step=int(record["step"]),
        config_hash=str(record["config_hash"]),
        code_version=str(record["code_version"]),
        metric=None if metric is None else float(metric),
        files=found,
    )


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Raises CheckpointError unless each file is there with its recorded size; reads no content."""
    for name, expected in manifest.files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != expected.size:
            found = "is missing" if size is None else f"has {size} bytes, not {expected.size}"
            raise CheckpointError(f"{path}: {found}", hint=_ANOTHER)


def check_hashes(folder: Path, manifest: Manifest) -> None:
    """Raises CheckpointError unless each file has its recorded size and content."""
    check_sizes(folder, manifest)
    for name, expected in manifest.files.items():
        try:
            found = files.sha256_file(folder / name)
        except EntrenarError as error:
            raise CheckpointError(f"{error}", hint=_ANOTHER) from error
        if found != expected.sha256:
            raise CheckpointError(
                f"{folder / name}: altered: its sha256 is {found[:12]}…, not "
                f"{expected.sha256[:12]}…",
                hint=_ANOTHER,
            )
