"""Losses taken from hidden states: logits exist for a chunk of tokens at a time, never whole.

The gradients are computed in the forward pass, while a chunk's logits are there, so the output
projection is applied once. Targets are negative where a token does not count. `normalizer` is the
number of tokens that the loss is per: the valid ones of the whole optimizer step, so that cutting
a step into micro-batches changes nothing.
"""

from dataclasses import dataclass

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core import kernels
from entrenar_core.autograd.op import op
from entrenar_core.autograd.tape import into

CHUNK = 1024
"""Tokens whose logits exist at once: large enough for the matrix product's full speed."""


@dataclass
class DistillationParts:
    """What `linear_distillation` was made of, each per `normalizer` tokens."""

    cross_entropy: float = 0.0
    kl: float = 0.0
    agreement: float = 0.0


@op
def linear_cross_entropy(hidden, weight, targets, *, normalizer, needs):
    """Σ −log softmax(hidden Wᵀ)[target] / normalizer.

    hidden (..., D), weight (V, D), targets (...,) of hidden's leading shape → scalar.
    """
    _check(hidden, weight, targets)
    head = _Head(hidden, weight, needs)
    flat, total = targets.reshape(-1), 0.0
    for chunk in head.chunks():
        logits = head.logits(chunk)
        if any(needs):
            losses = kernels.cross_entropy_grad(logits, flat[chunk], scale=1 / normalizer)
            head.pull(chunk, logits)
        else:
            losses, _ = kernels.cross_entropy(logits, flat[chunk])
        total += float(losses.sum(dtype=np.float64))
    return np.asarray(total / normalizer, hidden.dtype), (*head.vjps(), None)


@op
def linear_distillation(
    hidden, weight, teacher_hidden, teacher_weight, targets,
    *, temperature, alpha, shared, normalizer, parts, needs,
):  # fmt: skip
    """α·T²·KL(teacher‖student) + (1 − α)·CE, summed over valid tokens, / normalizer.

    hidden (..., D), weight (V, D), teacher_hidden (..., E), teacher_weight (W, E) → scalar; the KL
    is over the first `shared` ids. `parts` (DistillationParts) is added to. No gradient goes to
    the teacher. Source: Hinton et al. 2015, arXiv:1503.02531.
    """
    _check(hidden, weight, targets)
    head = _Head(hidden, weight, needs)
    teacher = _Head(teacher_hidden, teacher_weight, needs=(False, False))
    flat = targets.reshape(-1)
    sums = np.zeros(3)
    for chunk in head.chunks():
        logits = head.logits(chunk)
        values = kernels.distillation_grad(
            logits, teacher.logits(chunk), flat[chunk],
            temperature=temperature, alpha=alpha, shared=shared, scale=1 / normalizer,
        )  # fmt: skip
        head.pull(chunk, logits)
        sums += [value.sum(dtype=np.float64) for value in values]
    cross_entropy, kl, agreement = sums / normalizer
    parts.cross_entropy += cross_entropy
    parts.kl += kl
    parts.agreement += agreement
    loss = alpha * temperature**2 * kl + (1 - alpha) * cross_entropy
    return np.asarray(loss, hidden.dtype), (*head.vjps(), None, None, None)


def _check(hidden, weight, targets):
    highest = targets.max(initial=-1)
    if targets.shape != hidden.shape[:-1] or highest >= len(weight):
        raise ShapeError(
            f"loss: targets {targets.shape} up to {highest} do not fit hidden {hidden.shape} and "
            f"a vocabulary of {len(weight)}",
            hint="give each hidden state one target below the vocabulary's size, or a negative one",
        )


class _Head:
    """The output projection applied chunk by chunk, gathering its gradients on the way."""

    def __init__(self, hidden, weight, needs):
        self.shape, self.weight = hidden.shape, weight
        self.rows = hidden.reshape(-1, hidden.shape[-1])  # (N, D)
        self.dhidden = np.empty_like(self.rows) if needs[0] else None
        self.dweight = np.empty_like(weight) if needs[1] else None
        self.scratch = np.empty((min(CHUNK, len(self.rows)), len(weight)), hidden.dtype)

    def chunks(self):
        for start in range(0, len(self.rows), CHUNK):
            yield slice(start, min(start + CHUNK, len(self.rows)))

    def logits(self, chunk):
        rows = self.rows[chunk]
        return kernels.matmul(rows, self.weight, trans_b=True, out=self.scratch[: len(rows)])

    def pull(self, chunk, dlogits):
        """Turn the gradient of a chunk's logits into those of hidden and weight."""
        if self.dhidden is not None:
            kernels.matmul(dlogits, self.weight, out=self.dhidden[chunk])
        if self.dweight is not None:
            kernels.matmul(
                dlogits, self.rows[chunk], trans_a=True, out=self.dweight, add=chunk.start > 0
            )

    def vjps(self):
        """The vjps of hidden and weight. They hold nothing but the finished gradients."""
        dhidden, dweight = self.dhidden, self.dweight
        shape = self.shape

        def pull_hidden(g, dest):
            return (
                _scaled(dhidden, g).reshape(shape)
                if dest.array is None
                else _put(dhidden.reshape(shape), g, dest)
            )

        def pull_weight(g, dest):
            return _scaled(dweight, g) if dest.array is None else _put(dweight, g, dest)

        return into(pull_hidden), into(pull_weight)


def _scaled(gradient, g):
    """gradient · g, without touching it when g is 1, as it is for a loss that is the root."""
    if g != 1:
        gradient *= g
    return gradient


def _put(gradient, g, dest):
    gradient = _scaled(gradient, g)
    if dest.add:
        return kernels.accumulate(dest.array, gradient)
    np.copyto(dest.array, gradient)
    return dest.array
