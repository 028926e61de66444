"""Whether a tensor is another one rounded, times a number, or with rows or columns reordered."""

import math

import numpy as np

from entrenar_inspect.differences import Difference, Numbers, pieces

CERTAIN = 8
"""So many elements have to agree before it is said that a tensor is a multiple of another."""

CLOSE = 1e-4
"""1 − cos² of a multiple is below this: rounding to 8 bits makes it some 1e-6."""

STEPS = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}
"""The distance from 1 to the next number, by the type's name."""

LEAST = {"float16": 2.0**-24}
"""The distance from 0 to the next number, of types whose is not too small to matter."""

PIECE = 1 << 18


def pattern_of(a: Numbers, b: Numbers, found: Difference) -> str | None:
    """What `b` is of `a` where that is simple, such as "scaled by 0.5"; else None.

    `found` is how they differ.
    """
    if found.unlike or found.unequal < 2 or found.at is None:
        return None
    return rounding(a, b) or permutation(a, b, found.at) or multiple(a, b, found)


def rounding(a: Numbers, b: Numbers) -> str | None:
    """Whether b is a in a type of fewer bits, to nearest."""
    known = (not each.in_blocks and each.dtype.name in STEPS for each in (a, b))
    if not all(known) or STEPS[a.dtype.name] >= STEPS[b.dtype.name]:
        return None
    for low, high in pieces(a, b, PIECE):
        with np.errstate(over="ignore"):
            wanted = a.piece(low, high).astype(b.dtype)
        if not np.array_equal(wanted, b.piece(low, high), equal_nan=True):
            return None
    return f"rounded to {b.dtype.name}"


def permutation(a: Numbers, b: Numbers, at: tuple[int, ...]) -> str | None:
    """Along which axis `b` has what `a` has in another order, and how much of it moved.

    `at` is where they differ: what b has there has to be in a somewhere, which is looked at first.
    """
    if a.in_blocks or b.in_blocks or a.dtype != b.dtype or len(a.shape) not in (1, 2):
        return None
    one, other = (_bits(each.stored) for each in (a, b))
    if len(a.shape) == 1:
        return _moved(one[:, None], other[:, None], at[0], "elements")
    turned = one.T, other.T
    return _moved(one, other, at[0], "rows") or _moved(*turned, at[1], "columns")


def _bits(array: np.ndarray) -> np.ndarray:
    return array.view(f"u{array.dtype.itemsize}")


def _moved(a: np.ndarray, b: np.ndarray, row: int, noun: str) -> str | None:
    if not _has_row(a, b[row]):
        return None
    one, other = _hashes(a), _hashes(b)
    if not np.array_equal(np.sort(one), np.sort(other)):
        return None
    return f"{noun} permuted ({np.count_nonzero(one != other)} of {len(one)})"


def _has_row(matrix: np.ndarray, row: np.ndarray) -> bool:
    """Whether a row of `matrix` is `row`: each column leaves fewer that may be."""
    left = np.arange(len(matrix))
    for column in range(len(row)):
        left = left[matrix[left, column] == row[column]]
        if not left.size:
            return False
    return True


def _hashes(matrix: np.ndarray) -> np.ndarray:
    """A number of 64 bits for each row: a sum of its elements' bits, each times an odd number."""
    weights = np.random.default_rng(0).integers(0, 2**63, matrix.shape[1], np.uint64) * 2 + 1
    rows = max(PIECE // max(matrix.shape[1], 1), 1)
    mixed = (matrix[i : i + rows] for i in range(0, len(matrix), rows))
    # the square keeps sums apart that have the same parts in other columns
    return np.concatenate([_mixed(part.astype(np.uint64), weights) for part in mixed])


def _mixed(bits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return ((bits + np.uint64(1)) * weights + bits * bits * (weights >> np.uint64(7))).sum(1)


def multiple(a: Numbers, b: Numbers, found: Difference) -> str | None:
    """Whether b is c·a, each element rounded to b's type, with c farther from 1 than rounding."""
    step = max(STEPS.get(each.dtype.name, math.inf) for each in (a, b))
    if found.cosine is None or a.in_blocks or b.in_blocks or found.unequal < CERTAIN:
        return None
    if not math.isfinite(step) or 1 - found.cosine**2 > CLOSE or not found.norm_a:
        return None
    factor = math.copysign((found.norm_b or 0.0) / found.norm_a, found.cosine)
    if abs(factor - 1) <= 4 * step or not _is_multiple(a, b, found, step):
        return None
    return f"scaled by {factor:.4g}"


def _is_multiple(a: Numbers, b: Numbers, found: Difference, step: float) -> bool:
    """Whether all numbers have the ratio of those that differ most: up to its rounding and theirs,
    half a step each."""
    assert found.at is not None
    at = int(np.ravel_multi_index(found.at, a.shape))
    one, other = (float(each.piece(at, at + 1)[0]) for each in (a, b))
    factor = other / one if one else math.nan
    for low, high in pieces(a, b, PIECE):
        wanted = a.piece(low, high).astype(np.float64) * factor
        error = np.abs(b.piece(low, high) - wanted)
        if not (error <= 1.001 * step * np.abs(wanted) + LEAST.get(b.dtype.name, 0.0)).all():
            return False
    return True
