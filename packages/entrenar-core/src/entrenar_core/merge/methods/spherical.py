"""Methods that go along a sphere instead of through it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from entrenar_common.errors import NumericsError, UnsupportedError
from entrenar_core.kernels import merging
from entrenar_core.merge.angles import arccos, cos, sin
from entrenar_core.merge.chunked import chunked_cosine, chunked_norms
from entrenar_core.merge.group import Block, Group
from entrenar_core.merge.method import PerModel, Rule, method
from entrenar_core.merge.numbers import Numbers, at, dot_products, norms, sum_of, sums, wide_norms

NEARLY_PARALLEL = 0.9995
SMALL = 1e-8


@method(
    "slerp", source="https://en.wikipedia.org/wiki/Slerp", inputs=(2, 2), symmetric=False,
    lone="any",
)  # fmt: skip
def slerp(group: Group, *, t: float) -> Rule:
    """sin((1−t)θ)/sin θ · v₀ + sin(tθ)/sin θ · v₁, where θ is the angle between the base v₀ and the
    other model v₁, as vectors of the whole tensor; linear where they are nearly parallel or
    opposite. In float32, whatever the working type."""
    lengths = chunked_norms(group)
    lengths[lengths <= SMALL] = 1  # a vector of zeros has no direction
    cosine = np.clip(chunked_cosine(group, lengths), -1, 1)
    share = np.float32(t)
    first, second = 1 - share, share
    if abs(cosine) <= NEARLY_PARALLEL:
        angle = arccos(cosine)
        first, second = (sin(part * angle) / sin(angle) for part in (first, second))

    parts = np.array([first, second], np.float32)

    def rule(block: Block) -> np.ndarray:
        return merging.combine(block.stored.reshape(2, -1), parts).reshape(block.shape)

    return rule


@method(
    "nuslerp", source="https://github.com/arcee-ai/mergekit", base="optional", models=(2, 2),
    symmetric=False, lone="any",
)  # fmt: skip
def nuslerp(
    group: Group,
    *,
    weight: PerModel,
    nuslerp_row_wise: bool = False,
    nuslerp_flatten: bool = True,
) -> Rule:
    """As `slerp`, at t = w₂/(w₁ + w₂), of two models, or of their task vectors if there is a base.

    The angle is that between the whole tensors, or, not flattened, one for each row, or, row-wise,
    one for each column.
    """
    total = sum(weight)
    t = 0.5 if abs(total) < 1e-6 else weight[1] / total
    axis = None if nuslerp_flatten else (0 if nuslerp_row_wise else 1)
    if axis == 0 and len(group.shape) > 2:
        raise UnsupportedError(
            f"{group.key}: nuslerp_row_wise of a tensor with {len(group.shape)} axes",
            hint="leave nuslerp_row_wise out",
        )
    axis = 1 if axis == 0 and len(group.shape) < 2 else axis
    r = Numbers(group.work)

    def vectors(block: Block) -> np.ndarray:
        return block.changes

    lengths = np.maximum(norms(group, vectors, axis=axis), r(1e-7))

    def products(block: Block) -> np.ndarray:
        units = [r(v / at(block, n)) for v, n in zip(vectors(block), lengths, strict=True)]
        return r(units[0] * units[1])

    cosine = np.clip(r(sums(group, products, axis=axis)), -1, 1)
    linear = r(1 - r(np.square(cosine))) <= SMALL**2
    angle = r(arccos(np.where(linear, np.float32(0), cosine)))
    sine = r(sin(angle))
    first = r(sin(r(np.float32(1 - t) * angle)))
    second = r(sin(r(np.float32(t) * angle)))

    def rule(block: Block) -> np.ndarray:
        v0, v1 = vectors(block)
        curved = r(r(r(at(block, first) * v0) + r(at(block, second) * v1)) / at(block, sine))
        straight = r(r(np.float32(1 - t) * v0) + r(np.float32(t) * v1))
        found = np.where(at(block, linear), straight, curved)
        return r(block.base + found) if block.has_base else found

    return rule


@method(
    "multislerp", source="https://goddard.blog/posts/multislerp-wow-what-a-cool-idea",
    base="optional", models=(1, None),
)  # fmt: skip
def multislerp(
    group: Group,
    *,
    weight: PerModel,
    normalize_weights: bool = True,
    eps: float = SMALL,
) -> Rule:
    """The weighted mean in the tangent space of the unit sphere at the models' weighted mean, back
    on the sphere, at the weighted mean of their norms; of task vectors if there is a base."""
    r = Numbers(group.work)
    if len(group.models) == 1:
        return lambda block: block.models[0].copy()
    weights = _weights(r, weight, normalize_weights)
    column = weights[:, None, None]

    def vectors(block: Block) -> np.ndarray:
        return block.changes

    def summed(x: np.ndarray) -> np.ndarray:
        return r(np.sum(x, axis=0, dtype=np.float32))

    found = norms(group, vectors)
    lengths = r(found + np.float32(eps))
    lengths[lengths == 0] = 1  # float16 has no number as small as eps

    def units(block: Block) -> np.ndarray:
        return r(vectors(block) / lengths)

    def mean(block: Block) -> np.ndarray:
        return summed(r(units(block) * column))

    size = norms(group, mean).item()
    if size < eps:
        return _straight(group, r, weights)

    def centre(block: Block) -> np.ndarray:
        return r(mean(block) / size)

    dots = r(sums(group, lambda block: r(units(block) * centre(block))))

    def tangent(block: Block) -> np.ndarray:
        middle = centre(block)
        away = np.stack([r(u - r(d * middle)) for u, d in zip(units(block), dots, strict=True)])
        return summed(r(away * column))

    length = r(norms(group, tangent).item() + np.float32(eps))
    cosine = r(cos(length))
    sine = r(r(sin(length)) / length) if length else np.float32(1)  # eps may round to 0
    scale = r(sum_of(r(found.reshape(-1) * weights), r.work))

    def rule(block: Block) -> np.ndarray:
        found = r(r(centre(block) * cosine) + r(tangent(block) * sine))
        found = r(found * scale)
        return r(found + block.base) if block.has_base else found

    return rule


def _weights(r: Numbers, weight: PerModel, normalize: bool) -> np.ndarray:
    weights = r(np.array(weight, np.float32))
    return r(weights / r(sum_of(weights, r.work))) if normalize else weights


def _straight(group: Group, r: Numbers, weights: np.ndarray) -> Rule:
    """For models whose weighted mean is 0: there is no direction to begin from."""
    if len(group.models) > 2:
        raise NumericsError(
            f"{group.key}: the weighted mean of the models' directions is 0",
            hint="give other weights: opposite directions cancel each other",
        )

    def rule(block: Block) -> np.ndarray:
        first, second = block.changes
        found = r(r(first * weights[0]) + r(second * weights[1]))
        return r(found + block.base) if block.has_base else found

    return rule


@method("karcher", source="https://arxiv.org/abs/2603.04972", base="ignored", keeps=8.0)
def karcher(group: Group, *, max_iter: int = 10, tol: float = 1e-5) -> Rule:
    """The Karcher mean of the models' directions on the unit sphere, found by steps along tangents,
    at the mean of their norms."""
    r, n = Numbers(group.work), len(group.models)
    if n == 1:
        return lambda block: block.inputs[0].copy()
    lengths = wide_norms(group, lambda block: block.inputs).reshape(-1)
    valid = [i for i in range(n) if lengths[i] > tol]
    if not valid:
        return lambda block: np.zeros(block.shape, np.float32)
    alpha = np.float32(1 / len(valid))

    def units(block: Block) -> list[np.ndarray]:
        return [r(block.inputs[i] / lengths[i]) for i in valid]

    def first_mean(block: Block) -> np.ndarray:
        found = np.zeros(block.shape, np.float32)
        for unit in units(block):
            found = r(found + r(alpha * unit))
        return found

    mean = _Kept(group)
    size = _norm_of(group, mean, first_mean)
    if size < tol:
        _keep(group, mean, lambda block: units(block)[0])
    else:
        _keep(group, mean, lambda block: r(mean.of(block) / size))
    for _ in range(max_iter):
        if not _step(group, r, mean, units, alpha, tol):
            break
    scale = r(sum(np.float32(1 / n) * length for length in lengths))

    return lambda block: r(scale * mean.of(block))


class _Kept:
    """A whole tensor that is kept between passes, in the working type."""

    def __init__(self, group: Group) -> None:
        self._array = np.empty(group.rows_and_columns, group.work)

    def of(self, block: Block) -> np.ndarray:
        return self._array[block.part].astype(np.float32)

    def put(self, block: Block, values: np.ndarray) -> None:
        self._array[block.part] = values


def _keep(group: Group, kept: _Kept, make: Callable[[Block], np.ndarray]) -> None:
    """Keep what `make` makes of each block."""
    for block in group.blocks():
        kept.put(block, make(block))


def _norm_of(group: Group, kept: _Kept, make: Callable[[Block], np.ndarray]) -> np.float32:
    """Keep what `make` makes of each block; its norm."""

    def values(block: Block) -> np.ndarray:
        made = make(block)
        kept.put(block, made)
        return made

    return np.float32(wide_norms(group, values).item())


def _step(group: Group, r: Numbers, mean: _Kept, units: Any, alpha: Any, tol: float) -> bool:
    """Move the mean along the tangent; False where it moves no more."""
    products = dot_products(group, lambda b: np.stack([mean.of(b) * u for u in units(b)]))
    dots = np.clip(r(products.reshape(-1)), -1, 1)
    angles = r(arccos(dots))
    sines = r(sin(angles))

    def tangent(block: Block) -> np.ndarray:
        found, middle = np.zeros(block.shape, np.float32), mean.of(block)
        for unit, dot, angle, sine in zip(units(block), dots, angles, sines, strict=True):
            if angle >= tol:
                away = r(unit - r(dot * middle))
                found = r(found + r(r(alpha * r(angle / sine)) * away))
        return found

    length = np.float32(wide_norms(group, tangent).item())
    if length < tol:
        return False
    cosine, sine = r(cos(length)), r(sin(length))  # numbers before tensors take their type

    def moved(block: Block) -> np.ndarray:
        ahead = r(sine * r(tangent(block) / length))
        return r(r(cosine * mean.of(block)) + ahead)

    # the tangents of later blocks need the mean as it was, so a step has a tensor of its own
    following = _Kept(group)
    size = _norm_of(group, following, moved)
    mean._array = following._array
    if size > tol:
        _keep(group, mean, lambda block: r(mean.of(block) / size))
    return True
