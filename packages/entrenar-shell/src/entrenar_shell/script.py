"""Lines carried out one after the other, without anybody to ask: from -c, a file or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from entrenar_common.errors import FormatError, UsageError
from entrenar_core.io.strict_json import read_text
from entrenar_shell.words import IncompleteLine, parse

if TYPE_CHECKING:
    from entrenar_shell.execute import Workbench

__all__ = ["lines_of_file", "lines_of_stream", "run_lines"]


def run_lines(bench: Workbench, lines: Iterable[str], *, keep_going: bool = False) -> int:
    """Carry out lines up to the first that fails, or all, or up to `quit`; the exit code is that of
    the first that failed, 0 where none did."""
    first = 0
    for line in whole_lines(lines):
        code = bench.run(line)
        first = first or code
        if bench.ended or (code and not keep_going):
            break
    return first


def whole_lines(lines: Iterable[str]) -> Iterator[str]:
    """The lines, those joined that go on in the next: an open quote, or a backslash at the end.
    What is still open at the end is given as it is."""
    open_lines = ""
    for line in lines:
        open_lines += line.removesuffix("\n").removesuffix("\r")
        if _goes_on(open_lines):
            open_lines += "\n"
            continue
        yield open_lines
        open_lines = ""
    if open_lines:
        yield open_lines


def _goes_on(text: str) -> bool:
    try:
        parse(text)
    except IncompleteLine:
        return True
    except UsageError:
        return False  # it is reported where it is carried out
    return False


def lines_of_file(path: str) -> list[str]:
    """The lines of a file of commands, UTF-8 with or without a byte order mark.

    Raises NotFoundError, StorageError, and FormatError where it is no text.
    """
    return read_text(Path(path).expanduser()).removeprefix("\ufeff").split("\n")


def lines_of_stream() -> Iterator[str]:
    """The lines of standard input, each when it comes.

    Raises FormatError where they are no text.
    """
    number = 0
    try:
        for number, line in enumerate(sys.stdin, 1):
            yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeDecodeError as error:
        raise FormatError(
            f"standard input, after line {number}: not UTF-8 ({error.reason})",
            hint="give the commands as text",
        ) from error
