"""`kernels.likeliest`: the k-th largest number of a row is found by counting, and k are sorted."""

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.distillation import choose, ordered, tail_of, total_of
from entrenar_core.kernels.cpu.elementary import exp, peak_of
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.registry import override

_MASK = 0xFFFFFFFF


@inner
def _key(value, place):
    """A whole number that is larger the larger a value is, and of equal ones the first."""
    order = np.int32(0) if value == F(0) else ordered(value)  # −0 is as large as 0
    return (np.int64(order) << 32) | (_MASK - np.int64(place))


@inner
def _sort(keys):
    """The largest first. Shell's way, as numpy's sorts take long to compile."""
    gap = keys.size // 2
    while gap > 0:
        for n in range(gap, keys.size):
            moved, at = keys[n], n
            while at >= gap and keys[at - gap] < moved:
                keys[at] = keys[at - gap]
                at -= gap
            keys[at] = moved
        gap = 1 if gap == 2 else gap * 5 // 11


@inner
def _kept(row, peak, mass, ids, values):
    """How many ids are kept; ids and values become them."""
    k = ids.size
    chosen = np.zeros(k, np.int32)
    choose(row, peak, chosen)
    keys = np.empty(k, np.int64)
    for n in range(k):
        keys[n] = _key(row[chosen[n]], chosen[n])
    _sort(keys)
    for n in range(k):
        ids[n] = _MASK - (keys[n] & _MASK)
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
