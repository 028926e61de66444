"""`cblas_sgemm` of the OpenBLAS that numpy has loaded, callable from compiled kernels.

Why not `@`: OpenBLAS's own workers and numba's spin on each other's cores. Here OpenBLAS runs one
thread, and a kernel shares the work out. From inside a kernel the call also takes strides
and adds to what is there, so products need neither transposed copies nor temporaries.
"""

import ctypes

import llvmlite.binding
import numpy as np
from numba.core import types
from numba.core.types import ExternalFunction

from entrenar_core.kernels.cpu.compile import NOT_COMPILED

ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112
"""cblas's names for a layout and the two transposes."""

_CORE_NAME = "scipy_openblas_get_corename64_"

_SYMBOLS = {
    "entrenar_sgemm": "scipy_cblas_sgemm64_",
    "entrenar_blas_get_threads": "scipy_openblas_get_num_threads64_",
    "entrenar_blas_set_threads": "scipy_openblas_set_num_threads64_",
}


def _register() -> str | None:
    """Make the symbols known to LLVM; the name of OpenBLAS's core type, None for another BLAS."""
    # dlsym on the extension module also searches the libraries that it depends on
    library = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]
    for name, symbol in _SYMBOLS.items():
        try:
            function = getattr(library, symbol)
        except AttributeError:
            return None
        llvmlite.binding.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)
    core_name = getattr(library, _CORE_NAME)
    core_name.restype = ctypes.c_char_p
    return core_name().decode()


CORE = _register()
"""Which of OpenBLAS's sets of kernels runs, such as SkylakeX or Haswell."""

AVAILABLE = CORE is not None
"""False where numpy has no 64-bit OpenBLAS (a distribution's or Apple's numpy): the products then
go through `numpy.matmul`."""

_i32, _i64, _f32 = types.int32, types.int64, types.float32


def _external(name, result, *arguments):
    """The symbol as a function for compiled code, or, where numba is told not to compile
    (`NUMBA_DISABLE_JIT`, for coverage and debuggers), for Python."""
    if NOT_COMPILED:
        kinds = {_i32: ctypes.c_int32, _i64: ctypes.c_int64, _f32: ctypes.c_float}
        library = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]
        function = getattr(library, _SYMBOLS[name])
        function.restype = kinds.get(result)
        function.argtypes = [kinds[argument] for argument in arguments]
        return function
    return ExternalFunction(name, result(*arguments))


if AVAILABLE:
    sgemm = _external(
        "entrenar_sgemm", types.void,
        _i32, _i32, _i32, _i64, _i64, _i64, _f32, _i64, _i64, _i64, _i64, _f32, _i64, _i64,
    )  # fmt: skip
    """layout, transA, transB, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc; pointers as integers"""

    get_threads = _external("entrenar_blas_get_threads", _i32)
    set_threads = _external("entrenar_blas_set_threads", types.void, _i32)
