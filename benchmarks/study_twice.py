"""The same study again, in other folders, through the command line: what differs?

    python benchmarks/study_twice.py [--config FILE --teacher FOLDER ...] [--seeds 2] [--json]

Without `--config` a toy is made in each folder: its text, its teacher, its configuration. The first
study does one run at a time and the second two, so runs meet other processes and other threads, and
end in another order: compared are the metrics of every run as the table of the study has them, and
the bytes of every student. The third is made by the command of the second: compared are also the
bytes of the report in each format without its timings. Metrics of the machine, such as seconds, are
left out. Exits with 1 where anything differs.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_bench.report.gathered import is_reading
from entrenar_bench.report.write import FORMATS
from entrenar_bench.toy import CONFIG, make_toy
from entrenar_common.output import Output
from entrenar_common.tables import Text
from entrenar_core.io import files

TOOL = (sys.executable, "-c", "from entrenar_bench.cli import main; main()")
STUDY, TABLE = "twice.study", "twice.csv"


@dataclass(frozen=True)
class Twice:
    """How many runs, metrics of these and reports were compared, and what differs."""

    runs: int
    metrics: int
    reports: int
    differences: tuple[str, ...]

    def __view__(self) -> Iterator[Any]:
        for text in self.differences:
            yield Text(text, "bad")
        yield Text(
            f"{self.runs} runs with {self.metrics} metrics each, their students and "
            f"{self.reports} reports: {len(self.differences)} differences"
        )


@dataclass(frozen=True)
class Found:
    """Of studies with other numbers of runs at a time, and of one command given twice."""

    with_other_jobs: Twice
    again: Twice

    @property
    def differences(self) -> tuple[str, ...]:
        """All of them."""
        return self.with_other_jobs.differences + self.again.differences


def made(place: Path, arguments: Sequence[str], *, seeds: str, toy: bool) -> Found:
    """Make the studies in folders of `place`, with a `toy` in each where it is wanted."""
    folders = [place / name for name in ("one", "two", "two-again")]
    for jobs, folder in zip((1, 2, 2), folders, strict=True):
        files.make_folder(folder)
        if toy:
            make_toy(folder, named=".")
        study(folder, arguments, seeds=seeds, jobs=jobs)
    one, two, again = folders
    return Found(compared(one, two, formats=()), compared(two, again))


def study(folder: Path, arguments: Sequence[str], *, seeds: str, jobs: int) -> None:
    """Sweep two temperatures in `folder`, and write its reports there."""
    entrenar_bench(folder, "temperature", "--range", "1..2", "--step", "1", *arguments, "--seeds",
                   seeds, "--jobs", str(jobs), "--study", STUDY, "--output", TABLE)  # fmt: skip
    for form in FORMATS:
        entrenar_bench(folder, "report", STUDY, "--format", form, "--output", f"report.{form}",
                       "--no-timings")  # fmt: skip


def entrenar_bench(folder: Path, *arguments: str) -> None:
    """Run the tool in `folder`; its messages are this script's."""
    subprocess.run([*TOOL, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def compared(one: Path, other: Path, *, formats: Sequence[str] = FORMATS) -> Twice:
    """What differs between the studies of two folders, and their reports in `formats`."""
    left, right = rows(one), rows(other)
    names = [name for name in next(iter(left.values()), {}) if not is_reading(name)]
    differences = (
        [f"runs: {sorted(left.keys() ^ right.keys())}"] if left.keys() != right.keys() else []
    )
    for run in left.keys() & right.keys():
        differences += [
            f"{run}: {name} is {left[run].get(name)}, and {right[run].get(name)}"
            for name in names
            if left[run].get(name) != right[run].get(name)
        ]
        student = Path(f"{STUDY}.runs", run, "model.safetensors")
        if files.sha256_file(one / student) != files.sha256_file(other / student):
            differences.append(f"{run}: the student's bytes differ")
    for form in formats:
        if (one / f"report.{form}").read_bytes() != (other / f"report.{form}").read_bytes():
            differences.append(f"report.{form} differs")
    return Twice(len(left), len(names), len(formats), tuple(differences))


def rows(folder: Path) -> dict[str, dict[str, str]]:
    """The metrics of each run, which a table has to the last digit, by the run's name."""
    with (folder / TABLE).open(newline="") as file:
        return {row["run"]: row for row in csv.DictReader(file)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", default="2")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    arguments = ["--config", CONFIG if asked.config is None else str(asked.config.resolve())]
    if asked.teacher is not None:
        arguments += ["--teacher", str(asked.teacher.resolve())]
    for text in asked.set:
        arguments += ["--set", text]
    with tempfile.TemporaryDirectory(prefix="entrenar-") as place:
        found = made(Path(place), arguments, seeds=asked.seeds, toy=asked.config is None)
    Output(json=asked.json).emit(found, schema="entrenar.benchmark.study-twice/1")
    if found.differences:
        sys.exit(1)


if __name__ == "__main__":
    main()
