"""Line and branch coverage of each package against its target: what `make coverage` prints last.

    python tests/coverage_table.py coverage.json

Exits with 1 when a package is below its target.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.output import Output
from entrenar_common.tables import Table

TARGETS = {"entrenar_core": (0.95, 0.90)}
OTHERS = (0.90, 0.0)
"""Lines and branches of the other packages."""
LOWEST = 12
"""So many files with the most lines missed are listed."""


@dataclass
class Covered:
    """Counts of a package or a file."""

    name: str
    lines: int = 0
    missed_lines: int = 0
    branches: int = 0
    missed_branches: int = 0

    @property
    def line_share(self) -> float:
        return 1 - self.missed_lines / self.lines if self.lines else 1.0

    @property
    def branch_share(self) -> float:
        return 1 - self.missed_branches / self.branches if self.branches else 1.0

    def add(self, other: "Covered") -> None:
        self.lines += other.lines
        self.missed_lines += other.missed_lines
        self.branches += other.branches
        self.missed_branches += other.missed_branches


@dataclass
class CoverageTable:
    """All packages, and the files with the most lines missed."""

    packages: list[Covered]
    files: list[Covered]

    def passed(self) -> bool:
        return all(
            p.line_share >= lines and p.branch_share >= branches
            for p in self.packages
            for lines, branches in [TARGETS.get(p.name, OTHERS)]
        )

    def __view__(self) -> Iterator[Any]:
        columns = ["", "lines", "covered", "branches", "covered", "targets"]
        rows = []
        for p in self.packages:
            lines, branches = TARGETS.get(p.name, OTHERS)
            target = f"{lines:.0%}, {branches:.0%}" if branches else f"{lines:.0%}"
            rows.append(
                [p.name, str(p.lines), f"{p.line_share:.1%}", str(p.branches),
                 f"{p.branch_share:.1%}", target]
            )  # fmt: skip
        yield Table("Coverage", columns, rows)
        worst = sorted(self.files, key=lambda f: -f.missed_lines - f.missed_branches)[:LOWEST]
        yield Table(
            "Most missed",
            ["", "lines", "branches"],
            [[f.name, str(f.missed_lines), str(f.missed_branches)] for f in worst],
        )


def read(path: Path) -> CoverageTable:
    """From the JSON that `coverage json` writes."""
    packages: dict[str, Covered] = {}
    files = []
    for name, found in json.loads(path.read_text(encoding="utf-8"))["files"].items():
        s = found["summary"]
        short = name.partition("/src/")[2]
        file = Covered(
            short, s["num_statements"], s["missing_lines"], s["num_branches"], s["missing_branches"]
        )
        package = short.partition("/")[0]
        packages.setdefault(package, Covered(package)).add(file)
        files.append(file)
    return CoverageTable(list(packages.values()), files)


if __name__ == "__main__":
    table = read(Path(sys.argv[1]))
    Output().emit(table, "entrenar.coverage/1")
    sys.exit(0 if table.passed() else 1)
