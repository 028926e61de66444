"""One GGUF file, mapped into memory and read without copying."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from entrenar_core.io.gguf_header import GGUFTensor, parse_header
from entrenar_core.io.gguf_metadata import Metadata
from entrenar_core.io.mapped_file import MappedFile
from entrenar_core.io.safetensors_file import missing_tensor
from entrenar_core.quant import BlockArray


class GGUFFile:
    """A GGUF file, checked whole at opening; tensors are read-only views of the mapped file.

    `metadata` has its keys and values, `tensors` a GGUFTensor for each name. The format has no
    checksum of the data. Arrays stay valid after `close`. A file that is one part of several opens
    too: GGUFFiles reads all of them as one.

    Raises NotFoundError (no such file), FormatError (malformed or truncated, with what and where),
    UnsupportedError (big-endian, or a tensor type that is not known).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = MappedFile(path, "GGUF")
        try:
            data = self._file.map() if self._file.size else b""
            header = parse_header(data, self.path)
            # a copy: numbers in it are decoded later, and the file may have been cut by then
            self.metadata = Metadata(header.metadata, data[: header.data_start], self.path)
            self._file.check_unchanged()
        except BaseException:
            self._file.close()
            raise
        self.version: int = header.version
        self.alignment: int = header.alignment
        self.tensors: dict[str, GGUFTensor] = header.tensors
        self._data_start = header.data_start

    def names(self) -> list[str]:
        """The tensors' names, sorted."""
        return sorted(self.tensors)

    def info(self, name: str) -> GGUFTensor:
        """What the header says of one tensor; NotFoundError when there is no such name."""
        try:
            return self.tensors[name]
        except KeyError:
            raise missing_tensor(name, self.names(), self.path) from None

    @property
    def parameter_count(self) -> int:
        """The number of elements of all tensors."""
        return sum(info.size for info in self.tensors.values())

    def read(self, name: str) -> BlockArray:
        """The tensor as it is stored, a view of the mapped file; `.dequantize()` gives floats.

        Raises IntegrityError when the file was changed in place since it was opened.
        """
        info = self.info(name)
        raw = self._file.view(self._data_start + info.begin, self._data_start + info.end)
        return info.form.wrap(raw, info.shape)

    def release(self, name: str) -> None:
        """Lets the kernel drop the tensor's pages from memory; a later read brings them back."""
        info = self.info(name)
        self._file.release(self._data_start + info.begin, self._data_start + info.end)

    def close(self) -> None:
        """Closes the file; arrays that were read, and the metadata, stay valid."""
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
