"""What a study adds to the time of its trainings, and where that goes.

    python benchmarks/study_overhead.py --config examples/02_distill.yaml --teacher demo/teacher
        --set 'dataset.name=/usr/lib/python3.11/**/*.py' [--steps 20] [--seeds 2] [--rounds 3]
        [--targets] [--json]

The trainings are two temperatures with so many seeds. In turns, each a process from its start to
its end: `entrenar-bench temperature` does all of them; the library does each in a process of its
own; the library does all in one process, which is as little as they can take. The losses have to be
equal, or the sides did not do the same. *added* is the median over rounds of the study's time by
the library's, less 1, with a process for each training and with one for all; *CPU* the same of the
processor time of all processes, which on a busy machine says more.

Then the parts of what is added: starting a process that has what a run imports, the same with what
a command needs alone, the driver with a worker whose runs take no time, and the study's file
without a worker. With `--targets`, exits with 1 where more than 5 % are added to a process for each
training.
"""

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from entrenar_bench.study import Arm, Measured, Plan, Study, run_trials
from entrenar_common.output import Output
from entrenar_common.tables import Fields, Table, Text
from entrenar_core.environment import Environment, environment

TARGET = 0.05
TEMPERATURES = (1, 2)
EMPTY_ARMS, EMPTY_SEEDS = 10, 10

TOOL = (sys.executable, "-c", "from entrenar_bench.cli import main; main()")
LIBRARY = """
import json, sys
from entrenar_distill import pipeline
from entrenar_distill.config import resolve
asked = json.loads(sys.argv[1])
losses = []
for overrides in asked["trainings"]:
    config = resolve(asked["config"], teacher=asked["teacher"], overrides=map(tuple, overrides))
    report = pipeline.run(config)
    losses += [score.loss for score in report.scores if score.name == "student"]
print(json.dumps(losses))
"""
IMPORTS = {
    "imports of a run": "import entrenar_distill.pipeline, entrenar_distill.causal",
    "imports of the command": "import entrenar_bench.cli, entrenar_bench.conduct",
}


@dataclass(frozen=True)
class Took:
    """Seconds that passed, and those of processors."""

    seconds: float
    cpu: float


@dataclass(frozen=True)
class Round:
    """All trainings once by each side."""

    study: Took
    process_each: Took
    one_process: Took


@dataclass(frozen=True)
class Overhead:
    """The rounds, and the parts of what is added, by name."""

    trainings: int
    steps: int
    rounds: tuple[Round, ...]
    parts: Mapping[str, Took]
    environment: Environment

    @property
    def added(self) -> float:
        """To the time of a process for each training."""
        return median(r.study.seconds / r.process_each.seconds for r in self.rounds) - 1

    def __view__(self) -> Iterator[Any]:
        rows = []
        for name in ("study", "process_each", "one_process"):
            took = [getattr(each, name) for each in self.rounds]
            seconds, cpu = median(t.seconds for t in took), median(t.cpu for t in took)
            ratios = [(r.study.seconds / t.seconds, r.study.cpu / t.cpu)
                      for r, t in zip(self.rounds, took, strict=True)]  # fmt: skip
            shown = [f"{median(column) - 1:+.1%}" for column in zip(*ratios, strict=True)]
            rows.append([name.replace("_", " "), f"{seconds:.2f}", f"{cpu:.2f}",
                         *(["", ""] if name == "study" else shown)])  # fmt: skip
        yield Table(
            f"{self.trainings} trainings of {self.steps} steps",
            ["", "seconds", "CPU s", "added", "CPU"],
            rows,
            caption=f"medians of {len(self.rounds)} rounds",
        )
        yield Fields(
            "What is added",
            [(n, f"{t.seconds:.3f} s, {t.cpu:.3f} s of CPU") for n, t in self.parts.items()],
        )
        met = self.added <= TARGET
        yield Text(f"added: {self.added:+.1%}, at most {TARGET:.0%}", "good" if met else "bad")


def timed(work: Callable[[], Any]) -> tuple[Took, Any]:
    """What `work` and the processes that it waits for take, and what it returns."""
    before, started = _cpu(), time.perf_counter()
    found = work()
    return Took(time.perf_counter() - started, _cpu() - before), found


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


@dataclass(frozen=True)
class Trainings:
    """What is trained: a configuration, and what is laid over it."""

    config: str
    teacher: str | None
    overrides: tuple[tuple[str, str], ...]
    seeds: int

    def by_study(self, folder: Path) -> dict[tuple[str, str], float]:
        """Losses by temperature and seed, of one command."""
        low, high = TEMPERATURES[0], TEMPERATURES[-1]
        words = [*TOOL, "temperature", "--range", f"{low}..{high}", "--step", "1", "--config",
                 self.config, "--seeds", str(self.seeds), "--study", str(folder / "a.study"),
                 "--output", str(folder / "a.csv"), "--quiet"]  # fmt: skip
        words += ["--teacher", self.teacher] if self.teacher else []
        for key, value in self.overrides:
            words += ["--set", f"{key}={value}"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        with (folder / "a.csv").open(newline="") as file:
            return {(r["arm"].partition("=")[2], r["seed"]): float(r["loss"])
                    for r in csv.DictReader(file)}  # fmt: skip

    def by_library(self, folder: Path, at_once: int) -> dict[tuple[str, str], float]:
        """The same of processes that do so many each, one after the other."""
        all_of_them = [(str(t), str(s)) for s in range(self.seeds) for t in TEMPERATURES]
        found: dict[tuple[str, str], float] = {}
        for start in range(0, len(all_of_them), at_once):
            some = all_of_them[start : start + at_once]
            asked = {
                "config": self.config,
                "teacher": self.teacher,
                "trainings": [
                    [*self.overrides, ("distillation.temperature", t), ("training.seed", s),
                     ("output.dir", str(folder / f"{t}-{s}"))]
                    for t, s in some
                ],
            }  # fmt: skip
            words = [sys.executable, "-c", LIBRARY, json.dumps(asked)]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            found |= dict(zip(some, json.loads(done.stdout), strict=True))
        return found


def in_turns(trainings: Trainings, rounds: int) -> Iterator[Round]:
    """The rounds, whose sides take turns in being first."""
    count = len(TEMPERATURES) * trainings.seeds
    sides: dict[str, Callable[[Path], Any]] = {
        "study": trainings.by_study,
        "process_each": lambda folder: trainings.by_library(folder, 1),
        "one_process": lambda folder: trainings.by_library(folder, count),
    }
    for number in range(rounds):
        names = [*sides][number % len(sides) :] + [*sides][: number % len(sides)]
        took, losses = {}, {}
        for name in names:
            with tempfile.TemporaryDirectory(prefix="entrenar-") as folder:
                took[name], losses[name] = timed(lambda n=name, f=folder: sides[n](Path(f)))
        if not losses["study"] == losses["process_each"] == losses["one_process"]:
            raise SystemExit(f"the sides did not do the same: {losses}")
        yield Round(**took)


def no_time(_config: Mapping[str, Any], _seed: int) -> Measured:
    """A run that takes no time."""
    return Measured({"loss": 1.0})


def parts() -> dict[str, Took]:
    """What a study takes beside its trainings; of the driver and the file, by the run."""
    found = {
        name: timed(lambda c=code: subprocess.run([sys.executable, "-c", c], check=True))[0]
        for name, code in IMPORTS.items()
    }
    arms = tuple(Arm(str(x), {"x": x}) for x in range(EMPTY_ARMS))
    plan = Plan(arms, tuple(range(EMPTY_SEEDS)))
    count = EMPTY_ARMS * EMPTY_SEEDS
    for name, work in {"driver and file": _driven, "file alone": _alone}.items():
        with (
            tempfile.TemporaryDirectory(prefix="entrenar-") as folder,
            Study.create(Path(folder, "a.study"), plan) as study,
        ):
            took, _ = timed(lambda s=study, w=work: w(s))
        found[f"{name}, a run"] = Took(took.seconds / count, took.cpu / count)
    return found


def _driven(study: Study) -> None:
    run_trials(study, no_time)


def _alone(study: Study) -> None:
    while lease := study.claim("nobody"):
        study.finish(lease, {"loss": 1.0})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--teacher")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--targets", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    given = tuple((key, value) for key, _, value in (t.partition("=") for t in asked.set))
    steps = ("training.max_steps", str(asked.steps))
    warm = ("training.warmup_steps", str(min(2, asked.steps - 1)))
    fixed = (steps, warm, ("control", "false"))
    trainings = Trainings(asked.config, asked.teacher, (*given, *fixed), asked.seeds)
    rounds = tuple(in_turns(trainings, asked.rounds))
    count = len(TEMPERATURES) * asked.seeds
    found = Overhead(count, asked.steps, rounds, parts(), environment())
    Output(json=asked.json).emit(found, schema="entrenar.benchmark.study-overhead/1")
    if asked.targets and found.added > TARGET:
        sys.exit(1)


if __name__ == "__main__":
    main()
