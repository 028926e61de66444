"""One safetensors file, mapped into memory and read without copying."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from entrenar_common.errors import NotFoundError, UnsupportedError
from entrenar_common.text import escape_controls, nearest
from entrenar_core.io.mapped_file import MappedFile
from entrenar_core.io.safetensors_header import (
    PREFIX_BYTES,
    TensorInfo,
    check_prefix,
    parse_header,
)

_HEAD_BYTES = 64  # enough to recognise what a file is instead


class SafetensorsFile:
    """A safetensors file, checked whole at opening; arrays are read-only views of the mapped file.

    `tensors` has a TensorInfo for each name, `metadata` is the file's inert text. The format has no
    checksum of the data: a manifest has to bring one. Views stay valid after `close`, and after the
    file is replaced by renaming another over it.

    Raises NotFoundError (no such file), FormatError (malformed or truncated, with what and where),
    UnsupportedError (an unknown element type).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = MappedFile(path, "safetensors")
        try:
            size = self._file.size
            length = check_prefix(self._file.head(_HEAD_BYTES), size, self.path)
            header = parse_header(self._file.head(length, PREFIX_BYTES), size, self.path)
            self._file.map()
        except BaseException:
            self._file.close()
            raise
        self.tensors: dict[str, TensorInfo] = header.tensors
        self.metadata: dict[str, str] = header.metadata
        self._data_start = header.data_start

    def names(self) -> list[str]:
        """The tensors' names, sorted."""
        return sorted(self.tensors)

    def info(self, name: str) -> TensorInfo:
        """What the header says of one tensor; NotFoundError when there is no such name."""
        try:
            return self.tensors[name]
        except KeyError:
            raise missing_tensor(name, self.names(), self.path) from None

    @property
    def parameter_count(self) -> int:
        """The number of elements of all tensors."""
        return sum(info.size for info in self.tensors.values())

    def read(self, name: str) -> np.ndarray:
        """The tensor as a read-only array: a view of the mapped file where it is aligned.

        Raises IntegrityError when the file was changed in place since it was opened, and
        UnsupportedError when its elements are smaller than a byte.
        """
        info = self.info(name)
        if info.dtype.numpy is None:
            raise UnsupportedError(
                f"{self.path}: tensor '{escape_controls(name)}' is {info.dtype}, {info.dtype.bits} "
                "bits per element, which no array holds",
                hint="use the model's float version",
            )
        raw = self._file.view(self._data_start + info.begin, self._data_start + info.end)
        if raw.ctypes.data % info.dtype.numpy.itemsize:
            raw = raw.copy()
            raw.flags.writeable = False
        return raw.view(info.dtype.numpy).reshape(info.shape)

    def release(self, name: str) -> None:
        """Lets the kernel drop the tensor's pages from memory; a later read brings them back."""
        info = self.info(name)
        self._file.release(self._data_start + info.begin, self._data_start + info.end)

    def close(self) -> None:
        """Closes the file; arrays that were read stay valid and keep its memory mapped."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def missing_tensor(name: str, names: list[str], path: Path) -> NotFoundError:
    """The error for a tensor that is not there, with the nearest name that is."""
    close = nearest(name, names)
    return NotFoundError(
        f"{path}: no tensor '{escape_controls(name)}'",
        hint=f"did you mean '{escape_controls(close)}'?"
        if close
        else f"it has {len(names)} others",
    )
