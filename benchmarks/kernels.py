"""Operations and optimizers of entrenar beside PyTorch's, forward and backward, in one process.

    python benchmarks/kernels.py [--only softmax] [--rounds 15] [--targets] [--json]

The two sides are called in turns with the same numbers and the same number of threads, and the
medians compared. Sizes go from what a cache holds to 500 MB. Beyond the caches, the bandwidth that
a call reaches (the bytes that it cannot avoid to move, by its time) is compared with that of a
plain copy, which takes turns with the two sides: a neighbour may halve the memory's speed from one
minute to the next. With `--targets`, exits with 1 when one is missed.
"""

import argparse
import ctypes
import gc
import importlib.util
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from typing import Any

import numpy as np
from kernel_report import CaseTime, Direction, Extra, KernelsReport

from entrenar_common.output import Output
from entrenar_core.environment import environment
from entrenar_core.train.process import keep_freed_memory

SETTLE = 0.02
"""Seconds before the other library's threads are used: the last one's may still spin."""
LEAST_SECONDS, MOST_CALLS = 0.03, 30
"""A turn is at least one call, and then more until this is reached."""
COPY_BYTES = 256 << 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", help="kernels whose name contains this")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each side (15)")
    parser.add_argument("--targets", action="store_true", help="exit with 1 when one is missed")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    parser.add_argument("-q", "--quiet", action="store_true", help="no notes on standard error")
    options = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        sys.exit("kernels.py needs torch: run `make bench-kernels`")
    out = Output(json=options.json, quiet=options.quiet)
    keep_freed_memory()
    import numba
    import torch
    from kernel_cases import CASES, EXTRAS
    from kernel_products import PRODUCTS

    torch.set_num_threads(numba.get_num_threads())
    copy = _copy()
    times = []
    for case in [*CASES, *PRODUCTS]:
        if options.only in case.kernel:
            out.note(f"{case.kernel} {case.size}")
            times.append(_case_time(case, options.rounds, copy))
            _give_back()
    extras = []
    for extra in EXTRAS:
        if options.only in extra.name:
            out.note(extra.name)
            extras.append(Extra(extra.name, extra.unit, extra.limit, extra.measure(_medians)))
    machine = environment()
    report = KernelsReport(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        environment=machine,
        blas=f"{machine.blas}; PyTorch {torch.__version__} with {_torch_blas(torch)}",
        threads=numba.get_num_threads(),
        openblas_variables={k: v for k, v in os.environ.items() if k.startswith("OPENBLAS_")},
        rounds=options.rounds,
        cases=times,
        extras=extras,
        complete=not options.only,
    )
    out.emit(report, "entrenar.benchmark.kernels/1")
    sys.exit(1 if options.targets and not report.passed() else 0)


def _case_time(case: Any, rounds: int, copy: Callable[[], Any]) -> CaseTime:
    """The medians of `rounds` turns of both sides, for each direction that the case has, and of a
    copy where memory bounds one."""
    sides = case.sides()
    bound = any(case.moved.values())
    found: dict[tuple[str, str], list[float]] = {}
    copies = []
    for _ in range(rounds):
        for name, side in sides.items():
            time.sleep(SETTLE)
            for direction, seconds in _turn(side).items():
                found.setdefault((name, direction), []).append(seconds)
        if bound:
            copies += _medians(copy, rounds=3)
    bandwidth = 2 * COPY_BYTES / median(copies) if bound else None
    directions = []
    for direction, moved in case.moved.items():
        both = [found[name, direction] for name in ("entrenar", "torch")]
        ours, theirs = map(median, both)
        reached = moved / ours / bandwidth if moved and bandwidth else None
        directions.append(Direction(direction, 1e3 * ours, theirs / ours, reached, *both))
    speed = bandwidth and bandwidth / 1e9
    return CaseTime(case.kernel, case.size, case.bytes, directions, speed, case.operations)


def _turn(side: Any) -> dict[str, float]:
    """Seconds of a call in each direction: the medians of a turn, whose first call warms up."""
    times: dict[str, list[float]] = {}
    spent, calls = 0.0, 0
    while calls < 2 or (spent < LEAST_SECONDS and calls < MOST_CALLS):
        for direction, call in side():
            begun = time.perf_counter()
            call()
            seconds = time.perf_counter() - begun
            if calls:
                times.setdefault(direction, []).append(seconds)
                spent += seconds
        calls += 1
    return {direction: median(values) for direction, values in times.items()}


def _medians(*calls: Callable[[], Any], rounds: int) -> list[float]:
    """The median seconds of each call, made in turns after one of each that warms up."""
    for call in calls:
        call()
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, found in zip(calls, times, strict=True):
            begun = time.perf_counter()
            call()
            found.append(time.perf_counter() - begun)
    return [median(found) for found in times]


def _copy() -> Callable[[], Any]:
    """PyTorch's copy of `COPY_BYTES`, which are read and written, with all threads."""
    import torch

    source = torch.ones(COPY_BYTES // 4)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _give_back() -> None:
    """Give the memory that a case has freed back to the system: the next one's arrays have other
    sizes, and would be put beside what is kept."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _torch_blas(torch: Any) -> str:
    lines = torch.__config__.show().splitlines()
    named = [line.strip(" -").split(" for ")[0] for line in lines if "Math Kernel" in line]
    return named[0] if named else "no MKL"


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
