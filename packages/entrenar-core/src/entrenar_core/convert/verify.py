"""Comparing a written file with the model that it was made of, tensor by tensor, in pieces."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import log10, sqrt

import numpy as np

from entrenar_common.errors import IntegrityError
from entrenar_common.progress import Progress
from entrenar_common.text import escape_controls
from entrenar_core.quant import BlockArray, Stored
from entrenar_core.quant.pieces import pieces, rows_of, widened

BOUNDS = {
    "f32": 0.0, "f64": 0.0, "f16": 2**-11, "bf16": 2**-8,
    "q4_0": 1 / 8, "q4_1": 2 / 30, "q5_0": 1 / 16, "q5_1": 2 / 62, "q8_0": 1 / 254,
    "q4_k": 1 / 4, "q5_k": 1 / 8, "q6_k": 1 / 8,
}  # fmt: skip
"""How far an element may be off, as a share of the largest magnitude in its block.

Those of blocks of 32 follow from their formula: half a step, or a whole one opposite the largest
element. Those of blocks of 256 are searched for the least squared error, which may give up an
extreme element; their bounds are wide, and catch what is laid out wrong.
"""

ROUNDING = 2**-9
"""Of scales and offsets, which are float16: a share of the largest magnitude too."""

SUBNORMAL = 2**-24
"""The spacing of the smallest float16 numbers, which a scale of tiny weights is rounded to."""


@dataclass(frozen=True)
class TensorLoss:
    """What storing one tensor as `form` did to it.

    `worst` and `mean` are the largest and the mean magnitude of the difference as a share of the
    tensor's largest magnitude; `noise` and `signal` are sums of squares, of the difference and of
    the tensor.
    """

    name: str
    form: str
    elements: int
    nbytes: int
    worst: float
    mean: float
    noise: float
    signal: float


@dataclass(frozen=True)
class FormatLoss:
    """What a format did to all the tensors that are stored in it; `sqnr` is in dB, None where
    nothing was lost."""

    form: str
    tensors: int
    elements: int
    nbytes: int
    bits_per_weight: float
    worst: float
    worst_tensor: str
    mean: float
    sqnr: float | None


class Differences:
    """What adds up to a TensorLoss, piece by piece."""

    def __init__(self) -> None:
        self._largest = self._worst = self._total = self._noise = self._signal = 0.0

    def add(self, exact: np.ndarray, error: np.ndarray) -> None:
        """A piece of a tensor, and by how much what is stored for it differs."""
        self._largest = max(self._largest, float(np.abs(exact).max(initial=0)))
        self._worst = max(self._worst, float(error.max(initial=0)))
        self._total += float(error.sum(dtype=np.float64))
        self._noise += _square_sum(error)
        self._signal += _square_sum(exact)

    def loss(self, name: str, form: str, *, elements: int, nbytes: int) -> TensorLoss:
        """The loss of the whole tensor."""
        scale = self._largest or 1.0
        mean = self._total / max(elements, 1) / scale
        return TensorLoss(
            name, form, elements, nbytes, self._worst / scale, mean, self._noise, self._signal
        )


def _square_sum(array: np.ndarray) -> float:
    """Not by BLAS, which shares out a piece of doubles between threads: that takes longer."""
    flat = array.reshape(-1)
    return float(np.einsum("i,i", flat, flat))


def compared(name: str, wanted: np.ndarray, stored: Stored) -> TensorLoss:
    """The difference between `stored` and the floats `wanted` that it was made of.

    What is not finite counts for nothing, and has to be stored as it is. Raises IntegrityError
    where an element is farther off than its format can be.
    """
    form, rows = stored.form.name, rows_of(wanted)
    data = rows_of(stored.data) if isinstance(stored, BlockArray) else None
    block = getattr(stored.form, "block", 1)
    differences = Differences()
    for part in pieces(*rows.shape):
        exact = widened(rows[part])
        if data is None:
            found = stored.dequantize().reshape(rows.shape)[part]
        else:
            found = form_floats(stored, data[part], exact.shape)
        exact, found = finite(name, exact, found)
        error = np.abs(found - exact)
        _check_bound(name, form, exact, error, block)
        differences.add(exact, error)
    return differences.loss(name, form, elements=wanted.size, nbytes=stored.nbytes)


def finite(name: str, exact: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both, with 0 for what is not finite in `exact`; IntegrityError where `found` has something
    else there."""
    odd = ~np.isfinite(exact)
    if not odd.any():
        return exact, found
    if not np.array_equal(exact[odd], found[odd], equal_nan=True):
        raise different(name, "a number that is not finite has become another")
    zero = exact.dtype.type(0)
    return np.where(odd, zero, exact), np.where(odd, zero, found)


def different(name: str, how: str) -> IntegrityError:
    """The error for a tensor that is not in the file as it should be."""
    return IntegrityError(
        f"tensor '{escape_controls(name)}' reads back differently: {how}",
        hint="the disk or this program is at fault: write the file again, and report it",
    )


def form_floats(stored: Stored, data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The floats of some rows of `stored`."""
    assert isinstance(stored, BlockArray)
    return stored.form.wrap(data, shape).dequantize()


def _check_bound(name: str, form: str, exact: np.ndarray, error: np.ndarray, block: int) -> None:
    magnitude = np.abs(exact).reshape(-1, block).max(axis=1)
    share = BOUNDS[form]
    allowed = magnitude * np.float32(share + (ROUNDING if block > 1 else 0))
    slack = SUBNORMAL * (256 if share and form != "bf16" else 0)
    within = error.reshape(-1, block).max(axis=1) <= allowed + np.float32(slack)
    over = ~within  # NaN is not within anything
    if over.any():
        off, most = float(error.max()), float(allowed[over][0])
        raise different(name, f"off by {off:.3g} where {form} allows {most:.3g}")


def by_format(errors: Iterable[TensorLoss]) -> Iterator[FormatLoss]:
    """The errors of tensors, gathered by format, the format with the most bytes first."""
    groups: dict[str, list[TensorLoss]] = {}
    for error in errors:
        groups.setdefault(error.form, []).append(error)
    for form, group in sorted(groups.items(), key=lambda g: -sum(e.nbytes for e in g[1])):
        elements, nbytes = sum(e.elements for e in group), sum(e.nbytes for e in group)
        noise, signal = sum(e.noise for e in group), sum(e.signal for e in group)
        worst = max(group, key=lambda e: e.worst)
        yield FormatLoss(
            form=form,
            tensors=len(group),
            elements=elements,
            nbytes=nbytes,
            bits_per_weight=8 * nbytes / max(elements, 1),
            worst=worst.worst,
            worst_tensor=worst.name,
            mean=sum(e.mean * e.elements for e in group) / max(elements, 1),
            sqnr=20 * log10(sqrt(signal) / sqrt(noise)) if noise and signal else None,
        )


def read_back(
    losses: Iterable[TensorLoss], count: int, progress: Progress
) -> tuple[FormatLoss, ...]:
    """The losses of `count` tensors, which are compared as they are asked for, by format."""

    def counted() -> Iterator[TensorLoss]:
        for loss in losses:
            yield loss
            progress.advance()

    progress.start("compare", count)
    try:
        return tuple(by_format(counted()))
    finally:
        progress.finish()
