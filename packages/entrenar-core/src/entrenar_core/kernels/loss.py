"""Losses over the vocabulary, one row of logits per token; a negative target marks an ignored row.

The `_grad` kernels overwrite the logits with the gradient, so that a chunk of logits is the only
array of its size.
"""

from entrenar_core.kernels.registry import array_module, kernel


def _log_softmax(xp, z):
    shifted = z - z.max(axis=-1, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))


def _picked(xp, log_p, targets):
    """−log p of each row's target, 0 for an ignored row."""
    rows = xp.arange(len(targets))
    return xp.where(targets >= 0, -log_p[rows, xp.maximum(targets, 0)], log_p.dtype.type(0))


@kernel
def cross_entropy(logits, targets):
    """−log softmax(logits)[target] per row, and the row's argmax.

    logits (N, V), targets (N,) → losses (N,), argmax (N,). Ignored rows have loss 0.
    """
    xp = array_module(logits)
    return _picked(xp, _log_softmax(xp, logits), targets), logits.argmax(axis=-1)


@kernel
def cross_entropy_grad(logits, targets, *, scale):
    """Losses (N,) as in `cross_entropy`; logits become scale · (softmax − onehot(target))."""
    xp = array_module(logits)
    log_p = _log_softmax(xp, logits)
    losses = _picked(xp, log_p, targets)
    valid = targets >= 0
    xp.exp(log_p, out=logits)
    logits[xp.arange(len(targets))[valid], targets[valid]] -= 1
    logits *= xp.where(valid, logits.dtype.type(scale), logits.dtype.type(0))[:, None]
    return losses


@kernel
def distillation_grad(logits, teacher, targets, *, temperature, alpha, shared, scale):
    """Cross-entropy, KL(p‖q) and agreement per row; logits become the gradient of their mixture.

    With p = softmax(teacher/T) and q = softmax(logits/T) over the first `shared` ids:
    logits (N, V), teacher (N, W) → ce (N,), kl (N,), agreed (N,), the last 1 where both argmaxes
    over the shared ids are equal; all three are 0 in ignored rows. The gradient, times `scale`, is
    α·T·(q − p) on the shared ids + (1 − α)·(softmax(logits) − onehot(target)), the derivative of
    α·T²·KL(p‖q) + (1 − α)·CE. `teacher` is overwritten too.
    Source: Hinton et al. 2015, arXiv:1503.02531, §2.
    """
    xp = array_module(logits)
    kind = logits.dtype.type
    t = kind(temperature)
    valid = targets >= 0
    log_q = _log_softmax(xp, logits[:, :shared] / t)
    log_p = _log_softmax(xp, teacher[:, :shared] / t)
    p = xp.exp(log_p)
    kl = xp.where(valid, (p * (log_p - log_q)).sum(axis=-1), kind(0))
    agreed = (log_q.argmax(axis=-1) == log_p.argmax(axis=-1)) & valid
    ce = cross_entropy_grad.reference(logits, targets, scale=scale * (1 - alpha))
    soft = xp.where(valid, kind(scale * alpha * temperature), kind(0))
    logits[:, :shared] += soft[:, None] * (xp.exp(log_q) - p)
    return ce, kl, agreed.astype(logits.dtype)
