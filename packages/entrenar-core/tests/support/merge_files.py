"""Merging small adapters of files into small models of files."""

from pathlib import Path
from typing import Any

import numpy as np

from adapter_files import DOWN, K, Q
from entrenar_core.convert.merge import check_written, write_merged_model
from entrenar_core.io.safetensors import SafetensorsFile, SafetensorsFolder
from entrenar_core.io.torch_save import TorchFile
from entrenar_core.lora.base import Base
from entrenar_core.lora.changes import Changes, Weighted, changes
from entrenar_core.lora.merged import Merged
from entrenar_core.lora.stored import StoredAdapter

NAMES = {module: f"{module}.weight" for module in (Q, K, DOWN)}


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a folder or file."""
    if path.is_dir():
        opened: Any = SafetensorsFolder(path)
    else:
        opened = TorchFile(path) if path.suffix == ".bin" else SafetensorsFile(path)
    with opened as file:
        return {name: np.array(file.read(name)) for name in file.names()}


def merge(
    base: Path,
    adapter: Path,
    output: Path,
    *,
    factor: float = 1.0,
    recipe: str | None = None,
    **options: Any,
) -> Changes:
    """Merge one adapter; returns the changes."""
    with Base(base) as opened, StoredAdapter(adapter) as stored:
        found = changes(opened, [Weighted(stored, factor)])
        check_written(opened, output, recipe or options.get("dtype"))
        write_merged_model(Merged(opened, found, **options), output, recipe=recipe)
    return found
