"""Writing APR files: JSON with the data in base64, encoded a few megabytes at a time."""

import binascii
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, EntrenarError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.io import files
from entrenar_core.io.apr_scan import DTYPES_BY_NAME, FORMAT, VERSION
from entrenar_core.io.dtypes import DType, by_numpy
from entrenar_core.io.files import Written
from entrenar_core.io.safetensors_header import check_name
from entrenar_core.io.strict_json import MAX_JSON_BYTES, parse_json
from entrenar_core.quant import BlockArray, BlockFormat

_CHUNK = 3 * 2**20  # a multiple of 3 bytes is a whole number of groups of 4 characters


def write_apr(
    path: str | os.PathLike[str],
    tensors: Mapping[str, np.ndarray | BlockArray],
    *,
    metadata: Mapping[str, Any] | None = None,
) -> Written:
    """Writes the tensors to an APR file, whole or not at all; returns its size and hash.

    Arrays are written as they are, arrays in blocks in their blocks. Each is looked up once, so a
    mapping may produce its arrays when asked. `metadata` is anything that JSON can say.

    Raises ConfigError (a name or metadata that cannot be written), UnsupportedError (a type that
    the format has not), StorageError.
    """
    head = _metadata_text(metadata or {})
    with files.open_atomic(path) as file:
        start = f'{{"format": "{FORMAT}", "version": {VERSION}, "metadata": {head},\n"tensors": ['
        file.write(start.encode())
        separator = b"\n"
        for name in tensors:
            stored = tensors[name]
            file.write(separator + _entry(name, stored))
            _write_base64(file, _memory(stored))
            file.write(b'"}')
            separator = b",\n"
        file.write(b"\n]}")
    return Written(file.size, file.sha256)


def _metadata_text(metadata: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False)
        parse_json(text, "metadata")  # what the reader would refuse is not written
    except (TypeError, ValueError, RecursionError, EntrenarError) as error:
        raise ConfigError(
            f"the metadata cannot be written as JSON: {error}",
            hint="use text, finite numbers, truth values, None, lists and dictionaries",
        ) from None
    if len(text.encode()) > MAX_JSON_BYTES:
        raise ConfigError(
            f"the metadata is longer than {MAX_JSON_BYTES} bytes", hint="keep it in another file"
        )
    return text


def _entry(name: str, stored: np.ndarray | BlockArray) -> bytes:
    label = f"tensor '{escape_controls(name[:80])}'"
    if problem := check_name(name):
        raise ConfigError(f"{label}: the name {problem}", hint="rename the tensor")
    dtype = _dtype(stored, label)
    entry = {"name": name, "dtype": dtype.name, "shape": list(stored.shape), "data": ""}
    return json.dumps(entry, ensure_ascii=False).removesuffix('"}').encode()


def _dtype(stored: np.ndarray | BlockArray, label: str) -> DType | BlockFormat:
    if isinstance(stored, BlockArray):
        if DTYPES_BY_NAME.get(stored.form.name) != stored.form:
            raise UnsupportedError(
                f"{label}: {stored.form.name} is not one of the format's types in blocks",
                hint="give it as an array",
            )
        return stored.form
    try:
        return by_numpy(stored.dtype)
    except UnsupportedError as error:
        raise UnsupportedError(f"{label}: {error}", hint=error.hint) from None


def _memory(stored: np.ndarray | BlockArray) -> np.ndarray:
    """The bytes of the data, flat; they are copied where they are not in C order."""
    array = stored.data if isinstance(stored, BlockArray) else stored
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _write_base64(file: files.AtomicWriter, data: np.ndarray) -> None:
    for start in range(0, data.size, _CHUNK):
        file.write(binascii.b2a_base64(data[start : start + _CHUNK].data, newline=False))
