"""What llama.cpp says, through llama-cpp-python."""

import ctypes
import functools
from typing import Any, NamedTuple

_WARN, _ERROR = 3, 4  # 5 continues the line before


class Line(NamedTuple):
    """A line with ggml's number for its level."""

    level: int
    text: str


@functools.cache
def _lines() -> tuple[list[Line], Any]:
    """All lines since the last `listen`, and what llama.cpp calls for each: for as long as the
    process lives, since it keeps one function only and does not ask whether it is still there."""
    import llama_cpp

    lines: list[Line] = []

    @llama_cpp.llama_log_callback
    def note(level: int, line: bytes, _: Any) -> None:
        lines.append(Line(level, line.decode("utf-8", "replace").strip()))

    llama_cpp.llama_backend_init()
    llama_cpp.llama_log_set(note, ctypes.c_void_p(0))
    return lines, note


def listen() -> list[Line]:
    """A list that the next lines are added to, empty."""
    lines, _ = _lines()
    lines.clear()
    return lines


def warnings(lines: list[Line]) -> list[str]:
    """The lines of level warn and up."""
    return [line.text for line in lines if line.level in (_WARN, _ERROR)]
