"""The differences of all numbers of two models, and what they add up to."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from entrenar_common.errors import UnsupportedError
from entrenar_common.progress import Progress
from entrenar_inspect.differences import (
    Difference,
    Kernel,
    Numbers,
    difference,
    kernel_for,
    ratio,
    same_bytes,
)
from entrenar_inspect.low_rank import LowRank, find_low_rank
from entrenar_inspect.matching import Side
from entrenar_inspect.patterns import pattern_of
from entrenar_inspect.tensor_pairs import DIFFERS, RETYPED, SAME, TensorPair, module_of


@dataclass(frozen=True)
class ModuleTotal:
    """All tensors of one kind of module together, those that are identical left out of norms."""

    module: str
    tensors: int
    differ: int
    relative: float
    cosine: float | None


@dataclass(frozen=True)
class NumbersTotal:
    """Numbers of all tensors that both have: how many tensors, and of these the identical ones, the
    equal ones that are stored otherwise or within the tolerance, and the others; `relative` and
    `cosine` are over all elements of tensors that are not identical; `low_rank` what a merged
    adapter left."""

    tensors: int
    identical: int
    equal: int
    differ: int
    relative: float
    cosine: float | None
    modules: tuple[ModuleTotal, ...]
    low_rank: LowRank | None


def with_numbers(
    pairs: Sequence[TensorPair], a: Side, b: Side, *, tolerance: float | None, progress: Progress
) -> tuple[list[TensorPair], NumbersTotal]:
    """The pairs with the differences of their numbers, and what these add up to.

    Tensors whose relative difference is at most `tolerance` become the same. No more than a piece
    of a tensor is widened at a time, and its pages are let go after it.
    """
    comparable = [pair for pair in pairs if pair.change in (SAME, RETYPED)]
    kernel, piece = kernel_for(sum(2 * math.prod(p.a.shape) for p in comparable if p.a))
    progress.start("comparing", len(comparable))
    found: dict[str, TensorPair] = {}
    for pair in comparable:
        looked = _difference(pair.name, a, b, kernel, piece)
        found[pair.name] = _judged(pair, looked, tolerance)
        a.release(pair.name)
        b.release(pair.name)
        progress.advance()
    progress.finish()
    looked_at = list(found.values())
    low_rank = _low_rank(looked_at, a, b, progress)
    return [found.get(pair.name, pair) for pair in pairs], _total(looked_at, low_rank)


def _difference(name: str, a: Side, b: Side, kernel: Kernel, piece: int) -> Difference:
    try:
        one, other = a.read(name), b.read(name)
        if same_bytes(one, other):
            return Difference(identical=True)
        x, y = Numbers(one), Numbers(other)
        found = difference(x, y, kernel, piece)
    except UnsupportedError as error:  # a type that no array holds, or nothing here decodes
        return Difference(
            False, math.inf, cosine=None, largest=math.inf, distance=math.inf, problem=str(error)
        )
    return replace(found, pattern=pattern_of(x, y, found))


def _judged(pair: TensorPair, found: Difference, tolerance: float | None) -> TensorPair:
    """The pair with its difference, and what that makes of the change."""
    change = pair.change
    if change == SAME and not found.equal:
        change = DIFFERS
    if tolerance is not None and found.relative <= tolerance and not found.unlike:
        change = SAME
    return replace(pair, change=change, difference=found)


def _low_rank(pairs: Sequence[TensorPair], a: Side, b: Side, progress: Progress) -> LowRank | None:
    changed = [
        (pair.name, pair.difference)
        for pair in pairs
        if pair.a and len(pair.a.shape) == 2 and pair.difference and _may_be_of_adapter(pair)
    ]
    if not changed:
        return None

    def opened(name: str) -> tuple[Numbers, Numbers]:
        return Numbers(a.read(name)), Numbers(b.read(name))

    def looked(name: str) -> None:
        a.release(name)
        b.release(name)
        progress.advance()

    progress.start("rank of the changes", len(changed))
    found = find_low_rank(changed, opened, module_of=module_of, looked=looked)
    progress.finish()
    return found


def _may_be_of_adapter(pair: TensorPair) -> bool:
    found = pair.difference
    if found is None or found.equal or found.problem or found.sqnr_db is not None:
        return False
    return pair.a is not None and not pair.a.dtype.startswith(("I", "U", "BOOL"))


def _total(pairs: Sequence[TensorPair], low_rank: LowRank | None) -> NumbersTotal:
    found = [pair.difference for pair in pairs if pair.difference is not None]
    identical = sum(each.identical for each in found)
    differ = sum(pair.change != SAME and not d.equal for pair, d in zip(pairs, found, strict=True))
    modules: dict[str, list[TensorPair]] = {}
    for pair in pairs:
        modules.setdefault(module_of(pair.name), []).append(pair)
    by_module = tuple(_module(name, each) for name, each in modules.items())
    return NumbersTotal(
        len(pairs), identical, len(pairs) - identical - differ, differ, *_together(found),
        by_module, low_rank,
    )  # fmt: skip


def _module(name: str, pairs: Iterable[TensorPair]) -> ModuleTotal:
    found = [pair.difference for pair in pairs if pair.difference is not None]
    differ = sum(not each.equal for each in found)
    return ModuleTotal(name, len(found), differ, *_together(found))


def _together(found: Iterable[Difference]) -> tuple[float, float | None]:
    """The relative difference and the cosine of all numbers together that are not identical."""
    looked_at = [each for each in found if each.norm_a is not None and each.norm_b is not None]
    if not looked_at:
        return 0.0, 1.0
    norm_a, norm_b, distance = (
        math.hypot(*(getattr(each, name) for each in looked_at))
        for name in ("norm_a", "norm_b", "distance")
    )
    product = sum((d.cosine or 0.0) * (d.norm_a or 0.0) * (d.norm_b or 0.0) for d in looked_at)
    return ratio(distance, norm_a), product / (norm_a * norm_b) if norm_a and norm_b else None
