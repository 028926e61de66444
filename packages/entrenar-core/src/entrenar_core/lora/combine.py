"""How the updates that several adapters make to one weight become one.

With dᵢ = ΔWᵢ and weights wᵢ:

- linear: Σ wᵢdᵢ, exactly, as stacked factors; cut to a rank if one is given. cat: never cut. svd:
  always cut, by default to the largest rank of the adapters.
- ties (Yadav et al. 2023, arXiv:2306.01708): of each adapter, over all of its modules, only the
  share `density` of largest magnitude is kept; for each element the sign of Σ wᵢdᵢ is elected, and
  the result is the mean of those wᵢdᵢ that have it and are not zero.
- dare (Yu et al. 2024, arXiv:2311.03099): each element is kept with probability `density` and then
  divided by it; the result is the weighted sum. What is kept is a function of the seed and the
  factors alone, and so does not depend on the order of adapters.

The last two are no products of small factors: they are computed densely, one module at a time, and
with a rank the nearest update of that rank takes their place.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_core.lora.algebra import truncated
from entrenar_core.lora.changes import Weighted
from entrenar_core.lora.factorise import low_rank
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.lora.update import Update, row_pieces, store, summed
from entrenar_core.rng import stream

METHODS = ("linear", "cat", "svd", "ties", "dare")
DENSITY = {"ties": 0.2, "dare": 0.5}
"""The share of elements that is kept unless it is given."""


@dataclass(frozen=True, eq=False)
class DenseUpdate:
    """ΔW (out, in), float32, as `lora.update` has it in factors."""

    delta: np.ndarray
    transposed: bool = False

    def merged_pieces(
        self, weight: np.ndarray, dtype: np.dtype, *, where: str
    ) -> Iterator[np.ndarray]:
        """W + ΔW in `dtype`, some rows of the weight as it is stored at a time."""
        delta = self.delta.T if self.transposed else self.delta
        for part in row_pieces(weight):
            piece = weight[part].astype(np.float32) + delta[part]
            found = piece if dtype == piece.dtype else np.empty(piece.shape, dtype)
            store(piece, found, part, where)
            yield found


Parts = Sequence[tuple[Weighted, Update]]
Combination = Callable[[str, Parts], Update | DenseUpdate]
"""What makes one update of those of a module: called with its name and with each adapter that has
it, and the update before it is multiplied by the adapter's factor."""


class Options(NamedTuple):
    """rank: what results are cut to; density: what ties and dare keep; seed: of dare's choice."""

    rank: int | None = None
    density: float | None = None
    seed: int = 0


def combination(method: str, adapters: Sequence[Weighted], options: Options) -> Combination:
    """What `method` makes of updates of `adapters`.

    Raises ConfigError for options out of range, UnsupportedError for adapters that it is not
    defined for.
    """
    if options.rank is not None and options.rank < 1:
        raise ConfigError(f"a rank of {options.rank}", hint="give at least 1")
    _check_density(method, options.density)
    if method in _DENSE:
        _check_plain(method, adapters)
        dense = _DENSE[method](adapters, options)
        return dense if options.rank is None else Nearest(dense, options.rank)
    return _MAKERS[method](adapters, options)


def linear(_module: str, parts: Parts) -> Update:
    """Σ wᵢdᵢ."""
    return summed([update.scaled(weighted.factor) for weighted, update in parts])


@dataclass
class Cut:
    """Σ wᵢdᵢ cut to a rank; `errors` has by module what was lost, relative to the sum."""

    rank: int
    errors: dict[str, float] = field(default_factory=dict)

    def __call__(self, module: str, parts: Parts) -> Update:
        found, self.errors[module] = truncated(linear(module, parts), self.rank)
        return found


@dataclass
class Nearest:
    """What `dense` makes, as the nearest update of a rank; `errors` as `Cut` has them."""

    dense: Callable[[str, Parts], DenseUpdate]
    rank: int
    errors: dict[str, float] = field(default_factory=dict)

    def __call__(self, module: str, parts: Parts) -> Update:
        found, self.errors[module] = low_rank(self.dense(module, parts).delta, self.rank)
        like = parts[0][1]
        return replace(found, embedding=like.embedding, transposed=like.transposed)


def _linear(_adapters: Sequence[Weighted], options: Options) -> Combination:
    return linear if options.rank is None else Cut(options.rank)


def _svd(adapters: Sequence[Weighted], options: Options) -> Combination:
    return Cut(options.rank or largest_rank(adapters))


def largest_rank(adapters: Sequence[Weighted]) -> int:
    """The largest rank of a module of any of them."""
    ranks = [module.rank for w in adapters for module in w.adapter.modules.values()]
    return max(ranks, default=1)


def _ties(adapters: Sequence[Weighted], options: Options) -> Callable[[str, Parts], DenseUpdate]:
    density = options.density or DENSITY["ties"]
    least = {id(w): magnitude_bound(w.adapter, density) for w in adapters}

    def combine(module: str, parts: Parts) -> DenseUpdate:
        del module
        shape = parts[0][1].b.shape[0], parts[0][1].a.shape[1]
        found = np.empty(shape, np.float32)
        for part in row_pieces(found):
            votes = []
            for weighted, update in parts:
                piece = _rows(update, part)
                piece[np.abs(piece) < least[id(weighted)]] = 0
                votes.append(piece * np.float32(weighted.factor))
            found[part] = elected_mean(votes)
        return DenseUpdate(found, parts[0][1].transposed)

    return combine


def elected_mean(votes: Sequence[np.ndarray]) -> np.ndarray:
    """For each element the mean of those of `votes` that have the sign of their sum."""
    sign = np.sign(np.sum(votes, axis=0, dtype=np.float64))
    total, count = np.zeros(sign.shape), np.zeros(sign.shape)
    for vote in votes:
        agrees = (np.sign(vote) == sign) & (vote != 0)
        total += np.where(agrees, vote, 0)
        count += agrees
    return (total / np.maximum(count, 1)).astype(np.float32)


def _dare(adapters: Sequence[Weighted], options: Options) -> Callable[[str, Parts], DenseUpdate]:
    del adapters
    density = options.density or DENSITY["dare"]

    def combine(module: str, parts: Parts) -> DenseUpdate:
        shape = parts[0][1].b.shape[0], parts[0][1].a.shape[1]
        found = np.zeros(shape)
        for weighted, update in parts:
            key = zlib.crc32(update.a.tobytes()), zlib.crc32(update.b.tobytes())
            draws = stream(options.seed, f"dare {module}", *key)
            for part in row_pieces(found):
                piece = _rows(update, part)
                kept = draws.random(piece.shape, np.float32) < density
                found[part] += np.where(kept, piece * (weighted.factor / density), 0)
        return DenseUpdate(found.astype(np.float32), parts[0][1].transposed)

    return combine


_MAKERS: Mapping[str, Callable[[Sequence[Weighted], Options], Combination]] = {
    "linear": _linear,
    "cat": lambda _adapters, _options: linear,
    "svd": _svd,
}
_DENSE: Mapping[
    str, Callable[[Sequence[Weighted], Options], Callable[[str, Parts], DenseUpdate]]
] = {"ties": _ties, "dare": _dare}


def _rows(update: Update, part: slice) -> np.ndarray:
    """Some rows of ΔW (out, in), float32."""
    return replace(update, transposed=False).dense(part)


def _check_density(method: str, density: float | None) -> None:
    if density is None:
        return
    if method not in DENSITY:
        raise ConfigError(
            f"a density is for {' and '.join(DENSITY)}, not for {method}", hint="leave it out"
        )
    if not 0 < density <= 1:
        raise ConfigError(f"a density of {density:g}", hint="give a share above 0, at most 1")


def _check_plain(method: str, adapters: Sequence[Weighted]) -> None:
    for weighted in adapters:
        config = weighted.adapter.config
        if config.use_dora or config.lora_bias:
            what = "DoRA" if config.use_dora else "biases of B"
            raise UnsupportedError(
                f"{weighted.adapter.path}: has {what}, which {method} is not defined for",
                hint="use the method linear, or merge the adapter into its base",
            )


def magnitude_bound(adapter: StoredAdapter, density: float) -> float:
    """The least magnitude among the share `density` of largest elements of all of an adapter's ΔW.

    Found in two passes, without keeping them: the upper half of the bits first, then the lower.
    """
    total = sum(m.b_shape[0] * m.a_shape[1] for m in adapter.modules.values())
    wanted = int(density * total)
    if wanted >= total or not total:
        return 0.0
    counts = np.zeros(2**16, np.int64)
    for bits in _magnitudes(adapter):
        counts += np.bincount(bits >> 16, minlength=2**16)
    above = np.cumsum(counts[::-1])[::-1]  # how many have at least these upper bits
    upper = int(np.flatnonzero(above >= max(wanted, 1))[-1])
    left = max(wanted, 1) - (int(above[upper + 1]) if upper + 1 < len(above) else 0)
    counts[:] = 0
    for bits in _magnitudes(adapter):
        counts += np.bincount(bits[bits >> 16 == upper] & 0xFFFF, minlength=2**16)
    lower = int(np.flatnonzero(np.cumsum(counts[::-1])[::-1] >= left)[-1])
    return float(np.uint32(upper << 16 | lower).view(np.float32))


def _magnitudes(adapter: StoredAdapter) -> Iterator[np.ndarray]:
    """|ΔW| of all modules as bits, which are ordered as the numbers are."""
    for module in adapter.modules:
        update = adapter.update(module)
        for part in row_pieces(np.broadcast_to(np.float32(0), (len(update.b), update.a.shape[1]))):
            yield np.abs(_rows(update, part)).reshape(-1).view(np.uint32)
