"""Which format each tensor of a GGUF file gets: the mixtures that llama.cpp's users know by name.

Most weights get the format that names the mixture. Those that quantization hurts most get a better
one: the output projection, and in some blocks the values of attention and the projection back from
the inner layer. Vectors, norms and embeddings of positions stay float32.
Rules: https://github.com/ggml-org/llama.cpp, `src/llama-quant.cpp`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from entrenar_common.errors import UnsupportedError
from entrenar_common.text import nearest
from entrenar_core.quant import BY_NUMBER, BlockFormat

FORMATS = {form.name: form for form in BY_NUMBER.values()}

FILE_TYPES = {
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q4_k_s": 14,
    "q4_k_m": 15, "q5_k_s": 16, "q5_k_m": 17, "q6_k": 18, "bf16": 32,
}  # fmt: skip
"""Recipe → its number in `general.file_type`."""

SMALLER_BLOCKS = {"q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0"}
"""What rows get that are no whole number of a format's blocks, if they are of the other's."""

KEPT = ("position_embd.weight", "token_types.weight")
PLAIN = ("f32", "f16", "bf16")

_BLOCK = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True)
class Shape:
    """What the rules want to know of a model: its architecture in GGUF's words, its blocks, its
    heads, and whether input and output share their embeddings."""

    architecture: str
    blocks: int
    heads: int
    key_value_heads: int
    tied: bool

    @classmethod
    def of(cls, architecture: str, config: Any, *, tied: bool) -> "Shape":
        """That of a model with `config`."""
        heads = config.num_attention_heads
        grouped = getattr(config, "num_key_value_heads", heads)
        return cls(architecture, config.num_hidden_layers, heads, grouped, tied)


class FormatChoice(Protocol):
    """What says which format each tensor gets: a recipe, or a choice made for one model."""

    @property
    def name(self) -> str: ...

    @property
    def file_type(self) -> int:
        """The number in `general.file_type`."""
        ...

    def format_of(self, name: str, shape: tuple[int, ...], model: Shape) -> BlockFormat:
        """The format of the tensor that a GGUF file calls `name`, of `shape` in numpy's order."""
        ...


@dataclass(frozen=True)
class Recipe:
    """A mixture by its name; `base` is the format of most weights."""

    name: str
    base: BlockFormat
    file_type: int

    def format_of(self, name: str, shape: tuple[int, ...], model: Shape) -> BlockFormat:
        """The format of the tensor that a GGUF file calls `name`, of `shape` in numpy's order."""
        if len(shape) < 2 or not name.endswith("weight") or "_norm.weight" in name or name in KEPT:
            return FORMATS["f32"]
        if self.name in PLAIN:
            return self.base
        wanted = self._wanted(name, shape[-1], model)
        if shape[-1] % wanted.block and wanted.name in SMALLER_BLOCKS:
            wanted = FORMATS[SMALLER_BLOCKS[wanted.name]]
        return FORMATS["f16"] if shape[-1] % wanted.block else wanted

    def _wanted(self, name: str, columns: int, model: Shape) -> BlockFormat:
        if name == "output.weight" or (model.tied and name == "token_embd.weight"):
            if columns % self.base.block or self.base.name == "q8_0":
                return FORMATS["q8_0"]
            return FORMATS["q6_k"]
        found = _BLOCK.match(name)
        if found is None:
            return self.base
        block, part = int(found.group(1)), name[found.end() :].removesuffix(".weight")
        if part in ("attn_v", "attn_qkv"):
            return FORMATS[self._values(block, model)]
        if part == "ffn_down":
            return FORMATS[self._down(block, model.blocks)]
        return self.base

    def _values(self, block: int, model: Shape) -> str:
        """The format of attention's values, alone or with queries and keys."""
        found = self.base.name
        if self.name.endswith("_m") and _deserves_more(block, model.blocks):
            found = "q6_k"
        elif self.name == "q4_k_s" and block < 4:
            found = "q5_k"
        # where many query heads share few values, these are small and much depends on them
        if found == "q4_k" and _is_of_the_70b_kind(model):
            found = "q5_k"
        return found

    def _down(self, block: int, blocks: int) -> str:
        """The format of the projection back from the inner layer."""
        if self.name.endswith("_m") and _deserves_more(block, blocks):
            return "q6_k"
        if self.name == "q4_k_s" and block < blocks // 8:
            return "q5_k"
        return self.base.name


def _deserves_more(block: int, blocks: int) -> bool:
    """The first and the last eighth of the blocks, and every third between."""
    eighth = blocks // 8
    return block < eighth or block >= 7 * blocks // 8 or (block - eighth) % 3 == 2


def _is_of_the_70b_kind(model: Shape) -> bool:
    if model.blocks != 80:
        return False
    return model.architecture == "qwen2" or (
        model.architecture == "llama" and model.heads != model.key_value_heads
    )


RECIPES: Mapping[str, Recipe] = {
    name: Recipe(name, FORMATS[name.removesuffix("_m").removesuffix("_s")], number)
    for name, number in FILE_TYPES.items()
}
"""Every recipe by name."""


def recipe_named(name: str) -> Recipe:
    """The recipe called `name`, in any case; UnsupportedError with the nearest name if there is
    none."""
    found = RECIPES.get(name.lower())
    if found is None:
        close = nearest(name.lower(), list(RECIPES))
        raise UnsupportedError(
            f"there is no quantization {name!r} for GGUF files",
            hint=f"did you mean {close}?" if close else f"known: {', '.join(RECIPES)}",
        )
    return found
