"""How much a call of an operation computes and moves, from the shapes of its inputs.

Operations are the multiplications and additions of matrix products, one each; what else is done on
the way is left out. Bytes are those that elementwise operations have to move at least: forward the
inputs and the result, backward the result's gradient and those of the inputs, each once. What is
neither is not counted: there is no number for it rather than a wrong one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Work", "seen_pairs", "work"]

Shapes = Sequence[tuple[int, ...]]
Products = Callable[[Shapes, Sequence[bool], Mapping[str, Any]], tuple[int, int]]
"""Multiplications of a call forward and backward, of the shapes of its inputs, of which of them
have a gradient, and of its options."""

_PRODUCTS: dict[str, Products] = {}

_ELEMENTWISE = frozenset({
    "abs", "add", "astype", "clip", "div", "dropout", "exp", "gelu", "layer_norm", "leaky_relu",
    "log", "log_softmax", "maximum", "minimum", "mul", "neg", "pow", "relu", "rms_norm", "rope",
    "sigmoid", "silu", "softmax", "softplus", "sqrt", "sub", "swiglu", "tanh", "where",
})  # fmt: skip


class Work(NamedTuple):
    """What a call takes: operations of matrix products, and bytes moved at least; None where that
    is not counted."""

    operations: int | None = None
    bytes: int | None = None


def work(
    name: str, arrays: Sequence[Any], result: Any, needs: Sequence[bool], options: Mapping[str, Any]
) -> tuple[Work, Work]:
    """What the call of the operation `name` took forward, and will take backward."""
    if name in _ELEMENTWISE:
        sizes = [getattr(array, "nbytes", 0) for array in arrays]
        back = sum(size for size, needed in zip(sizes, needs, strict=True) if needed)
        return Work(bytes=sum(sizes) + result.nbytes), Work(bytes=result.nbytes + back)
    products = _PRODUCTS.get(name)
    if products is None:
        return Work(), Work()
    there, back = products([np.shape(array) for array in arrays], needs, options)
    return Work(2 * there or None), Work(2 * back or None)


def _of(*names: str) -> Callable[[Products], Products]:
    def register(function: Products) -> Products:
        _PRODUCTS.update(dict.fromkeys(names, function))
        return function

    return register


@_of("linear", "conv1d")
def _linear(shapes: Shapes, needs: Sequence[bool], _options: Mapping[str, Any]) -> tuple[int, int]:
    """x (..., I) times a weight of I·O numbers; backward once for each of them."""
    one = math.prod(shapes[0][:-1]) * math.prod(shapes[1])
    return one, one * (needs[0] + needs[1])


@_of("gelu_linear", "relu_linear", "gelu_conv1d")
def _activated(
    shapes: Shapes, needs: Sequence[bool], _options: Mapping[str, Any]
) -> tuple[int, int]:
    """The same, where the gradient of what is multiplied is computed in any case."""
    one = math.prod(shapes[0][:-1]) * math.prod(shapes[1])
    return one, one * (1 + needs[1])


@_of("swiglu_linear")
def _swiglu(shapes: Shapes, needs: Sequence[bool], _options: Mapping[str, Any]) -> tuple[int, int]:
    one = math.prod(shapes[0][:-1]) * math.prod(shapes[2])
    return one, one * (1 + needs[2])


@_of("teacher_logits")
def _logits(shapes: Shapes, _needs: Sequence[bool], _options: Mapping[str, Any]) -> tuple[int, int]:
    return math.prod(shapes[0][:-1]) * math.prod(shapes[1]), 0


@_of("linear_cross_entropy", "linear_distillation", "linear_aligned_distillation")
def _head(shapes: Shapes, needs: Sequence[bool], _options: Mapping[str, Any]) -> tuple[int, int]:
    """Logits, and on the way the gradients: nothing is left to multiply backward."""
    one = math.prod(shapes[0][:-1]) * math.prod(shapes[1])
    return one * (1 + needs[0] + needs[1]), 0


@_of("matmul")
def _matmul(shapes: Shapes, needs: Sequence[bool], _options: Mapping[str, Any]) -> tuple[int, int]:
    x, y = shapes
    rows, columns = math.prod(x[-2:-1]), math.prod(y[1:][-1:])  # 1 where there is no such axis
    stack = math.prod(np.broadcast_shapes(x[:-2], y[:-2]))
    one = stack * rows * x[-1] * columns
    return one, one * (needs[0] + needs[1])


@_of("low_rank_linear")
def _low_rank(
    shapes: Shapes, needs: Sequence[bool], _options: Mapping[str, Any]
) -> tuple[int, int]:
    """x Wᵀ + (x Aᵀ) Bᵀ: see `low_rank_linear`, whose products these are, one by one."""
    x, weight, a, b = (math.prod(shape) for shape in shapes[:4])
    rows = x // shapes[0][-1]
    of_x, of_weight, of_a, of_b, of_dropped = needs[:5]
    dropped = bool(shapes[4])
    back = weight * (of_x + of_weight) + a * (of_a + (of_x and not dropped)) + b * of_b
    back += b * (of_x or of_weight or of_a or of_b) + (a + b) * of_dropped
    return rows * (weight + a + b), rows * back


@_of("attention")
def _attention(
    shapes: Shapes, _needs: Sequence[bool], options: Mapping[str, Any]
) -> tuple[int, int]:
    """Scores and weighted values of each pair of query and key that see each other; backward the
    scores again, and the gradients of weights, queries, keys and values."""
    (batch, queries, heads, width), keys = shapes[0], shapes[1][1]
    pairs = seen_pairs(
        batch, queries, keys,
        causal=options.get("causal", True), window=options.get("window"),
        first=options.get("first"), mask=options.get("mask"),
    )  # fmt: skip
    one = pairs * heads * width
    return 2 * one, 5 * one


def seen_pairs(
    batch: int,
    queries: int,
    keys: int,
    *,
    causal: bool = True,
    window: int | None = None,
    first: Any = None,
    mask: Any = None,
) -> int:
    """How many pairs of a query and a key that it sees there are in `batch` rows, with the options
    of `ops.attention`.

    >>> seen_pairs(2, 4, 4)
    20
    """
    place = keys - queries + np.arange(queries)
    last = place if causal else np.full(queries, keys - 1)
    start = np.zeros(queries, int) if window is None else np.maximum(0, place - window + 1)
    if first is not None:
        start = np.maximum(start, np.asarray(first))  # (B, T)
    if mask is None:
        found = int(np.maximum(0, last - start + 1).sum())
        return found if first is not None else found * batch
    before = np.zeros((batch, keys + 1), int)
    np.cumsum(np.asarray(mask), axis=1, out=before[:, 1:])
    shape = (batch, queries)
    low, high = (np.broadcast_to(bound, shape) for bound in (start, np.maximum(last + 1, start)))
    counted = np.take_along_axis(before, high, 1) - np.take_along_axis(before, low, 1)
    return int(counted.sum())
