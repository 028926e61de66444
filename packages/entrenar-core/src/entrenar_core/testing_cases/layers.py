"""Cases of what layers are made of besides products: activations, norms, tables."""

from collections.abc import Callable

import numpy as np

from entrenar_core.testing_cases.case import (
    BEYOND_CACHES,
    SHAPES,
    WIDE,
    Arguments,
    Case,
    Draw,
    elementwise,
    with_options,
)


def _norm_grad(rows: int, width: int, *, out: bool = False, add: bool = False) -> Case:
    def make(d: Draw) -> Arguments:
        x = d.normal(rows, width)
        given: Arguments = {"g": d.normal(rows, width), "x": x, "weight": d.normal(width)}
        given["rstd"] = (1 / np.sqrt((x * x).mean(axis=-1) + 1e-5)).astype(d.dtype)
        return given | ({"out": d.normal(rows, width), "add": add} if out else {})

    return Case(f"({rows}, {width}){' into out' * out}{' +=' * add}", make)


def _activation(*names: str) -> Callable[..., list[Case]]:
    """Cases with a keyword `approximate`, both ways."""
    plain = elementwise(*names)

    def cases(*shapes: tuple[int, int], scale: float = 1.0) -> list[Case]:
        return [
            Case(f"{case.name}, approximate {way}", with_options(case, approximate=way))
            for case in plain(*shapes, scale=scale)
            for way in (False, True)
        ]

    return cases


def _in_place(case: Case, *shape: int) -> Case:
    """The gradient written over g, and the value with it."""

    def make(d: Draw) -> Arguments:
        given = case.make(d)
        return given | {"out": given["g"], "value": d.normal(*shape)}

    return Case(f"{case.name} in place", make)


def _layer_norm(rows: int, width: int, *, shift: float = 0.0, affine: bool = True) -> Case:
    return Case(
        f"({rows}, {width}) plus {shift}{' affine' * affine}",
        lambda d: {
            "x": d.normal(rows, width) + d.dtype.type(shift),
            "weight": d.normal(width) if affine else None,
            "bias": d.normal(width) if affine else None,
            "eps": 1e-5,
        },
    )


def _layer_norm_grad(
    rows: int, width: int, *, out: bool = False, add: bool = False, affine: bool = True
) -> Case:
    def make(d: Draw) -> Arguments:
        x = d.normal(rows, width)
        given: Arguments = {"g": d.normal(rows, width), "x": x}
        given["weight"] = d.normal(width) if affine else None
        given["mean"] = x.mean(axis=-1)
        given["rstd"] = (1 / np.sqrt(x.var(axis=-1) + 1e-5)).astype(d.dtype)
        return given | ({"out": d.normal(rows, width), "add": add} if out else {})

    name = f"({rows}, {width}){' into out' * out}{' +=' * add}{' affine' * affine}"
    return Case(name, make)


def _rms_norm(rows: int, width: int, scale: float = 1.0) -> Case:
    return Case(
        f"({rows}, {width}) times {scale}",
        lambda d: {
            "x": d.normal(rows, width) * d.dtype.type(scale),
            "weight": d.normal(width),
            "eps": 1e-5,
        },
    )


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


CASES: dict[str, list[Case]] = {
    "activation.sigmoid": elementwise("x")(*SHAPES),
    "activation.silu": [
        *elementwise("x")(*SHAPES, BEYOND_CACHES),
        *elementwise("x")((5, 31), scale=30.0),
    ],
    "activation.silu_grad": [
        *elementwise("g", "x")(*SHAPES, BEYOND_CACHES),
        *elementwise("g", "x")((5, 31), scale=30.0),
    ],
    "activation.gelu": [
        *_activation("x")(*SHAPES, BEYOND_CACHES),
        *_activation("x")((5, 31), scale=30.0),
    ],
    "activation.gelu_grad": [
        *_activation("g", "x")(*SHAPES, BEYOND_CACHES),
        *_activation("g", "x")((5, 31), scale=30.0),
        *(_in_place(case, 2, WIDE) for case in _activation("g", "x")((2, WIDE))),
    ],
    "activation.softplus": elementwise("x")(*SHAPES),
    "activation.swiglu": [
        *elementwise("gate", "up")(*SHAPES, BEYOND_CACHES),
        *elementwise("gate", "up")((5, 31), scale=30.0),
    ],
    "activation.swiglu_grad": [
        *elementwise("g", "gate", "up")(*SHAPES, BEYOND_CACHES),
        *elementwise("g", "gate", "up")((5, 31), scale=30.0),
        *(_in_place(case, 2, WIDE) for case in elementwise("g", "gate", "up")((2, WIDE))),
    ],
    "dropout.dropout": [_dropout(1, p=0.5), _dropout(257, p=0.1), _dropout(WIDE, p=0.9)],
    "embedding.embedding": [_embedding(1, 1, 1), _embedding(13, 7, 29), _embedding(WIDE, 3, 50)],
    "embedding.embedding_grad": [
        _embedding_grad(1, 1, 1, False),
        _embedding_grad(13, 7, 290, False),
        _embedding_grad(13, 33, 29, True),
        _embedding_grad(50, 200, 300, False),
        _embedding_grad(50, 200, 300, True),
        _embedding_grad(WIDE, 3, 50, False),
        _embedding_grad(3, 2, WIDE, True),
    ],
    "norm.layer_norm": [
        _layer_norm(1, 1),
        _layer_norm(5, 129),
        _layer_norm(5, 129, affine=False),
        _layer_norm(7, 64, shift=10.0),
        _layer_norm(WIDE, 3),
        _layer_norm(2, WIDE),
        _layer_norm(*BEYOND_CACHES),
    ],
    "norm.layer_norm_grad": [
        _layer_norm_grad(1, 1),
        _layer_norm_grad(5, 129),
        _layer_norm_grad(5, 129, affine=False),
        _layer_norm_grad(33, 24, out=True),
        _layer_norm_grad(33, 24, out=True, add=True),
        _layer_norm_grad(WIDE, 3),
        _layer_norm_grad(2, WIDE),
        _layer_norm_grad(*BEYOND_CACHES),
    ],
    "norm.rms_norm": [
        _rms_norm(1, 1),
        _rms_norm(5, 129),
        _rms_norm(3, 16, scale=1e-4),
        _rms_norm(WIDE, 3),
        _rms_norm(2, WIDE),
        _rms_norm(*BEYOND_CACHES),
    ],
    "norm.rms_norm_grad": [
        _norm_grad(1, 1),
        _norm_grad(5, 129),
        _norm_grad(33, 24, out=True),
        _norm_grad(33, 24, out=True, add=True),
        _norm_grad(WIDE, 3),
        _norm_grad(2, WIDE),
        _norm_grad(*BEYOND_CACHES),
    ],
    "softmax.softmax": [
        *elementwise("x")(*SHAPES, BEYOND_CACHES),
        *elementwise("x")((5, 31), scale=40.0),
    ],
    "softmax.softmax_grad": elementwise("g", "y")(*SHAPES, BEYOND_CACHES),
    "softmax.log_softmax": [
        *elementwise("x")(*SHAPES, BEYOND_CACHES),
        *elementwise("x")((5, 31), scale=40.0),
    ],
    "softmax.log_softmax_grad": elementwise("g", "y")(*SHAPES, BEYOND_CACHES),
}
