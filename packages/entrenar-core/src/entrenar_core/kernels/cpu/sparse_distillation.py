"""`kernels.sparse_distillation`: a row of logits is turned into its gradient at once."""

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.distillation import outcomes_grad, total_of
from entrenar_core.kernels.cpu.divergences import CODES
from entrenar_core.kernels.cpu.elementary import peak_of
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.registry import override


@inner
def _sparse_grad_of_rows(
    first, last, logits, ids, log_p, offsets, tails, targets, shared, temperature, hard, soft,
    code, weight, ce, value, agreed,
):  # fmt: skip
    for i in range(first, last):
        row, inverse = logits[i], F(1) / temperature
        if targets[i] < 0:
            row[:] = F(0)
            ce[i], value[i], agreed[i] = F(0), F(0), F(0)
        else:
            begin, end = offsets[i], offsets[i + 1]
            peak_q = peak_of(row[:shared])
            at = 0
            while at < shared - 1 and row[at] != peak_q:
                at += 1
            agreed[i] = F(1) if ids[begin] == at else F(0)
            peak = max(peak_q, peak_of(row[shared:]))
            total = total_of(row, peak, F(1))
            ce[i] = np.log(total) + peak - row[targets[i]]
            y = np.empty(end - begin + 1, np.float32)
            for n in range(end - begin):
                y[n] = log_p[begin + n]
            y[end - begin] = tails[i]
            value[i] = outcomes_grad(
                row, shared, ids[begin:end], y, peak, peak_q, inverse, hard / total, soft, code,
                weight,
            )  # fmt: skip
            row[targets[i]] -= hard


@jit
def _sparse_grad(
    logits, ids, log_p, offsets, tails, targets, shared, temperature, hard, soft, code, weight,
    ce, value, agreed,
):  # fmt: skip
    told = (
        logits, ids, log_p, offsets, tails, targets, shared, temperature, hard, soft, code, weight,
        ce, value, agreed,
    )  # fmt: skip
    share_out(_sparse_grad_of_rows, logits.shape[0], logits.size, told)


@override("sparse_distillation.sparse_distillation_grad", "float32")
def sparse_distillation_grad(
    logits, ids, log_p, offsets, tails, targets, *, divergence, alpha, shared, scale
):
    found = tuple(np.empty(len(targets), np.float32) for _ in range(3))
    hard = F(scale * (1 - alpha))
    soft = F(scale * alpha * divergence.factor / divergence.temperature)
    code, weight = CODES[divergence.kind], F(divergence.weight)
    _sparse_grad(
        logits, ids, log_p, offsets, tails, targets, shared, F(divergence.temperature), hard, soft,
        code, weight, *found,
    )  # fmt: skip
    return found
