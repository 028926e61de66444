"""Whether what changed in a model is of low rank, as it is where a LoRA was merged into it.

The spectrum of Δ = b − a is taken from its products with a few random vectors (Halko, Martinsson
and Tropp, "Finding structure with randomness", 2011, algorithm 4.4). What rounding to b's type adds
to Δ is a matrix of independent errors, of which the norm and the largest singular value are known.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from entrenar_core.rng import stream
from entrenar_inspect.differences import Difference, Numbers, pieces
from entrenar_inspect.patterns import STEPS

SKETCHES, SPARE = (40, 288), 8
"""Random vectors of a first and of a second look, and how many more they are than the rank."""

NOISE = 1.5
"""How many times the squares that rounding is expected to leave there may be."""

GAP = 1.5
"""How much larger the last singular value that counts is than the next."""

SUPPORT = 0.9
"""The share of changed matrices in which it has to be found."""

TRIED = 3
"""Matrices that are looked at before it is given up."""

PIECE = 1 << 21

Opened = Callable[[str], tuple[Numbers, Numbers]]


@dataclass(frozen=True)
class Spectrum:
    """rank: of Δ without what rounding added; share: of the squares of Δ that these directions
    hold."""

    rank: int
    share: float


@dataclass(frozen=True)
class LowRank:
    """A change of low rank in `matrices` of the `changed` matrices that changed at all.

    rank: the largest; smallest: the smallest, which is less where rounding hides some directions;
    share: of all squares of Δ that are in it; modules: the kinds of modules, such as q_proj.
    """

    rank: int
    smallest: int
    matrices: int
    changed: int
    share: float
    modules: tuple[str, ...]


def find_low_rank(
    changed: Sequence[tuple[str, Difference]],
    opened: Opened,
    *,
    module_of: Callable[[str], str],
    looked: Callable[[str], None],
) -> LowRank | None:
    """What is of low rank in the matrices called `changed`; None where not nearly all are.

    `opened` gives both sides of a matrix and `looked` is called with its name after it. What may be
    rounding to another type alone is no change. Three matrices from the middle are looked at first.
    """
    changed = [(name, each) for name, each in changed if not _is_rounding(opened(name)[1], each)]
    found: dict[str, Spectrum] = {}
    ordered = _medium_first(changed)
    for count, (name, difference) in enumerate(ordered, 1):
        spectrum = spectrum_of(*opened(name), difference)
        looked(name)
        if spectrum is not None:
            found[name] = spectrum
        missed = count - len(found)
        if missed > (1 - SUPPORT) * len(changed) or (count >= TRIED and not found):
            return None
    if not found:
        return None
    ranks = [each.rank for each in found.values()]
    squares = {name: difference.distance**2 for name, difference in changed}
    held = sum(squares[name] * each.share for name, each in found.items())
    modules = tuple(dict.fromkeys(module_of(name) for name, _ in changed if name in found))
    share = held / sum(squares[name] for name in found)
    return LowRank(max(ranks), min(ranks), len(found), len(changed), share, modules)


def _medium_first(changed: Sequence[tuple[str, Difference]]) -> list[tuple[str, Difference]]:
    """The same with one from the middle and two to its sides at the beginning."""
    middle = len(changed) // 2
    first = sorted({middle, middle // 2, (middle + len(changed)) // 2} & {*range(len(changed))})
    return [changed[i] for i in first] + [x for i, x in enumerate(changed) if i not in first]


def spectrum_of(a: Numbers, b: Numbers, found: Difference) -> Spectrum | None:
    """The rank of b − a (M, N), None where it is not less than half of what it can be, or more than
    280, or not to be told from what rounding adds."""
    most = (min(a.shape) - 1) // 2
    squares = found.distance**2
    if not squares or most < 1 or found.unlike:
        return None
    noise = _rounding(b, found)
    for vectors in SKETCHES:
        taken = min(vectors, *a.shape)
        limit = min(most, taken if taken == min(a.shape) else taken - SPARE)
        values = _singular_values(a, b, taken)
        if values is None:
            return None
        tails = squares - np.cumsum(values**2)
        allowed = NOISE * noise + 1e-5 * squares  # float32 sums are no better
        if tails[limit - 1] <= allowed:
            return _spectrum(values, tails, limit, allowed, _edge(noise, a.shape), squares)
        # so many random directions hold at least their part of any rank that is looked for
        if limit == most or 1 - tails[-1] / squares < 0.9 * taken / SKETCHES[-1]:
            return None
    return None


def _spectrum(
    values: np.ndarray, tails: np.ndarray, limit: int, allowed: float, edge: float, squares: float
) -> Spectrum | None:
    """The rank is at the widest gap between singular values above those of noise, among ranks of
    which the rest may be noise."""
    least = int(np.argmax(tails[:limit] <= allowed))
    following = np.append(values[1:], 0.0)[:limit]
    # below the numbers that float32 can tell from 0 there are no gaps
    gaps = values[:limit] / np.maximum(following, 1e-6 * values[0])
    gaps[:least], gaps[values[:limit] <= edge] = 0.0, 0.0
    last = int(np.argmax(gaps))
    if gaps[last] < GAP:
        return None
    return Spectrum(last + 1, float(min(1.0, 1 - tails[last] / squares)))


def _rounding(b: Numbers, found: Difference) -> float:
    """The squares that rounding b and b − a to b's type adds up to.

    An error is uniform in ±ulp/2, its square ulp²/12 on average; ulp is a step times the power of
    2 below the number, whose square is 0.45 of the number's square on average.
    """
    step = STEPS.get(b.dtype.name, STEPS["float32"])
    return step**2 / 12 * 0.45 * ((found.norm_b or 0.0) ** 2 + found.distance**2)


def _is_rounding(b: Numbers, found: Difference) -> bool:
    return found.distance**2 <= NOISE * _rounding(b, found)


def _edge(noise: float, shape: tuple[int, ...]) -> float:
    """The largest singular value of a matrix (M, N) of independent errors with these squares."""
    rows, columns = shape
    return math.sqrt(noise / (rows * columns)) * (math.sqrt(rows) + math.sqrt(columns))


def _singular_values(a: Numbers, b: Numbers, vectors: int) -> np.ndarray | None:
    """The largest singular values of Δ = b − a (M, N), as far as so many random vectors show them.

    Δᵀ times a basis of ΔΩ turns it towards the largest of them, so that less of Δ is left out.
    """
    random = stream(0, "low rank", vectors).standard_normal((a.shape[1], vectors), np.float32)
    seen = _times(a, b, random)  # (M, vectors)
    if not np.isfinite(seen).all():
        return None
    basis = np.linalg.qr(seen)[0]
    turned = np.zeros((basis.shape[1], a.shape[1]), np.float32)
    for low, high, change in _changes(a, b):
        turned += basis[low:high].T @ change
    inside = _times(a, b, np.linalg.qr(turned.T)[0]).astype(np.float64)  # (M, vectors)
    return np.sqrt(np.maximum(np.linalg.eigvalsh(inside.T @ inside)[::-1], 0.0))


def _times(a: Numbers, b: Numbers, right: np.ndarray) -> np.ndarray:
    """(b − a) times a matrix (N, vectors)."""
    out = np.empty((a.shape[0], right.shape[1]), np.float32)
    for low, high, change in _changes(a, b):
        np.matmul(change, right, out=out[low:high])
    return out


def _changes(a: Numbers, b: Numbers) -> Iterator[tuple[int, int, np.ndarray]]:
    """b − a some rows at a time, float32, with the numbers of the first row and of the next."""
    columns = a.shape[1]
    for low, high in pieces(a, b, max(PIECE // columns, 1) * columns):
        x, y = (_wide(each.piece(low, high)) for each in (a, b))
        change = (y - x).astype(np.float32, copy=False).reshape(-1, columns)
        yield low // columns, high // columns, change


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64 if array.dtype == np.float64 else np.float32, copy=False)
