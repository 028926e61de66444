"""Losses over the vocabulary, one row of logits per token; a negative target marks an ignored row.

The `_grad` kernels overwrite the logits with the gradient, so that a chunk of logits is the only
array of its size.
"""

from entrenar_core.kernels.registry import array_module, kernel


def log_sum_exp(xp, z):
    """log Σ eᶻ of each row (N, 1)."""
    peak = z.max(axis=-1, keepdims=True)
    return peak + xp.log(xp.exp(z - peak).sum(axis=-1, keepdims=True))


def log_sum(xp, z):
    """The same of rows that may be empty, or −∞ throughout: −∞."""
    if not z.shape[-1]:
        return xp.full((*z.shape[:-1], 1), -xp.inf, z.dtype)
    peak = z.max(axis=-1, keepdims=True)
    peak = xp.where(peak == -xp.inf, xp.zeros_like(peak), peak)
    total = xp.exp(z - peak).sum(axis=-1, keepdims=True)
    return xp.where(total == 0, -xp.inf, peak + xp.log(xp.where(total == 0, 1, total)))


def _losses(xp, z, lse, targets, smoothing, z_loss):
    """The loss of each row, 0 for an ignored one."""
    picked = z[xp.arange(len(targets)), xp.maximum(targets, 0)]
    losses = lse - picked
    if smoothing:
        losses += z.dtype.type(smoothing) * (picked - z.mean(axis=-1))
    if z_loss:
        losses += z.dtype.type(z_loss) * lse * lse
    return xp.where(targets >= 0, losses, z.dtype.type(0))


@kernel
def cross_entropy(logits, targets, *, smoothing=0.0, z_loss=0.0):
    """The loss of each row, and the row's argmax.

    logits (N, V), targets (N,) → losses (N,), argmax (N,). With L = log Σ exp(logits) the loss is
    (1 − ε)·(L − logits[target]) + ε·(L − mean(logits)) + z_loss·L², ε being `smoothing`.
    Sources: Szegedy et al. 2016, arXiv:1512.00567, §7; Chowdhery et al. 2022, arXiv:2204.02311, §5.
    """
    xp = array_module(logits)
    lse = log_sum_exp(xp, logits)[:, 0]
    return _losses(xp, logits, lse, targets, smoothing, z_loss), logits.argmax(axis=-1)


@kernel
def cross_entropy_grad(logits, targets, *, scale, smoothing=0.0, z_loss=0.0):
    """Losses (N,) as in `cross_entropy`; logits become their gradient times `scale`.

    With p = softmax(logits) it is p·(1 + 2·z_loss·L) − (1 − ε)·onehot(target) − ε/V.
    """
    xp = array_module(logits)
    kind = logits.dtype.type
    lse = log_sum_exp(xp, logits)
    losses = _losses(xp, logits, lse[:, 0], targets, smoothing, z_loss)
    valid = targets >= 0
    logits -= lse
    xp.exp(logits, out=logits)
    logits *= 1 + kind(2 * z_loss) * lse
    logits -= kind(smoothing / logits.shape[1])
    logits[xp.arange(len(targets))[valid], targets[valid]] -= kind(1 - smoothing)
    logits *= xp.where(valid, kind(scale), kind(0))[:, None]
    return losses
