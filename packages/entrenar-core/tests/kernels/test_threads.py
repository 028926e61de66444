"""Work that is shared out: all of it is done once, and what holds the threads up is told."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

from entrenar_core.kernels.cpu import threads
from entrenar_core.kernels.cpu.compile import inner
from entrenar_core.kernels.cpu.threads import SERIAL, share_out
from entrenar_core.kernels.threads import spared

pytestmark = pytest.mark.tier2


@inner
def _mark(first, last, done, parts):
    parts[first] += 1
    for unit in range(first, last):
        done[unit] += 1


@numba.njit
def mark(units, size, done, parts):
    share_out(_mark, units, size, (done, parts))


@inner
def _refuse(_first, last, limit):
    if last > limit:
        raise ValueError("too far")


@numba.njit
def refuse(units, size, limit):
    share_out(_refuse, units, size, (limit,))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("units", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("size", [1, SERIAL, SERIAL + 1])
def test_each_unit_is_done_once(units, size, threads):
    before = numba.get_num_threads()
    if threads > before:
        pytest.skip("there is one thread")
    done, parts = np.zeros(units, np.int64), np.zeros(units, np.int64)
    numba.set_num_threads(threads)
    try:
        mark(units, size, done, parts)
    finally:
        numba.set_num_threads(before)
    assert (done == 1).all()
    assert parts.sum() == (1 if size <= SERIAL else min(units, threads))


@pytest.mark.parametrize("size", [1, SERIAL + 1])
def test_a_part_that_fails_is_told_of(size):
    refuse(8, size, 8)
    with pytest.raises(MemoryError, match="a part of a kernel's work was not done"):
        refuse(8, size, 7)


WAITING = """
import threading, numba, numpy as np
from entrenar_core.kernels.cpu.compile import inner
from entrenar_core.kernels.cpu.threads import SERIAL, share_out
from entrenar_core.kernels.cpu.vectors import await_handed

@inner
def _await(_first, _last, address):
    await_handed(address, 1)

@numba.njit
def wait(units, size, address):
    share_out(_await, units, size, (address,))

flag = np.zeros(1, np.int64)
threading.Timer(0.2, lambda: flag.__setitem__(0, 1)).start()
wait(numba.get_num_threads(), SERIAL + 1, flag.ctypes.data)
"""


@pytest.mark.skipif(numba.get_num_threads() < 2, reason="one thread keeps the lock")
def test_other_threads_of_python_go_on_meanwhile():
    """In a process of its own: with Python's lock kept it would wait for ever."""
    subprocess.run([sys.executable, "-c", WAITING], check=True, timeout=120)


@pytest.mark.parametrize("processors, left", [(0, 3), (1, 2), (2, 1), (9, 1)])
def test_processors_that_are_spared_are_left_to_others(monkeypatch, processors, left):
    counts = [3]
    monkeypatch.setattr(threads, "number_of_threads", lambda: counts[-1])
    monkeypatch.setattr(threads, "use_threads", counts.append)
    with pytest.raises(ValueError), spared(processors):
        assert counts[-1] == left
        raise ValueError
    assert counts[-1] == 3


def test_threads_are_spared_by_the_calling_thread_alone():
    before = numba.get_num_threads()
    with spared(before), ThreadPoolExecutor(1) as pool:
        assert numba.get_num_threads() == 1
        assert pool.submit(numba.get_num_threads).result() == numba.config.NUMBA_NUM_THREADS
    assert numba.get_num_threads() == before
