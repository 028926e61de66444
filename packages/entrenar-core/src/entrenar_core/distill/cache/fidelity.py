"""How far a cache is from the teacher that it was made from."""

from dataclasses import dataclass

import numpy as np

from entrenar_core.autograd.ops.linear_loss import CHUNK
from entrenar_core.data.batches import IGNORED, Batches
from entrenar_core.distill.cache.expected import FromCache
from entrenar_core.distill.cache.teacher import CachedTeacher
from entrenar_core.distill.teacher import LiveTeacher

SAMPLE = 16
"""Rows that are compared, from all over the cache."""


@dataclass(frozen=True)
class Fidelity:
    """At one temperature, in nats, means over the tokens of a sample of rows.

    rounding: KL(teacher ‖ cache) over the outcomes that a student is compared on, the kept ids and
              the rest as one; 0 but for the rounding of what is stored
    spread:   KL(teacher ‖ p̃), where p̃ gives each kept id what the cache has, and divides the
              probability of the rest evenly among the ids that were left out
    """

    temperature: float
    rounding: float
    spread: float


def fidelity(cached: CachedTeacher, teacher: LiveTeacher, batches: Batches) -> tuple[Fidelity, ...]:
    """The distances at each stored temperature, from rows that are read from the disk."""
    plan = cached.folder.plan
    temperatures = plan.settings.temperatures
    count = min(SAMPLE, plan.keys.rows)
    chosen = np.unique(np.linspace(0, plan.keys.rows - 1, count).round().astype(np.int64))
    sums, targets = np.zeros((len(temperatures), 2)), 0
    for row_id in chosen:
        batch = batches.gather(np.array([row_id]))
        told, live = cached.expected(batch), teacher.expected(batch)
        for start in range(0, batch.ids.size, CHUNK):
            chunk = slice(start, min(start + CHUNK, batch.ids.size))
            valid = batch.labels.reshape(-1)[chunk] != IGNORED
            logits = live.logits(chunk)[:, : teacher.shared].astype(np.float64)
            sums += [_distances(logits, told, chunk, valid, t) for t in temperatures]
        targets += batch.targets
    return tuple(
        Fidelity(t, float(rounding), float(spread))
        for t, (rounding, spread) in zip(temperatures, sums / max(1, targets), strict=True)
    )


def _distances(
    logits: np.ndarray, told: FromCache, chunk: slice, valid: np.ndarray, temperature: float
) -> tuple[float, float]:
    """The sums of both distances over the valid positions."""
    ids, log_p, offsets, tails = told.known(chunk, temperature, np.dtype(np.float64))
    scaled = logits / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    exact = scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))  # (n, V)
    counts = np.diff(offsets)
    rows = np.repeat(np.arange(len(counts)), counts)
    kept = np.exp(exact[rows, ids]) * (exact[rows, ids] - log_p)
    p = np.exp(exact)
    p[rows, ids] = 0
    rest = p.sum(axis=-1)
    left = np.maximum(logits.shape[1] - counts, 1)
    counted = valid & (rest > 0)
    log_rest = np.log(rest, where=counted, out=np.zeros(len(rest)))
    as_one = np.where(counted, rest * (log_rest - np.where(counted, tails, 0)), 0)
    inside = np.where(p > 0, p * exact, 0).sum(axis=-1) - rest * log_rest  # Σ p log(p/rest)
    evenly = np.where(counted, inside + rest * np.log(left), 0)
    rounding = float(kept.sum() + as_one.sum())
    return rounding, rounding + float(evenly.sum())
