"""Checkpoints: folders that are whole or absent, verified before use, rotated after a good save.

A checkpoint is written to a temporary folder, its manifest last, and renamed. The manifest is the
commit: a folder is a checkpoint when its manifest verifies, wherever it was copied to. What
`LATEST` says is for people; the store looks at the folders.
"""

import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import entrenar_core
from entrenar_common.errors import CheckpointError, ConfigError, EntrenarError, StorageError
from entrenar_core.io import files
from entrenar_core.io.os_calls import read_errors
from entrenar_core.io.safetensors import SafetensorsFile, Written, write_file
from entrenar_core.train.checkpoint_manifest import (
    MANIFEST_NAME,
    Manifest,
    check_hashes,
    check_sizes,
    read_manifest,
)

LATEST_NAME = "LATEST"
STATE_NAME = "state.json"

# a second checkpoint of the same step gets a number: the first stays until the second is there
_FOLDER = re.compile(r"step-(\d{1,18})(?:\.(\d{1,9}))?", re.ASCII)
_GARBAGE = re.compile(r"\..+\.tmp-\d+-[0-9a-f]+|step-.+\.tmp-[0-9a-f]+|\.trash-.+", re.ASCII)
_STEM = re.compile(r"[A-Za-z0-9_][\w-]*", re.ASCII)


class _Candidate(NamedTuple):
    step: int
    attempt: int
    path: Path


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: its place, its step and the state that was saved with it."""

    path: Path
    step: int
    state: dict[str, Any]
    manifest: Manifest

    def tensors(self, stem: str) -> dict[str, np.ndarray]:
        """The tensors saved under `stem`, as read-only views of the mapped file.

        They stay valid when the checkpoint is rotated away. CheckpointError when there is no such
        stem.
        """
        name = f"{stem}.safetensors"
        if name not in self.manifest.files:
            raise CheckpointError(
                f"{self.path}: has no {name}", hint=f"it has {', '.join(self.manifest.files)}"
            )
        with SafetensorsFile(self.path / name) as file:
            return {tensor: file.read(tensor) for tensor in file.names()}


class CheckpointStore:
    """The checkpoints of one run in one folder, `step-000000100` and so on.

    Other runs' checkpoints in the same folder are neither read nor removed. `keep_last` newest and
    the best (lowest metric) are kept. `warnings` says what the last `save` or `latest` passed over.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        run_id: str,
        keep_last: int = 2,
        config_hash: str = "",
    ) -> None:
        if keep_last < 1:
            raise ConfigError(
                f"keep_last is {keep_last}", hint="keep at least the last checkpoint: 1 or more"
            )
        self.folder = Path(folder)
        self.run_id = run_id
        self.keep_last = keep_last
        self.config_hash = config_hash
        self.warnings: list[str] = []
        self._locked = False

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes from writing here; `save` takes it by itself if it is not held.

        Raises CheckpointError, naming its process, when another store holds it.
        """
        if self._locked:
            yield
            return
        files.make_folder(self.folder)
        with files.lock(self.folder / ".lock"):
            self._locked = True
            try:
                yield
            finally:
                self._locked = False

    def save(
        self,
        step: int,
        *,
        tensors: Mapping[str, Mapping[str, np.ndarray]],
        state: dict[str, Any],
        metric: float | None = None,
    ) -> Path:
        """Saves a checkpoint, then removes those that need not be kept; returns its folder.

        `tensors` maps a file's stem to its tensors, `state` is JSON without NaN; a `metric` of None
        or NaN counts as the worst. Until the new one is on the disk, nothing else is touched.

        Raises StorageError when it cannot be written, CheckpointError when the folder is in use.
        """
        _check_arguments(step, tensors)
        encoded = _encode(state)
        with self.lock():
            self.warnings = []
            final = self._free_name(step)
            temporary = self.folder / f"step-{step:09d}.tmp-{secrets.token_hex(6)}"
            published = False
            try:
                files.make_folder(temporary)
                manifest = Manifest(
                    run_id=self.run_id,
                    step=step,
                    config_hash=self.config_hash,
                    code_version=entrenar_core.__version__,
                    metric=metric,
                    files=_write_content(temporary, tensors, encoded),
                )
                files.write_json(temporary / MANIFEST_NAME, manifest.to_json())
                files.publish_folder(temporary, final)
                published = True
            finally:
                if not published:
                    with suppress(StorageError):  # the first error is the one to report
                        files.remove_tree(temporary)
            self._tidy(final)
        return final

    def _free_name(self, step: int) -> Path:
        attempts = [c.attempt for c in self._candidates() if c.step == step]
        suffix = f".{max(attempts) + 1}" if attempts else ""
        return self.folder / f"step-{step:09d}{suffix}"

    def _tidy(self, saved: Path) -> None:
        """Moves the hint and rotates; a failure is a warning, since the checkpoint is safe."""
        try:
            files.write_text(self.folder / LATEST_NAME, saved.name + "\n")
            for path in self._superfluous(saved):
                files.remove_tree(path)
        except StorageError as error:
            self.warnings.append(f"{saved.name} is saved, but tidying up failed: {error}")

    def _superfluous(self, saved: Path) -> list[Path]:
        own, whole = [], []
        for candidate in self._candidates():  # newest first
            try:
                manifest = read_manifest(candidate.path)
                if manifest.run_id != self.run_id:
                    continue
                own.append(candidate.path)
                check_sizes(candidate.path, manifest)
            except EntrenarError:
                continue  # never counted as kept; whose it is may be unknown
            whole.append((candidate, manifest))
        newest = {c.step: c.path for c, _ in reversed(whole)}  # the last attempt at each step
        kept = {saved, *sorted(newest.values(), key=_order, reverse=True)[: self.keep_last]}
        usable = set(newest.values())
        measured = [(m.metric, c.step, c.path) for c, m in whole if m.metric is not None]
        # the earlier of two equal ones, as `best` has it: the later one may not have been measured
        kept |= {path for _, _, path in sorted(m for m in measured if m[2] in usable)[:1]}
        # a damaged one that is newer stays: what it is worth is not for a rotation to decide
        return [p for p in own if p not in kept and (p in usable or _order(p) < _order(saved))]

    def _candidates(self) -> list[_Candidate]:
        """Folders named as checkpoints, newest first: by number, not by text."""
        found = self._named(_FOLDER)
        return sorted((_Candidate(*_order(p), p) for p in found if p.is_dir()), reverse=True)

    def _named(self, pattern: re.Pattern[str]) -> list[Path]:
        if not self.folder.is_dir():
            return []
        with read_errors(self.folder):
            return [path for path in self.folder.iterdir() if pattern.fullmatch(path.name)]

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint of this run that verifies; None when there has been none at all.

        Those passed over are in `warnings`. Raises CheckpointError when there are checkpoints and
        none is usable: a run must not start over silently.
        """
        self.warnings = []
        for candidate in self._candidates():
            try:
                manifest = read_manifest(candidate.path)
                if manifest.run_id == self.run_id:
                    return _verified(candidate.path, manifest)
            except CheckpointError as error:
                self.warnings.append(f"{candidate.path.name} is passed over: {error}")
        if self.warnings:
            raise CheckpointError(
                f"{self.folder}: none of its checkpoints can be used",
                hint="give a good checkpoint by its path, or start over in another folder",
                details=self.warnings,
            )
        return None

    def best(self) -> Checkpoint | None:
        """The checkpoint of this run with the lowest metric, the earlier of two equal ones; None
        where none that is whole has a metric."""
        found = []
        for candidate in self._candidates():
            with suppress(CheckpointError):
                manifest = read_manifest(candidate.path)
                if manifest.run_id == self.run_id and manifest.metric is not None:
                    found.append((manifest.metric, candidate.step, candidate.path))
        for _, _, path in sorted(found):
            with suppress(CheckpointError):
                return _verified(path, read_manifest(path))
        return None

    def open(self, path: str | Path) -> Checkpoint:
        """This very checkpoint, of whichever run; CheckpointError unless it verifies."""
        path = Path(path)
        return _verified(path, read_manifest(path))

    def discard_after(self, step: int) -> list[Path]:
        """Removes this run's checkpoints of later steps, and returns their folders.

        For a run that goes on from an older checkpoint: what it leaves behind must not be taken for
        its newest one.
        """
        removed = []
        with self.lock():
            for candidate in self._candidates():
                with suppress(CheckpointError):
                    own = read_manifest(candidate.path).run_id == self.run_id
                    if own and candidate.step > step:
                        files.remove_tree(candidate.path)
                        removed.append(candidate.path)
        return removed

    def collect_garbage(self) -> list[Path]:
        """Removes what killed processes left half-written or half-removed; returns the paths."""
        with self.lock():  # nobody else is writing here, so every temporary name is abandoned
            garbage = self._named(_GARBAGE)
            for path in garbage:
                files.remove_tree(path)
        return garbage


def _order(path: Path) -> tuple[int, int]:
    match = _FOLDER.fullmatch(path.name)
    assert match is not None  # only called for names that matched
    return int(match[1]), int(match[2] or 1)


def _check_arguments(step: int, stems: Iterable[str]) -> None:
    if not 0 <= step < 10**18:
        raise ConfigError(f"step is {step}", hint="count steps from 0")
    for stem in stems:
        if not _STEM.fullmatch(stem):
            raise ConfigError(f"{stem!a} is not a file stem", hint="use letters, digits, _ or -")


def _encode(state: dict[str, Any]) -> bytes:
    try:
        return (json.dumps(state, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"the state cannot be saved as JSON: {error}",
            hint="keep arrays in tensors, and no NaN or infinity in the state",
        ) from error


def _write_content(
    folder: Path, tensors: Mapping[str, Mapping[str, np.ndarray]], state: bytes
) -> dict[str, Written]:
    written = {
        f"{stem}.safetensors": write_file(folder / f"{stem}.safetensors", arrays)
        for stem, arrays in tensors.items()
    }
    with files.open_atomic(folder / STATE_NAME) as file:
        file.write(state)
    written[STATE_NAME] = Written(file.size, file.sha256)
    return written


def _verified(path: Path, manifest: Manifest) -> Checkpoint:
    check_hashes(path, manifest)
    try:
        state = files.read_json(path / STATE_NAME)
    except EntrenarError as error:
        raise CheckpointError(f"{error}", hint="use another checkpoint") from error
    return Checkpoint(path, manifest.step, state, manifest)
