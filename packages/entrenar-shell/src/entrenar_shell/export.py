"""A session as a script of plain command lines, for bash or for Python.

The script checks the files that the session has read, goes through the folders that the commands
were run in, and writes below the folder that it is given, or else is started in, what the session
has written. The same session and files give the same bytes.
"""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from entrenar_common.errors import RefusedError, UsageError
from entrenar_common.progress import NullProgress, Progress
from entrenar_common.tables import Fields
from entrenar_common.text import escape_controls
from entrenar_core.io import files
from entrenar_shell.recipe import Below, Part, Recipe, Step, is_in, recipe
from entrenar_shell.session import FileState, Session
from entrenar_shell.states import files_in, holds

__all__ = ["Exported", "export"]

_PACKAGES = ("entrenar-shell", "entrenar-core", "numpy", "numba", "tokenizers")
"""Whose versions can change a bit of what is computed."""


@dataclass(frozen=True)
class Input:
    """A file that was read: its SHA-256 now, None where it is gone, and whether it is another than
    the session has read."""

    path: str
    sha256: str | None
    changed: bool


@dataclass(frozen=True)
class Exported:
    """A script: how many command lines it has, how many it leaves out, the files it checks, and
    those of them that are not what the session has read."""

    script: str
    commands: int
    left_out: int
    inputs: int
    changed: tuple[str, ...]

    def __view__(self) -> list[Any]:
        items = [
            ("script", self.script),
            ("command lines", self.commands),
            ("left out", self.left_out),
            ("files checked", self.inputs),
        ]
        return [Fields("Exported", items)]


def export(
    session: Session, path: str, *, replace: bool = False, progress: Progress | None = None
) -> Exported:
    """Write a session's work to the script `path`, `.sh` or `.py`, which can be executed.

    Raises UsageError for another suffix, RefusedError for a file that exists unless it is to be
    replaced, and StorageError.
    """
    writers = {".sh": _bash, ".py": _python}
    writer = writers.get(Path(path).suffix)
    if writer is None:
        raise UsageError(
            f"{path}: the suffix says what is written, and must be .sh or .py",
            hint=f"write session export {Path(path).stem or 'work'}.sh",
        )
    if os.path.lexists(path) and not replace:
        raise RefusedError(f"{path}: exists already", hint="give another name, or --force")
    found = recipe(session)
    inputs = _hashed(found, progress or NullProgress())
    text = "\n".join(writer(session, found, inputs)) + "\n"
    files.write_bytes(path, os.fsencode(text), mode=0o777)
    steps = list(found.steps)
    return Exported(
        path,
        sum(not step.left_out for step in steps),
        sum(bool(step.left_out) for step in steps),
        sum(read.sha256 is not None for read in inputs),
        tuple(state.path for state in found.inputs if not holds(state)),
    )


def _hashed(found: Recipe, progress: Progress) -> list[Input]:
    """Every file of what was read, but not what the session has written itself."""
    progress.start("hash", len(found.inputs))
    read: dict[str, Input] = {}
    for state in found.inputs:
        changed = not holds(state)
        for path in _files_of(state):
            if not any(is_in(path, output) for output in found.outputs):
                sha256 = files.sha256_file(path) if Path(path).is_file() else None
                read.setdefault(path, Input(path, sha256, changed))
        progress.advance()
    progress.finish()
    return sorted(read.values(), key=lambda one: one.path)


def _files_of(state: FileState) -> list[str]:
    folder = Path(state.path).is_dir()
    return [str(path) for path in files_in(state.path)] if folder else [state.path]


def _versions() -> str:
    found = [("python", platform.python_version())]
    for name in _PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:  # run from its source
            continue
    return ", ".join(f"{name} {number}" for name, number in found)


def _comment(text: str) -> str:
    return f"# {escape_controls(text)}"


def _header(session: Session) -> list[str]:
    return [
        _comment(f"The work of the session {session.name} of entrenar-shell."),
        "#",
        "# What it writes comes into the folder that is given, or else into the one it is run in.",
        _comment(f"Made with {_versions()}."),
        "",
    ]


def _steps(found: Recipe) -> Iterator[tuple[str, Step | None]]:
    """Comments, with the step to be run after each where there is one."""
    for entry, steps in found.entries:
        yield f"{entry.number}: {entry.line}", None
        for step in steps:
            if step.left_out:
                line = " ".join(map(shlex.quote, step.line))
                yield f"left out, {step.left_out}: {line}", None
            else:
                yield "", step


# ---- bash --------------------------------------------------------------------------------------

_BASH = """set -euo pipefail
ROOT=$(cd -- "${1:-.}" && pwd)

sha256() {
    if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi
}

WRONG=0
check() {
    if [ ! -f "$2" ]; then
        printf 'not there: %s\\n' "$2" >&2
        WRONG=1
    elif [ "$(sha256 < "$2" | cut -d ' ' -f 1)" != "$1" ]; then
        printf 'not the file that was read: %s\\n' "$2" >&2
        WRONG=1
    fi
}"""

_BASH_CHECKED = """if [ "$WRONG" != 0 ]; then
    echo 'the session has read other files than these: nothing was run' >&2
    exit 13
fi"""


def _bash(session: Session, found: Recipe, inputs: Sequence[Input]) -> Iterator[str]:
    yield "#!/usr/bin/env bash"
    yield from _header(session)
    yield _BASH
    yield ""
    for read in inputs:
        yield from _doubts(read)
        if read.sha256 is not None:
            yield f"check {read.sha256} {shlex.quote(read.path)}"
    yield _BASH_CHECKED
    yield ""
    for folder in found.folders:
        yield f"mkdir -p -- {_bash_word((Below(folder),))}"
    folder = None
    for comment, step in _steps(found):
        if step is None:
            yield _comment(comment)
            continue
        if step.folder != folder:
            folder = step.folder
            yield f"cd -- {shlex.quote(folder)}"
        line = " ".join(map(_bash_word, step.words))
        findings = "".join(f" || [ $? = {code} ]" for code in step.codes if code)
        yield line + findings


def _bash_word(parts: Sequence[Part]) -> str:
    return "".join(
        shlex.quote(part) if isinstance(part, str) else f'"$ROOT"/{shlex.quote(part.path)}'
        for part in parts
    )


def _doubts(read: Input) -> Iterator[str]:
    if read.sha256 is None:
        yield _comment(f"not there any more, when this was written: {read.path}")
    elif read.changed:
        yield _comment("changed after the session had read it, or what is beside it has:")


# ---- Python ------------------------------------------------------------------------------------

_PYTHON = '''import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else ".").absolute()


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def check(inputs):
    wrong = [path for known, path in inputs if not Path(path).is_file() or sha256(path) != known]
    if wrong:
        for path in wrong:
            print("not the file that was read:", ascii(path), file=sys.stderr)
        sys.exit(13)


def run(folder, *words, finding=0):
    """Run a command; `finding` is how it may end besides."""
    try:
        subprocess.run(words, cwd=folder, check=True)
    except subprocess.CalledProcessError as error:
        if error.returncode != finding:
            sys.exit(error.returncode)


def at(path):
    return str(ROOT / path)

'''


def _python(session: Session, found: Recipe, inputs: Sequence[Input]) -> Iterator[str]:
    yield "#!/usr/bin/env python3"
    yield from _header(session)
    yield _PYTHON
    yield "check(["
    for read in inputs:
        yield from (f"    {line}" for line in _doubts(read))
        if read.sha256 is not None:
            yield f"    ({read.sha256!r}, {read.path!a}),"
    yield "])"
    for folder in found.folders:
        yield f"Path(at({folder!a})).mkdir(parents=True, exist_ok=True)"
    for comment, step in _steps(found):
        if step is None:
            yield _comment(comment)
            continue
        words = ", ".join(map(_python_word, step.words))
        finding = "".join(f", finding={code}" for code in step.codes if code)
        yield f"run({step.folder!a}, {words}{finding})"


def _python_word(parts: Sequence[Part]) -> str:
    pieces = [ascii(part) if isinstance(part, str) else f"at({part.path!a})" for part in parts]
    return " + ".join(pieces)
