"""Which elements of task vectors are kept: the largest, those between two ranks, or drawn ones."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.kernels import comparing, trimming
from entrenar_core.merge.group import Block, Group
from entrenar_core.merge.numbers import Numbers, sums
from entrenar_core.merge.selection import ranked

MOST = np.iinfo(np.int64).max
LEAST_NORM = 1e-7
"""Task vectors of a smaller norm are not rescaled, as in mergekit."""


class Trim(Protocol):
    """The changes of a block (n, rows, columns) with 0 for what is not kept. Blocks come in their
    order; `again` begins anew."""

    def again(self) -> None: ...

    def __call__(self, changes: np.ndarray) -> np.ndarray: ...


def _flat(changes: np.ndarray) -> np.ndarray:
    return changes.reshape(len(changes), -1)


@dataclass
class Between:
    """Keeps what `kernels.trimming.keep_between` keeps."""

    bounds: np.ndarray
    ties: np.ndarray
    seen: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.again()

    def again(self) -> None:
        self.seen = np.zeros((len(self.bounds), 2), np.int64)

    def __call__(self, changes: np.ndarray) -> np.ndarray:
        kept = trimming.keep_between(_flat(changes), self.bounds, self.ties, self.seen)
        return kept.reshape(changes.shape)


def largest(group: Group, density: Sequence[float]) -> Between:
    """Of each model int(density·n) elements, at least one, of the largest magnitudes; of equal ones
    the first."""
    counts = [max(1, int(share * group.size)) for share in density]
    ranks = [[group.size - count] for count in counts]
    trim = _everything(len(counts))
    for i, (found, count) in enumerate(zip(_ranked(group, ranks), counts, strict=True)):
        if density[i] < 1:
            rank = found[0]
            above = group.size - rank.below - rank.equal
            trim.bounds[i, 0], trim.ties[i, :2] = rank.magnitude, (0, count - above)
    return trim


def between(group: Group, density: Sequence[float], gamma: Sequence[float]) -> Between:
    """Of each model int(density·n) elements: all but the int(gamma·n) of the largest magnitudes,
    fewer if that would be too many, and those of the smallest; of equal ones the first are the
    smaller."""
    size, trim = group.size, _everything(len(density))
    ranks, counts = [], []
    for share, outliers in zip(density, gamma, strict=True):
        count = int(share * size)
        first = max(0, size - count - int(outliers * size))
        ranks.append([min(first, size - 1), max(0, min(first + count, size) - 1)])
        counts.append(count)
    for i, found in enumerate(_ranked(group, ranks)):
        if density[i] >= 1:
            continue
        (low, high), (first, last) = found, ranks[i]
        trim.bounds[i] = low.magnitude, high.magnitude
        trim.ties[i] = first - low.below, MOST, last - high.below + 1
        if counts[i] == 0:
            trim.bounds[i] = np.inf, -1
    return trim


def _everything(models: int) -> Between:
    return Between(
        np.tile(np.array([[-1, np.inf]], np.float32), (models, 1)),
        np.tile(np.array([[0, MOST, MOST]], np.int64), (models, 1)),
    )


def _ranked(group: Group, ranks: Sequence[Sequence[int]]):
    return ranked([group], lambda block: _flat(block.changes), ranks)


@dataclass
class Drawn:
    """Keeps each element of a model with the chance that is its density. What is drawn depends on
    the seed, the tensor and the model's place among the models."""

    keys: np.ndarray
    limits: np.ndarray
    start: int = 0

    def again(self) -> None:
        self.start = 0

    def __call__(self, changes: np.ndarray) -> np.ndarray:
        kept = trimming.keep_drawn(_flat(changes), self.keys, self.limits, self.start)
        self.start += changes[0].size
        return kept.reshape(changes.shape)


@dataclass
class Divided:
    """What another trim keeps, divided by the share that it keeps."""

    trim: Trim
    density: Sequence[float]
    work: np.dtype

    def again(self) -> None:
        self.trim.again()

    def __call__(self, changes: np.ndarray) -> np.ndarray:
        shares = np.array(self.density, np.float32)[:, None, None]
        return Numbers(self.work)(self.trim(changes) / shares)


@dataclass
class DrawnByRank:
    """Keeps each element with a chance that grows with the rank of its magnitude in its row."""

    keys: np.ndarray
    chances: np.ndarray
    start: int = 0

    def again(self) -> None:
        self.start = 0

    def __call__(self, changes: np.ndarray) -> np.ndarray:
        kept = trimming.keep_ranked(changes, self.keys, self.chances, self.start)
        self.start += changes[0].size
        return kept


def drawn(group: Group, density: Sequence[float]) -> Drawn:
    """Bernoulli draws: Yu et al. 2024, arXiv:2311.03099."""
    limits = [min(int(share * 2**32), 2**32) for share in density]
    return Drawn(_keys(group), np.array(limits, np.uint64))


def drawn_by_rank(group: Group, density: Sequence[float], epsilon: Sequence[float]) -> DrawnByRank:
    """Bernoulli draws whose chance runs from density − ε to density + ε over the ranks of a row:
    Deep et al. 2024, arXiv:2406.11617.

    Raises ConfigError where a chance would not be between 0 and 1.
    """
    chances = []
    for share, half in zip(density, epsilon, strict=True):
        if share >= 1:
            chances.append((1.0, 0.0))
            continue
        if not (share - half > 0 and share + half < 1):
            raise ConfigError(
                f"density {share:g} and epsilon {half:g}: chances from {share - half:g} to "
                f"{share + half:g}",
                hint="choose them so that density ± epsilon is between 0 and 1",
            )
        chances.append((share - half, 2 * half))
    return DrawnByRank(_keys(group), np.array(chances, np.float64))


def _keys(group: Group) -> np.ndarray:
    text = f"{group.seed}\x1f{group.key}\x1f"
    return np.array(
        [
            int.from_bytes(hashlib.sha256(f"{text}{number}".encode()).digest()[:8], "little")
            for number in range(len(group.models))
        ],
        np.uint64,
    )


def rescaling(group: Group, trim: Trim, density: Sequence[float]) -> np.ndarray:
    """What each model's task vector is multiplied by after `trim`, so that Σ|d| is what it was;
    (n,) float32."""
    # what is drawn of float16 numbers is multiplied in float32, and rounded once
    in_float32 = group.work == np.float16 and isinstance(trim, Drawn | DrawnByRank)
    r = Numbers(np.dtype(np.float32) if in_float32 else group.work)
    before, after = _ordered(group, trim) if isinstance(trim, Between) else _exact(group, trim)
    trim.again()
    ratios = [_ratio(r, b, a) for b, a in zip(before, after, strict=True)]
    kept_whole = np.array(density) >= 1
    return np.where(kept_whole, 1, ratios).astype(np.float32)


def _ordered(group: Group, trim: Trim) -> np.ndarray:
    """Σ|d| of each model before and after `trim`, (2, n)."""

    def magnitudes(block: Block) -> np.ndarray:
        found = np.empty((2, *block.changes.shape), np.float32)
        np.abs(block.changes, out=found[0])
        np.abs(trim(block.changes), out=found[1])
        return found

    return sums(group, magnitudes).reshape(2, -1)


def _exact(group: Group, trim: Trim) -> np.ndarray:
    """The same in float64, which is faster: what is drawn is another choice than torch's, so its
    order of adding makes it no more the same."""
    found = np.zeros((2, len(group.models)))
    for block in group.blocks():
        found[0] += comparing.magnitudes(_flat(block.changes))
        found[1] += comparing.magnitudes(_flat(trim(block.changes)))
    return found


def _ratio(r: Numbers, before: float, after: float) -> float:
    if not np.isfinite(r(before)):  # sums of float16 numbers may be beyond them
        r = Numbers(np.dtype(np.float32))
    return r(r(before) / r(after)) if min(r(before), r(after)) >= LEAST_NORM else 1.0
