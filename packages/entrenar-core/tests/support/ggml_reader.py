"""llama.cpp's own reader of GGUF files, through ctypes: what it accepts, and what it sees."""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ggml_library import library_path

_POINTER = ctypes.c_void_p
_NUMBERS = dict(enumerate("u1 i1 u2 i2 u4 i4 f4 ?".split()))  # noqa: SIM905
_NUMBERS |= {10: "u8", 11: "i8", 12: "f8"}
_TEXT, _ARRAY = 8, 9


class _Parameters(ctypes.Structure):
    _fields_ = (("no_alloc", ctypes.c_bool), ("context", ctypes.POINTER(_POINTER)))


@cache
def library() -> ctypes.CDLL | None:
    """libggml-base, see `ggml_library`; None where it is not installed."""
    path = library_path()
    if path is None:
        return None
    loaded = ctypes.CDLL(str(path))
    for name, result, *arguments in _SIGNATURES:
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


_SIGNATURES: list[tuple] = [
    ("gguf_init_from_buffer", _POINTER, ctypes.c_char_p, ctypes.c_size_t, _Parameters),
    ("gguf_free", None, _POINTER),
    ("ggml_free", None, _POINTER),
    ("gguf_get_version", ctypes.c_uint32, _POINTER),
    ("gguf_get_alignment", ctypes.c_size_t, _POINTER),
    ("gguf_get_data_offset", ctypes.c_size_t, _POINTER),
    ("gguf_get_n_kv", ctypes.c_int64, _POINTER),
    ("gguf_get_key", ctypes.c_char_p, _POINTER, ctypes.c_int64),
    ("gguf_get_kv_type", ctypes.c_int, _POINTER, ctypes.c_int64),
    ("gguf_get_arr_type", ctypes.c_int, _POINTER, ctypes.c_int64),
    ("gguf_get_arr_n", ctypes.c_size_t, _POINTER, ctypes.c_int64),
    ("gguf_get_arr_data", _POINTER, _POINTER, ctypes.c_int64),
    ("gguf_get_arr_str", ctypes.c_char_p, _POINTER, ctypes.c_int64, ctypes.c_size_t),
    ("gguf_get_val_str", ctypes.c_char_p, _POINTER, ctypes.c_int64),
    ("gguf_get_val_data", _POINTER, _POINTER, ctypes.c_int64),
    ("gguf_get_n_tensors", ctypes.c_int64, _POINTER),
    ("gguf_get_tensor_name", ctypes.c_char_p, _POINTER, ctypes.c_int64),
    ("gguf_get_tensor_type", ctypes.c_int, _POINTER, ctypes.c_int64),
    ("gguf_get_tensor_offset", ctypes.c_size_t, _POINTER, ctypes.c_int64),
    ("gguf_get_tensor_size", ctypes.c_size_t, _POINTER, ctypes.c_int64),
    ("gguf_get_tensor_ne", ctypes.POINTER(ctypes.c_int64 * 4), _POINTER, ctypes.c_int64),
]


def llama_cpp_reads(data: bytes) -> dict[str, Any] | None:
    """What llama.cpp reads of a file with these bytes, tensor data included; None if it refuses.

    Texts end at their first NUL, as in C.
    """
    ggml = library()
    assert ggml is not None
    context = _POINTER()
    file = ggml.gguf_init_from_buffer(data, len(data), _Parameters(False, ctypes.pointer(context)))
    if not file:
        return None
    pairs = {
        ggml.gguf_get_key(file, i): _value(ggml, file, i) for i in range(ggml.gguf_get_n_kv(file))
    }
    tensors = [_tensor(ggml, file, i) for i in range(ggml.gguf_get_n_tensors(file))]
    found = {
        "version": ggml.gguf_get_version(file),
        "alignment": ggml.gguf_get_alignment(file),
        "data_start": ggml.gguf_get_data_offset(file),
        "pairs": pairs,
        "tensors": tensors,
    }
    ggml.ggml_free(context)
    ggml.gguf_free(file)
    return found


def llama_cpp_accepts_header(data: bytes) -> bool:
    """Whether it accepts all but the tensors' data, which it does not look at then.

    For bad files: with their data it may end the process, where they ask for too much memory.
    """
    ggml = library()
    assert ggml is not None
    file = ggml.gguf_init_from_buffer(data, len(data), _Parameters(True, None))
    if file:
        ggml.gguf_free(file)
    return bool(file)


def _value(ggml: ctypes.CDLL, file: int, number: int) -> tuple[int, int | None, Any]:
    """The type, the number of elements, the content: bytes of a number, or texts."""
    kind = ggml.gguf_get_kv_type(file, number)
    if kind == _TEXT:
        return kind, None, ggml.gguf_get_val_str(file, number)
    if kind != _ARRAY:
        size = np.dtype(_NUMBERS[kind]).itemsize
        raw = ctypes.string_at(ggml.gguf_get_val_data(file, number), size)
        return kind, None, _number(kind, raw)
    kind, count = ggml.gguf_get_arr_type(file, number), ggml.gguf_get_arr_n(file, number)
    if kind == _TEXT:
        return kind, count, [ggml.gguf_get_arr_str(file, number, i) for i in range(count)]
    size = count * np.dtype(_NUMBERS[kind]).itemsize
    data = ggml.gguf_get_arr_data(file, number) if size else None
    return kind, count, ctypes.string_at(data, size) if size else b""


def _tensor(ggml: ctypes.CDLL, file: int, number: int) -> tuple[bytes, int, tuple, int, int]:
    """Name, type, all four extents from the innermost on, offset, bytes."""
    return (
        ggml.gguf_get_tensor_name(file, number),
        ggml.gguf_get_tensor_type(file, number),
        tuple(ggml.gguf_get_tensor_ne(file, number).contents),
        ggml.gguf_get_tensor_offset(file, number),
        ggml.gguf_get_tensor_size(file, number),
    )


def we_read(data: bytes) -> dict[str, Any]:
    """What our reader reads, in the same form; raises what it raises."""
    from entrenar_core.io.gguf import Metadata
    from entrenar_core.io.gguf_header import parse_header

    header = parse_header(data, Path("file"))
    metadata = Metadata(header.metadata, data[: header.data_start], Path("file"))
    return {
        "version": header.version,
        "alignment": header.alignment,
        "data_start": header.data_start,
        "pairs": {key.encode(): _ours(metadata, key) for key in metadata},
        "tensors": [
            (
                t.name.encode(),
                t.form.number,
                (*t.shape[::-1], 1, 1, 1, 1)[:4],
                t.begin,
                t.end - t.begin,
            )
            for t in header.tensors.values()
        ],
    }


def _ours(metadata: Any, key: str) -> tuple[int, int | None, Any]:
    value = metadata.value(key)
    kind, count = int(value.type), len(value.content) if value.is_array else None
    if isinstance(value.content, str):
        return kind, count, value.content.encode().split(b"\0")[0]
    if isinstance(value.content, tuple):
        return kind, count, [text.encode().split(b"\0")[0] for text in value.content]
    dtype = np.dtype("<" + _NUMBERS[kind])
    raw = np.asarray(value.content, dtype).tobytes()
    return kind, count, _number(kind, raw) if count is None else raw


def _number(kind: int, raw: bytes) -> bytes:
    """The bytes of a number; of any NaN the same, since Python makes signalling ones quiet."""
    return b"NaN" if kind in (6, 12) and np.isnan(np.frombuffer(raw, _NUMBERS[kind]))[0] else raw
