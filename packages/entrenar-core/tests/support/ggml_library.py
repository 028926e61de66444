"""ggml's own encoders, called in its shared library.

The library is the file that the environment variable ENTRENAR_GGML names, else the one inside an
installed llama_cpp package.
"""

import ctypes
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from entrenar_core.quant.blocks import BlockFormat

VARIABLE = "ENTRENAR_GGML"
NAMES = ("libggml-base.so", "libggml-base.dylib", "ggml-base.dll")


def library_path() -> Path | None:
    """Where the library is, None if it is nowhere."""
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    package = importlib.util.find_spec("llama_cpp")
    folders = package.submodule_search_locations if package else None
    for folder in folders or ():
        for name in NAMES:
            if (found := Path(folder, "lib", name)).is_file():
                return found
    return None


class Ggml:
    """The functions of the library at `path`."""

    def __init__(self, path: Path):
        library = ctypes.CDLL(str(path))
        self._chunk = library.ggml_quantize_chunk
        self._chunk.restype = ctypes.c_size_t
        numbers, pointer = [ctypes.c_int64] * 3, ctypes.c_void_p
        self._chunk.argtypes = [ctypes.c_int, pointer, pointer, *numbers, pointer]
        self._block, self._bytes = library.ggml_blck_size, library.ggml_type_size
        self._name = library.ggml_type_name
        self._block.restype, self._bytes.restype = ctypes.c_int64, ctypes.c_size_t
        self._name.restype = ctypes.c_char_p

    def describe(self, number: int) -> tuple[str, int, int]:
        """The name of a type in lower case, the numbers in a block and the bytes."""
        return self._name(number).decode().lower(), self._block(number), self._bytes(number)

    def encode_rows(
        self, form: BlockFormat, x: np.ndarray, out: np.ndarray, *, first: int, rows: int
    ) -> None:
        """Encode `rows` rows of `x` from the row `first` on into theirs of `out`. Other threads run
        meanwhile."""
        columns = x.shape[1]
        self._chunk(form.number, x.ctypes.data, out.ctypes.data, first * columns, rows, columns, 0)

    def encode(self, form: BlockFormat, x: np.ndarray) -> np.ndarray:
        """`x` float32 (rows, n) as ggml stores it, uint8 (rows, bytes)."""
        out = np.zeros((len(x), form.row_bytes(x.shape[1])), np.uint8)
        self.encode_rows(form, x, out, first=0, rows=len(x))
        return out


def installed_library() -> Path:
    """Where the library is; without it a test that compares with ggml fails."""
    path = library_path()
    if path is None:
        pytest.fail(f"there is no ggml: run `make conformance`, or set {VARIABLE}")
    return path
