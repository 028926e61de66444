"""What the kernel benchmark found, as a record that is shown as tables or JSON."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

from entrenar_common.tables import Fields, Table, Text
from entrenar_common.units import format_bytes
from entrenar_core.environment import Environment

CASE_TARGET, KERNEL_TARGET, TOTAL_TARGET = 0.95, 1.0, 1.5
"""The least ratio to PyTorch of a single case, of a kernel's geometric mean, and of them all."""
BANDWIDTH_TARGET = 0.7
"""The least part of a plain copy's bandwidth, where that bounds a kernel."""


@dataclass
class Direction:
    """Forward, backward or a step: our time, the ratio to PyTorch's (above 1 is faster), and the
    part of the copy bandwidth that is reached, None where it is not what bounds the case; the
    seconds of both in every round."""

    name: str
    milliseconds: float
    ratio: float
    bandwidth: float | None
    seconds: list[float]
    peer_seconds: list[float]


@dataclass
class CaseTime:
    """One kernel at one size; what a copy reached in between, None where memory bounds nothing;
    `operations` of a product, else 0."""

    kernel: str
    size: str
    bytes: int
    directions: list[Direction]
    copy_gb_per_second: float | None
    operations: int = 0


@dataclass
class Extra:
    """A figure with a limit of its own."""

    name: str
    unit: str
    limit: float
    found: float


@dataclass
class KernelsReport:
    """Everything, with the machine that it was found on."""

    date: str
    environment: Environment
    blas: str
    threads: int
    openblas_variables: dict[str, str]
    rounds: int
    cases: list[CaseTime]
    extras: list[Extra]
    complete: bool
    """Whether every kernel was measured, which the mean over all is of."""

    def means(self) -> dict[str, float]:
        """The geometric mean of every kernel's ratios."""
        ratios: dict[str, list[float]] = {}
        for case in self.cases:
            ratios.setdefault(case.kernel, []).extend(d.ratio for d in case.directions)
        return {kernel: geometric_mean(found) for kernel, found in ratios.items()}

    def misses(self) -> list[str]:
        """What is below its target, in words."""
        found = []
        for case in self.cases:
            for d in case.directions:
                where = f"{case.kernel} {case.size} {d.name}"
                if d.ratio < CASE_TARGET:
                    found.append(f"{where}: {d.ratio:.2f}× PyTorch, wanted {CASE_TARGET}")
                if d.bandwidth is not None and d.bandwidth < BANDWIDTH_TARGET:
                    found.append(f"{where}: {d.bandwidth:.0%} of the copy bandwidth")
        means = self.means()
        found += [f"{k}: mean {m:.2f}×" for k, m in means.items() if m < KERNEL_TARGET]
        if self.complete and geometric_mean(means.values()) < TOTAL_TARGET:
            found.append(f"all: mean {geometric_mean(means.values()):.2f}×, wanted {TOTAL_TARGET}")
        return found + [
            f"{e.name}: {e.found:.2f} {e.unit}, wanted at most {e.limit}"
            for e in self.extras
            if e.found > e.limit
        ]

    def passed(self) -> bool:
        return not self.misses()

    def __view__(self) -> Iterator[Any]:
        variables = ", ".join(f"{k}={v}" for k, v in self.openblas_variables.items())
        yield Fields(
            "Kernels beside PyTorch",
            [
                ("date", self.date),
                ("CPU", self.environment.cpu),
                ("BLAS", self.blas),
                ("OPENBLAS_* variables", variables or "none"),
                ("threads", str(self.threads)),
                ("a plain copy", _range_of_copies(self.cases)),
                ("turns", f"{self.rounds} of each side; medians"),
            ],
        )
        for kernel in dict.fromkeys(case.kernel for case in self.cases):
            chosen = [case for case in self.cases if case.kernel == kernel]
            names = [d.name for d in chosen[0].directions]
            columns = ["", ""]
            for name in names:
                rate = "GFLOP/s" if chosen[0].operations else "of copy"
                columns += [f"{name}, ms", "speed", rate]
            rows = [[case.size, format_bytes(case.bytes), *_shown(case)] for case in chosen]
            yield Table(kernel, columns, rows)
        means = self.means()
        if means:
            total = geometric_mean(means.values())
            yield Table(
                "Geometric means",
                ["", "speed"],
                [*([k, f"{m:.2f}×"] for k, m in means.items()), ["all", f"{total:.2f}×"]],
            )
        rows = [[e.name, f"{e.found:.2f} {e.unit}", f"{e.limit} {e.unit}"] for e in self.extras]
        if rows:
            yield Table("Others", ["", "found", "at most"], rows)
        for miss in self.misses():
            yield Text(miss, "bad")


def _range_of_copies(cases: list[CaseTime]) -> str:
    found = [case.copy_gb_per_second for case in cases if case.copy_gb_per_second]
    if not found:
        return "not needed"
    return f"{min(found):.1f} to {max(found):.1f} GB/s, read and written"


def _shown(case: CaseTime) -> list[str]:
    cells = []
    for d in case.directions:
        rate = "" if d.bandwidth is None else f"{d.bandwidth:.0%}"
        if case.operations:
            rate = f"{1e-6 * case.operations / d.milliseconds:.0f}"
        cells += [f"{d.milliseconds:.3g}", f"{d.ratio:.2f}×", rate]
    return cells
