"""Losses of predictions that exist as arrays, and similarities.

`reduction` is "mean" (over the losses that count), "sum" or "none". The mean of no losses, such as
those of a batch in which every label is ignored, is 0 with gradient 0.
"""

import math

import numpy as np

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core import kernels
from entrenar_core.autograd.op import op
from entrenar_core.autograd.tape import joint


@op
def cross_entropy(
    logits, targets, *, ignore_index=-100, label_smoothing=0.0, z_loss=0.0, reduction="mean"
):
    """−log softmax(logits)[target] for each row of logits.

    logits (..., V), targets (...,) integers below V or `ignore_index`, which takes a row out.
    With L = log Σ exp(logits) and ε = `label_smoothing` a loss is
    (1 − ε)·(L − logits[target]) + ε·(L − mean(logits)) + z_loss·L².
    Sources: Szegedy et al. 2016, arXiv:1512.00567, §7; Chowdhery et al. 2022, arXiv:2204.02311, §5.
    """
    labels = _labels(logits, targets, ignore_index)
    rows = logits.reshape(len(labels), logits.shape[-1])  # (N, V)
    options = {"smoothing": label_smoothing, "z_loss": z_loss}
    losses, _ = kernels.cross_entropy(rows, labels, **options)
    counted = np.count_nonzero(labels >= 0)
    value, spread = _reduced(losses.reshape(targets.shape), reduction, counted)

    def pull(g):
        each = spread(g).reshape(-1)
        dlogits = np.array(rows, order="C")
        if reduction == "none":
            kernels.cross_entropy_grad(dlogits, labels, scale=1.0, **options)
            dlogits *= each[:, None]
        else:
            kernels.cross_entropy_grad(dlogits, labels, scale=float(each[0]), **options)
        return dlogits.reshape(logits.shape)

    return value, (pull, None)


def _labels(logits, targets, ignore_index):
    """The labels in a row, −1 where they are ignored."""
    vocabulary, labels = logits.shape[-1], targets.reshape(-1)
    counted = labels != ignore_index
    wrong = counted & ((labels < 0) | (labels >= vocabulary))
    if targets.shape != logits.shape[:-1] or targets.dtype.kind not in "iu":
        raise ShapeError(
            f"cross_entropy: targets {targets.dtype} {targets.shape} for logits {logits.shape}",
            hint=f"give one integer for each row of logits, so {logits.shape[:-1]} in all",
        )
    if wrong.any():
        raise ShapeError(
            f"cross_entropy: label {labels[wrong][0]} for a vocabulary of {vocabulary}",
            hint=f"labels are 0 to {vocabulary - 1}, or {ignore_index} where there is none",
        )
    return np.where(counted, labels, -1)


@op
def binary_cross_entropy_with_logits(logits, targets, *, pos_weight=None, reduction="mean"):
    """−w·t·log σ(x) − (1 − t)·log(1 − σ(x)) for logits x and targets t of one shape.

    `pos_weight` w is a number or an array that broadcasts to the shape, 1 by default.
    """
    t = _same_shape(logits, targets)
    extra = 0 if pos_weight is None else np.asarray(pos_weight, logits.dtype) - 1
    weight = 1 + extra * t
    opposite = np.asarray(-logits)
    softplus, no = kernels.softplus(opposite), kernels.sigmoid(opposite)  # −log σ(x), 1 − σ(x)
    value, spread = _reduced((1 - t) * logits + weight * softplus, reduction)

    def pull(g):
        each = spread(g)
        dlogits = each * ((1 - t) - weight * no)
        return dlogits, each * (extra * softplus - logits)

    return value, (joint(pull, 2),)


@op
def binary_cross_entropy(p, targets, *, reduction="mean"):
    """−t·log p − (1 − t)·log(1 − p) for probabilities p and targets t of one shape.

    Logarithms are at least −100, and p·(1 − p) at least 1e-12 in the gradient, so that a certain
    and wrong prediction costs a finite amount. From logits, the function of that name is exact.
    """
    t = _same_shape(p, targets)
    if ((p < 0) | (p > 1)).any():
        raise ValueError("a probability is between 0 and 1")
    yes, no = _log(p), _log(1 - p)
    value, spread = _reduced(-(t * yes + (1 - t) * no), reduction)

    def pull(g):
        each = spread(g)
        return each * (p - t) / np.maximum(p * (1 - p), 1e-12), each * (no - yes)

    return value, (joint(pull, 2),)


def _log(p):
    return np.maximum(np.log(np.maximum(p, np.finfo(p.dtype).smallest_subnormal)), -100)


@op
def kl_divergence(log_q, p, *, log_target=False, reduction="mean"):
    """KL(p‖q) = Σ p·(log p − log q) over the last axis, for log q and p of one shape (..., V).

    `p` has probabilities, or their logarithms with `log_target`; terms with p = 0 are 0. There is
    one divergence for each distribution (...,), and the mean is over those, which PyTorch calls
    "batchmean" for a batch of two axes.
    """
    p = _same_shape(log_q, p)
    zero = p == (-np.inf if log_target else 0)
    log_p = np.where(zero, 0, p) if log_target else np.log(np.where(zero, 1, p))
    probability = np.where(zero, 0, np.exp(log_p)) if log_target else p
    ratio = np.where(zero, 0, log_p - np.where(zero, 0, log_q))
    value, spread = _reduced((probability * ratio).sum(axis=-1), reduction)

    def pull(g):
        each = spread(g)[..., None]
        slope = probability * (ratio + 1) if log_target else np.where(zero, 0, ratio + 1)
        return -each * probability, each * slope

    return value, (joint(pull, 2),)


@op
def mse(x, y, *, reduction="mean"):
    """(x − y)² for x and y of one shape."""
    difference = x - _same_shape(x, y)
    value, spread = _reduced(difference * difference, reduction)
    return value, _of_difference(spread, 2 * difference)


@op
def l1(x, y, *, reduction="mean"):
    """|x − y| for x and y of one shape, with gradient 0 where they are equal."""
    difference = x - _same_shape(x, y)
    value, spread = _reduced(np.abs(difference), reduction)
    return value, _of_difference(spread, np.sign(difference))


@op
def smooth_l1(x, y, *, beta=1.0, reduction="mean"):
    """(x − y)²/(2β) where |x − y| < β, else |x − y| − β/2, for x and y of one shape.

    With β = 0 it is `l1`. Source: Girshick 2015, arXiv:1504.08083.
    """
    if beta < 0:
        raise ConfigError(f"smooth_l1: beta is {beta}", hint="it is at least 0")
    difference = x - _same_shape(x, y)
    size = np.abs(difference)
    slope = np.clip(difference / beta, -1, 1) if beta else np.sign(difference)
    value, spread = _reduced(
        np.where(size < beta, slope * difference / 2, size - beta / 2), reduction
    )
    return value, _of_difference(spread, slope)


@op
def cosine_similarity(x, y, *, axis=-1, eps=1e-8):
    """Σ x·y / (max(‖x‖, eps)·max(‖y‖, eps)) along `axis`, for shapes that broadcast."""
    a, norm_a = _normalized(x, axis, eps)
    b, norm_b = _normalized(y, axis, eps)
    cosine = (a * b).sum(axis=axis, keepdims=True)

    def pull(g):
        g = np.expand_dims(g, axis)
        dx = g * (b - a * np.where(norm_a > eps, cosine, 0)) / norm_a
        return dx, g * (a - b * np.where(norm_b > eps, cosine, 0)) / norm_b

    return cosine.squeeze(axis), (joint(pull, 2),)


@op
def info_nce(queries, keys, *, temperature, symmetric=False):
    """The mean of −log softmax(cosines/τ)[i] over queries i, whose positives are the keys i.

    queries (N, D), keys (M, D) with M ≥ N → scalar; the keys of the other queries and those beyond
    N are the negatives. With `symmetric` (M = N) it is the mean of that and of the same with the
    roles exchanged. Sources: van den Oord et al. 2018, arXiv:1807.03748; Radford et al. 2021,
    arXiv:2103.00020.
    """
    sizes = queries.shape[1:], keys.shape[1:]
    if queries.ndim != 2 or sizes[0] != sizes[1] or len(keys) < len(queries):
        raise ValueError("queries (N, D) and keys (M, D) with M at least N")
    if symmetric and len(keys) != len(queries):
        raise ValueError("with symmetric there are as many keys as queries")
    (a, norm_a), (b, norm_b) = (_normalized(x, -1, 1e-12) for x in (queries, keys))
    scaled = a * queries.dtype.type(1 / temperature)
    dlogits = kernels.matmul(scaled, b, trans_b=True)  # (N, M)
    other = np.ascontiguousarray(dlogits.T) if symmetric else None
    value = _diagonal_loss(dlogits)
    if other is not None:
        value = (value + _diagonal_loss(other)) / 2
        dlogits += other.T
        dlogits /= 2

    def pull(g):
        da = kernels.matmul(dlogits, b) * queries.dtype.type(1 / temperature)
        db = kernels.matmul(dlogits, scaled, trans_a=True)
        return tuple(
            g * (d - unit * (d * unit).sum(axis=-1, keepdims=True)) / norm
            for d, unit, norm in ((da, a, norm_a), (db, b, norm_b))
        )

    return np.asarray(value, queries.dtype), (joint(pull, 2),)


def _diagonal_loss(logits):
    """The mean loss of rows whose target is on the diagonal; logits become its gradient."""
    count = max(1, len(logits))
    losses = kernels.cross_entropy_grad(logits, np.arange(len(logits)), scale=1 / count)
    return float(losses.sum(dtype=np.float64)) / count


def _normalized(x, axis, eps):
    """x of length 1 along `axis`, and its length before, which is taken to be at least eps."""
    norm = np.maximum(np.sqrt((x * x).sum(axis=axis, keepdims=True)), eps)
    return x / norm, norm


def _same_shape(x, y):
    """y in the dtype of x."""
    if x.shape != y.shape:
        raise ValueError("they have one shape")
    return np.asarray(y, x.dtype)


def _reduced(losses, reduction, counted=None):
    """The reduction of `losses`, and the function from its gradient to that of each loss.

    The mean is over `counted` losses, all of them by default.
    """
    shape = losses.shape
    if reduction == "none":
        return losses, lambda g: g
    if reduction not in ("mean", "sum"):
        raise ConfigError(
            f"reduction is {reduction!r}", hint='it is one of "mean", "sum" and "none"'
        )
    count = max(1, math.prod(shape) if counted is None else counted) if reduction == "mean" else 1
    value = np.asarray(losses.sum(dtype=np.float64) / count, losses.dtype)
    return value, lambda g: np.broadcast_to(g / losses.dtype.type(count), shape)


def _of_difference(spread, slope):
    """The vjps of x and y for losses of x − y with the derivatives `slope`."""

    def pull(g):
        dx = spread(g) * slope
        return dx, -dx

    return (joint(pull, 2),)
