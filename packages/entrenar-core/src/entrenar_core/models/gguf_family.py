"""What a family of models has to say to be written to GGUF files and read from them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from entrenar_common.errors import UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.io.gguf import GGUFFiles, Value
from entrenar_core.kernels import Held
from entrenar_core.models.gguf_layout import Heads
from entrenar_core.models.gguf_names import Names
from entrenar_core.quant import BlockArray


@dataclass(frozen=True)
class Described:
    """A config in GGUF's terms: its keys, tensors that llama.cpp wants besides the model's own, and
    notes for the user on what is not the same there."""

    keys: dict[str, Value]
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Family(ABC):
    """Models that llama.cpp calls `architecture`, of the given `model_type`s."""

    names: ClassVar[Names]
    head: ClassVar[str]
    """What a model in a GGUF file is for, in the words of `models.load`."""
    unused: ClassVar[tuple[str, ...]] = ()
    """The starts of the names of tensors that llama.cpp has no use for."""

    def __init__(self, architecture: str, model_types: tuple[str, ...]) -> None:
        self.architecture, self.model_types = architecture, model_types

    @abstractmethod
    def describe(self, model: Any) -> Described:
        """The config of `model`, a Network whose weights are not looked at, in GGUF's terms.

        Raises UnsupportedError for what llama.cpp does not compute.
        """

    @abstractmethod
    def raw(self, file: GGUFFiles) -> dict[str, Any]:
        """The keys of a Hugging Face config, without those that the tokenizer decides."""

    def to_gguf(self, name: str, array: np.ndarray, config: Any) -> np.ndarray:
        """The tensor that a GGUF file calls `name`, as it lies there."""
        del name, config
        return array

    def outputs_to_gguf(self, name: str, array: np.ndarray, config: Any) -> np.ndarray:
        """`array` (out, …), whose rows are what the matrix called `name` makes, in the order that
        they have in a GGUF file."""
        del name, config
        return array

    def gguf_shape(self, name: str, shape: tuple[int, ...], config: Any) -> tuple[int, ...]:
        """The shape that `to_gguf` gives a tensor of `shape`."""
        del name, config
        return shape

    def from_gguf(self, name: str, array: np.ndarray, heads: Heads) -> np.ndarray:
        """The tensor that a GGUF file calls `name`, as Hugging Face's files have it."""
        del name, heads
        return array

    def held_from_gguf(self, name: str, blocks: BlockArray, heads: Heads) -> Held:
        """The matrix that a GGUF file calls `name`, as Hugging Face's files have it, in its blocks:
        of what `from_gguf` does, a change of the order of rows."""
        return Held(replace(blocks, data=self.from_gguf(name, blocks.data, heads)))

    def hf_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that `from_gguf` gives a tensor of `shape`."""
        del name
        return shape

    def left_out(self, names: Iterable[str]) -> set[str]:
        """Those of a GGUF file's tensors that follow from the config."""
        del names
        return set()

    def implied(self, file: GGUFFiles) -> dict[str, np.ndarray]:
        """Tensors, by Hugging Face's name, that a file need not have."""
        del file
        return {}

    def settle(self, file: GGUFFiles, model: Any) -> None:
        """Set what the config does not say of `model`, whose weights are to be read from `file`."""
        del file, model


FAMILIES: list[Family] = []


def register(family: Family) -> Family:
    """Make a family known."""
    FAMILIES.append(family)
    return family


def _load() -> None:
    import_module("entrenar_core.models.gguf_decoders")
    import_module("entrenar_core.models.gguf_encoders")


def family_of(model_type: str) -> Family:
    """The family of a Hugging Face model type; UnsupportedError where llama.cpp has none."""
    _load()
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    raise UnsupportedError(
        f"{escape_controls(model_type)} models cannot be written as GGUF",
        hint=f"these can: {', '.join(model_types())}",
    )


def model_types() -> list[str]:
    """The Hugging Face model types that can be written as GGUF."""
    _load()
    return sorted(kind for family in FAMILIES for kind in family.model_types)


def family_of_file(file: GGUFFiles) -> Family:
    """The family of the model in `file`; UnsupportedError for another architecture."""
    _load()
    architecture = file.metadata.text("general.architecture")
    for family in FAMILIES:
        if family.architecture == architecture:
            return family
    known = sorted({family.architecture for family in FAMILIES})
    raise UnsupportedError(
        f"{file.path}: general.architecture {escape_controls(architecture)} is not supported",
        hint=f"supported: {', '.join(known)}",
    )


def decimal(file: GGUFFiles, key: str, default: float | None = None) -> float:
    """A number in a file's metadata as it was written before it was rounded to float32."""
    return shortest(file.metadata.number(key, default))


def shortest(number: float) -> float:
    """The number with the fewest digits that rounds to `number` in float32.

    >>> shortest(9.999999747378752e-06)
    1e-05
    """
    return float(str(np.float32(number)))
