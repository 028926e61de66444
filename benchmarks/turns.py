"""Ways of doing the same with large files, in turns, each turn in a process of its own."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NoReturn

from entrenar_common.output import Output

TAIL = """
import json, time
seconds = time.perf_counter() - begun
status = open("/proc/self/status").read()
peak = int(status.split("VmHWM:")[1].split()[0]) * 1024  # getrusage's begins with the parent's
print(json.dumps({"seconds": seconds, "peak": peak}))
"""


LAUNCHER = """
import json, os, sys, time
begun = time.perf_counter()
nothing = os.open(os.devnull, os.O_WRONLY)
given = [(os.POSIX_SPAWN_DUP2, nothing, 1)]
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=given)
status, usage = os.wait4(child, 0)[1:]
seconds = time.perf_counter() - begun
print(json.dumps({"seconds": seconds, "peak": usage.ru_maxrss * 1024}))
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""A process as small as Python gets, since the peak of a command begins with that of its parent."""


@dataclass(frozen=True)
class Side:
    """One way of doing it: the median of the seconds of its `turns`, and the largest peak of
    memory."""

    name: str
    seconds: float
    peak_bytes: int
    turns: tuple[float, ...]


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


def command_turn(command: Sequence[str]) -> dict[str, float]:
    """Run a command, which begins with the path of a program: its seconds from its start to its
    end, and its peak of memory."""
    os.sync()
    found = subprocess.run(
        [sys.executable, "-ISc", LAUNCHER, *command], capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{found.stderr[-2000:]}")
    return json.loads(found.stdout)


def in_turns(
    sides: Mapping[str, Callable[[], Mapping[str, float]]],
    *,
    rounds: int,
    clear: Callable[[], None],
    out: Output,
) -> tuple[Side, ...]:
    """All `sides`, each a turn by `turn` or `command_turn`, `rounds` times; `clear` takes away what
    the turn before has made."""
    turns: dict[str, list[Mapping[str, float]]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, take in sides.items():
            out.note(f"turn {number + 1} of {rounds}: {name}")
            clear()
            turns[name].append(take())
    return tuple(
        Side(
            name,
            median(t["seconds"] for t in found),
            int(max(t["peak"] for t in found)),
            tuple(t["seconds"] for t in found),
        )
        for name, found in turns.items()
    )


def benchmark(
    text: str,
    measure: Callable[[Path, int, int, Output], Any],
    *,
    schema: str,
    layers: int,
    rounds: int,
) -> NoReturn:
    """The command line of a benchmark of models of so many `layers`: `measure(folder, layers,
    rounds, out)` gives its report, which `passed()` or not."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=rounds, help=f"turns of each side ({rounds})")
    parser.add_argument("--layers", type=int, default=layers, help=f"blocks of a model ({layers})")
    parser.add_argument("--targets", action="store_true", help="exit with 1 when one is missed")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    parser.add_argument("-q", "--quiet", action="store_true", help="no notes on standard error")
    options = parser.parse_args()
    out = Output(json=options.json, quiet=options.quiet)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(Path(folder), options.layers, options.rounds, out)
    out.emit(report, schema)
    sys.exit(1 if options.targets and not report.passed() else 0)
