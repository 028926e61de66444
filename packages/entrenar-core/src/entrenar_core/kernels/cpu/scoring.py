"""`kernels.scoring`: a row of logits is read while it is in the cache, and not written."""

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.elementary import exp, peak_of
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.registry import override

_PIECE = 4_096
"""Terms that are summed in float32: a probability shows the error of a sum that a loss has only the
logarithm of."""


@inner
def _row_loss(row, target):
    peak = peak_of(row)
    total = 0.0
    for start in range(0, row.size, _PIECE):
        total += _sum_of_exp(row[start : start + _PIECE], peak)
    best = 0
    while best < row.size - 1 and row[best] != peak:
        best += 1
    return F(np.log(total)) + peak - row[target], best, F(1.0 / total)


@inner
def _sum_of_exp(row, peak):
    total = F(0)
    for j in range(row.size):
        total += exp(row[j] - peak)
    return total


@inner
def _row_rank(row, target):
    # written so that NaN, of which every comparison is false, counts as larger
    picked = row[target]
    before, after = row[:target], row[target + 1 :]
    count = np.int32(0) if picked == picked else np.int32(1)
    for j in range(before.size):
        count += np.int32(0) if before[j] < picked else np.int32(1)
    for j in range(after.size):
        count += np.int32(0) if after[j] <= picked else np.int32(1)
    return count


@inner
def _predictions_of_rows(first, last, logits, targets, losses, ranks, best, confidence):
    for i in range(first, last):
        losses[i], best[i], confidence[i] = _row_loss(logits[i], targets[i])
        ranks[i] = _row_rank(logits[i], targets[i])


@jit
def _predictions(logits, targets, losses, ranks, best, confidence):
    told = (logits, targets, losses, ranks, best, confidence)
    share_out(_predictions_of_rows, logits.shape[0], logits.size, told)


@inner
def _row_divergence(row, expected):
    peak_q, peak_p = peak_of(row), peak_of(expected)
    total_q, total_p, cross = 0.0, 0.0, 0.0
    for start in range(0, row.size, _PIECE):
        piece, other = row[start : start + _PIECE], expected[start : start + _PIECE]
        of_q, of_p, of_both = _sums_of_divergence(piece, other, peak_q, peak_p)
        total_q += of_q
        total_p += of_p
        cross += of_both
    # KL(p||q) = E_p[log p - log q]; rounding can leave it a hair below zero when p equals q
    value = F(cross / total_p - np.log(total_p) + np.log(total_q))
    return F(0) if value < F(0) else value


@inner
def _sums_of_divergence(row, expected, peak_q, peak_p):
    total_q, total_p, cross = F(0), F(0), F(0)
    for j in range(row.size):
        z, y = row[j] - peak_q, expected[j] - peak_p
        p = exp(y)
        total_q += exp(z)
        total_p += p
        cross += p * (y - z)
    return total_q, total_p, cross


@inner
def _divergence_of_rows(first, last, logits, expected, shared, values):
    for i in range(first, last):
        values[i] = _row_divergence(logits[i, :shared], expected[i, :shared])


@jit
def _divergence(logits, expected, shared, values):
    told = (logits, expected, shared, values)
    share_out(_divergence_of_rows, logits.shape[0], logits.shape[0] * shared, told)


@override("scoring.predictions", "float32")
def predictions(logits, targets):
    rows = len(targets)
    losses, confidence = np.empty(rows, np.float32), np.empty(rows, np.float32)
    ranks, best = np.empty(rows, np.int64), np.empty(rows, np.int64)
    _predictions(logits, targets, losses, ranks, best, confidence)
    return losses, ranks, best, confidence


@override("scoring.divergence", "float32")
def divergence(logits, expected, *, shared):
    values = np.empty(len(logits), np.float32)
    _divergence(logits, expected, shared, values)
    return values
