"""Which of a teacher's ids are kept, and what the others have together."""

import numpy as np

from entrenar_core import kernels
from entrenar_core.distill.cache.settings import Settings


def select(
    logits: np.ndarray, settings: Settings
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each row of logits (N, V): how many ids are kept, which, what is stored of them, and the
    rest.

    → counts (N,), ids (K,) int32, values (K,) and tails (n, N) with n temperatures, as in `row`;
    the ids of a row begin with the likeliest, of equal ones the first. `logits`, which are finite
    or −∞, are overwritten.
    """
    counts, ids, values, tails = kernels.likeliest(
        logits,
        np.array(settings.temperatures, np.float64),
        mass=settings.mass,
        k=min(settings.max_k, logits.shape[1]),
    )
    mask = np.arange(ids.shape[1]) < counts[:, None]
    return counts, ids[mask], values[mask], tails


def log_probabilities(
    values: np.ndarray, rows: np.ndarray, tails: np.ndarray, temperature: float
) -> np.ndarray:
    """log p (K,) of kept ids, from what is stored of them, float32 or float64.

    `rows` (K,) says which row of `tails` (N,) an id is of. A row's probabilities and its tail add
    up to 1 however the values were rounded.
    """
    scaled = values / values.dtype.type(temperature)
    totals = np.bincount(rows, np.exp(scaled), minlength=len(tails))
    head = -np.expm1(tails.astype(np.float64))
    # of a position without ids neither is there, nor asked for
    log_total, log_head = (np.log(x, where=x > 0, out=np.zeros(len(tails))) for x in (totals, head))
    return scaled + (log_head - log_total).astype(values.dtype)[rows]
