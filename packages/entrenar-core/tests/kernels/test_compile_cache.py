"""Kernels that are read from the cache: their bits, and what reading one costs.

A process that compiles them computes the same bits as one that finds them. Without that, a first
run that is interrupted would not continue to the bit.
"""

import os
import subprocess
import sys

import pytest

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
