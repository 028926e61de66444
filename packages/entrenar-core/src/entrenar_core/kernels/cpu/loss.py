"""`kernels.loss`: a row of logits stays in the cache while it is turned into its gradient."""

import numba
import numpy as np

from entrenar_core.kernels.cpu.compile import F, exp, jit
from entrenar_core.kernels.registry import override


@jit
def _cross_entropy(logits, targets, losses, best):
    for i in numba.prange(logits.shape[0]):
        row, target = logits[i], targets[i]
        peak = row[0]
        for j in range(row.size):
            peak = max(peak, row[j])
        total = F(0)
        for j in range(row.size):
            total += exp(row[j] - peak)
        losses[i] = np.log(total) + peak - row[target] if target >= 0 else F(0)
        at = 0
        while at < row.size - 1 and row[at] != peak:
            at += 1
        best[i] = at


@jit
def _cross_entropy_grad(logits, targets, scale, losses):
    for i in numba.prange(logits.shape[0]):
        row, target = logits[i], targets[i]
        if target < 0:
            row[:] = F(0)
            losses[i] = F(0)
            continue
        peak = row[0]
        for j in range(row.size):
            peak = max(peak, row[j])
        picked = row[target]
        total = F(0)
        for j in range(row.size):
            e = exp(row[j] - peak)
            row[j] = e
            total += e
        losses[i] = np.log(total) + peak - picked
        factor = scale / total
        for j in range(row.size):
            row[j] *= factor
        row[target] -= scale


@jit
def _distillation_grad(logits, teacher, targets, temperature, alpha, shared, scale, ce, kl, agreed):
    inverse = F(1) / temperature
    for i in numba.prange(logits.shape[0]):
        row, target = logits[i], targets[i]
        if target < 0:
            row[:] = F(0)
            ce[i] = kl[i] = agreed[i] = F(0)
            continue
        student, expected = row[:shared], teacher[i, :shared]
        peak_s, peak_t = student[0], expected[0]
        for j in range(shared):
            peak_s = max(peak_s, student[j])
            peak_t = max(peak_t, expected[j])
        at = 0
        while at < shared - 1 and student[at] != peak_s:
            at += 1
        agreed[i] = F(1) if expected[at] == peak_t else F(0)
        peak = peak_s
        for j in range(shared, row.size):
            peak = max(peak, row[j])
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
        ce[i] = np.log(total) + peak - picked
        # KL(p||q) = E_p[log p - log q]; rounding can leave it a hair below zero when p equals q
        value = cross / total_p - np.log(total_p) + np.log(total_q)
        kl[i] = F(0) if value < F(0) else value
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


@override("loss.cross_entropy", "float32")
def cross_entropy(logits, targets):
    losses = np.empty(len(targets), np.float32)
    best = np.empty(len(targets), np.int64)
    _cross_entropy(logits, targets, losses, best)
    return losses, best


@override("loss.cross_entropy_grad", "float32")
def cross_entropy_grad(logits, targets, *, scale):
    losses = np.empty(len(targets), np.float32)
    _cross_entropy_grad(logits, targets, F(scale), losses)
    return losses


@override("loss.distillation_grad", "float32")
def distillation_grad(logits, teacher, targets, *, temperature, alpha, shared, scale):
    ce, kl, agreed = (np.empty(len(targets), np.float32) for _ in range(3))
    _distillation_grad(
        logits, teacher, targets, F(temperature), F(alpha), shared, F(scale), ce, kl, agreed
    )
    return ce, kl, agreed
