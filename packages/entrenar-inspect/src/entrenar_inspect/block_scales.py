"""Whether the scales of quantized blocks are numbers that scales can be."""

import numpy as np

from entrenar_common.text import escape_controls
from entrenar_core.quant import BlockArray
from entrenar_inspect.artifact import Entry
from entrenar_inspect.finding import Finding, broken

ABSURD, ABSURD_LEAST = 1000.0, 1.0
"""A scale so many times the usual one of its tensor, and above this size, is an error: a block's
weights are then larger than any model's."""


def scale_finding(entry: Entry, array: BlockArray) -> Finding | None:
    """The first block with a scale that is not finite, else the one with the largest if that is
    absurd; None where all are well, and for types without float16 scales."""
    form = array.form
    if form.block == 1 or not array.size:
        return None
    blocks = array.data.reshape(-1, form.block_bytes)
    for at in form.halves:
        scales = np.abs(np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).reshape(-1))
        bad = np.flatnonzero(~np.isfinite(scales))
        if bad.size:
            return _finding(entry, int(bad[0]), scales, "not finite")
        block = int(scales.argmax())
        usual = float(np.median(scales[scales > 0])) if scales[block] > ABSURD_LEAST else np.inf
        if float(scales[block]) > ABSURD * usual:
            return _finding(entry, block, scales, f"the usual one is {usual:.3g}")
    return None


def _finding(entry: Entry, block: int, scales: np.ndarray, why: str) -> Finding:
    message = f"{escape_controls(entry.name)}: the scale of block {block} of {scales.size} "
    message += f"({entry.dtype}) is {float(scales[block]):g}, {why}"
    return broken("V406", message, tensor=entry.name, file=entry.file, place=f"block {block}")
