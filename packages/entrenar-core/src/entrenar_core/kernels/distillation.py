"""Learning from a teacher's logits: a divergence between two distributions beside cross-entropy.

The kernel overwrites the logits with the gradient, so that a chunk of logits is the only array of
its size.
"""

from entrenar_core.kernels.divergences import DIVERGENCES
from entrenar_core.kernels.loss import cross_entropy_grad, log_sum, log_sum_exp
from entrenar_core.kernels.registry import array_module, kernel


@kernel
def distillation_grad(logits, teacher, targets, *, divergence, alpha, shared, scale):
    """Cross-entropy, divergence and agreement per row; logits become the gradient of their mixture.

    With p = softmax(teacher/T) and q = softmax(logits/T) over the first `shared` ids, T and D
    being those of `divergence` (Divergence):
    logits (N, V), teacher (N, W) → ce (N,), D(p, q) (N,), agreed (N,), the last 1 where both
    argmaxes over the shared ids are equal; all three are 0 in ignored rows. The gradient, times
    `scale`, is that of α·T²·D(p, q) + (1 − α)·CE, without T² for a D that has none. With top_k the
    teacher's k most likely ids are outcomes of their own (of equal ones the first), and all others
    are one outcome with the sum of their probabilities. `teacher` is overwritten too.
    Source: Hinton et al. 2015, arXiv:1503.02531, §2.
    """
    xp = array_module(logits)
    kind = logits.dtype.type
    t, top_k = kind(divergence.temperature), divergence.top_k
    valid = targets >= 0
    student, expected = logits[:, :shared] / t, teacher[:, :shared] / t
    log_q, log_p = student - log_sum_exp(xp, student), expected - log_sum_exp(xp, expected)
    agreed = (log_q.argmax(axis=-1) == log_p.argmax(axis=-1)) & valid
    ce = cross_entropy_grad.reference(logits, targets, scale=scale * (1 - alpha))
    if top_k is None or top_k >= shared:
        value, pull = _apart(xp, divergence, log_p, log_q)
    else:
        value, pull = _apart_in_outcomes(xp, divergence, log_p, log_q)
    value = xp.where(valid, xp.where(value < 0, kind(0), value), kind(0))  # below 0 by rounding
    soft = xp.where(valid, kind(scale * alpha * divergence.factor) / t, kind(0))
    pull -= xp.exp(log_q) * pull.sum(axis=-1, keepdims=True)
    logits[:, :shared] += soft[:, None] * pull
    return ce, value, agreed.astype(logits.dtype)


def _apart(xp, divergence, log_p, log_q):
    """The divergence of each row, and its c = q·∂/∂q."""
    terms, weight = DIVERGENCES[divergence.kind].terms, log_p.dtype.type(divergence.weight)
    found, pull = terms(log_p - log_q, xp.exp(log_p), xp.exp(log_q), weight)
    return found.sum(axis=-1), pull


def _apart_in_outcomes(xp, divergence, log_p, log_q):
    """The same where all but the teacher's first `top_k` ids are one outcome: of q_r = Σ qⱼ the
    derivative is ∂q_r/∂qⱼ = 1, so its c is shared out as qⱼ/q_r."""
    rows = xp.arange(len(log_p))[:, None]
    # a stable sort: of equal ones the first
    order = xp.argsort(-log_p, axis=-1, kind="stable")[:, : divergence.top_k]
    tails, outcomes = [], []
    for x in (log_p, log_q):
        rest = x.copy()
        rest[rows, order] = -xp.inf
        tails.append(log_sum(xp, rest))
        outcomes.append(xp.concatenate([x[rows, order], tails[-1]], axis=-1))
    value, found = _apart(xp, divergence, *outcomes)
    pull = xp.exp(xp.minimum(log_q - tails[1], 0)) * found[:, -1:]
    pull[rows, order] = found[:, :-1]
    return value, pull
