"""The energy of a run, from the counters of processor packages that Linux shows (RAPL).

Each package is a folder `intel-rapl:N` of the power capping framework, on processors of AMD too,
and counts microjoules up to `max_energy_range_uj`, then from 0 again; folders inside it are parts
that it has counted. A package counts whatever runs on it.
Source: Documentation/power/powercap/powercap.rst of the Linux kernel.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from entrenar_bench.study.records import Attempt, Lease

__all__ = ["COUNTED", "POWERCAP", "SHARED", "Counter", "Meter", "counters", "was_alone"]

POWERCAP = Path("/sys/class/powercap")
COUNTED = "counted by the processor packages (RAPL), whatever else ran on them included"
SHARED = (
    "not of runs beside others on the machine, which its counters cannot tell apart, nor of runs "
    "that were begun more than once"
)
_ZONE = re.compile(r"intel-rapl:[0-9]+")
_SECONDS = 5.0  # a counter of 32 bits and 15 µJ starts again after a minute at 1 kW


@dataclass(frozen=True)
class Counter:
    """A package: the file with its microjoules, and how many there are before it starts again."""

    file: Path
    range: int

    def read(self) -> int:
        """The microjoules that it has. Raises OSError or ValueError where it cannot be read."""
        return int(self.file.read_text(encoding="ascii"))


def counters(folder: Path = POWERCAP) -> tuple[tuple[Counter, ...], str]:
    """The counters of all packages, or none and why."""
    found: list[Counter] = []
    zones = sorted(folder.glob("intel-rapl:*")) if folder.is_dir() else []
    for zone in zones:
        if not _ZONE.fullmatch(zone.name):
            continue  # a part of a package, such as intel-rapl:0:0
        try:
            if not (zone / "name").read_text(encoding="ascii").startswith("package"):
                continue  # psys, which has the packages counted too
            limit = int((zone / "max_energy_range_uj").read_text(encoding="ascii"))
            counter = Counter(zone / "energy_uj", limit)
            counter.read()
        except PermissionError:
            return (), f"{zone}/energy_uj may be read by root alone"
        except (OSError, ValueError) as error:
            return (), f"{zone} cannot be read: {error}"
        found.append(counter)
    return tuple(found), "" if found else f"this machine shows no counter in {folder}"


class Meter:
    """Adds up what counters count until it is stopped, and looks often enough to see each of them
    start again."""

    def __init__(self, found: Sequence[Counter], *, seconds: float = _SECONDS) -> None:
        self._counters, self._microjoules, self._lost = tuple(found), 0, False
        self._last = [0] * len(self._counters)
        self._stopped, self._seconds = threading.Event(), seconds
        self._look(first=True)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        """The joules since the beginning; None where a counter could not be read all the time."""
        self._stopped.set()
        self._thread.join()
        self._look()
        return None if self._lost else self._microjoules / 1e6

    def _watch(self) -> None:
        while not self._stopped.wait(self._seconds):
            self._look()

    def _look(self, *, first: bool = False) -> None:
        for place, counter in enumerate(self._counters):
            try:
                now = counter.read()
            except (OSError, ValueError):
                self._lost = True
                continue
            passed = 0 if first else now - self._last[place]
            self._microjoules += passed if passed >= 0 else passed + counter.range
            self._last[place] = now


def was_alone(attempts: Sequence[Attempt], lease: Lease) -> bool:
    """Whether counters counted the whole of a run and no other of the study: nothing else was under
    way on its machine meanwhile, and it was not begun before."""
    mine = next(a for a in attempts if a.token == lease.token)
    others = [a for a in attempts if a.token != lease.token]
    again = any(a.run == mine.run for a in others)
    beside = any(
        _machine(a) == _machine(mine) and (a.ended is None or a.ended > mine.started)
        for a in others
    )
    return not again and not beside


def _machine(attempt: Attempt) -> str:
    """A worker's name begins with its machine's."""
    return attempt.worker.partition(":")[0]
