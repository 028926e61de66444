"""Arguments for every kernel: what overrides are compared on and what the benchmark starts from.

The sizes are odd, one, or beyond 65,535 (where 16-bit counters and the grids of a GPU end), because
those are where kernels that are split in tiles go wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_core.kernels import attention
from entrenar_core.rng import stream

Arguments = dict[str, Any]

WIDE = 65_537
"""The first prime beyond 16 bits."""


@dataclass(frozen=True)
class Case:
    """One call of a kernel. `make(draw)` returns its arguments by name, fresh each time, because
    some kernels write to them; `scratch` names arguments whose contents afterwards mean nothing."""

    name: str
    make: Callable[["Draw"], Arguments]
    scratch: tuple[str, ...] = ()

    def arguments(self, dtype: str = "float32") -> Arguments:
        """The same numbers for every call and, up to rounding, for every dtype."""
        return self.make(Draw(self.name, dtype))


class Draw:
    """Random arguments that depend on the case's name only."""

    def __init__(self, name: str, dtype: str):
        self._rng, self.dtype = stream(0, f"case {name}"), np.dtype(dtype)

    def normal(self, *shape: int) -> np.ndarray:
        # drawn as float32, so that float64 arguments are the very same numbers
        return self._rng.standard_normal(shape, np.float32).astype(self.dtype)

    def positive(self, *shape: int) -> np.ndarray:
        return np.abs(self.normal(*shape)) + self.dtype.type(0.5)

    def ids(self, high: int, *shape: int) -> np.ndarray:
        return self._rng.integers(0, high, shape)

    def targets(self, high: int, rows: int, ignored: float = 0.3) -> np.ndarray:
        """Labels below `high`; about a share `ignored` of them are −100."""
        return np.where(self._rng.random(rows) < ignored, -100, self.ids(high, rows))


def _elementwise(*names: str) -> Callable[..., list[Case]]:
    def cases(*shapes: tuple[int, int], scale: float = 1.0) -> list[Case]:
        def maker(shape: tuple[int, int]) -> Callable[[Draw], Arguments]:
            return lambda d: {n: d.normal(*shape) * d.dtype.type(scale) for n in names}

        return [Case(f"{shape} times {scale}", maker(shape)) for shape in shapes]

    return cases


def _matmul(
    m: int, n: int, k: int, *, a: str = "plain", b: str = "plain", out: str | None = None,
    add: bool = False, trans_a: bool = False, trans_b: bool = False,
) -> Case:  # fmt: skip
    """a, b and out say how the array lies: plain, columns (a column slice of a wider array) or row
    (one row with a new axis, whose first stride is 0)."""

    def make(d: Draw) -> Arguments:
        given: Arguments = {
            "a": _laid_out(d, a, *((k, m) if trans_a else (m, k))),
            "b": _laid_out(d, b, *((n, k) if trans_b else (k, n))),
            "trans_a": trans_a,
            "trans_b": trans_b,
        }
        if out is not None:
            given |= {"out": _laid_out(d, out, m, n), "add": add}
        return given

    kind = f"{m}x{n}x{k} {a}{' T' * trans_a}, {b}{' T' * trans_b}, out {out}{' +=' * add}"
    return Case(kind, make)


def _laid_out(d: Draw, kind: str, rows: int, columns: int) -> np.ndarray:
    if kind == "plain":
        return d.normal(rows, columns)
    if kind == "columns":
        return d.normal(rows, columns + 8)[:, 3 : 3 + columns]
    assert kind == "row" and rows == 1
    return d.normal(columns)[None, :]


def _norm_grad(rows: int, width: int, *, out: bool = False, add: bool = False) -> Case:
    def make(d: Draw) -> Arguments:
        x = d.normal(rows, width)
        given: Arguments = {"g": d.normal(rows, width), "x": x, "weight": d.normal(width)}
        given["rstd"] = (1 / np.sqrt((x * x).mean(axis=-1) + 1e-5)).astype(d.dtype)
        return given | ({"out": d.normal(rows, width), "add": add} if out else {})

    return Case(f"({rows}, {width}){' into out' * out}{' +=' * add}", make)


def _rms_norm(rows: int, width: int, scale: float = 1.0) -> Case:
    return Case(
        f"({rows}, {width}) times {scale}",
        lambda d: {
            "x": d.normal(rows, width) * d.dtype.type(scale),
            "weight": d.normal(width),
            "eps": 1e-5,
        },
    )


def _rope(b: int, t: int, h: int, d: int, inverse: bool = False) -> Case:
    def make(draw: Draw) -> Arguments:
        angle = draw.normal(t, d // 2) * draw.dtype.type(3)
        given: Arguments = {"x": draw.normal(b, t, h, d), "cos": np.cos(angle)}
        return given | {"sin": np.sin(angle), "inverse": inverse}

    return Case(f"({b}, {t}, {h}, {d}){' inverse' * inverse}", make)


Heads = tuple[int, int, int, int, int, int]
"""B, T, S, H, G, D."""

HEADS: dict[str, Heads] = {
    "one of everything": (1, 1, 1, 1, 1, 2),
    "multi-head": (2, 7, 7, 3, 3, 6),
    "grouped": (2, 33, 33, 6, 2, 8),
    "multi-query": (1, 130, 130, 5, 1, 4),
    "more keys than queries": (2, 3, 17, 4, 2, 8),
    "one query, many keys": (1, 1, 129, 4, 4, 16),
    "many tiles": (1, 301, 307, 2, 1, 10),
    "many sequences": (WIDE, 1, 2, 1, 1, 2),
}


def _attention(name: str, heads: Heads, *, scale: float = 0.3) -> Case:
    b, t, s, h, g, d = heads
    return Case(
        name,
        lambda draw: {
            "q": draw.normal(b, t, h, d),
            "k": draw.normal(b, s, g, d),
            "v": draw.normal(b, s, g, d),
            "scale": scale,
        },
    )


def _attention_cached() -> Case:
    """Keys and values as a cache holds them: the filled part of a longer buffer."""
    return Case(
        "part of a longer buffer",
        lambda draw: {
            "q": draw.normal(2, 3, 4, 8),
            "k": draw.normal(2, 11, 2, 8)[:, :7],
            "v": draw.normal(2, 11, 2, 8)[:, :7],
            "scale": 0.3,
        },
    )


def _attention_grad(name: str, heads: Heads) -> Case:

    forward = _attention(name, heads)

    def make(draw: Draw) -> Arguments:
        given = forward.make(draw)
        o, lse = attention.reference(**given)
        return {"g": draw.normal(*o.shape), **given, "o": o, "lse": np.ascontiguousarray(lse)}

    return Case(name, make)


def _losses(rows: int, width: int, *, ignored: float = 0.3, spread: float = 3.0) -> Case:
    return Case(
        f"({rows}, {width}), {ignored} ignored, spread {spread}",
        lambda d: {
            "logits": d.normal(rows, width) * d.dtype.type(spread),
            "targets": d.targets(width, rows, ignored),
        },
    )


def _scaled_losses(*args: int, scale: float, **options: float) -> Case:
    case = _losses(*args, **options)
    return Case(f"{case.name}, scale {scale}", lambda d: case.make(d) | {"scale": scale})


def _distillation(
    rows: int, width: int, teacher: int, shared: int, *, temperature: float = 2.0,
    alpha: float = 0.5, ignored: float = 0.3, spread: float = 3.0,
) -> Case:  # fmt: skip
    def make(d: Draw) -> Arguments:
        return {
            "logits": d.normal(rows, width) * d.dtype.type(spread),
            "teacher": d.normal(rows, teacher) * d.dtype.type(spread),
            "targets": d.targets(width, rows, ignored),
            "temperature": temperature,
            "alpha": alpha,
            "shared": shared,
            "scale": 1 / rows,
        }

    name = f"({rows}, {width}) from {teacher}, {shared} shared, T {temperature}, alpha {alpha}"
    return Case(f"{name}, {ignored} ignored", make, scratch=("teacher",))


def _dropout(size: int, p: float) -> Case:
    return Case(f"{size} at {p}", lambda d: {"x": d.normal(size), "p": p, "key": 2**63 + 12345})


def _embedding(rows: int, width: int, count: int) -> Case:
    return Case(
        f"{count} of ({rows}, {width})",
        lambda d: {"weight": d.normal(rows, width), "ids": d.ids(rows, count)},
    )


def _embedding_grad(rows: int, width: int, count: int, add: bool) -> Case:
    def make(d: Draw) -> Arguments:
        given: Arguments = {"g": d.normal(count, width), "ids": d.ids(rows, count)}
        return given | {"out": d.normal(rows, width), "add": add}

    return Case(f"{count} into ({rows}, {width}){' +=' * add}", make)


def _accumulate(*shape: int) -> Case:
    return Case(str(shape), lambda d: {"target": d.normal(*shape), "source": d.normal(*shape)})


def _sum_of_squares(size: int, scale: float = 1.0) -> Case:
    return Case(f"{size} times {scale}", lambda d: {"x": d.normal(size) * d.dtype.type(scale)})


def _adamw(size: int, **options: float) -> Case:
    rates = {
        "lr": 1e-2, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1, "step": 3,
        "scale": 0.5, **options,
    }  # fmt: skip
    return Case(
        f"{size} {options}",
        lambda d: {
            "p": d.normal(size), "g": d.normal(size), "m": d.normal(size),
            "v": d.positive(size), **rates,
        },
    )  # fmt: skip


_SHAPES = ((1, 1), (1, 17), (33, 1), (7, 129), (WIDE, 1), (2, WIDE))

CASES: dict[str, list[Case]] = {
    "activation.swiglu": [
        *_elementwise("gate", "up")(*_SHAPES),
        *_elementwise("gate", "up")((5, 31), scale=30.0),
    ],
    "activation.swiglu_grad": [
        *_elementwise("g", "gate", "up")(*_SHAPES),
        *_elementwise("g", "gate", "up")((5, 31), scale=30.0),
    ],
    "attention.rope": [
        _rope(1, 1, 1, 2),
        _rope(2, 7, 3, 10),
        _rope(2, 7, 3, 10, inverse=True),
        _rope(WIDE, 1, 1, 2),
        _rope(1, WIDE, 1, 2),
    ],
    "attention.attention": [
        *(_attention(name, heads) for name, heads in HEADS.items()),
        _attention("large scores", HEADS["grouped"], scale=20.0),
        _attention_cached(),
    ],
    "attention.attention_grad": [_attention_grad(*item) for item in HEADS.items()],
    "dropout.dropout": [_dropout(1, p=0.5), _dropout(257, p=0.1), _dropout(WIDE, p=0.9)],
    "embedding.embedding": [_embedding(1, 1, 1), _embedding(13, 7, 29), _embedding(WIDE, 3, 50)],
    "embedding.embedding_grad": [
        _embedding_grad(1, 1, 1, False),
        _embedding_grad(13, 7, 290, False),
        _embedding_grad(13, 33, 29, True),
        _embedding_grad(WIDE, 3, 50, False),
        _embedding_grad(3, 2, WIDE, True),
    ],
    "loss.cross_entropy": [
        _losses(1, 1, ignored=0.0),
        _losses(5, 131),
        _losses(3, 17, ignored=1.0),
        _losses(4, 33, spread=40.0),
        _losses(2, WIDE),
        _losses(WIDE, 2),
    ],
    "loss.cross_entropy_grad": [
        _scaled_losses(1, 1, scale=1.0, ignored=0.0),
        _scaled_losses(5, 131, scale=0.2),
        _scaled_losses(3, 17, scale=1.0, ignored=1.0),
        _scaled_losses(4, 33, scale=1.0, spread=40.0),
        _scaled_losses(2, WIDE, scale=0.5),
        _scaled_losses(WIDE, 2, scale=0.5),
    ],
    "loss.distillation_grad": [
        _distillation(1, 1, 1, 1, ignored=0.0),
        _distillation(7, 131, 131, 131),
        _distillation(7, 131, 120, 120, temperature=0.7, alpha=0.9),
        _distillation(7, 120, 131, 120, temperature=5.0, alpha=0.0),
        _distillation(7, 40, 40, 33, alpha=1.0),
        _distillation(3, 17, 17, 17, ignored=1.0),
        _distillation(2, WIDE, WIDE, WIDE),
    ],
    "matmul.matmul": [
        _matmul(1, 1, 1),
        _matmul(1, 33, 17, trans_b=True),
        _matmul(33, 1, 17),
        _matmul(37, 53, 29),
        _matmul(37, 53, 29, trans_a=True),
        _matmul(37, 53, 29, trans_b=True),
        _matmul(37, 53, 29, trans_a=True, trans_b=True),
        _matmul(37, 53, 29, out="plain"),
        _matmul(37, 53, 29, out="plain", add=True),
        _matmul(37, 53, 29, a="columns", b="columns", out="columns"),
        _matmul(37, 53, 29, a="columns", trans_a=True, b="columns", out="columns", add=True),
        _matmul(37, 53, 29, b="columns", trans_b=True, out="columns", add=True),
        _matmul(1, 53, 29, a="row", trans_b=True),
        _matmul(1, 53, 29, a="row", out="row", add=True),
        _matmul(53, 29, 1, b="row", trans_b=False),
        _matmul(52, 71, 38, trans_b=True),
        _matmul(29, 63, 574, trans_a=True),
        _matmul(260, 200, 130, trans_b=True),
        _matmul(WIDE, 3, 2),
        _matmul(3, WIDE, 2, trans_b=True),
        _matmul(2, 3, WIDE, trans_a=True),
    ],
    "norm.rms_norm": [
        _rms_norm(1, 1),
        _rms_norm(5, 129),
        _rms_norm(3, 16, scale=1e-4),
        _rms_norm(WIDE, 3),
        _rms_norm(2, WIDE),
    ],
    "norm.rms_norm_grad": [
        _norm_grad(1, 1),
        _norm_grad(5, 129),
        _norm_grad(33, 24, out=True),
        _norm_grad(33, 24, out=True, add=True),
        _norm_grad(WIDE, 3),
        _norm_grad(2, WIDE),
    ],
    "update.accumulate": [_accumulate(1), _accumulate(257), _accumulate(3, WIDE)],
    "update.sum_of_squares": [
        _sum_of_squares(1),
        _sum_of_squares(257),
        _sum_of_squares(3 * WIDE),
        _sum_of_squares(100, scale=1e12),
    ],
    "update.adamw": [
        _adamw(1),
        _adamw(257),
        _adamw(33, weight_decay=0.0, step=1, scale=1.0),
        _adamw(33, eps=1e-3, step=10_000),
        _adamw(WIDE),
    ],
}
"""For every kernel, by the name it has in `registry.KERNELS`."""
