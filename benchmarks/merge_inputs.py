"""A base model and models made from it, as files, and configs that merge them."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from entrenar_core import models
from entrenar_core.data.tokenizer import train_bpe
from entrenar_core.io import files
from entrenar_core.io.safetensors import SafetensorsFolder, write_folder

BASE, OTHERS = "base", ("a", "b", "c")
DENSITY, WEIGHTS, T = 0.2, (0.3, 0.5, 0.4), 0.4
SPREAD, DISTANCE = 0.03, 0.003
"""The standard deviations of the base's weights, and of what the others differ from it by."""


def make_models(
    folder: Path, config: dict[str, Any], names: Sequence[str] = (BASE, *OTHERS)
) -> None:
    """Write the folders `names`, the base first: random bfloat16 weights in the shape of
    `config`."""
    for number, name in enumerate(names):
        files.make_folder(folder / name)
        write_folder(folder / name, _Tensors(config, number))
        files.write_json(folder / name / "config.json", config)
        train_bpe(["the cat and the dog"] * 9, 300).save(folder / name)


class _Tensors(Mapping[str, np.ndarray]):
    """The tensors of the base, number 0, or of another model: those of the base and some noise."""

    def __init__(self, config: dict[str, Any], number: int) -> None:
        self._config, self._number = config, number

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return models.parameter_shapes(self._config)

    def __getitem__(self, name: str) -> np.ndarray:
        found = self._drawn(name, 0) * np.float32(SPREAD)
        if self._number:
            found += self._drawn(name, self._number) * np.float32(DISTANCE)
        return found.astype(ml_dtypes.bfloat16)

    def _drawn(self, name: str, number: int) -> np.ndarray:
        place = list(self._shapes).index(name)
        return np.random.default_rng([number, place]).standard_normal(
            self._shapes[name], np.float32
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def config_of(method: str, folder: Path) -> dict[str, Any]:
    """mergekit's config of a merge of the models in `folder` by `method`."""
    base: dict[str, Any] = {"base_model": str(folder / BASE)}
    each: list[dict[str, Any]] = [{"weight": weight} for weight in WEIGHTS]
    shared: dict[str, Any] = {}
    if method == "linear":
        base = {}
    elif method == "slerp":
        base, each, shared = {"base_model": str(folder / OTHERS[0])}, [{}, {}], {"t": T}
    else:
        each = [{**own, "density": DENSITY} for own in each]
    return {
        "merge_method": method,
        **base,
        "models": [
            {"model": str(folder / name), "parameters": own}
            for name, own in zip(OTHERS, each, strict=False)
        ],
        "parameters": shared,
        "dtype": "bfloat16",
    }


def share_identical(one: Path, other: Path, left_out: Path | None = None) -> float:
    """The share of elements of two folders of bfloat16 that have the same bits; of those that
    trimming the models in the folder `left_out` may decide either way, none counts.

    Raises SystemExit where the folders do not have the same tensors.
    """
    same = count = 0
    with SafetensorsFolder(one) as ours, SafetensorsFolder(other) as theirs:
        if set(ours.names()) != set(theirs.names()):
            raise SystemExit("the merged models have other tensors")
        for name in ours.names():
            equal = ours.read(name).view(np.uint16) == theirs.read(name).view(np.uint16)
            if left_out is not None:
                equal = equal[~_tied(left_out, name)]
            same, count = same + int(equal.sum()), count + equal.size
    return same / count


def _tied(folder: Path, name: str) -> np.ndarray:
    """Where a model's difference from the base has the magnitude at which trimming ends, and more
    elements have that than are kept."""
    with SafetensorsFolder(folder / BASE) as file:
        base = np.array(file.read(name))
    found = np.zeros(base.shape, np.bool_)
    for other in OTHERS:
        with SafetensorsFolder(folder / other) as file:
            magnitude = np.abs(file.read(name) - base).view(np.uint16)  # in the order of their bits
        kept = max(1, int(DENSITY * magnitude.size))
        least = np.partition(magnitude, magnitude.size - kept, axis=None)[magnitude.size - kept]
        if np.count_nonzero(magnitude >= least) > kept:
            found |= magnitude == least
    return found
