"""What is validated: the files of weights that a user's path means, each opened on its own."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entrenar_common.errors import EntrenarError
from entrenar_common.text import escape_controls
from entrenar_core.io import files
from entrenar_core.io.apr import APRFile, is_apr
from entrenar_core.io.gguf import GGUFFile, is_gguf
from entrenar_core.io.safetensors import SafetensorsFile
from entrenar_core.io.shards import Index, parse_index
from entrenar_core.io.tensor_file import TensorFile
from entrenar_core.io.torch_save import TorchFile, is_torch
from entrenar_inspect.artifact import Artifact
from entrenar_inspect.opening import (
    ADAPTER_WEIGHTS,
    folder_kinds,
    only_file,
    open_artifact,
)

_BY_SUFFIX: dict[str, type[TensorFile]] = {".gguf": GGUFFile, ".apr": APRFile}


@dataclass
class Subject:
    """A path that a user gave, and what it takes to look into it.

    folder: where the model's other files lie; given: the file, where the path is one; weights: the
    files of weights that are there; index: the index of shards, where that is how the folder has
    them; opened: what reads each file, and failed: why one cannot be read, both by file; artifact:
    all of it, None where it does not open; refused: why it does not, where each file does.
    """

    spec: str
    folder: Path
    given: Path | None
    weights: list[Path]
    index: Path | None = None
    opened: dict[Path, TensorFile] = field(default_factory=dict)
    failed: dict[Path, EntrenarError] = field(default_factory=dict)
    artifact: Artifact | None = None
    refused: EntrenarError | None = None

    @property
    def whole(self) -> bool:
        """Whether it may be all of a model, and is no shard."""
        return self.given is None or "-of-" not in self.given.name

    def shown(self, path: Path) -> str:
        """A file's name as it can be printed."""
        return escape_controls(path.name)

    def beside(self, name: str) -> Any:
        """The value of a JSON file of the folder, None where there is none.

        Raises FormatError, NotFoundError.
        """
        path = self.folder / name
        return files.read_json(path) if path.exists() else None

    def close(self) -> None:
        """Closes every file."""
        for file in self.opened.values():
            file.close()
        if self.artifact is not None:
            self.artifact.close()


def open_subject(spec: str) -> Subject:
    """What `spec` means, a file or a folder on this machine, whatever is wrong with it.

    Raises NotFoundError where there is nothing or nothing with weights, ConfigError where it is
    not clear what is meant.
    """
    path = Path(spec).expanduser()
    if not spec or not path.exists():
        open_artifact(spec)  # raises, and says it best
    found = _in_folder(spec, path) if path.is_dir() else _of_file(spec, path)
    for file in found.weights:
        try:
            found.opened[file] = reader_of(file)(file)
        except EntrenarError as error:
            found.failed[file] = error
    if not found.failed:
        try:
            found.artifact = open_artifact(spec)
        except EntrenarError as error:
            found.refused = error
    return found


def reader_of(file: Path) -> type[TensorFile]:
    """What reads a file, by what is in it; where that says nothing, by what it is called."""
    if is_gguf(file):
        return GGUFFile
    if is_apr(file):
        return APRFile
    return TorchFile if is_torch(file) else _BY_SUFFIX.get(file.suffix, SafetensorsFile)


def _of_file(spec: str, file: Path) -> Subject:
    return Subject(spec, file.parent, file, [file, *_parts(file)])


def _in_folder(spec: str, folder: Path) -> Subject:
    for kind, _ in folder_kinds():
        if (folder / kind.single_name).exists():
            return Subject(spec, folder, None, [folder / kind.single_name])
        index = folder / kind.index_name
        if index.exists():
            return Subject(spec, folder, None, _shards(index), index)
    for name in ADAPTER_WEIGHTS:
        if (folder / name).exists():
            return Subject(spec, folder, None, [folder / name])
    only = only_file(folder)
    return Subject(spec, folder, None, [only, *_parts(only)])


def read_index(path: Path) -> Index:
    """An index of shards; raises what reading its JSON raises, and `parse_index`."""
    return parse_index(files.read_json(path), path)


def _shards(index: Path) -> list[Path]:
    """The shards that are there; an index that cannot be read is found by its own check."""
    try:
        names = read_index(index).shards
    except EntrenarError:
        return []
    return [index.parent / name for name in names if (index.parent / name).exists()]


def _parts(file: Path) -> list[Path]:
    """The other parts of a GGUF file that is in several."""
    if not is_gguf(file) or "-00001-of-" not in file.name:
        return []
    stem, _, count = file.name.partition("-00001-of-")
    every = sorted(file.parent.glob("*-of-*"))
    return [p for p in every if p != file and p.name.startswith(stem) and p.name.endswith(count)]
