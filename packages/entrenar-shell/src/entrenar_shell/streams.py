"""Where standard output goes while a line is carried out: to the terminal, a program or a file."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from entrenar_core.io import files
from entrenar_shell.words import Line

__all__ = ["carried", "system"]

_PIPE_CLOSED = 141


def system(line: str) -> int:
    """Have the system's shell carry out a line, on this terminal; its exit code, as shells have it:
    128 and the signal's number where a signal ended it."""
    sys.stdout.flush()
    return _waited(subprocess.Popen(line, shell=True))


def carried(line: Line, run: Callable[[], int]) -> int:
    """Call `run` with standard output where the line says, and give the exit code.

    That of `run` counts; where it succeeded, or its reader had enough, that of the program that
    was read by. Raises StorageError where a file cannot be written, before `run` is called where
    that can be known.
    """
    if line.pipe is not None:
        return _piped(line.pipe, run)
    if line.file is not None:
        write = _appended if line.append else _written
        with write(Path(line.file).expanduser()) as text, contextlib.redirect_stdout(text):
            return run()
    return run()


@contextlib.contextmanager
def _written(path: Path) -> Iterator[io.StringIO]:
    """A text that is the file's when the block ends; whether it can be written is seen before."""
    with files.open_atomic(path) as file:
        text = io.StringIO()
        yield text
        file.write(_bytes(text))


@contextlib.contextmanager
def _appended(path: Path) -> Iterator[io.StringIO]:
    files.append(path, b"")
    text = io.StringIO()
    yield text
    files.append(path, _bytes(text))


def _bytes(text: io.StringIO) -> bytes:
    return text.getvalue().encode(errors="backslashreplace")


def _piped(program: str, run: Callable[[], int]) -> int:
    sys.stdout.flush()
    reader = subprocess.Popen(
        program, shell=True, stdin=subprocess.PIPE, encoding="utf-8", errors="backslashreplace"
    )
    assert reader.stdin is not None
    try:
        with contextlib.redirect_stdout(reader.stdin):
            code = run()
    finally:
        with contextlib.suppress(OSError):  # a reader that has gone wants nothing more
            reader.stdin.close()
        ended = _waited(reader)
    return ended if code in (0, _PIPE_CLOSED) else code


def _waited(process: subprocess.Popen) -> int:
    """Its exit code. Ctrl-C reaches it too, as it is on this terminal: what that means is up to
    it, as a pager that only stops searching."""
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            continue
        return 128 - code if code < 0 else code
