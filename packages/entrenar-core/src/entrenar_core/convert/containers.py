"""Files of named tensors that Hugging Face's models lie in: what they are called, how they are
written and opened, alone or in a model's folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_core.io.new_folder import check_new
from entrenar_core.io.safetensors import (
    SafetensorsFile,
    SafetensorsFolder,
    write_file,
    write_folder,
)
from entrenar_core.io.tensor_file import TensorFile
from entrenar_core.io.tensor_folder import TensorFolder
from entrenar_core.io.torch_save import TorchFile, TorchFolder, write_torch

SAFETENSORS, PTH = "safetensors", "pth"


@dataclass(frozen=True)
class Container:
    """A format: a file whose name ends in one of `suffixes` is a lone one, anything else a folder.

    `write(target, tensors, metadata, tied)` writes to a file or into a folder that exists, and
    returns the files. `tied` are further names of tensors → their first ones; a file of torch.save
    has them too, and one in safetensors says them in its metadata, as the library's `save_model`
    does. Other metadata have no place in a file of torch.save.
    """

    suffixes: tuple[str, ...]
    open_file: Callable[[Path], TensorFile]
    open_folder: Callable[[Path], TensorFolder]
    write: Callable[[Path, Mapping[str, Any], Mapping[str, str], Mapping[str, str]], list[Path]]

    def is_lone(self, output: Path) -> bool:
        """Whether `output` is called as a file that is nothing but tensors."""
        return output.suffix.lower() in self.suffixes

    def check(self, output: Path) -> None:
        """Raise what can be known to be wrong with writing there: ConfigError for a folder where a
        file is to be and the reverse, RefusedError for a folder that has something in it."""
        if self.is_lone(output):
            if output.is_dir():
                raise ConfigError(
                    f"{output}: a folder, and a file is to be written",
                    hint="give another output, or one without a suffix for a model folder",
                )
            return
        if output.exists() and not output.is_dir():
            raise ConfigError(
                f"{output}: a file, and a folder is to be written",
                hint=f"give another output, or one that ends in {self.suffixes[0]} for a lone file",
            )
        check_new(output)

    def open(self, path: Path) -> TensorFile | TensorFolder:
        """What was written."""
        return self.open_folder(path) if path.is_dir() else self.open_file(path)


def _write_safetensors(
    target: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str], tied: Mapping[str, str]
) -> list[Path]:
    metadata = {**metadata, **tied}
    if target.is_dir():
        return write_folder(target, tensors, metadata=metadata)
    write_file(target, tensors, metadata)
    return [target]


def _write_pth(
    target: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str], tied: Mapping[str, str]
) -> list[Path]:
    del metadata
    path = target / TorchFolder.single_name if target.is_dir() else target
    write_torch(path, tensors, tied=tied)
    return [path]


CONTAINERS = {
    SAFETENSORS: Container(
        (".safetensors",), SafetensorsFile, SafetensorsFolder, _write_safetensors
    ),
    PTH: Container((".pth", ".pt", ".bin"), TorchFile, TorchFolder, _write_pth),
}
"""Every format by name."""
