"""Compiling every kernel ahead of its first use, on all processors: for images and class rooms.

    python -c "from entrenar_core.prepare import prepare; prepare()"

Without this each kernel is compiled, once for the machine, when it is first called.
"""

import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np

from entrenar_common.errors import InternalError
from entrenar_core.kernels import KERNELS
from entrenar_core.kernels.registry import COMPILES
from entrenar_core.testing_cases import CASES

LARGE = 10_000_000
"""Cases with more elements are left out: they compile nothing that smaller ones do not."""


def prepare(workers: int | None = None) -> float:
    """Compile all CPU kernels into the cache, in `workers` processes (one for each processor);
    returns the seconds that it took. What is in the cache already is not compiled again.

    Raises InternalError when a kernel cannot be compiled.
    """
    begun = time.perf_counter()
    count = workers or os.cpu_count() or 1
    idle: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
    for _ in range(count):
        idle.put(_worker())

    def compile_some(names: list[str]) -> list[str]:
        worker = idle.get()
        assert worker.stdin is not None and worker.stdout is not None
        failed = []
        for name in names:
            print(name, file=worker.stdin, flush=True)
            if worker.stdout.readline().strip() != name:
                failed.append(name)
        idle.put(worker)
        return failed

    longest_first = sorted(_files(), key=lambda names: -sum(len(CASES[name]) for name in names))
    with ThreadPoolExecutor(count) as pool:
        failed = [name for names in pool.map(compile_some, longest_first) for name in names]
    for _ in range(count):
        worker = idle.get()
        worker.kill()  # by itself it would clear up for seconds; what it has made is on the disk
        worker.communicate()
    if failed:
        raise InternalError(
            f"{len(failed)} kernels were not compiled: {', '.join(failed)}",
            hint="the lines above say why",
        )
    return time.perf_counter() - begun


def _files() -> Iterable[list[str]]:
    """The kernels of each file: they share parts, which one worker compiles once."""
    found: dict[str, list[str]] = {}
    for name in KERNELS:
        found.setdefault(name.partition(".")[0], []).append(name)
    return found.values()


def _worker() -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, COMPILES: "1"},
    )


def _serve(names: Iterable[str]) -> None:
    """A worker: call each kernel that is named in every way that its cases have."""
    for name in (line.strip() for line in names):
        entry = KERNELS[name]
        entry.load("cpu")
        for (_, dtype), override in entry.overrides.items():
            for case in CASES[name]:
                arguments = case.arguments(dtype)
                arrays = [v for v in arguments.values() if isinstance(v, np.ndarray)]
                if sum(array.size for array in arrays) <= LARGE:
                    first, *_ = arguments
                    with np.errstate(all="ignore"):
                        override(arguments.pop(first), **arguments)
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    gc.disable()  # to look through all that numba keeps takes a seventh of the time
    _serve(sys.stdin)
