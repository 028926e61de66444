"""`kernels.distillation`: a row of logits stays in the cache while it is turned into its gradient.

Forward KL has a loop of its own, as its gradient needs no sum over the row.
"""

import numpy as np

from entrenar_core.kernels.cpu.compile import F, inner, jit
from entrenar_core.kernels.cpu.divergences import CODES, IMPOSSIBLE, row_divergence
from entrenar_core.kernels.cpu.elementary import exp, peak_of
from entrenar_core.kernels.cpu.threads import share_out
from entrenar_core.kernels.registry import override


@inner
def _row_forward_kl(row, expected, target, temperature, alpha, scale):
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
        y = IMPOSSIBLE if y < IMPOSSIBLE else y
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


@inner
def _forward_kl_grad_of_rows(
    first, last, logits, teacher, targets, temperature, alpha, shared, scale, ce, kl, agreed
):
    for i in range(first, last):
        ce[i], kl[i], agreed[i] = _row_forward_kl(
            logits[i], teacher[i, :shared], targets[i], temperature, alpha, scale
        )


@jit
def _forward_kl_grad(logits, teacher, targets, temperature, alpha, shared, scale, ce, kl, agreed):
    told = (logits, teacher, targets, temperature, alpha, shared, scale, ce, kl, agreed)
    share_out(_forward_kl_grad_of_rows, logits.shape[0], logits.size, told)


@inner
def _divergence_grad_of_rows(
    first, last, logits, teacher, targets, temperature, shared, hard, soft, code, weight, top_k,
    ce, value, agreed,
):  # fmt: skip
    for i in range(first, last):
        row, expected, inverse = logits[i], teacher[i, :shared], F(1) / temperature
        if targets[i] < 0:
            row[:] = F(0)
            ce[i], value[i], agreed[i] = F(0), F(0), F(0)
        else:
            peak_q, peak_p = peak_of(row[:shared]), peak_of(expected)
            agreed[i] = _agreement(row[:shared], expected, peak_q, peak_p)
            peak = max(peak_q, peak_of(row[shared:]))
            total = total_of(row, peak, F(1))
            ce[i] = np.log(total) + peak - row[targets[i]]
            if top_k < shared:
                value[i] = _outcomes(
                    row, expected, peak, peak_q, peak_p, inverse, hard / total, soft, code, weight,
                    top_k,
                )  # fmt: skip
            else:
                value[i] = _row(
                    row, expected, peak, peak_q, peak_p, inverse, hard / total, soft, code, weight
                )
            row[targets[i]] -= hard


@jit
def _divergence_grad(
    logits, teacher, targets, temperature, shared, hard, soft, code, weight, top_k,
    ce, value, agreed,
):  # fmt: skip
    told = (
        logits, teacher, targets, temperature, shared, hard, soft, code, weight, top_k,
        ce, value, agreed,
    )  # fmt: skip
    share_out(_divergence_grad_of_rows, logits.shape[0], logits.size, told)


@inner
def _agreement(student, expected, peak_q, peak_p):
    at = 0
    while at < student.size - 1 and student[at] != peak_q:
        at += 1
    return F(1) if expected[at] == peak_p else F(0)


@inner
def total_of(row, peak, inverse):
    total = F(0)
    for j in range(row.size):
        total += exp((row[j] - peak) * inverse)
    return total


@inner
def _row(row, expected, peak, peak_q, peak_p, inverse, hard, soft, code, weight):
    """The row turned into its gradient but for the target; gives the divergence."""
    shared = expected.size
    student = row[:shared]
    total_q, total_p = F(0), F(0)
    for j in range(shared):
        total_q += exp((student[j] - peak_q) * inverse)
        total_p += exp((expected[j] - peak_p) * inverse)
    value, pulled = row_divergence(
        code, student, expected, peak_q, peak_p, inverse, total_q, total_p, weight
    )
    share = soft * pulled / total_q
    for j in range(shared):
        z = student[j]
        student[j] = hard * exp(z - peak) + soft * expected[j] - share * exp((z - peak_q) * inverse)
    for j in range(shared, row.size):
        row[j] = hard * exp(row[j] - peak)
    return F(0) if value < F(0) else value


@inner
def _outcomes(row, expected, peak, peak_q, peak_p, inverse, hard, soft, code, weight, top_k):
    """As `_row`, where all but the teacher's first `top_k` ids are one outcome."""
    chosen = np.zeros(top_k, np.int32)
    choose(expected, peak_p, chosen)
    y = np.empty(top_k + 1, np.float32)
    for n in range(top_k):
        y[n] = (expected[chosen[n]] - peak_p) * inverse
        expected[chosen[n]] = F(-np.inf)
    y[top_k] = tail_of(expected, peak_p, inverse)
    return outcomes_grad(
        row, expected.size, chosen, y, peak, peak_q, inverse, hard, soft, code, weight
    )


@inner
def outcomes_grad(row, shared, chosen, y, peak, peak_q, inverse, hard, soft, code, weight):
    """The row turned into its gradient but for the target, where the ids `chosen` are outcomes and
    all others of the first `shared` are one more, the last; gives the divergence.

    y has the teacher's log probabilities of the outcomes, up to a number that all have in common,
    and is overwritten.
    """
    student, k = row[:shared], chosen.size
    logits, x = np.empty(k, np.float32), np.empty(k + 1, np.float32)
    for n in range(k):
        logits[n] = student[chosen[n]]
        x[n] = (logits[n] - peak_q) * inverse
    for n in range(k):
        student[chosen[n]] = F(-np.inf)
    x[k] = tail_of(student, peak_q, inverse)
    tail, outcomes = x[k], k + 1 if k < shared else k
    x, y = x[:outcomes], y[:outcomes]
    total_q, total_p = total_of(x, F(0), F(1)), total_of(y, F(0), F(1))
    value, pulled = row_divergence(code, x, y, F(0), F(0), F(1), total_q, total_p, weight)
    share, tail_share = soft * pulled / total_q, soft * y[outcomes - 1]
    if tail > F(-80):
        inside = tail_share * exp(-tail) - share
        for j in range(shared):
            z = student[j]
            student[j] = hard * exp(z - peak) + inside * exp((z - peak_q) * inverse)
    else:  # e⁻ᵗᵃⁱˡ is too much for float32
        for j in range(shared):
            z = student[j]
            q = (z - peak_q) * inverse
            student[j] = hard * exp(z - peak) + tail_share * exp(q - tail) - share * exp(q)
    for j in range(shared, row.size):
        row[j] = hard * exp(row[j] - peak)
    for n in range(k):
        z = logits[n]
        student[chosen[n]] = (
            hard * exp(z - peak) + soft * y[n] - share * exp((z - peak_q) * inverse)
        )
    return F(0) if value < F(0) else value


@inner
def tail_of(row, peak, inverse):
    """log Σ exp((z − peak)/T) of a row, −∞ where there is nothing."""
    highest = peak_of(row)
    if highest == F(-np.inf):
        return highest
    return (highest - peak) * inverse + np.log(total_of(row, highest, inverse))


@inner
def choose(row, peak, chosen):
    """The ids of the largest numbers of a row, of equal ones the first."""
    k = chosen.size
    low, high = ordered(F(-np.inf)), ordered(peak)  # at least k are ≥ low
    count = row.size
    while count != k and low < high:
        middle = np.int32((np.int64(low) + np.int64(high) + 1) >> 1)
        bound, found = _number(middle), 0
        for j in range(row.size):
            found += np.int32(row[j] >= bound)
        if found >= k:
            low, count = middle, found
        else:
            high = np.int32(middle - 1)
    least, surplus, n = _number(low), count - k, 0
    for j in range(row.size - 1, -1, -1):
        if row[j] >= least:
            if surplus > 0 and row[j] == least:
                surplus -= 1
            elif n < k:
                chosen[n] = j
                n += 1


@inner
def ordered(x):
    """The whole number that is to others as x is to other floats."""
    bits = F(x).view(np.int32)
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@inner
def _number(order):
    return np.int32(order ^ ((order >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)


@override("distillation.distillation_grad", "float32")
def distillation_grad(logits, teacher, targets, *, divergence, alpha, shared, scale):
    found = tuple(np.empty(len(targets), np.float32) for _ in range(3))
    temperature, top_k = F(divergence.temperature), min(divergence.top_k or shared, shared)
    if divergence.kind == "forward_kl" and top_k == shared:
        _forward_kl_grad(logits, teacher, targets, temperature, F(alpha), shared, F(scale), *found)
        return found
    hard = F(scale * (1 - alpha))
    soft = F(scale * alpha * divergence.factor / divergence.temperature)
    code, weight = CODES[divergence.kind], F(divergence.weight)
    _divergence_grad(
        logits, teacher, targets, temperature, shared, hard, soft, code, weight, top_k, *found
    )
    return found
