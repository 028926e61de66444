"""A model folder's weights: one file, or shards with an index, in any format of files."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from entrenar_common.errors import FormatError, NotFoundError, RefusedError
from entrenar_common.text import escape_controls
from entrenar_core.io.closing import Closing
from entrenar_core.io.files import read_json
from entrenar_core.io.tensor_file import TensorFile, missing_tensor
from entrenar_core.kernels import Held

_FETCH_AGAIN = "the folder is damaged or incomplete: fetch or write it again"


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
        weight_map, total_size = read_index(index_path)
        shards = {name: self._open_shard(name) for name in sorted(set(weight_map.values()))}
        self._refuse_twice_stored()
        for name, shard_name in weight_map.items():
            if name not in shards[shard_name].tensors:
                raise FormatError(
                    f"{index_path}: tensor '{escape_controls(name)}' is not in {shard_name}",
                    hint=_FETCH_AGAIN,
                )
            self._file_of[name] = shards[shard_name]
        extra = sum(len(file.tensors) for file in self.files) - len(self._file_of)
        if extra:
            self.warnings.append(f"{index_path}: {extra} tensors in the shards are not listed")
        size = sum(info.nbytes for info in map(self.info, self._file_of))
        if total_size is not None and total_size != size:
            self.warnings.append(
                f"{index_path}: total_size says {total_size!r}, the tensors take {size} bytes"
            )

    def _open_shard(self, name: str) -> TensorFile:
        path = self.path / name
        if not path.exists():
            raise NotFoundError(
                f"{path}: missing, though {self.index_name} lists it",
                hint="fetch all shards of the model",
            )
        return self._open(path)

    def _refuse_twice_stored(self) -> None:
        first: dict[str, TensorFile] = {}
        for file in self.files:
            for name in file.tensors:
                if name in first:
                    raise FormatError(
                        f"{self.path}: tensor '{escape_controls(name)}' is in two shards, "
                        f"{first[name].path.name} and {file.path.name}",
                        hint=_FETCH_AGAIN,
                    )
                first[name] = file

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


def read_index(path: Path) -> tuple[dict[str, str], Any]:
    """Tensor → name of its file, and what `total_size` says, None where it says nothing.

    Raises FormatError for what is no index, RefusedError for names that lead out of the folder.
    """
    index = read_json(path)
    weight_map = index.get("weight_map") if type(index) is dict else None
    if type(weight_map) is not dict or any(type(v) is not str for v in weight_map.values()):
        raise FormatError(
            f"{path}: weight_map is not a map of tensor names to file names", hint=_FETCH_AGAIN
        )
    for shard in sorted(set(weight_map.values())):
        # a link is fine (the hub's cache consists of them), a path that leaves the folder is not
        if not shard or shard in (".", "..") or set(shard) & set("/\\:\0"):
            raise RefusedError(
                f"{path}: shard name '{escape_controls(shard)}' is not a plain file name",
                hint="the index points outside its folder: do not trust where it came from",
            )
    metadata = index.get("metadata")
    return weight_map, metadata.get("total_size") if type(metadata) is dict else None
