"""numpy's own linear algebra in one thread, for many small problems after each other.

OpenBLAS gives matrices of 64 by 64 to all its threads, which then wait for each other: on a machine
that does something else besides, for thirty times as long as one thread takes to compute.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_GET, _SET = "scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """While the body runs, numpy's OpenBLAS has one thread; nothing changes with another BLAS."""
    # dlsym on the extension module also searches the libraries that it depends on
    library = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]
    try:
        get, put = getattr(library, _GET), getattr(library, _SET)
    except AttributeError:
        yield
        return
    before = get()
    put(1)
    try:
        yield
    finally:
        put(before)
