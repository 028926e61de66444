"""`kernels.mixture`: a row of logits is read while it is in the cache."""

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.divergences import log1p
from entrenar_core.kernels.cpu.elementary import exp, peak_of
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.registry import override


@inner
def _add_row(row, added, log_weight, temperature):
    inverse, peak = F(1) / temperature, peak_of(added)
    total = F(0)
    for j in range(row.size):
        total += exp((added[j] - peak) * inverse)
    shift = log_weight - np.log(total)
    for j in range(row.size):
        x, y = row[j] * inverse, (added[j] - peak) * inverse + shift
        high, low = (x, y) if x > y else (y, x)
        # of two that are −∞ the difference is no number
        rise = log1p(exp(low - high)) if high != F(-np.inf) else F(0)
        row[j] = temperature * (high + rise)


@inner
def _add_rows(first, last, mixture, logits, log_weight, temperature):
    for i in range(first, last):
        _add_row(mixture[i], logits[i, : mixture.shape[1]], log_weight, temperature)


@jit
def _add_to_mixture(mixture, logits, log_weight, temperature):
    told = (mixture, logits, log_weight, temperature)
    share_out(_add_rows, mixture.shape[0], mixture.size, told)


@override("mixture.add_to_mixture", "float32")
def add_to_mixture(mixture, logits, *, weight, temperature):
    _add_to_mixture(mixture, logits, F(np.log(weight)), F(temperature))
    return mixture
