"""Rows of a table by integer index, and the scatter that is its gradient."""

from entrenar_core.kernels.held import Held
from entrenar_core.kernels.narrow import is_narrow, widen
from entrenar_core.kernels.registry import array_module, kernel


@kernel
def embedding(weight, ids):
    """weight (V, D), ids (N,) → (N, D), in float32 where the table is in 16 bits or fewer."""
    if isinstance(weight, Held):
        return weight.gathered(ids)
    rows = weight[ids]
    return widen(rows) if is_narrow(rows) else rows


@kernel
def embedding_grad(g, ids, *, out, add):
    """Add row i of g (N, D) to row ids[i] of `out` (V, D), which is zeroed first unless `add`."""
    if not add:
        out[...] = 0
    array_module(g).add.at(out, ids, g)
    return out
