"""The tools that a plain command line starts, imported when they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from entrenar_common.errors import NotFoundError

if TYPE_CHECKING:
    from entrenar_common.cli import Group

__all__ = ["PROGRAMS", "program"]


def _bench() -> Group:
    from entrenar_bench.cli import main

    return main


def _distill() -> Group:
    from entrenar_distill.cli import main

    return main


def _inspect() -> Group:
    from entrenar_inspect.cli import main

    return main


def _lora() -> Group:
    from entrenar_lora.cli import main

    return main


PROGRAMS: dict[str, Callable[[], Group]] = {
    "entrenar-bench": _bench,
    "entrenar-distill": _distill,
    "entrenar-inspect": _inspect,
    "entrenar-lora": _lora,
}


def program(name: str) -> Group:
    """The click group of a tool. Raises NotFoundError for another name."""
    if name not in PROGRAMS:
        raise NotFoundError(f"no program {name!r}", hint=f"one of {', '.join(PROGRAMS)}")
    return PROGRAMS[name]()
