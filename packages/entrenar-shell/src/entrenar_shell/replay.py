"""Running a session's command lines again, in a folder of their own, and comparing what comes out.

Each line is a process, run in the folder that it was run in then. What it writes goes below a fresh
folder instead, and what a later one reads of that is read from there, so nothing of the session is
touched. See `sameness` for what is the same.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import RefusedError
from entrenar_common.progress import NullProgress, Progress
from entrenar_common.tables import Table, Text
from entrenar_core.io import files
from entrenar_shell.recipe import Recipe, Step, is_in, recipe, words_at
from entrenar_shell.sameness import Paths, difference
from entrenar_shell.session import FileState, Session
from entrenar_shell.states import files_in, holds
from entrenar_shell.tools import process_words

__all__ = ["Finding", "Replayed", "replay"]


@dataclass(frozen=True)
class Finding:
    """What is not as it was: where (a path that the session has written, or an entry), and how."""

    where: str
    what: str


@dataclass(frozen=True)
class Replayed:
    """A replay: the folder that it has written into, how many lines it ran and left out, how many
    files were compared (None where that was not asked for), and what was found."""

    session: str
    folder: str
    commands: int
    left_out: int
    compared: int | None
    findings: tuple[Finding, ...]

    @property
    def is_same(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def __view__(self) -> list[Any]:
        compared = "" if self.compared is None else f", {self.compared} files compared"
        left_out = f" ({self.left_out} left out)" if self.left_out else ""
        ran = f"{self.commands} command lines{left_out} run again in {self.folder}{compared}"
        if self.is_same:
            return [Text(ran if self.compared is None else f"{ran}: all the same")]
        rows = [[finding.where, finding.what] for finding in self.findings]
        return [Text(ran), Table("Not as it was", ["What", "How"], rows)]


Run = Callable[[list[str], str], int]
"""Runs the words of a command line in a folder, and gives its exit code."""


def in_process(words: list[str], folder: str) -> int:
    """Run a tool as a process of its own; what it prints as its result goes nowhere."""
    # The shell's own standard input may be its script.
    done = subprocess.run(
        process_words(words),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    return done.returncode


def replay(
    session: Session,
    into: str,
    *,
    check: bool = False,
    run: Run = in_process,
    progress: Progress | None = None,
) -> Replayed:
    """Run a session's lines again, with all that they write below `into`, a new or empty folder.

    It stops at the first line that does not end as it did, which is a finding. With `check`, what
    was written is compared with what the session has written, as far as that is still there.
    Raises RefusedError for a folder that is not empty, and StorageError.
    """
    root = Path(into).absolute()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise RefusedError(f"{into}: is not an empty folder", hint="give a new one by --into")
    found = recipe(session)
    for folder in ("", *found.folders):
        files.make_folder(root / folder)
    progress = progress or NullProgress()
    steps = [step for step in found.steps if not step.left_out]
    ran, failed = 0, None
    progress.start("replay", len(steps))
    for step in steps:
        failed = _failure(step, run(words_at(step, lambda path: str(root / path)), step.folder))
        ran += 1
        progress.advance()
        if failed:
            break
    progress.finish()
    findings, compared = [*_changed_inputs(found), *([failed] if failed else [])], None
    if check and not failed:
        compared, differing = _compare(found, root)
        findings += differing
    left_out = sum(bool(step.left_out) for step in found.steps)
    return Replayed(session.name, str(root), ran, left_out, compared, tuple(findings))


def _failure(step: Step, code: int) -> Finding | None:
    if code in step.codes:
        return None
    return Finding(f"entry {step.number}", f"ended with {code}: {shlex.join(step.line)}")


def _changed_inputs(found: Recipe) -> Iterator[Finding]:
    for state in found.inputs:
        if not holds(state):
            gone = not Path(state.path).exists()
            yield Finding(state.path, "is gone" if gone else "has changed since it was read")


# ---- comparing ---------------------------------------------------------------------------------


def _compare(found: Recipe, root: Path) -> tuple[int, list[Finding]]:
    """How many files were compared, and what is not the same in them."""
    paths = Paths(
        {
            str(root / below): [path, *sorted(found.spelt.get(path, ()))]
            for path, below in found.outputs.items()
        }
    )
    count, findings = 0, list[Finding]()
    for path, below in found.outputs.items():
        state = found.states.get(path)
        if any(is_in(path, other) for other in found.outputs if other != path):
            continue  # it is compared with the folder that it is in
        if problem := _incomparable(state, path, root / below):
            findings += [Finding(path, problem)] if state or Path(path).exists() else []
            continue
        for first, second in _pairs(Path(path), root / below):
            count += 1
            how = _difference(first, second, paths)
            findings += [Finding(str(first), how)] if how else []
    return count, findings


def _incomparable(state: FileState | None, path: str, again: Path) -> str | None:
    if not Path(path).exists():
        return "is gone: what was written again has nothing to be compared with"
    if state is not None and not holds(state):
        return "has changed since the session wrote it: not compared"
    return None if again.exists() else "was not written again"


def _pairs(first: Path, second: Path) -> list[tuple[Path, Path]]:
    """Each file of two folders with the one of its name in the other, which may not be there."""
    if not first.is_dir():
        return [(first, second)]
    inside = {path.relative_to(at) for at in (first, second) for path in files_in(at)}
    return [(first / path, second / path) for path in sorted(inside)]


def _difference(first: Path, second: Path, paths: Paths) -> str | None:
    if not second.is_file():
        return "was not written again"
    if not first.is_file():
        return "was written this time only"
    return difference(first, second, paths)
