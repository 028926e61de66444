"""Ways of doing the same with large files, in turns, each turn in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from entrenar_common.output import Output

TAIL = """
import json, time
seconds = time.perf_counter() - begun
status = open("/proc/self/status").read()
peak = int(status.split("VmHWM:")[1].split()[0]) * 1024  # getrusage's begins with the parent's
print(json.dumps({"seconds": seconds, "peak": peak}))
"""


@dataclass(frozen=True)
class Side:
    """One way of doing it: the median of the turns' seconds, and the largest peak of memory."""

    name: str
    seconds: float
    peak_bytes: int


def turn(code: str, given: Mapping[str, Any]) -> dict[str, float]:
    """Run `code` with the variables `given` in a process of its own: its seconds, imports and all,
    and its peak of memory."""
    os.sync()
    variables = "".join(f"{name} = {value!r}\n" for name, value in given.items())
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import time\nbegun = time.perf_counter()\n{variables}{code}{TAIL}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return json.loads(found.stdout)


def in_turns(
    sides: Mapping[str, str],
    given: Mapping[str, Any],
    *,
    rounds: int,
    clear: Callable[[], None],
    out: Output,
) -> tuple[Side, ...]:
    """The code of all `sides`, `rounds` times; `clear` takes away what the turn before has made."""
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, code in sides.items():
            out.note(f"turn {number + 1} of {rounds}: {name}")
            clear()
            turns[name].append(turn(code, given))
    return tuple(
        Side(name, median(t["seconds"] for t in found), int(max(t["peak"] for t in found)))
        for name, found in turns.items()
    )
