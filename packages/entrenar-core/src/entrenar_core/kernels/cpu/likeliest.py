"""`kernels.likeliest`: the k-th largest number of a row is found by counting, and k are sorted."""

import numpy as np

from entrenar_core.kernels.cpu.compile import F, exp, jit, peak_of
from entrenar_core.kernels.cpu.distillation import choose, tail_of, total_of
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.cpu.vectors import inner
from entrenar_core.kernels.registry import override


@inner
def _sort(row, ids):
    """Sort ids by their numbers in a row, the largest first, and of equal ones the first.

    Shell's way: that of numba takes ten times as long to compile.
    """
    gap = ids.size // 2
    while gap > 0:
        for n in range(gap, ids.size):
            moved = ids[n]
            value, at = row[moved], n
            while at >= gap and _is_before(value, moved, row[ids[at - gap]], ids[at - gap]):
                ids[at] = ids[at - gap]
                at -= gap
            ids[at] = moved
        gap = 1 if gap == 2 else gap * 5 // 11


@inner
def _is_before(value, place, other, its_place):
    return value > other or (value == other and place < its_place)


@inner
def _kept(row, peak, mass, ids, values):
    """How many ids are kept; ids and values become them."""
    k = ids.size
    choose(row, peak, ids)
    _sort(row, ids)
    for n in range(k):
        values[n] = row[ids[n]] - peak
    if mass == 1.0:
        return k
    wanted, before, count = mass * total_of(row, peak, F(1)), 0.0, 0
    while count < k and before < wanted:
        before += np.float64(exp(values[count]))
        count += 1
    ids[count:] = 0
    values[count:] = F(0)
    return count


@inner
def _log_share(d):
    """log(t/(h + t)) of d = log t − log h."""
    return d - np.log1p(np.exp(d)) if d < 0 else -np.log1p(np.exp(-d))


@inner
def _likeliest_of_rows(first, last, logits, temperatures, mass, counts, ids, values, tails):
    for i in range(first, last):
        row = logits[i]
        peak = peak_of(row)
        count = _kept(row, peak, mass, ids[i], values[i])
        counts[i] = count
        for n in range(count):
            row[ids[i, n]] = F(-np.inf)
        for t in range(temperatures.size):
            inverse = F(1 / temperatures[t])
            head = np.log(np.float64(total_of(values[i, :count], F(0), inverse)))
            tails[t, i] = _log_share(np.float64(tail_of(row, peak, inverse)) - head)


@jit
def _likeliest(logits, temperatures, mass, counts, ids, values, tails):
    told = (logits, temperatures, mass, counts, ids, values, tails)
    share_out(_likeliest_of_rows, logits.shape[0], logits.size, told)


@override("likeliest.likeliest", "float32")
def likeliest(logits, temperatures, *, mass, k):
    n = len(logits)
    counts, ids = np.empty(n, np.int64), np.empty((n, k), np.int32)
    values, tails = np.empty((n, k), np.float32), np.empty((len(temperatures), n), np.float32)
    _likeliest(logits, temperatures, float(mass), counts, ids, values, tails)
    return counts, ids, values, tails
