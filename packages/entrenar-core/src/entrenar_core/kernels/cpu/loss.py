"""`kernels.loss`: a row of logits stays in the cache while it is turned into its gradient."""

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.elementary import exp, peak_of
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.registry import override


@inner
def _row_loss(row, target, smoothing, z_loss):
    peak = peak_of(row)
    total = F(0)
    for j in range(row.size):
        total += exp(row[j] - peak)
    lse = np.log(total) + peak
    best = 0
    while best < row.size - 1 and row[best] != peak:
        best += 1
    if target < 0:
        return F(0), best
    picked = row[target]
    mean = _mean(row) if smoothing > F(0) else picked
    return lse - picked + smoothing * (picked - mean) + z_loss * lse * lse, best


@inner
def _row_grad(row, target, scale, smoothing, z_loss):
    if target < 0:
        row[:] = F(0)
        return F(0)
    peak = peak_of(row)
    picked = row[target]
    mean = _mean(row) if smoothing > F(0) else picked
    total = F(0)
    for j in range(row.size):
        e = exp(row[j] - peak)
        row[j] = e
        total += e
    lse = np.log(total) + peak
    factor = scale / total * (F(1) + F(2) * z_loss * lse)
    spread = scale * smoothing / F(row.size)
    for j in range(row.size):
        row[j] = row[j] * factor - spread
    row[target] -= scale * (F(1) - smoothing)
    return lse - picked + smoothing * (picked - mean) + z_loss * lse * lse


@inner
def _mean(row):
    total = F(0)
    for j in range(row.size):
        total += row[j]
    return total / F(row.size)


@inner
def _cross_entropy_rows(first, last, logits, targets, smoothing, z_loss, losses, best):
    for i in range(first, last):
        losses[i], best[i] = _row_loss(logits[i], targets[i], smoothing, z_loss)


@inner
def _cross_entropy_grad_rows(first, last, logits, targets, scale, smoothing, z_loss, losses):
    for i in range(first, last):
        losses[i] = _row_grad(logits[i], targets[i], scale, smoothing, z_loss)


@jit
def _cross_entropy(logits, targets, smoothing, z_loss, losses, best):
    told = (logits, targets, smoothing, z_loss, losses, best)
    share_out(_cross_entropy_rows, logits.shape[0], logits.size, told)


@jit
def _cross_entropy_grad(logits, targets, scale, smoothing, z_loss, losses):
    told = (logits, targets, scale, smoothing, z_loss, losses)
    share_out(_cross_entropy_grad_rows, logits.shape[0], logits.size, told)


@override("loss.cross_entropy", "float32")
def cross_entropy(logits, targets, *, smoothing=0.0, z_loss=0.0):
    losses = np.empty(len(targets), np.float32)
    best = np.empty(len(targets), np.int64)
    _cross_entropy(logits, targets, F(smoothing), F(z_loss), losses, best)
    return losses, best


@override("loss.cross_entropy_grad", "float32")
def cross_entropy_grad(logits, targets, *, scale, smoothing=0.0, z_loss=0.0):
    losses = np.empty(len(targets), np.float32)
    _cross_entropy_grad(logits, targets, F(scale), F(smoothing), F(z_loss), losses)
    return losses
