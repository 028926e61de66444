"""An adapter as one JSON file: what any program can read.

`{"schema": "entrenar.adapter/1", "config": {…}, "tensors": {name: {"shape": […], "values": […]}}}`,
with the keys of `adapter_config.json`, PEFT's names of tensors, and their numbers in C order, each
with as many digits as tell it from every other float32.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import FormatError, NumericsError
from entrenar_common.text import escape_controls
from entrenar_core.io import files
from entrenar_core.io.files import Written

SCHEMA = "entrenar.adapter/1"
MAX_BYTES = 2**30


@dataclass(frozen=True)
class _Info:
    shape: tuple[int, ...]
    dtype: str = "F32"

    @property
    def nbytes(self) -> int:
        return 4 * prod(self.shape)


class JsonTensors:
    """The tensors of such a file. Raises FormatError for what is not one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = files.read_json(path, max_bytes=MAX_BYTES)
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise FormatError(
                f"{path}: is no adapter in JSON", hint=f'its "schema" has to be "{SCHEMA}"'
            )
        self.config: Any = found.get("config")
        tensors = found.get("tensors")
        if not isinstance(tensors, dict):
            raise FormatError(f"{path}: tensors is no object", hint="write the file again")
        self._arrays = {name: self._array(name, value) for name, value in tensors.items()}

    def _array(self, name: str, value: Any) -> np.ndarray:
        label = f"{self.path}: tensor '{escape_controls(name[:80])}'"
        shape = value.get("shape") if isinstance(value, dict) else None
        values = value.get("values") if isinstance(value, dict) else None
        if not isinstance(shape, list) or not isinstance(values, list):
            raise FormatError(f"{label} has no shape or no values", hint="write the file again")
        if not all(type(n) is int and n >= 0 for n in shape) or prod(shape) != len(values):
            raise FormatError(
                f"{label} is {shape!r} with {len(values)} values", hint="write the file again"
            )
        if not all(type(v) in (int, float) for v in values):
            raise FormatError(f"{label} has values that are no numbers", hint="write it again")
        return np.array(values, np.float32).reshape(shape)

    def names(self) -> list[str]:
        """The tensors' names, sorted."""
        return sorted(self._arrays)

    def info(self, name: str) -> _Info:
        """The shape of a tensor."""
        return _Info(self._arrays[name].shape)

    def read(self, name: str) -> np.ndarray:
        """A tensor, float32."""
        return self._arrays[name]

    def release(self, name: str) -> None:
        """The numbers stay in memory."""

    def close(self) -> None:
        """The file is closed already."""


def write_json_adapter(
    path: Path, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> Written:
    """Write an adapter as one JSON file; the numbers are rounded to float32.

    Raises NumericsError for numbers that are not finite, which JSON has not.
    """
    for name, array in tensors.items():
        if not np.isfinite(array.astype(np.float32)).all():
            raise NumericsError(
                f"{escape_controls(name)} has numbers that are not finite: JSON has none",
                hint="write safetensors, or train the adapter again",
            )
    with files.open_atomic(path) as file:
        head = {"schema": SCHEMA, "config": dict(config)}
        file.write((json.dumps(head)[:-1] + ', "tensors": {').encode())
        for index, (name, array) in enumerate(sorted(tensors.items())):
            # float32's own digits, of which the shortest that is read back as it was
            numbers = ", ".join(map(str, np.asarray(array, np.float32).reshape(-1)))
            start = ", " if index else ""
            text = f'{start}{json.dumps(name)}: {{"shape": {list(array.shape)}, '
            file.write(f'{text}"values": [{numbers}]}}'.encode())
        file.write(b"}}\n")
    return Written(file.size, file.sha256)
