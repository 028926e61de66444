"""Mutation testing: change the code one small piece at a time, and see whether a test notices.

    make mutants                                        # every group
    python tests/mutants.py --group losses --sample 200

Cosmic Ray makes the changes, in copies of the tree, one for each processor. A group is some modules
with the tests that are to notice. Survivors are listed with their change; the exit code is 1 when
a group's tests notice fewer than its target. Needs what `make mutants` installs.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.output import Output
from entrenar_common.tables import Table, Text

ROOT = Path(__file__).parents[1]
CORE = "packages/entrenar-core"
COMMANDS = (
    "packages/entrenar-distill/src",
    "packages/entrenar-lora/src",
    "packages/entrenar-inspect/src",
    "packages/entrenar-bench/src",
    "packages/entrenar-shell/src",
)
SOURCES = ("packages/entrenar-common/src", f"{CORE}/src", *COMMANDS)


@dataclass(frozen=True)
class Group:
    """Modules (globs) and the tests that are to notice a change of them."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    target: float
    without: tuple[str, ...] = ()


OPS = f"{CORE}/src/entrenar_core/autograd/ops"
LOSSES = (f"{OPS}/loss.py", f"{OPS}/linear_loss.py", f"{CORE}/src/entrenar_core/kernels/loss.py")
GROUPS = {
    "ops": Group(
        (f"{OPS}/*.py",), (f"{CORE}/tests/autograd", f"{CORE}/tests/distill"), 0.85, without=LOSSES
    ),
    "losses": Group(LOSSES, (f"{CORE}/tests/autograd", f"{CORE}/tests/kernels"), 0.85),
    "optimizers": Group((f"{CORE}/src/entrenar_core/optim/*.py",), (f"{CORE}/tests/optim",), 0.85),
}

OPERATORS = {
    f"core/{name}"
    for name in (
        *(
            f"ReplaceBinaryOperator_{pair}"
            for pair in (
                "Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_Mul", "Pow_Mul",
                "BitAnd_BitOr",
            )
        ),
        *(
            f"ReplaceComparisonOperator_{pair}"
            for pair in (
                "Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Lt_GtE", "Gt_LtE",
                "Is_IsNot", "IsNot_Is",
            )
        ),
        "ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_USub",
        "ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_Delete_Invert",
        "ReplaceAndWithOr", "ReplaceOrWithAnd", "AddNot", "ReplaceTrueWithFalse",
        "ReplaceFalseWithTrue", "NumberReplacer", "ZeroIterationForLoop",
        "ReplaceContinueWithBreak", "ReplaceBreakWithContinue", "ExceptionReplacer",
    )
}  # fmt: skip
"""One change for each kind of mistake. Cosmic Ray has ten more for every arithmetic operator, which
any test notices that notices the first."""


@dataclass
class Survivor:
    """A change that no test noticed."""

    place: str
    change: str


@dataclass
class GroupResult:
    """What became of a group's mutants."""

    group: str
    mutants: int
    killed: int
    target: float
    minutes: float
    survivors: list[Survivor]

    @property
    def share(self) -> float:
        return self.killed / self.mutants if self.mutants else 1.0


@dataclass
class MutationReport:
    """All groups."""

    groups: list[GroupResult]

    def passed(self) -> bool:
        return all(group.share >= group.target for group in self.groups)

    def __view__(self) -> Iterator[Any]:
        yield Table(
            "Mutants",
            ["", "made", "noticed", "share", "target", "minutes"],
            [
                [
                    g.group, str(g.mutants), str(g.killed), f"{g.share:.1%}", f"{g.target:.0%}",
                    f"{g.minutes:.1f}",
                ]
                for g in self.groups
            ],
        )  # fmt: skip
        for group in self.groups:
            for survivor in group.survivors:
                yield Text(f"{survivor.place}: {survivor.change}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--group", choices=GROUPS, action="append", help="one or more (all)")
    parser.add_argument("--sample", type=int, help="so many mutants of each group, drawn")
    parser.add_argument("--only", default="", help="modules whose path contains this")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="copies of the tree")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    options = parser.parse_args()
    out = Output(json=options.json)
    results = []
    for name in options.group or GROUPS:
        results.append(_run(name, GROUPS[name], options, out))
        out.note(f"{name}: {results[-1].killed} of {results[-1].mutants} noticed")
    report = MutationReport(results)
    out.emit(report, "entrenar.mutants/1")
    sys.exit(0 if report.passed() else 1)


def _run(name: str, group: Group, options: argparse.Namespace, out: Output) -> GroupResult:
    begun = time.monotonic()
    modules = sorted(
        str(path.relative_to(ROOT))
        for pattern in group.modules
        for path in ROOT.glob(pattern)
        if options.only in str(path) and path.name != "__init__.py"
    )
    modules = [module for module in modules if module not in group.without]
    with tempfile.TemporaryDirectory(prefix="entrenar-mutants-") as folder:
        copies = [_copy(Path(folder) / str(job)) for job in range(options.jobs)]
        timeout = 10 + 4 * _baseline(group, copies[0])
        _configure(copies[0], group, modules, timeout)
        _cosmic_ray(copies[0], "init", "config.toml", "session.sqlite").wait()
        chosen = _choose(copies[0] / "session.sqlite", options)
        out.note(f"{name}: {len(chosen)} mutants of {len(modules)} modules")
        for copy in copies[1:]:
            for file in ("session.sqlite", "config.toml"):
                shutil.copy(copies[0] / file, copy / file)
        workers = []
        for job, copy in enumerate(copies):
            _keep_only(copy / "session.sqlite", chosen[job :: options.jobs])
            workers.append(_cosmic_ray(copy, "exec", "config.toml", "session.sqlite"))
        for worker in workers:
            worker.wait()
        outcomes = [found for copy in copies for found in _outcomes(copy / "session.sqlite")]
    survivors = sorted((s for s in outcomes if s is not None), key=lambda s: s.place)
    killed = len(outcomes) - len(survivors)
    minutes = (time.monotonic() - begun) / 60
    return GroupResult(name, len(outcomes), killed, group.target, minutes, survivors)


def _copy(folder: Path) -> Path:
    """The files that git knows or would add, in a folder of their own."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    return folder


def _command(group: Group) -> list[str]:
    chosen = ["-m", "not (parity or conformance or tier3)"]
    return [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *chosen,
            *group.tests]  # fmt: skip


def _environment(folder: Path) -> dict[str, str]:
    # the copy's sources come before the installed ones
    path = os.pathsep.join(str(folder / source) for source in SOURCES)
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1",
            "NUMBA_NUM_THREADS": "1"}  # fmt: skip


def _baseline(group: Group, folder: Path) -> float:
    """Seconds that the tests take on the code as it is, which they have to pass."""
    for _ in range(2):  # the first run compiles the kernels
        begun = time.monotonic()
        done = subprocess.run(
            _command(group), cwd=folder, env=_environment(folder), capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"the tests fail without any change:\n{done.stdout[-2000:]}")
    return time.monotonic() - begun


def _configure(folder: Path, group: Group, modules: list[str], timeout: float) -> None:
    command = " ".join(f"'{part}'" if " " in part else part for part in _command(group))
    (folder / "config.toml").write_text(
        "[cosmic-ray]\n"
        f"module-path = {json.dumps(modules)}\n"
        f"timeout = {timeout:.1f}\n"
        "excluded-modules = []\n"
        f"test-command = {json.dumps(command)}\n"
        '[cosmic-ray.distributor]\nname = "local"\n',
        encoding="utf-8",
    )


def _cosmic_ray(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    program = str(Path(sys.executable).with_name("cosmic-ray"))
    return subprocess.Popen([program, *arguments], cwd=folder, env=_environment(folder))


def _choose(session: Path, options: argparse.Namespace) -> list[str]:
    """The jobs to do, in an order that gives every copy some of each module."""
    from cosmic_ray.work_db import WorkDB, use_db

    with use_db(session, WorkDB.Mode.open) as database:
        jobs = [
            item.job_id
            for item in database.work_items
            if all(mutation.operator_name in OPERATORS for mutation in item.mutations)
        ]
    if options.sample is not None and options.sample < len(jobs):
        jobs = random.Random(options.seed).sample(sorted(jobs), options.sample)
    return jobs


def _keep_only(session: Path, jobs: list[str]) -> None:
    from cosmic_ray.work_db import WorkDB, use_db
    from cosmic_ray.work_item import WorkerOutcome, WorkResult

    kept = set(jobs)
    with use_db(session, WorkDB.Mode.open) as database:
        others = [item.job_id for item in database.work_items if item.job_id not in kept]
        database.set_multiple_results(others, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))


def _outcomes(session: Path) -> Iterator[Survivor | None]:
    """A survivor, or None for a mutant that was noticed, for each mutant of a session."""
    from cosmic_ray.work_db import WorkDB, use_db
    from cosmic_ray.work_item import TestOutcome, WorkerOutcome

    with use_db(session, WorkDB.Mode.open) as database:
        for item, result in database.completed_work_items:
            if result.worker_outcome in (WorkerOutcome.SKIPPED, WorkerOutcome.NO_TEST):
                continue
            if result.test_outcome != TestOutcome.SURVIVED:
                yield None
                continue
            mutation = item.mutations[0]
            place = f"{mutation.module_path}:{mutation.start_pos[0]}"
            yield Survivor(place, _changed_line(result.diff or ""))


def _changed_line(diff: str) -> str:
    lines = [line[1:].strip() for line in diff.splitlines() if line[:1] in "+-"]
    return " → ".join(line for line in lines if line and not line.startswith(("--", "++")))


if __name__ == "__main__":
    main()
