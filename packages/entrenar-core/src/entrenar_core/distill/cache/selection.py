"""Which of a teacher's ids are kept, and what the others have together."""

import numpy as np

from entrenar_core.distill.cache.settings import Settings


def select(
    logits: np.ndarray, settings: Settings
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each row of logits (N, V): how many ids are kept, which, what is stored of them, and the
    rest.

    → counts (N,), ids (K,) int32, values (K,) float32 and tails (n, N) float64 with n
    temperatures, as in `row`; the ids of a row begin with the likeliest, of equal ones the first.
    `logits`, which are finite or −∞, are overwritten.
    """
    rows = np.arange(len(logits))[:, None]
    peak = logits.max(axis=-1, keepdims=True)
    logits -= peak
    order = _likeliest(logits, min(settings.max_k, logits.shape[1]))  # (N, k)
    kept = logits[rows, order]
    counts = _counts(kept, logits, settings.mass)
    mask = np.arange(kept.shape[1]) < counts[:, None]
    logits[np.broadcast_to(rows, order.shape)[mask], order[mask]] = -np.inf
    heads = np.where(mask, kept, -np.inf)
    tails = [log_tails(heads, logits, t) for t in settings.temperatures]
    return counts, order[mask].astype(np.int32), kept[mask], np.stack(tails)


def log_tails(heads: np.ndarray, rest: np.ndarray, temperature: float) -> np.ndarray:
    """log(Σ_rest/(Σ_heads + Σ_rest)) of exp(logit/T), (N,) float64; −∞ where the rest is nothing.

    The highest logit of each row is 0, and one of its heads.
    """
    head = np.log(np.exp(heads / np.float32(temperature)).sum(axis=-1, dtype=np.float64))
    peak = rest.max(axis=-1, keepdims=True)
    peak = np.where(peak == -np.inf, 0, peak)
    total = np.exp((rest - peak) / np.float32(temperature)).sum(axis=-1, dtype=np.float64)
    log_total = np.log(total, out=np.full(len(total), -np.inf), where=total > 0)
    tail = log_total + peak[:, 0].astype(np.float64) / temperature
    return tail - np.logaddexp(head, tail)


def _likeliest(logits: np.ndarray, k: int) -> np.ndarray:
    """The ids of the k largest numbers of each row (N, k), the largest first, of equal ones the
    first."""
    rows = np.arange(len(logits))[:, None]
    if k == logits.shape[1]:
        return np.argsort(-logits, axis=-1, kind="stable")
    some = np.sort(np.argpartition(logits, -k, axis=-1)[:, -k:], axis=-1)
    chosen = logits[rows, some]
    least = chosen.min(axis=-1, keepdims=True)
    found = np.take_along_axis(some, np.argsort(-chosen, axis=-1, kind="stable"), axis=-1)
    # of those equal to the least one, a partition takes any
    doubtful = (logits >= least).sum(axis=-1) > k
    if doubtful.any():
        found[doubtful] = np.argsort(-logits[doubtful], axis=-1, kind="stable")[:, :k]
    return found


def _counts(kept: np.ndarray, logits: np.ndarray, mass: float) -> np.ndarray:
    """How many of the likeliest ids have the share `mass` of a row's probability."""
    if mass == 1:  # what rounding leaves of it is to be kept
        return np.full(len(kept), kept.shape[1])
    total = np.exp(logits).sum(axis=-1, dtype=np.float64)[:, None]
    before = np.cumsum(np.exp(kept.astype(np.float64)), axis=-1)
    return np.minimum((before < mass * total).sum(axis=-1) + 1, kept.shape[1])


def log_probabilities(
    values: np.ndarray, rows: np.ndarray, tails: np.ndarray, temperature: float
) -> np.ndarray:
    """log p (K,) of kept ids, from what is stored of them, float32 or float64.

    `rows` (K,) says which row of `tails` (N,) an id is of. A row's probabilities and its tail add
    up to 1 however the values were rounded.
    """
    scaled = values / values.dtype.type(temperature)
    totals, head = np.bincount(rows, np.exp(scaled), minlength=len(tails)), -np.expm1(tails)
    # of a position without ids neither is there, nor asked for
    log_total, log_head = (np.log(x, where=x > 0, out=np.zeros(len(tails))) for x in (totals, head))
    return scaled + (log_head - log_total).astype(values.dtype)[rows]
