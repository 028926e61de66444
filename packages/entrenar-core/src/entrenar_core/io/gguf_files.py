"""A model in GGUF: one file, or several parts that name each other, read as one."""

import os
from pathlib import Path

from entrenar_common.errors import NotFoundError
from entrenar_core.io.closing import Closing
from entrenar_core.io.gguf_file import GGUFFile
from entrenar_core.io.gguf_header import GGUFTensor
from entrenar_core.io.gguf_metadata import Metadata
from entrenar_core.io.gguf_parts import (
    check_part,
    other_parts,
    part_count,
    place_tensors,
    whole_metadata,
)
from entrenar_core.io.tensor_file import missing_tensor
from entrenar_core.quant import BlockArray


class GGUFFiles(Closing):
    """The model whose only or first file is `path`; all parts are checked at opening.

    Parts are called `name-00001-of-00003.gguf`, and each says which of how many it is. `metadata`
    is the first one's, without the keys about parts. Otherwise it is used as a GGUFFile.

    Raises NotFoundError (a part is missing), FormatError (a malformed part, parts that do not
    belong together), UnsupportedError.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.files: list[GGUFFile] = []
        self._file_of: dict[str, GGUFFile] = {}
        try:
            first = GGUFFile(path)
            self.files.append(first)
            paths, count = other_parts(first), part_count(first)
            for number, part in enumerate(paths, 1):
                self.files.append(self._open(part, number, count))
                check_part(self.files[-1], number, count)
            self._file_of = place_tensors(self.files)
        except BaseException:
            self.close()
            raise
        self.metadata: Metadata = whole_metadata(first)

    def _open(self, path: Path, number: int, count: int) -> GGUFFile:
        if not path.exists():
            raise NotFoundError(
                f"{path}: missing: it is part {number + 1} of {count} of {self.path.name}",
                hint="fetch all parts into one folder",
            )
        return GGUFFile(path)

    def names(self) -> list[str]:
        """The tensors' names, sorted."""
        return sorted(self._file_of)

    def info(self, name: str) -> GGUFTensor:
        """What the headers say of one tensor; NotFoundError when there is no such name."""
        return self._file(name).info(name)

    @property
    def tensors(self) -> dict[str, GGUFTensor]:
        """A GGUFTensor for each name, part after part; places are those in its own file."""
        return {name: file.tensors[name] for name, file in self._file_of.items()}

    @property
    def parameter_count(self) -> int:
        """The number of elements of all tensors."""
        return sum(file.parameter_count for file in self.files)

    def read(self, name: str) -> BlockArray:
        """The tensor as it is stored; see `GGUFFile.read`."""
        return self._file(name).read(name)

    def release(self, name: str) -> None:
        """Lets the kernel drop the tensor's pages from memory; see `GGUFFile.release`."""
        self._file(name).release(name)

    def _file(self, name: str) -> GGUFFile:
        try:
            return self._file_of[name]
        except KeyError:
            raise missing_tensor(name, self.names(), self.path) from None

    def close(self) -> None:
        """Closes all files; arrays that were read, and the metadata, stay valid."""
        for file in self.files:
            file.close()
