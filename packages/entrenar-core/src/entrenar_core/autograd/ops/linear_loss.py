"""Losses taken from hidden states: logits exist for a chunk of tokens at a time, never whole.

The gradients are computed in the forward pass, while a chunk's logits are there, so the output
projection is applied once. Targets are negative where a token does not count. `normalizer` is the
number of tokens that the loss is per: the valid ones of the whole optimizer step, so that cutting
a step into micro-batches changes nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core import kernels
from entrenar_core.autograd.op import op, takes_held
from entrenar_core.autograd.precision import products
from entrenar_core.autograd.tape import into

CHUNK = 1024
"""Tokens whose logits exist at once: large enough for the matrix product's full speed."""


@dataclass
class DistillationParts:
    """What `linear_distillation` was made of, each per `normalizer` tokens; the divergence is
    without its factor T²."""

    cross_entropy: float = 0.0
    divergence: float = 0.0
    agreement: float = 0.0


@dataclass
class AlignedParts:
    """What `linear_aligned_distillation` was made of: cross-entropy per `normalizer` tokens, and
    per group the divergence and the sorted difference, without T² and without their weights."""

    cross_entropy: float = 0.0
    divergence: float = 0.0
    sorted: float = 0.0


@op
@takes_held("weight")
def linear_cross_entropy(
    hidden, weight, targets, bias=None, *, normalizer, label_smoothing=0.0, z_loss=0.0, needs
):
    """Σ −log softmax(hidden Wᵀ + bias)[target] / normalizer.

    hidden (..., D), weight (V, D), targets (...,) of hidden's leading shape, bias (V,) → scalar.
    `label_smoothing` and `z_loss` are those of `cross_entropy`.
    """
    _check("linear_cross_entropy", hidden, weight, targets, bias)
    head = _Head(hidden, weight, needs, bias)
    extra = {"smoothing": label_smoothing, "z_loss": z_loss}
    flat, total = targets.reshape(-1), 0.0
    for chunk in head.chunks():
        logits = head.logits(chunk)
        if any(needs):
            losses = kernels.cross_entropy_grad(logits, flat[chunk], scale=1 / normalizer, **extra)
            head.pull(chunk, logits)
        else:
            losses, _ = kernels.cross_entropy(logits, flat[chunk], **extra)
        total += float(losses.sum(dtype=np.float64))
    value = np.asarray(total / normalizer, hidden.dtype)
    pull_hidden, pull_weight, pull_bias = head.vjps()
    return value, (pull_hidden, pull_weight, None, pull_bias)


@op
@takes_held("weight")
def linear_distillation(
    hidden, weight, targets, bias=None,
    *, expected, divergence, alpha, normalizer, parts, needs,
):  # fmt: skip
    """α·T²·D(teacher, student) + (1 − α)·CE, summed over valid tokens, / normalizer.

    hidden (..., D), weight (V, D), targets (...,) of hidden's leading shape, bias (V,) → scalar.
    `expected` (Expected) is what the teacher says about the same positions, and no gradient goes
    there; a `divergence` (Divergence) without T² stays without. `parts` (DistillationParts) is
    added to.
    Source: Hinton et al. 2015, arXiv:1503.02531.
    """
    _check("linear_distillation", hidden, weight, targets, bias)
    with _said_by("linear_distillation"):
        expected.check(targets.size, len(weight))
    head = _Head(hidden, weight, needs, bias)
    flat = targets.reshape(-1)
    sums = np.zeros(3)
    for chunk in head.chunks():
        logits = head.logits(chunk)
        values = expected.compare(
            logits, chunk, flat[chunk], divergence=divergence, alpha=alpha, scale=1 / normalizer
        )
        head.pull(chunk, logits)
        sums += [value.sum(dtype=np.float64) for value in values]
    cross_entropy, apart, agreement = sums / normalizer
    parts.cross_entropy += cross_entropy
    parts.divergence += apart
    parts.agreement += agreement
    loss = alpha * divergence.factor * apart + (1 - alpha) * cross_entropy
    pull_hidden, pull_weight, pull_bias = head.vjps()
    return np.asarray(loss, hidden.dtype), (pull_hidden, pull_weight, None, pull_bias)


@op
@takes_held("weight")
def linear_aligned_distillation(
    hidden, weight, targets, bias=None,
    *, aligned, divergence, alpha, normalizer, groups, parts, needs,
):  # fmt: skip
    """(1 − α)·ΣCE / normalizer + α·T²·Σ(w_m·D + w_u·S) / groups, the second over the groups of
    tokens that `aligned` (Aligned) has beside the teacher's.

    hidden (..., D), weight (V, D), targets (...,) of hidden's leading shape, bias (V,) → scalar.
    `groups` is how many the whole optimizer step has; no gradient goes to the teacher. `parts`
    (AlignedParts) is added to. D and S are those of `kernels.aligned_grad`.
    """
    _check("linear_aligned_distillation", hidden, weight, targets, bias)
    with _said_by("linear_aligned_distillation"):
        aligned.check(targets.size, len(weight))
    chunks = list(aligned.chunks(targets.size, CHUNK))
    largest = max((chunk.stop - chunk.start for chunk in chunks), default=0)
    head = _Head(hidden, weight, needs, bias, largest=largest)
    flat = targets.reshape(-1)
    scales = {"scale": 1 / normalizer, "group_scale": 1 / groups}
    sums = np.zeros(3)
    for chunk in chunks:
        logits = head.logits(chunk)
        values = aligned.compare(
            logits, chunk, flat[chunk], divergence=divergence, alpha=alpha, **scales
        )
        head.pull(chunk, logits)
        sums += [value.sum(dtype=np.float64) for value in values]
    cross_entropy, apart, by_size = sums / [normalizer, groups, groups]
    parts.cross_entropy += cross_entropy
    parts.divergence += apart
    parts.sorted += by_size
    soft = aligned.matching.matched_weight * apart + aligned.matching.sorted_weight * by_size
    loss = alpha * divergence.factor * soft + (1 - alpha) * cross_entropy
    pull_hidden, pull_weight, pull_bias = head.vjps()
    return np.asarray(loss, hidden.dtype), (pull_hidden, pull_weight, None, pull_bias)


@contextmanager
def _said_by(name: str) -> Iterator[None]:
    """Begins what does not fit with the operation's name, as all operations do."""
    try:
        yield
    except ShapeError as error:
        raise ShapeError(f"{name}: {error.message}", hint=error.hint) from None


def _check(name, hidden, weight, targets, bias=None):
    highest = targets.max(initial=-1)
    fits = hidden.shape[-1:] == weight.shape[1:] and (
        bias is None or bias.shape == weight.shape[:1]
    )
    if not fits or targets.shape != hidden.shape[:-1] or highest >= len(weight):
        extra = "" if bias is None else f", bias {bias.shape}"
        raise ShapeError(
            f"{name}: targets {targets.shape} up to {highest} do not fit hidden {hidden.shape} and "
            f"weight {weight.shape}{extra}, a vocabulary of {len(weight)}",
            hint="hidden is (..., D), weight (V, D), bias (V,), and each hidden state has one "
            "target below V, or a negative one",
        )


class _Head:
    """The output projection applied chunk by chunk, gathering its gradients on the way."""

    def __init__(self, hidden, weight, needs, bias=None, *, largest=CHUNK):
        self.shape, self.weight, self.bias = hidden.shape, weight, bias
        self.multiply = products().matmul
        self.rows = hidden.reshape(-1, hidden.shape[-1])  # (N, D)
        self.dhidden = np.empty(self.rows.shape, hidden.dtype) if needs[0] else None
        # the first chunk overwrites it; without one it is the gradient
        new = np.empty if len(self.rows) else np.zeros
        self.dweight = new(weight.shape, weight.dtype) if needs[1] else None
        self.dbias = np.zeros_like(bias) if bias is not None and needs[3] else None
        self.scratch = np.empty((min(largest, len(self.rows)), len(weight)), hidden.dtype)

    def chunks(self):
        for start in range(0, len(self.rows), CHUNK):
            yield slice(start, min(start + CHUNK, len(self.rows)))

    def logits(self, chunk):
        rows, out = self.rows[chunk], self.scratch[: chunk.stop - chunk.start]
        if self.bias is not None:
            out[...] = self.bias
        add = self.bias is not None
        return self.multiply(rows, self.weight, trans_b=True, out=out, add=add)

    def pull(self, chunk, dlogits):
        """Turn the gradient of a chunk's logits into those of hidden and weight."""
        if self.dhidden is not None:
            self.multiply(dlogits, self.weight, out=self.dhidden[chunk])
        if self.dweight is not None:
            self.multiply(
                dlogits, self.rows[chunk], trans_a=True, out=self.dweight, add=chunk.start > 0
            )
        if self.dbias is not None:
            self.dbias += dlogits.sum(axis=0)

    def vjps(self):
        """The vjps of hidden, weight and bias. They hold nothing but the finished gradients."""
        dhidden: Any = self.dhidden
        dweight, dbias, shape = self.dweight, self.dbias, self.shape

        def pull_hidden(g, dest):
            return (
                _scaled(dhidden, g).reshape(shape)
                if dest.array is None
                else _put(dhidden.reshape(shape), g, dest)
            )

        def pull_weight(g, dest):
            return _scaled(dweight, g) if dest.array is None else _put(dweight, g, dest)

        return into(pull_hidden), into(pull_weight), lambda g: _scaled(dbias, g)


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
