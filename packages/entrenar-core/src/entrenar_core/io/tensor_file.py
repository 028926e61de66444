"""What every file of tensors offers, whatever its format."""

import os
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from entrenar_common.errors import NotFoundError
from entrenar_common.text import escape_controls, nearest
from entrenar_core.io.closing import Closing
from entrenar_core.io.mapped_file import MappedFile


class TensorFile(Closing):
    """Tensors by name, described when the file is opened and read when they are asked for.

    A subclass says what `kind` of file it reads, and in `_open` checks all of it and sets `tensors`
    and `metadata`; where that fails, the file is closed.
    """

    kind: ClassVar[str]
    tensors: dict[str, Any]
    """By name, what the file says of a tensor: `name`, `dtype`, `shape`, `size` (in elements) and
    `nbytes`, besides what its format knows."""
    metadata: Any
    """A mapping of what the file says besides; a subclass says of which class."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = MappedFile(self.path, self.kind)
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    @abstractmethod
    def _open(self) -> None:
        """Checks the file, and sets `tensors` and `metadata`."""

    @abstractmethod
    def read(self, name: str) -> Any:
        """The tensor as a read-only array, or as blocks that one can be made of."""

    @abstractmethod
    def release(self, name: str) -> None:
        """Lets the kernel drop the tensor's pages from memory; a later read brings them back."""

    @property
    def paths(self) -> list[Path]:
        """The file."""
        return [self.path]

    def names(self) -> list[str]:
        """The tensors' names, sorted."""
        return sorted(self.tensors)

    def info(self, name: str) -> Any:
        """What the file says of one tensor; NotFoundError when there is no such name."""
        try:
            return self.tensors[name]
        except KeyError:
            raise missing_tensor(name, self.names(), self.path) from None

    @property
    def parameter_count(self) -> int:
        """The number of elements of all tensors."""
        return sum(info.size for info in self.tensors.values())

    def close(self) -> None:
        """Closes the file; arrays that were read stay valid and keep its memory mapped."""
        self._file.close()


def missing_tensor(name: str, names: list[str], path: Path) -> NotFoundError:
    """The error for a tensor that is not there, with the nearest name that is."""
    close = nearest(name, names)
    return NotFoundError(
        f"{path}: no tensor '{escape_controls(name)}'",
        hint=f"did you mean '{escape_controls(close)}'?"
        if close
        else f"it has {len(names)} others",
    )
