"""The tools whose command lines the shell carries out, by the names of their programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from entrenar_common.cli import Group
from entrenar_common.errors import UsageError
from entrenar_common.text import escape_controls, nearest

__all__ = ["TOOLS", "process_words", "tool"]


def _inspect() -> Group:
    from entrenar_inspect.cli import main

    return main


def _distill() -> Group:
    from entrenar_distill.cli import main

    return main


def _lora() -> Group:
    from entrenar_lora.cli import main

    return main


def _bench() -> Group:
    from entrenar_bench.cli import main

    return main


TOOLS: dict[str, Callable[[], Group]] = {
    "entrenar-inspect": _inspect,
    "entrenar-distill": _distill,
    "entrenar-lora": _lora,
    "entrenar-bench": _bench,
}
"""A function for each that imports and gives its command line."""


def tool(program: str) -> Group:
    """The command line of a program; UsageError where it is none of the tools."""
    if program not in TOOLS:
        near = nearest(program, TOOLS)
        raise UsageError(
            f"no such tool: {escape_controls(program)}",
            hint=f"did you mean {near}?" if near else f"the tools are {', '.join(TOOLS)}",
        )
    return TOOLS[program]()


def process_words(line: Sequence[str]) -> list[str]:
    """What starts a tool's command line as a process of its own with this Python, however the
    tools' programs are installed."""
    program, *words = line
    tool(program)  # or it is none
    module = program.replace("-", "_")
    return [sys.executable, "-c", f"from {module}.cli import main; main()", *words]
