"""How llama.cpp has a tensor laid out where that differs from Hugging Face, and back.

- In its architecture `llama` a rotation turns neighbours (2j, 2j+1) of a head, in Hugging Face's
  models element j with element j + D/2, so the rows of the query and key projections are permuted.
  Its other architectures rotate as Hugging Face does.
- GPT-2's matrices are (in, out) in Hugging Face's files, and (out, in) in GGUF files.
- RoBERTa counts positions from `pad_token_id` + 1; in GGUF files they are counted from 0, and the
  rows before are cut off.
"""

from typing import NamedTuple

import numpy as np


class Heads(NamedTuple):
    """How many heads the queries of a layer have, and its keys and values."""

    queries: int
    keys: int


def paired(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows (heads·D, …) of halves of a head, reordered so that the halves alternate."""
    half = array.shape[0] // heads // 2
    split = array.reshape(heads, 2, half, *array.shape[1:])
    return split.swapaxes(1, 2).reshape(array.shape)


def halved(array: np.ndarray, heads: int) -> np.ndarray:
    """The inverse of `paired`."""
    half = array.shape[0] // heads // 2
    split = array.reshape(heads, half, 2, *array.shape[1:])
    return split.swapaxes(1, 2).reshape(array.shape)


def rotated(name: str, heads: Heads) -> int | None:
    """How many heads share the rows of the tensor called `name` in a GGUF file of the architecture
    `llama`, if they are to be permuted."""
    part = name.rpartition(".")[0]
    if part.endswith(".attn_q"):
        return heads.queries
    return heads.keys if part.endswith(".attn_k") else None


def is_conv1d(name: str) -> bool:
    """Whether the tensor called `name` in a GGUF file of GPT-2 is a matrix of its blocks."""
    return name.startswith("blk.") and name.endswith(
        ("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")
    )
