"""Learning from a teacher of whom some ids are known, in each row others and another number.

What is known is an outcome of its own, and all other ids are one more, as with `top_k` of
`distillation`. The kernel overwrites the logits with the gradient.
"""

from entrenar_core.kernels.divergences import DIVERGENCES
from entrenar_core.kernels.loss import cross_entropy_grad, log_sum, log_sum_exp
from entrenar_core.kernels.registry import array_module, kernel


@kernel
def sparse_distillation_grad(
    logits, ids, log_p, offsets, tails, targets, *, divergence, alpha, shared, scale
):
    """Cross-entropy, divergence and agreement per row; logits become the gradient of their mixture.

    With T and D those of `divergence` (Divergence), and q = softmax(logits/T) over the first
    `shared` ids:
    logits (N, V), ids and log_p (K,), offsets (N + 1,), tails (N,), targets (N,)
    → ce (N,), D(p, q) (N,), agreed (N,), all three 0 in ignored rows, whose target is negative.
    Of row i the teacher's ids are ids[offsets[i]:offsets[i + 1]], all below `shared`, distinct, the
    likeliest first, with log p at T in `log_p`; `tails` is the log of what the others have
    together, and means nothing where there are no others. Rows that count have an id at least.
    `agreed` is 1 where the first is the argmax of q. The gradient, times `scale`, is that of
    α·T²·D(p, q) + (1 − α)·CE. D is any of the table but mse, whose mean would be over another
    number of outcomes in each row; `top_k` has no part.
    Source: Hinton et al. 2015, arXiv:1503.02531, §2.
    """
    xp = array_module(logits)
    kind = logits.dtype.type
    valid, counts = targets >= 0, xp.diff(offsets)
    student = logits[:, :shared] / kind(divergence.temperature)
    log_q = student - log_sum_exp(xp, student)
    heads = xp.where(counts > 0, ids[xp.minimum(offsets[:-1], len(ids) - 1)], -1)
    agreed = (log_q.argmax(axis=-1) == heads) & valid
    ce = cross_entropy_grad.reference(logits, targets, scale=scale * (1 - alpha))

    rows = xp.repeat(xp.arange(len(counts)), counts)
    places = xp.arange(len(ids)) - offsets[rows]
    rest = log_q.copy()
    rest[rows, ids] = -xp.inf
    tail_q = log_sum(xp, rest)  # (N, 1)
    tail_p = xp.where(counts < shared, tails, -xp.inf)[:, None]
    p, q = (
        _outcomes(xp, x, tail, rows=rows, places=places)
        for x, tail in ((log_p, tail_p), (log_q[rows, ids], tail_q))
    )
    absent = (p == -xp.inf) & (q == -xp.inf)  # no probability on either side, and d = 0
    d = xp.where(absent, kind(0), p) - xp.where(absent, kind(0), q)
    terms, weight = DIVERGENCES[divergence.kind].terms, kind(divergence.weight)
    found, pulls = terms(d, xp.exp(p), xp.exp(q), weight)
    value = found.sum(axis=-1)
    value = xp.where(valid, xp.where(value < 0, kind(0), value), kind(0))  # below 0 by rounding
    # of a sum q_r = Σ qⱼ the derivative is 1, so its c is shared out as qⱼ/q_r
    pull = xp.exp(xp.minimum(log_q - tail_q, 0)) * pulls[:, -1:]
    pull[rows, ids] = pulls[rows, places]
    pull -= xp.exp(log_q) * pull.sum(axis=-1, keepdims=True)
    soft = kind(scale * alpha * divergence.factor / divergence.temperature)
    logits[:, :shared] += xp.where(valid, soft, kind(0))[:, None] * pull
    return ce, value, agreed.astype(logits.dtype)


def _outcomes(xp, log, tail, *, rows, places):
    """Logs of probabilities (N, k + 1) with the tail in the last column, −∞ where a row has fewer
    than k ids."""
    found = xp.full((len(tail), int(places.max(initial=-1)) + 2), -xp.inf, log.dtype)
    found[rows, places] = log
    found[:, -1:] = tail
    return found
