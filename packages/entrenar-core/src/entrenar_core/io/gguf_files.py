"""A model in GGUF: one file, or several parts that name each other, read as one."""

import os
from pathlib import Path
from typing import NoReturn

from entrenar_common.errors import FormatError, NotFoundError
from entrenar_common.text import escape_controls
from entrenar_core.io.closing import Closing
from entrenar_core.io.gguf_file import GGUFFile
from entrenar_core.io.gguf_header import GGUFTensor
from entrenar_core.io.gguf_metadata import Metadata
from entrenar_core.io.tensor_file import missing_tensor
from entrenar_core.quant import BlockArray

PART, PARTS, ALL_TENSORS = "split.no", "split.count", "split.tensors.count"
MAX_PARTS = 2**16 - 1


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
            count = first.metadata.integer(PARTS, 1)
            for part in self._parts(first, count):
                self.files.append(self._open(part, len(self.files), count))
            for file in self.files:
                self._add(file)
            self._check_count(first)
        except BaseException:
            self.close()
            raise
        self.metadata: Metadata = first.metadata.without({PART, PARTS, ALL_TENSORS})

    def _parts(self, first: GGUFFile, count: int) -> list[Path]:
        """The paths of the other parts."""
        if not 0 <= count <= MAX_PARTS:
            _fail(self.path, f"{PARTS} is {count}")
        if count < 2:
            return []
        number, name = first.metadata.integer(PART), self.path.name
        if number:
            raise FormatError(
                f"{self.path}: this is part {number + 1} of {count}",
                hint=f"give the first part, which is called ...-{_suffix(0, count)}",
            )
        if not name.endswith("-" + _suffix(0, count)):
            raise FormatError(
                f"{self.path}: the first of {count} parts, and the others cannot be found by this "
                "name",
                hint=f"give the parts their names back: this one ends in -{_suffix(0, count)}",
            )
        stem = name.removesuffix(_suffix(0, count))
        return [self.path.with_name(stem + _suffix(i, count)) for i in range(1, count)]

    def _open(self, path: Path, number: int, count: int) -> GGUFFile:
        if not path.exists():
            raise NotFoundError(
                f"{path}: missing: it is part {number + 1} of {count} of {self.path.name}",
                hint="fetch all parts into one folder",
            )
        file = GGUFFile(path)
        found = file.metadata.integer(PART), file.metadata.integer(PARTS)
        if found != (number, count):
            file.close()
            _fail(
                path,
                f"{PART} is {found[0]} and {PARTS} {found[1]}, not {number} and {count} as its "
                "name says",
            )
        return file

    def _add(self, file: GGUFFile) -> None:
        for name in file.tensors:
            if name in self._file_of:
                other = self._file_of[name].path.name
                _fail(file.path, f"tensor '{escape_controls(name)}' is in {other} too")
            self._file_of[name] = file

    def _check_count(self, first: GGUFFile) -> None:
        wanted = first.metadata.integer(ALL_TENSORS, len(self._file_of))
        if wanted != len(self._file_of):
            _fail(self.path, f"{ALL_TENSORS} is {wanted}, and there are {len(self._file_of)}")

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


def _suffix(number: int, count: int) -> str:
    return f"{number + 1:05d}-of-{count:05d}.gguf"


def _fail(path: Path, what: str) -> NoReturn:
    raise FormatError(
        f"{path}: {what}", hint="the parts do not belong together: fetch all of one model again"
    )
