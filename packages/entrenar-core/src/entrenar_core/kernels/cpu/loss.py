"""`kernels.loss`: a row of logits stays in the cache while it is turned into its gradient."""

import numba
import numpy as np

from entrenar_core.kernels.cpu.compile import F, exp, jit, peak_of, serial
from entrenar_core.kernels.registry import override


@jit
def _cross_entropy(logits, targets, smoothing, z_loss, losses, best):
    for i in numba.prange(logits.shape[0]):
        losses[i], best[i] = _row_loss(logits[i], targets[i], smoothing, z_loss)


@serial
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


@jit
def _cross_entropy_grad(logits, targets, scale, smoothing, z_loss, losses):
    for i in numba.prange(logits.shape[0]):
        losses[i] = _row_grad(logits[i], targets[i], scale, smoothing, z_loss)


@serial
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


@serial
def _mean(row):
    total = F(0)
    for j in range(row.size):
        total += row[j]
    return total / F(row.size)


@jit
def _distillation_grad(logits, teacher, targets, temperature, alpha, shared, scale, ce, kl, agreed):
    for i in numba.prange(logits.shape[0]):
        ce[i], kl[i], agreed[i] = _row_distillation(
            logits[i], teacher[i, :shared], targets[i], temperature, alpha, scale
        )


@serial
def _row_distillation(row, expected, target, temperature, alpha, scale):
    inverse = F(1) / temperature
    if target < 0:
        row[:] = F(0)
        return F(0), F(0), F(0)
    shared = expected.size
    student = row[:shared]
    peak_s, peak_t = peak_of(student), peak_of(expected)
    at = 0
    while at < shared - 1 and student[at] != peak_s:
        at += 1
    agreed = F(1) if expected[at] == peak_t else F(0)
    peak = max(peak_s, peak_of(row[shared:]))
    picked = row[target]
    total, total_q, total_p, cross = F(0), F(0), F(0), F(0)
    for j in range(shared):
        z, y = student[j], (expected[j] - peak_t) * inverse
        shifted = (z - peak_s) * inverse
        p = exp(y)
        total += exp(z - peak)
        total_q += exp(shifted)
        total_p += p
        cross += p * (y - shifted)
        expected[j] = p
    for j in range(shared, row.size):
        total += exp(row[j] - peak)
    ce = np.log(total) + peak - picked
    # KL(p||q) = E_p[log p - log q]; rounding can leave it a hair below zero when p equals q
    value = cross / total_p - np.log(total_p) + np.log(total_q)
    kl = F(0) if value < F(0) else value
    hard = scale * (F(1) - alpha) / total
    soft_q = scale * alpha * temperature / total_q
    soft_p = scale * alpha * temperature / total_p
    for j in range(shared):
        z = student[j]
        student[j] = (
            hard * exp(z - peak) + soft_q * exp((z - peak_s) * inverse) - soft_p * expected[j]
        )
    for j in range(shared, row.size):
        row[j] = hard * exp(row[j] - peak)
    row[target] -= scale * (F(1) - alpha)
    return ce, kl, agreed


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


@override("loss.distillation_grad", "float32")
def distillation_grad(logits, teacher, targets, *, temperature, alpha, shared, scale):
    ce, kl, agreed = (np.empty(len(targets), np.float32) for _ in range(3))
    _distillation_grad(
        logits, teacher, targets, F(temperature), F(alpha), shared, F(scale), ce, kl, agreed
    )
    return ce, kl, agreed
