"""A model folder's weights, or a file of tensors, in whichever format they are."""

import os
from pathlib import Path

from entrenar_common.errors import NotFoundError
from entrenar_core.io.apr import APRFile
from entrenar_core.io.kinds import is_apr, is_torch
from entrenar_core.io.safetensors_file import SafetensorsFile
from entrenar_core.io.safetensors_folder import SafetensorsFolder
from entrenar_core.io.tensor_file import TensorFile
from entrenar_core.io.tensor_folder import TensorFolder
from entrenar_core.io.torch_file import TorchFile
from entrenar_core.io.torch_folder import TorchFolder

_FORMATS: tuple[type[TensorFolder], ...] = (SafetensorsFolder, TorchFolder)


def has_weights(folder: Path) -> bool:
    """Whether there are weights in a folder that `open_weights` would open."""
    return any(kind.is_in(folder) for kind in _FORMATS)


def open_weights(folder: str | os.PathLike[str]) -> TensorFolder:
    """The weights in a Hugging Face model folder: safetensors where it has them, else PyTorch's.

    Raises NotFoundError (no folder, no weights in it, a missing shard), and what reading the files
    raises: see SafetensorsFolder and TorchFolder.
    """
    folder = Path(folder)
    for kind in _FORMATS:
        if kind.is_in(folder):
            return kind(folder)
    missing = SafetensorsFolder.no_weights(folder)
    if not folder.is_dir() or missing.hint != "check the path":
        raise missing
    raise NotFoundError(
        f"{folder}: no weights: neither {SafetensorsFolder.single_name} nor "
        f"{TorchFolder.single_name}, nor an index of shards of either",
        hint="check the path",
    )


def open_tensors(path: str | os.PathLike[str]) -> TensorFile | TensorFolder:
    """The tensors of a model folder, or of a file in safetensors, the APR format or torch.save's:
    what is in it decides, not its name. Raises what opening it raises."""
    path = Path(path)
    if path.is_dir():
        return open_weights(path)
    if is_apr(path):
        return APRFile(path)
    return TorchFile(path) if is_torch(path) else SafetensorsFile(path)
