"""Help for tests: run a tool, show a record as plain text, record progress, hold time still."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from entrenar_common.errors import NotFoundError

__all__ = [
    "CliResult",
    "Clock",
    "RecordedProgress",
    "render_plain",
    "run_cli",
    "run_cli_on_terminal",
]


@dataclass(frozen=True)
class CliResult:
    """What a run of a tool printed, and its exit code."""

    stdout: str
    stderr: str
    returncode: int


def run_cli(
    args: Sequence[str],
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
) -> CliResult:
    """Run an installed console script, `args[0]`, in a process of its own with its output piped.

    `env` adds to this process's environment. Raises NotFoundError for a tool that is not installed.
    """
    done = subprocess.run(
        _command(args),
        cwd=cwd,
        env=_environment(env),
        timeout=timeout,
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return CliResult(done.stdout, done.stderr, done.returncode)


def run_cli_on_terminal(
    args: Sequence[str],
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    columns: int = 80,
) -> CliResult:
    """Run an installed console script on a pseudo terminal of `columns` by 24.

    All that reaches the terminal is in `stdout` of the result, with its escape sequences.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    terminal = {"TERM": "xterm-256color", "COLUMNS": str(columns)}
    try:
        process = subprocess.Popen(
            _command(args),
            cwd=cwd,
            env=_environment(terminal | dict(env or {})),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
    finally:
        os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal_end:
        shown = _read_to_end(terminal_end)
    return CliResult(shown.decode().replace("\r\n", "\n"), "", process.wait())


def _read_to_end(stream: io.FileIO) -> bytes:
    shown = bytearray()
    while True:
        try:
            piece = stream.read(65536)
        except OSError:  # Linux's way to say that the other end of a terminal is closed
            return bytes(shown)
        if not piece:
            return bytes(shown)
        shown += piece


def _command(args: Sequence[str]) -> list[str]:
    name, *rest = args
    for script in entry_points(group="console_scripts", name=name):
        start = f"import sys; from {script.module} import {script.attr} as main; sys.exit(main())"
        return [sys.executable, "-c", start, *rest]
    raise NotFoundError(
        f"no console script {name!r} is installed", hint="install the package that it belongs to"
    )


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
    return kept | {"PYTHONIOENCODING": "utf-8"} | dict(env or {})


def render_plain(record: Any, width: int = 80) -> str:
    """The text that a record's view has at a fixed width, without colour."""
    from entrenar_common.console import make_console
    from entrenar_common.tables import render

    text = io.StringIO()
    render(record, make_console(text, color=False, width=width))
    return text.getvalue()


class Clock:
    """A clock that goes only when told: `clock.now += 1.5`."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class RecordedProgress:
    """Keeps every call as a tuple: ("start", name, total), ("advance", n, fields), ("finish",)."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def start(self, task_name: str, total: int | None) -> None:
        """Keep the start of a task."""
        self.calls.append(("start", task_name, total))

    def advance(self, n: int = 1, **fields: float | str) -> None:
        """Keep an advance."""
        self.calls.append(("advance", n, fields))

    def finish(self) -> None:
        """Keep an end."""
        self.calls.append(("finish",))
