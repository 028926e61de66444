"""`kernels.aligned_grad`: each group's rows stay in the cache while they become their gradient.

Probabilities that are compared by size are sorted by numpy, whose sort of whole numbers is written
in vector instructions; floats above 0 are ordered as their bits are.
"""

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.divergences import CODES, log1p, row_divergence
from entrenar_core.kernels.cpu.elementary import exp, peak_of
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.registry import override

_SORTED_AT_ONCE = 2**23
"""Probabilities that are sorted at once: 64 MiB of the student's."""

_MASK = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


@inner
def _cross_entropy_of_rows(first, last, logits, targets, ce, peaks, totals):
    for i in range(first, last):
        row = logits[i]
        peaks[i] = peak_of(row)
        totals[i] = _total(row, peaks[i], F(1))
        ce[i] = F(0) if targets[i] < 0 else np.log(totals[i]) + peaks[i] - row[targets[i]]


@jit
def _cross_entropy(logits, targets, ce, peaks, totals):
    told = (logits, targets, ce, peaks, totals)
    share_out(_cross_entropy_of_rows, logits.shape[0], logits.size, told)


@inner
def _only_cross_entropy_of_rows(first, last, logits, targets, grouped, hard, peaks, totals):
    for i in range(first, last):
        if not grouped[i]:
            row = logits[i]
            if targets[i] < 0:
                row[:] = F(0)
            else:
                share = hard / totals[i]
                for j in range(row.size):
                    row[j] = share * exp(row[j] - peaks[i])
                row[targets[i]] -= hard


@jit
def _only_cross_entropy(logits, targets, grouped, hard, peaks, totals):
    told = (logits, targets, grouped, hard, peaks, totals)
    share_out(_only_cross_entropy_of_rows, logits.shape[0], logits.size, told)


@inner
def _later_of_groups(first, last, rows, targets, starts, counts, ids, inverse, log_s):
    for i in range(first, last):
        total = F(0)
        for j in range(starts[i] + 1, starts[i] + counts[i]):
            total -= _softplus(_gap(rows[j, :ids], targets[j], inverse))
        log_s[i] = min(total, F(-1e-37)) if counts[i] > 1 else F(0)


@jit
def _later(rows, targets, starts, counts, ids, inverse, log_s):
    """log s of each group: of the tokens after its first one."""
    told = (rows, targets, starts, counts, ids, inverse, log_s)
    share_out(_later_of_groups, starts.size, rows.size, told)


@inner
def _gap(row, came, inverse):
    """log of how likely all others are, together, over how likely the one that came is."""
    picked = row[came]
    row[came] = F(-np.inf)
    peak = peak_of(row)
    rest = (peak - picked) * inverse + np.log(_total(row, peak, inverse))
    row[came] = picked
    return rest


@inner
def _softplus(x):
    return max(x, F(0)) + log1p(exp(-abs(x)))


@inner
def _total(row, peak, inverse):
    total = F(0)
    for j in range(row.size):
        total += exp((row[j] - peak) * inverse)
    return total


@inner
def _log_total(row, inverse):
    """log Σ exp(z/T) of a row."""
    peak = peak_of(row)
    return peak * inverse + np.log(_total(row, peak, inverse))


@inner
def _gather(row, chosen, inverse, shift, out):
    for n in range(chosen.size):
        out[n] = row[chosen[n]] * inverse + shift


@inner
def _log_of_sum(x):
    """log Σ eˣ, −∞ where there is nothing."""
    peak = peak_of(x)
    if peak == F(-np.inf):
        return peak
    return peak + np.log(_total(x, peak, F(1)))


@inner
def _log_rest(log_s, several, log_unseen):
    """log(1 − s + s·u) for a group of several tokens, of one log u."""
    if not several:
        return log_unseen
    # 1 − s, exact also for s near 1
    lost = np.log(-np.expm1(log_s))
    high = max(lost, log_s + log_unseen)
    low = min(lost, log_s + log_unseen)
    return high + log1p(exp(low - high))


@inner
def _merged_of_groups(first, last, rows, starts, ids, only, inverse, log_s, out):
    for i in range(first, last):
        row = rows[starts[i], :ids]
        shift = log_s[i] - _log_total(row, inverse)
        for n in range(only.size):
            out[i, n] = exp(row[only[n]] * inverse + shift)


@jit
def _merged(rows, starts, ids, only, inverse, log_s, out):
    """The merged probabilities of the ids `only`, (G, U)."""
    told = (rows, starts, ids, only, inverse, log_s, out)
    share_out(_merged_of_groups, starts.size, starts.size * ids, told)


@inner
def _keys_of_rows(first, last, values, keys):
    for i in range(first, last):
        for n in range(values.shape[1]):
            bits = np.uint64(np.float32(values[i, n]).view(np.uint32))
            keys[i, n] = (bits << _HALF) | (_MASK - np.uint64(n))


@jit
def _keys(values, keys):
    """Whole numbers that are ordered as the values are; of equal ones the first is the largest."""
    share_out(_keys_of_rows, values.shape[0], values.size, (values, keys))


@inner
def _by_size_of_rows(first, last, keys, theirs, apart, pull):
    width, other = keys.shape[1], theirs.shape[1]
    for i in range(first, last):
        total = F(0)
        for r in range(width):
            key = keys[i, width - 1 - r]
            x = np.uint32(key >> _HALF).view(np.float32)
            y = theirs[i, other - 1 - r] if r < other else F(0)
            total += abs(x - y)
            pull[i, np.int64(_MASK - (key & _MASK))] = x * (F(x > y) - F(x < y))
        for r in range(width, other):
            total += theirs[i, other - 1 - r]
        apart[i] = total


@jit
def _by_size(keys, theirs, apart, pull):
    """Σ|x₍ᵣ₎ − y₍ᵣ₎| of what rises in both, from the end, and x·∂/∂x."""
    share_out(_by_size_of_rows, keys.shape[0], keys.size, (keys, theirs, apart, pull))


@inner
def _some_groups(
    first, last, logits, teacher, targets, groups, mine, only, ids, theirs, their_only, their_ids,
    inverse, log_s, log_t, pull, matched, by_size, hard, soft, code, weight, peaks, totals, value,
):  # fmt: skip
    for i in range(first, last):
        start, count, place, their_count = groups[i]
        row = logits[start, :ids]
        log_total = _log_total(row, inverse)
        x = np.empty(mine.size + 1, np.float32)
        unseen = np.empty(only.size, np.float32)
        _gather(row, mine, inverse, log_s[i] - log_total, x)
        _gather(row, only, inverse, -log_total, unseen)
        x[mine.size] = _log_rest(log_s[i], count > 1, _log_of_sum(unseen))
        y = _expected(
            teacher[place, :their_ids], theirs, their_only, inverse, log_t[i], their_count
        )
        value[i] = _compare(x, y, code, weight)
        gradient = np.zeros(ids, np.float32)
        later = _spread(x, y, unseen, log_s[i], mine, only, matched, gradient)
        if by_size > F(0):
            for n in range(only.size):
                gradient[only[n]] += by_size * pull[i, n]
                later += by_size * pull[i, n]
        total = F(0)
        for j in range(ids):
            total += gradient[j]
        _first_row(
            logits[start], gradient, total, log_total, inverse, soft, hard / totals[start],
            peaks[start],
        )  # fmt: skip
        logits[start, targets[start]] -= hard
        for j in range(start + 1, start + count):
            _later_row(
                logits[j], targets[j], ids, inverse, soft * later, hard / totals[j], peaks[j]
            )
            logits[j, targets[j]] -= hard


@jit
def _groups(
    logits, teacher, targets, groups, pairs, inverse, log_s, log_t, pull, scales, code, weight,
    peaks, totals, value,
):  # fmt: skip
    told = (
        logits, teacher, targets, groups, *pairs, inverse, log_s, log_t, pull, *scales,
        code, weight, peaks, totals, value,
    )  # fmt: skip
    share_out(_some_groups, groups.shape[0], logits.size, told)


@inner
def _expected(row, theirs, only, inverse, log_t, count):
    """Logarithms of the teacher's outcomes: the pairs, and what is left."""
    log_total = _log_total(row, inverse)
    y = np.empty(theirs.size + 1, np.float32)
    unseen = np.empty(only.size, np.float32)
    _gather(row, theirs, inverse, log_t - log_total, y)
    _gather(row, only, inverse, -log_total, unseen)
    y[theirs.size] = _log_rest(log_t, count > 1, _log_of_sum(unseen))
    return y


@inner
def _compare(x, y, code, weight):
    """The divergence; y becomes c. Where nothing is left to the student, only the pairs count."""
    n = x.size
    if x[n - 1] == F(-np.inf):
        n -= 1
        among = _log_of_sum(y[:n])
        for m in range(n):
            y[m] -= among
        y[n] = F(0)
    x, y = x[:n], y[:n]
    found, _ = row_divergence(
        code, x, y, F(0), F(0), F(1), _total(x, F(0), F(1)), _total(y, F(0), F(1)), weight
    )
    return F(0) if found < F(0) else found


@inner
def _spread(x, c, unseen, log_s, mine, only, matched, gradient):
    """`matched` times the derivatives by ℓ into `gradient`; gives that by log s."""
    m = mine.size
    rest, left = x[m], c[m]
    later = F(0)
    for n in range(m):
        gradient[mine[n]] = matched * c[n]
        later += c[n]
    if rest == F(-np.inf):
        return matched * later
    for n in range(only.size):
        gradient[only[n]] = matched * left * exp(log_s + unseen[n] - rest)
    kept = _log_of_sum(x[:m]) - rest
    return matched * (later - left * exp(min(kept, F(87))))


@inner
def _first_row(row, gradient, total, log_total, inverse, soft, hard, peak):
    for j in range(gradient.size):
        z = row[j]
        q = exp(z * inverse - log_total)
        row[j] = hard * exp(z - peak) + soft * (gradient[j] - total * q)
    for j in range(gradient.size, row.size):
        row[j] = hard * exp(row[j] - peak)


@inner
def _later_row(row, came, ids, inverse, pulled, hard, peak):
    """The gradient of hard·CE without its target, and of pulled·log softmax(z/T)[came]."""
    gap = _gap(row[:ids], came, inverse)
    log_total = row[came] * inverse + _softplus(gap)
    picked = row[came]
    for j in range(ids):
        z = row[j]
        row[j] = hard * exp(z - peak) - pulled * exp(z * inverse - log_total)
    for j in range(ids, row.size):
        row[j] = hard * exp(row[j] - peak)
    # 1 − p, exact also for p near 1
    row[came] = hard * exp(picked - peak) + pulled * exp(-_softplus(-gap))


@override("aligned.aligned_grad", "float32")
def aligned_grad(
    logits, teacher, targets, teacher_targets, groups,
    *, matching, divergence, alpha, scale, group_scale,
):  # fmt: skip
    count, found = len(groups), len(targets)
    ce, peaks, totals = (np.empty(found, np.float32) for _ in range(3))
    _cross_entropy(logits, targets, ce, peaks, totals)
    grouped = np.zeros(found + 1, np.int64)
    np.add.at(grouped, groups[:, 0], 1)
    np.add.at(grouped, groups[:, 0] + groups[:, 1], -1)
    hard = F(scale * (1 - alpha))
    inside = np.cumsum(grouped)[:-1] > 0
    _only_cross_entropy(logits, targets, inside, hard, peaks, totals)
    value, apart, log_s, log_t = (np.zeros(count, np.float32) for _ in range(4))
    inverse = F(1 / divergence.temperature)
    starts, counts, places, their_counts = np.ascontiguousarray(groups.T)
    _later(logits, targets, starts, counts, matching.student_ids, inverse, log_s)
    _later(teacher, teacher_targets, places, their_counts, matching.teacher_ids, inverse, log_t)
    soft = F(group_scale * alpha * divergence.factor / divergence.temperature)
    scales = F(matching.matched_weight), F(matching.sorted_weight), hard, soft
    pairs = (
        matching.student, matching.student_only, matching.student_ids,
        matching.teacher, matching.teacher_only, matching.teacher_ids,
    )  # fmt: skip
    width = len(matching.student_only) if matching.sorted_weight else 0
    other = len(matching.teacher_only) if matching.sorted_weight else 0
    size = max(1, _SORTED_AT_ONCE // max(1, width, other))
    for start in range(0, count, size):
        part = slice(start, start + size)
        some = groups[part]
        pull = np.empty((len(some), width), np.float32)
        if matching.sorted_weight:
            _sorted(
                logits, teacher, starts[part], places[part], matching, inverse, log_s[part],
                log_t[part], apart[part], pull,
            )  # fmt: skip
        _groups(
            logits, teacher, targets, some, pairs, inverse, log_s[part], log_t[part], pull, scales,
            CODES[divergence.kind], F(divergence.weight), peaks, totals, value[part],
        )  # fmt: skip
    return ce, value, apart


def _sorted(logits, teacher, starts, places, matching, inverse, log_s, log_t, apart, pull):
    """The sorted difference of some groups into `apart`, its x·∂/∂x into `pull`."""
    _merged(logits, starts, matching.student_ids, matching.student_only, inverse, log_s, pull)
    theirs = np.empty((len(places), len(matching.teacher_only)), np.float32)
    _merged(teacher, places, matching.teacher_ids, matching.teacher_only, inverse, log_t, theirs)
    keys = np.empty(pull.shape, np.uint64)
    _keys(pull, keys)
    keys.sort(axis=-1)
    theirs.sort(axis=-1)
    _by_size(keys, theirs, apart, pull)
