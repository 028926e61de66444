"""Whether a benchmark's ratios to its peers are worse than in a baseline.

    python benchmarks/compare.py BASELINE.json CURRENT.json [--margin 0.05] [--json]
    python benchmarks/compare.py --against benchmarks/baselines CURRENT.json
    python benchmarks/compare.py --store benchmarks/baselines CURRENT.json

Both files are what a script of this folder writes with --json. Ratios are paired by name. A ratio
is the median over the rounds of the peer's time by ours: what else a machine does hits both sides
of a round. The interval of current by baseline is the bootstrap's, 95 %, over the rounds of both.
A line is slower, or faster, where the whole interval is beyond the margin; where a document has no
rounds, or fewer than three, there is no interval and no verdict. Files of other machines, threads
or versions are not compared.

`--against` takes the baseline of this CPU and benchmark from a folder, `--store` puts one there.
Exits with 1 when something is slower.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ratio_lines import Document, Line, read_document

from entrenar_common.errors import EntrenarError, FormatError, NotFoundError, UsageError
from entrenar_common.output import Output
from entrenar_common.tables import Fields, Table, Text
from entrenar_core.io import files

MARGIN, CONFIDENCE, RESAMPLES, FEWEST = 0.05, 0.95, 10_000, 3
SLOWER, FASTER, SAME = "slower", "faster", "no difference seen"
NO_INTERVAL, NOT_COMPARABLE = "no interval", "not comparable"
STYLES = {SLOWER: "bad", FASTER: "good"}


@dataclass(frozen=True)
class Verdict:
    """One line of both documents: `change` is the current ratio by that of the baseline, below 1
    where it is slower, with the bounds of its interval. `why` says what cannot be compared."""

    name: str
    verdict: str
    baseline: float | None = None
    current: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    why: str = ""

    def row(self) -> list[Any]:
        """As a row of the table."""
        known = self.low is not None and self.high is not None
        between = f"{self.low:.3f}–{self.high:.3f}" if known else "none"
        said = f"{self.verdict}: {self.why}" if self.why else self.verdict
        figures = [_times(self.baseline), _times(self.current), _times(self.change)]
        return [self.name, *figures, between, Text(said, STYLES.get(self.verdict, ""))]


@dataclass(frozen=True)
class CompareReport:
    """All lines, and what the two documents were measured on that differs."""

    baseline: str
    current: str
    margin: float
    other_machine: list[str]
    lines: list[Verdict]

    @property
    def slower(self) -> bool:
        return any(line.verdict == SLOWER for line in self.lines)

    def __view__(self) -> Iterator[Any]:
        yield Fields("Ratios to peers", [("baseline", self.baseline), ("current", self.current)])
        for text in self.other_machine:
            yield Text(f"not comparable: {text}", "warning")
        yield Table(
            None,
            ["", "baseline", "current", "change", "95 %", f"beyond {self.margin:.0%}"],
            [line.row() for line in self.lines],
        )


def main() -> None:
    options = _options()
    out = Output(json=options.json)
    try:
        current = _read(options.files[-1])
        if options.store:
            out.note(f"stored as {store(options.store, options.files[-1], current)}")
            return
        path = place(options.against, current) if options.against else options.files[0]
        other, lines = compare(_read(path), current, margin=options.margin)
    except EntrenarError as error:
        sys.stderr.write(f"error[{error.code}]: {error.message}\nhint: {error.hint}\n")
        sys.exit(error.exit_code)
    report = CompareReport(str(path), str(options.files[-1]), options.margin, other, lines)
    out.emit(report, "entrenar.benchmark.compare/1")
    sys.exit(1 if report.slower else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="BASELINE, CURRENT")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--against", type=Path, metavar="FOLDER", help="of baselines by CPU")
    where.add_argument("--store", type=Path, metavar="FOLDER", help="put the file there")
    parser.add_argument("--margin", type=float, default=MARGIN, help=f"({MARGIN})")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    options = parser.parse_args()
    if len(options.files) != (1 if options.against or options.store else 2):
        parser.error("give BASELINE and CURRENT, or CURRENT alone with --against or --store")
    if not 0 <= options.margin < 1:
        parser.error(f"--margin {options.margin}: give a share, such as 0.05")
    return options


def compare(
    baseline: Document, current: Document, *, margin: float = MARGIN
) -> tuple[list[str], list[Verdict]]:
    """In what the machines differ, and the verdict on every line of either document.

    Raises UsageError for documents of two benchmarks.
    """
    if baseline.kind != current.kind:
        raise UsageError(
            f"the baseline is of {baseline.kind}, and {current.kind} was measured",
            hint="give two files of one benchmark",
        )
    other = differences(baseline.machine, current.machine)
    names = dict.fromkeys([*baseline.lines, *current.lines])
    lines = [
        judge(name, baseline.lines.get(name), current.lines.get(name), margin=margin)
        for name in names
    ]
    if other:
        why = "other " + ", ".join(text.partition(":")[0] for text in other)
        lines = [Verdict(v.name, NOT_COMPARABLE, v.baseline, v.current, why=why) for v in lines]
    return other, lines


def differences(baseline: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """What two machines have of their own, in words that begin with the name of it."""
    names = sorted({*baseline, *current})
    return [
        f"{name}: {baseline.get(name, 'not said')} and now {current.get(name, 'not said')}"
        for name in names
        if baseline.get(name) != current.get(name)
    ]


def judge(name: str, baseline: Line | None, current: Line | None, *, margin: float) -> Verdict:
    """The verdict on a line, which may be missing from a document."""
    if baseline is None or current is None:
        why = "not in the baseline" if baseline is None else "not measured now"
        there = (baseline and baseline.ratio, current and current.ratio)
        return Verdict(name, NOT_COMPARABLE, *there, why=why)
    both = baseline.ratio, current.ratio
    if baseline.setting != current.setting:
        found = differences(baseline.setting, current.setting)
        return Verdict(name, NOT_COMPARABLE, *both, why="; ".join(found))
    change = current.ratio / baseline.ratio
    bounds = interval(baseline.rounds, current.rounds)
    if bounds is None:
        return Verdict(name, NO_INTERVAL, *both, change)
    low, high = bounds
    verdict = SLOWER if high < 1 - margin else FASTER if low > 1 + margin else SAME
    return Verdict(name, verdict, *both, change, low, high)


def interval(
    baseline: Sequence[float], current: Sequence[float], *, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """The percentile interval of median(current) / median(baseline) over resampled rounds; None
    for fewer than FEWEST rounds.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.
    """
    if min(len(baseline), len(current)) < FEWEST:
        return None
    random, tail = np.random.default_rng(0), (1 - CONFIDENCE) / 2
    over, under = (
        np.median(np.asarray(r)[random.integers(0, len(r), (resamples, len(r)))], axis=1)
        for r in (current, baseline)
    )
    low, high = np.quantile(over / under, (tail, 1 - tail))
    return float(low), float(high)


def place(folder: Path, document: Document) -> Path:
    """Where `folder` has the baseline of the CPU and benchmark of `document`."""
    cpu = next((v for k, v in document.machine.items() if k.rpartition(".")[2] == "cpu"), None)
    if not cpu:
        raise FormatError(
            "the file does not say its CPU", hint="measure it again with this version"
        )
    found = re.search(r"\(family (\d+), model (\d+)\)", cpu)
    numbers = f"family {found[1]} model {found[2]}" if found else cpu
    slug = re.sub(r"[^a-z0-9]+", "-", numbers.lower()).strip("-")
    return folder / slug / f"{document.kind.replace('-', '_')}.json"


def store(folder: Path, source: Path, document: Document) -> Path:
    """Put the file `source`, which is `document`, where `place` says; returns that."""
    path = place(folder, document)
    files.make_folder(path.parent)
    files.write_text(path, source.read_text(encoding="utf-8"))
    return path


def _read(path: Path) -> Document:
    try:
        return read_document(json.loads(path.read_text(encoding="utf-8")), str(path))
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{path}: there is no such file", hint="make bench-baseline stores one for this CPU"
        ) from error
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: {error}", hint="give what --json has written") from error


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3f}×"


if __name__ == "__main__":
    main()
