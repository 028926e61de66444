"""A model folder's weights: one file, or shards with an index, in any format of files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from entrenar_common.errors import NotFoundError
from entrenar_common.text import escape_controls
from entrenar_core.io.closing import Closing
from entrenar_core.io.shards import parse_index, place_tensors
from entrenar_core.io.strict_json import read_json
from entrenar_core.io.tensor_file import TensorFile, missing_tensor

if TYPE_CHECKING:  # a folder that is looked into loads neither
    import numpy as np

    from entrenar_core.kernels import Held


class TensorFolder(Closing):
    """The weights of a Hugging Face model folder, all files checked at opening, read lazily.

    A subclass names the single file, which is read where it is, the index, whose shards are read
    else, and what opens a file. `warnings` lists what is odd but harmless.

    Raises NotFoundError (no folder, no weights, a missing shard), FormatError (a malformed file, an
    index that disagrees with its shards), RefusedError (a shard outside the folder).
    """

    single_name: ClassVar[str]
    index_name: ClassVar[str]
    open_file: ClassVar[Callable[[Path], TensorFile]]

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder)
        self.warnings: list[str] = []
        self.files: list[TensorFile] = []
        self._file_of: dict[str, TensorFile] = {}
        try:
            if (self.path / self.single_name).exists():
                self._open_single()
            elif (self.path / self.index_name).exists():
                self._open_shards(self.path / self.index_name)
            else:
                raise self.no_weights(self.path)
        except BaseException:
            self.close()
            raise
        self.metadata = dict(self.files[0].metadata) if self.files else {}

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Whether the folder has weights in this format."""
        return (folder / cls.single_name).exists() or (folder / cls.index_name).exists()

    @classmethod
    def no_weights(cls, folder: Path) -> NotFoundError:
        """The error for a folder without them, which says what was looked for."""
        if not folder.is_dir():
            return NotFoundError(f"{folder}: no such folder", hint="check the path")
        suffix = Path(cls.single_name).suffix
        found = [escape_controls(p.name) for p in sorted(folder.glob(f"*{suffix}"))[:3]]
        return NotFoundError(
            f"{folder}: no {cls.single_name} and no {cls.index_name}",
            hint=f"it has {', '.join(found)}: rename or link it" if found else "check the path",
        )

    def _open_single(self) -> None:
        file = self._open(self.path / self.single_name)
        self._file_of = dict.fromkeys(file.tensors, file)

    def _open(self, path: Path) -> TensorFile:
        file = type(self).open_file(path)
        self.files.append(file)
        return file

    def _open_shards(self, index_path: Path) -> None:
        index = parse_index(read_json(index_path), index_path)
        shards = {name: self._open_shard(name) for name in index.shards}
        self._file_of, odd = place_tensors(index, shards, index_path)
        self.warnings += odd

    def _open_shard(self, name: str) -> TensorFile:
        path = self.path / name
        if not path.exists():
            raise NotFoundError(
                f"{path}: missing, though {self.index_name} lists it",
                hint="fetch all shards of the model",
            )
        return self._open(path)

    @property
    def paths(self) -> list[Path]:
        """The files that hold the weights."""
        return [file.path for file in self.files]

    def names(self) -> list[str]:
        """The tensors' names, sorted."""
        return sorted(self._file_of)

    def info(self, name: str) -> Any:
        """What the files say of one tensor; NotFoundError when there is no such name."""
        return self._file(name).info(name)

    @property
    def tensors(self) -> dict[str, Any]:
        """What the files say of each tensor, by name; places are those in its own file."""
        return {name: file.tensors[name] for name, file in self._file_of.items()}

    @property
    def parameter_count(self) -> int:
        """The number of elements of all tensors."""
        return sum(info.size for info in self.tensors.values())

    def read(self, name: str) -> np.ndarray:
        """The tensor as a read-only array; see `TensorFile.read`."""
        return self._file(name).read(name)

    def held(self, name: str) -> Held | None:
        """The matrix as it is stored, where it is in few bits; None elsewhere, as in all files."""
        self._file(name)
        return None

    def release(self, name: str) -> None:
        """Lets the kernel drop the tensor's pages from memory; see `TensorFile.release`."""
        self._file(name).release(name)

    def _file(self, name: str) -> TensorFile:
        try:
            return self._file_of[name]
        except KeyError:
            raise missing_tensor(name, self.names(), self.path) from None

    def close(self) -> None:
        """Closes all files; arrays that were read stay valid."""
        for file in self.files:
            file.close()
