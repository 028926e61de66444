"""One safetensors file, mapped into memory and read without copying."""

from __future__ import annotations

from typing import TYPE_CHECKING

from entrenar_common.errors import UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.io.other_kinds import HEAD_BYTES
from entrenar_core.io.safetensors_header import (
    PREFIX_BYTES,
    TensorInfo,
    check_prefix,
    parse_header,
)
from entrenar_core.io.tensor_file import TensorFile

if TYPE_CHECKING:
    import numpy as np


class SafetensorsFile(TensorFile):
    """A safetensors file, checked whole at opening; arrays are read-only views of the mapped file.

    `tensors` has a TensorInfo for each name, `metadata` is the file's inert text. The format has no
    checksum of the data: a manifest has to bring one. Views stay valid after `close`, and after the
    file is replaced by renaming another over it.

    Raises NotFoundError (no such file), FormatError (malformed or truncated, with what and where),
    UnsupportedError (an unknown element type).
    """

    kind = "safetensors"
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]

    def _open(self) -> None:
        size = self._file.size
        length = check_prefix(self._file.head(HEAD_BYTES), size, self.path)
        raw = self._file.head(length, PREFIX_BYTES)
        header = parse_header(raw, size, self.path)
        self._file.map()
        self.tensors = header.tensors
        self.metadata = header.metadata
        self._data_start = header.data_start

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
