"""Methods that look at how models differ, element by element or as a whole."""

from itertools import combinations

import numpy as np

from entrenar_core.kernels import trimming
from entrenar_core.merge.group import Block, Group
from entrenar_core.merge.method import Rule, method
from entrenar_core.merge.numbers import Numbers, at, mean_of, means, norms, sum_of, sums
from entrenar_core.merge.selection import ranked
from entrenar_core.merge.trimming import MOST


@method(
    "model_stock", source="https://arxiv.org/abs/2403.19522", inputs=(3, None), lone="base or skip"
)
def model_stock(group: Group, *, filter_wise: bool = False) -> Rule:
    """t·mean + (1−t)·base with t = N·cos/(1 + (N−1)·cos), where cos is the mean cosine between the
    N task vectors; of the whole tensor, or of each of its rows."""
    r, n = Numbers(group.work), len(group.models)
    axis = 1 if filter_wise else None
    pairs = list(combinations(range(n), 2))

    def products(block: Block) -> np.ndarray:
        deltas = block.changes
        return np.stack([r(deltas[i] * deltas[k]) for i, k in pairs])

    lengths = norms(group, lambda block: block.changes, axis=axis)
    dots = r(sums(group, products, axis=axis))
    cosines = [
        np.clip(r(dot / np.maximum(r(lengths[i] * lengths[k]), r(1e-6))), -1, 1)
        for dot, (i, k) in zip(dots, pairs, strict=True)
    ]
    cosine = r(mean_of(np.stack(cosines)))
    divisor = r(1 + r(np.float32(n - 1) * cosine))
    singular = np.abs(divisor) < 1e-6
    t = r(r(np.float32(n) * cosine) / np.where(singular, np.float32(1), divisor))
    t = np.where(singular, np.float32(0), t)
    rest = r(1 - t)

    def rule(block: Block) -> np.ndarray:
        total = block.models[0]
        for model in block.models[1:]:
            total = r(total + model)
        mean = r(total / np.float32(n))
        return r(r(at(block, t) * mean) + r(at(block, rest) * block.base))

    return rule


@method("sce", source="https://arxiv.org/abs/2408.07990", keeps=1.0)
def sce(group: Group, *, select_topk: float = 1.0) -> Rule:
    """Select, calculate, erase: of the task vectors only the elements that vary most between models
    count; a model's weight is the mean square of these; those of the lesser sign are erased."""
    if not group.models:
        return lambda block: block.base.copy()
    r = Numbers(group.work)

    def variance(block: Block) -> np.ndarray:
        mean, squares = np.zeros((2, *block.shape))
        for number, delta in enumerate(block.changes, start=1):  # Welford's way, as torch's
            away = delta - mean
            mean += away / number
            squares += away * (delta - mean)
        return r((squares / len(block.changes)).astype(np.float32).reshape(1, -1))

    mask = _varying(group, variance, select_topk) if select_topk < 1 else None

    def selected(block: Block) -> np.ndarray:
        return block.changes if mask is None else block.changes * mask[block.part]

    def squares(block: Block) -> np.ndarray:
        return r(np.square(selected(block)))

    weights = r(means(group, squares).reshape(-1))
    total = r(sum_of(weights, r.work))
    if abs(total) < 1e-6:
        weights = r(np.full(len(weights), 1 / len(weights)))
    else:
        weights = r(weights / total)
    floor = r(1e-6)

    def rule(block: Block) -> np.ndarray:
        deltas = selected(block)
        sign = np.where(r(deltas.sum(axis=0, dtype=np.float32)) >= 0, 1, -1)
        shares = weights[:, None, None] * (np.sign(deltas) == sign)
        scaled = r(deltas * shares)
        mixed = r(scaled.sum(axis=0, dtype=np.float32))
        divisor = np.maximum(r(shares.sum(axis=0, dtype=np.float32)), floor)
        return r(block.base + r(mixed / divisor))

    return rule


def _varying(group: Group, variance, share: float) -> np.ndarray:
    """Which elements (rows, columns) are among the int(share·n) of largest variance, where n have
    any; of equal ones the first."""
    rows, columns = group.rows_and_columns
    mask = np.zeros((rows, columns), np.bool_)
    varying = sum(int(np.count_nonzero(variance(block))) for block in group.blocks())
    count = int(varying * share)
    if count == 0:
        return mask
    (found,) = ranked([group], variance, [[group.size - count]])
    rank = found[0]
    above = group.size - rank.below - rank.equal
    bounds = np.array([[rank.magnitude, np.inf]], np.float32)
    ties, seen = np.array([[0, count - above, MOST]]), np.zeros((1, 2), np.int64)
    for block in group.blocks():
        kept = trimming.keep_between(variance(block), bounds, ties, seen)
        mask[block.part] = kept.reshape(block.shape) != 0
    return mask


@method(
    "arcee_fusion", source="https://arcee.ai", inputs=(2, 2), symmetric=False, lone="any", keeps=8.0
)
def arcee_fusion(group: Group) -> Rule:
    """The other model's elements where they matter: |difference| times the divergence of the
    softmaxes of a row is at least the median plus 1.5 times the interquartile range."""
    r = Numbers(group.work)
    scores = np.empty(group.rows_and_columns, np.float32)
    for block in group.blocks():
        scores[block.part] = _importance(r, block)
    order = (np.array([0.25, 0.5, 0.75], np.float32) * np.float32(group.size - 1)).astype(np.int64)
    flat = scores.reshape(-1)
    low, median, high = np.partition(flat, np.unique(order))[order]
    least = r(median + r(np.float32(1.5) * r(high - low)))

    def rule(block: Block) -> np.ndarray:
        base, model = block.base, block.models[0]
        kept = scores[block.part] >= least
        return r(base + r(r(model - base) * kept))

    return rule


def _importance(r: Numbers, block: Block) -> np.ndarray:
    difference = np.abs(r(block.models[0] - block.base))
    p, q = (r(_softmax(r, x) + np.float32(1e-8)) for x in (block.models[0], block.base))
    divergence = r(p * r(np.log(r(p / q)))).sum(axis=1, keepdims=True, dtype=np.float32)
    return r(difference * r(divergence))


def _softmax(r: Numbers, x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return r(e / e.sum(axis=1, keepdims=True))
