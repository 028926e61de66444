"""What a model's logits say of the tokens that came: measured, nothing is learned from it."""

from entrenar_core.kernels.registry import array_module, kernel


def _log_softmax(xp, z):
    shifted = z - z.max(axis=-1, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))


@kernel
def predictions(logits, targets):
    """−log p of each target, its rank, and the most likely id with its probability.

    logits (N, V), targets (N,) of 0 to V − 1 → losses (N,), ranks (N,), best (N,), confidence (N,).
    The rank is how many ids come before the target when they are sorted from the most likely on,
    equally likely ones by number: 0 where it is `best`. NaN comes before everything.
    """
    xp = array_module(logits)
    rows = xp.arange(len(targets))
    log_p = _log_softmax(xp, logits)
    best = logits.argmax(axis=-1)
    picked = logits[rows, targets][:, None]
    earlier = xp.arange(logits.shape[1]) < targets[:, None]
    ranks = (~(logits <= picked) | ((logits == picked) & earlier)).sum(axis=-1)
    return -log_p[rows, targets], ranks, best, xp.exp(log_p[rows, best])


@kernel
def divergence(logits, expected, *, shared):
    """KL(p‖q) of each row, p = softmax(expected) and q = softmax(logits) over the first `shared`
    ids.

    logits (N, V), expected (N, W) → (N,), in nats.
    Source: Kullback and Leibler 1951, "On Information and Sufficiency".
    """
    xp = array_module(logits)
    log_q = _log_softmax(xp, logits[:, :shared])
    log_p = _log_softmax(xp, expected[:, :shared])
    return (xp.exp(log_p) * (log_p - log_q)).sum(axis=-1)
