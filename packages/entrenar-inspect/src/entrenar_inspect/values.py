"""The values of a tensor: what is read of it, a piece at a time, and counted."""

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from entrenar_core.kernels import tallying
from entrenar_core.quant import BlockArray
from entrenar_core.quant.pieces import pieces
from entrenar_inspect.artifact import Artifact
from entrenar_inspect.distribution import (
    NO_FACTS,
    Sums,
    Values,
    joined,
    of_bins,
    of_patterns,
    summarised,
    surveyed,
)

SMALL = 2**15
"""Elements up to which numbers are sorted: counting takes as long as there are patterns."""

PLAIN = {"F32": "f4", "F64": "f8", "F16": "f2", "I8": "i1", "I16": "i2", "I32": "i4", "I64": "i8"}
"""ggml's types without blocks that numpy has, besides BF16."""


def values_of(artifact: Artifact, name: str) -> Values | None:
    """What there is to know of the numbers of a tensor; None where nothing here decodes its type.

    Everything is read once, in pieces. Raises what reading the file raises.
    """
    array = artifact.read(name)
    if isinstance(array, BlockArray):
        array = as_plain(array)
    if isinstance(array, BlockArray):
        if array.form.decode is None:
            return None
        found = _of_pieces(decoded(array))
        bad = found.not_finite and next(_bad_in(decoded(array)))
    else:
        found = _of_array(array)
        bad = found.not_finite and next(_bad_in(flat_pieces(array)))
    return replace(found, first_bad=int(bad)) if found.not_finite else found


def as_plain(array: BlockArray) -> np.ndarray | BlockArray:
    """The array itself where a GGUF file has it without blocks."""
    name = array.form.name.upper()
    if name == "BF16":
        import ml_dtypes

        return array.data.view(ml_dtypes.bfloat16).reshape(array.shape)
    return array.data.view(PLAIN[name]).reshape(array.shape) if name in PLAIN else array


def decoded(array: BlockArray) -> Iterator[np.ndarray]:
    """The floats of a tensor in blocks, some rows at a time."""
    rows = prod(array.shape[:-1])
    data = array.data.reshape(rows, array.data.shape[-1])
    for part in pieces(rows, array.shape[-1]):
        shape = (part.stop - part.start, array.shape[-1])
        yield array.form.wrap(data[part], shape).dequantize().reshape(-1)


def flat_pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array's elements in C order, some at a time."""
    if array.flags.c_contiguous:
        flat = array.reshape(-1)
        yield from (flat[part] for part in pieces(flat.size, 1))
        return
    rows = array.reshape(1, -1) if array.ndim < 2 else array
    for index in np.ndindex(rows.shape[:-1]):
        yield np.ascontiguousarray(rows[index])


def _of_array(array: np.ndarray) -> Values:
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    flat = array.reshape(-1)
    if flat.dtype == np.complex64:
        flat = flat.view(np.float32)  # real and imaginary parts are looked at alike
    if flat.size <= SMALL:
        return _sorted(flat)
    if flat.dtype.itemsize == 1:
        return of_patterns(np.bincount(flat.view(np.uint8), minlength=2**8), _countable(flat.dtype))
    if flat.dtype.itemsize == 2:
        counts = tallying.tally(flat.view(np.uint16), np.zeros(tallying.PATTERNS, np.int64))
        return of_patterns(counts, flat.dtype)
    if flat.dtype == np.float32:
        return _of_pieces(iter([flat]))
    return _of_pieces(flat_pieces(flat))


def _countable(dtype: np.dtype) -> np.dtype:
    """The type itself, but for truth values, of which two patterns only are meant."""
    return np.dtype(np.uint8) if dtype == np.bool_ else dtype


def _sorted(flat: np.ndarray) -> Values:
    """The values of a few numbers, from all of them."""
    wide = flat.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    numbers, counts = np.unique(finite, return_counts=True)
    nans = int(np.isnan(wide).sum())
    least, largest = finite.min(initial=np.inf), finite.max(initial=-np.inf)
    return summarised(
        numbers,
        counts,
        Sums(
            float(finite.sum()), float(finite @ finite), float(least), float(largest),
            int((finite == 0).sum()), nans, wide.size - finite.size - nans,
        ),
    )  # fmt: skip


def _of_pieces(parts: Iterator[np.ndarray]) -> Values:
    counts, facts = np.zeros(tallying.PATTERNS, np.int64), NO_FACTS
    for part in parts:
        if part.dtype == np.float32:
            facts = joined(facts, tallying.survey(part, counts))
        else:
            facts = joined(facts, _survey_wide(part, counts))
    return of_bins(counts, surveyed(facts))


def _survey_wide(part: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """As `tallying.survey`, for numbers of more bits: sums are theirs, bins those of float32."""
    wide = part.astype(np.float64)
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    facts = tallying.survey(narrow, counts)
    finite = wide[np.isfinite(wide)]
    facts[:4] = [
        finite.sum(), finite @ finite, finite.min(initial=np.inf), finite.max(initial=-np.inf)
    ]  # fmt: skip
    facts[4] = (finite == 0).sum()
    facts[6] = wide.size - finite.size - facts[5]
    return facts


def _bad_in(parts: Iterator[Any]) -> Iterator[int]:
    """The places of numbers that are not finite."""
    start = 0
    for part in parts:
        for place in np.flatnonzero(~np.isfinite(part)):
            yield start + int(place)
        start += part.size
