"""The likeliest ids of each row of logits, and what the others have together."""

import numpy as np

from entrenar_core.kernels.loss import log_sum
from entrenar_core.kernels.registry import array_module, kernel


@kernel
def likeliest(logits, temperatures, *, mass, k):
    """As few of the likeliest ids of each row as have the share `mass` of softmax(logits), at least
    one and at most k.

    logits (N, V), finite or −∞ with a finite one in each row; temperatures (n,) float64
    → counts (N,), ids (N, k) int32, values (N, k), tails (n, N). The first counts[i] of ids[i] are
    those of row i, the likeliest first, of equal ones the first; `values` are their logits less the
    highest of the row; the others are 0. `tails` is, for each temperature T, the log of the
    probability that softmax(logits/T) gives to the ids that are left out, −∞ where there are none.
    With a mass of 1 there are k ids. Logits are overwritten.
    """
    xp = array_module(logits)
    rows = xp.arange(len(logits))[:, None]
    logits -= logits.max(axis=-1, keepdims=True)
    order = xp.argsort(-logits, axis=-1, kind="stable")[:, :k]
    values = logits[rows, order]
    if mass == 1:  # what rounding leaves of it is to be kept
        counts = xp.full(len(logits), k)
    else:
        total = xp.exp(logits).sum(axis=-1, dtype=xp.float64)[:, None]
        before = xp.cumsum(xp.exp(values), axis=-1, dtype=xp.float64)
        counts = xp.minimum((before < mass * total).sum(axis=-1) + 1, k)
    mask = xp.arange(k) < counts[:, None]
    logits[xp.broadcast_to(rows, order.shape)[mask], order[mask]] = -xp.inf
    tails = xp.empty((len(temperatures), len(logits)), logits.dtype)
    for tail, temperature in zip(tails, temperatures, strict=True):
        heads = log_sum(xp, xp.where(mask, values, -xp.inf) / temperature)
        tail[...] = -xp.logaddexp(0, heads - log_sum(xp, logits / temperature))[:, 0]
    return counts, xp.where(mask, order, 0).astype(np.int32), xp.where(mask, values, 0), tails
