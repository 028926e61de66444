"""Small models on a disk that were made from one another, as fine-tuned models are."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from entrenar_core.io.safetensors import write_folder
from merge_files import tensors_of
from model_files import SMALL, write_model

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
TINY: dict[str, Any] = SMALL | {
    "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_hidden_layers": 4,
    "num_key_value_heads": 1,
}  # fmt: skip
"""A Llama of 26 kB in bfloat16."""


def write_family(
    folder: Path,
    names: Sequence[str] = ("base", "a", "b"),
    config: Mapping[str, Any] = TINY,
    *,
    dtype: Any = BFLOAT16,
    spread: float = 0.1,
) -> Path:
    """Models called `names` in `folder`: the first has random weights, and the others differ from
    it by `spread` of their size."""
    first = write_model(folder / names[0], dict(config))
    tensors = tensors_of(first)
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        changed = {
            key: (array + (number > 0) * spread * array.std() * rng.standard_normal(array.shape))
            .astype(dtype)
            for key, array in tensors.items()
        }  # fmt: skip
        if number:
            shutil.copytree(first, folder / name)
        write_folder(folder / name, changed)
        edit_config(folder / name, dtype=np.dtype(dtype).name)
    return folder


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of a model's config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder: Path, changes: Mapping[str, np.ndarray | None]) -> None:
    """Replace tensors of a model; None takes one out."""
    tensors = tensors_of(folder) | changes
    write_folder(folder, {name: array for name, array in tensors.items() if array is not None})


def contents(folder: Path) -> dict[str, bytes]:
    """What is in each file of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
