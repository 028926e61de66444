"""Kernels that are read from the cache: their bits, and what reading one costs.

A process that compiles them computes the same bits as one that finds them. Without that, a first
run that is interrupted would not continue to the bit.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from entrenar_core import kernels
from entrenar_core.kernels.cpu.stamp import sources
from entrenar_core.kernels.registry import COMPILES

# kernels with products that a compiler may fuse and with long sums
HASH = """
import hashlib
import numpy as np
from entrenar_core.kernels import KERNELS
from entrenar_core.testing_cases import CASES
for name in ("attention.rope", "loss.cross_entropy_grad", "norm.rms_norm_grad"):
    for case in CASES[name]:
        arguments = case.arguments()
        (_, first), *rest = arguments.items()
        result = KERNELS[name](first, **dict(rest))
        arrays = [*(result if isinstance(result, tuple) else (result,)), first]
        data = b"".join(array.tobytes() for array in arrays)
        print(name, case.name, hashlib.sha256(data).hexdigest())
"""


@pytest.mark.tier3
def test_compiled_and_cached_kernels_give_the_same_bits(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    cold, warm = (
        subprocess.run(
            [sys.executable, "-c", HASH],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for _ in range(2)
    )
    assert len(cold) > 10
    assert [line for line in cold if line not in warm] == []


READ = """
import sys
import numpy as np
from entrenar_core import kernels
kernels.quantize_q4_0(np.ones((1, 32), np.float32))
"""
LOADED = """
print(*sorted({"numba.np.arraymath", "numba.typed.typeddict", "scipy.linalg"} & sys.modules.keys()))
"""
COMPILED = """
import numba
@numba.njit
def described(x):
    texts = [str(n) for n in np.sort(x)]
    return texts, np.sqrt(x).sum()
print(described(np.array([9, 4])))
"""


def printed(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.tier2
def test_reading_a_kernel_loads_nothing_that_only_compiling_needs():
    assert printed(READ + LOADED) == ""


@pytest.mark.tier2
def test_functions_of_others_are_compiled_as_ever_after_a_kernel_was_read():
    assert printed(READ + COMPILED) == "(['4', '9'], 5.0)"


STALE = """
import pathlib, sys
import numpy as np
import entrenar_core.kernels.cpu.stamp as stamps
stamps.sources = lambda: sys.argv[1]
from entrenar_core import kernels
q = np.ones((1, 1, 1, 16), np.float32)
kernels.attention(q, q, q, scale=1.0)  # a crew of its own
kernels.quantize_q4_0(np.ones((1, 32), np.float32))
for path in sorted(pathlib.Path(sys.argv[2]).rglob("*.nbi")):
    if path.name.startswith(("attention_few._work", "blocks.")):
        print(path.name, path.stat().st_mtime_ns)
"""


@pytest.mark.tier3
def test_a_kernel_that_was_compiled_from_other_sources_is_compiled_again(tmp_path):
    """Of any other file of the kernels: its own is the same."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    first, same, other = (
        subprocess.run(
            [sys.executable, "-c", STALE, sources, str(tmp_path)],
            env={**environment, COMPILES: "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for sources in ("a", "a", "b")
    )
    assert len(first) >= 2
    assert same == first
    assert set(other).isdisjoint(first)


def test_the_sources_of_all_kernels_are_in_the_stamp():
    """As they are on the disk, so that an upgrade that keeps times of change is seen too."""
    folder = Path(kernels.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder)} {len(content)}\n".encode() + content)
    assert sources() == digest.hexdigest()
