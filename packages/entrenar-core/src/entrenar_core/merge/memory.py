"""How much memory a merge takes, and how large its blocks may be."""

import resource
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from entrenar_common.errors import OutOfMemoryError
from entrenar_common.units import format_bytes
from entrenar_core.io.streamed import WAITING_BYTES
from entrenar_core.merge.group import ELEMENTS

STATUS = Path("/proc/self/status")

SMALLEST = 2**13
"""Elements of a block below which more calls cost more than memory is saved."""

PROGRAM = 200 * 10**6
"""Bytes of the interpreter, numpy, numba and compiled kernels before the first tensor."""

ARRAYS = 4
"""How many times the inputs of a block are in memory: themselves, their task vectors, and what is
made of these on the way."""


@dataclass(frozen=True)
class Need:
    """What the largest tensor needs: its `inputs`; the elements of its longest row; the bytes that
    are whole in memory while it is merged; and those of files that are mapped meanwhile."""

    inputs: int
    columns: int
    whole: int
    mapped: int


@dataclass(frozen=True)
class Forecast:
    """Blocks of so many elements, and the most memory, in bytes, that the merge then takes."""

    elements: int
    peak: int


def forecast(needs: Iterable[Need], limit: int | None) -> Forecast:
    """The largest blocks that fit `limit` bytes, at most `group.ELEMENTS`.

    Raises OutOfMemoryError where even the smallest do not fit.
    """
    needs, elements = list(needs), ELEMENTS
    while True:
        peak = _peak(needs, elements)
        if limit is None or peak <= limit:
            return Forecast(elements, peak)
        if elements <= SMALLEST:
            raise OutOfMemoryError(
                f"the merge needs {format_bytes(peak)}, and --memory-limit is "
                f"{format_bytes(limit)}",
                hint="give more, or merge models in safetensors: those in other files are read "
                "tensor by tensor as a whole",
            )
        elements //= 2


def _peak(needs: list[Need], elements: int) -> int:
    def block(need: Need) -> int:
        return 4 * max(elements, need.columns) * (need.inputs * ARRAYS + 6)

    most = max((block(n) + n.whole + n.mapped for n in needs), default=0)
    return PROGRAM + most + 2 * WAITING_BYTES


def peak_of_process() -> int:
    """The most memory that this process has had so far, in bytes. getrusage counts what the one
    had that started it too, so where there is /proc, that is asked."""
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
