"""Cases of what optimizers do to flat buffers."""

from collections.abc import Callable

import numpy as np

from entrenar_core.kernels import quantize_blockwise
from entrenar_core.testing_cases.case import WIDE, Arguments, Case, Draw


def _accumulate(*shape: int) -> Case:
    return Case(str(shape), lambda d: {"target": d.normal(*shape), "source": d.normal(*shape)})


def _sum_of_squares(size: int, scale: float = 1.0) -> Case:
    return Case(f"{size} times {scale}", lambda d: {"x": d.normal(size) * d.dtype.type(scale)})


def _multiply(*shape: int, factor: float = 0.3) -> Case:
    return Case(f"{shape} by {factor}", lambda d: {"target": d.normal(*shape), "factor": factor})


def _limit(*shape: int, bound: float = 0.7) -> Case:
    return Case(f"{shape} at {bound}", lambda d: {"target": d.normal(*shape), "bound": bound})


def _adam(size: int, *, peak: bool = False, **options: float) -> Case:
    rates = {
        "lr": 1e-2, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1, "step": 3,
        "scale": 0.5, **options,
    }  # fmt: skip
    return Case(
        f"{size} {options}{' peak' * peak}",
        lambda d: {
            "p": d.normal(size), "g": d.normal(size), "m": d.normal(size),
            "v": d.positive(size), **rates, "peak": d.positive(size) if peak else None,
        },
    )  # fmt: skip


_ADAM = [
    _adam(1),
    _adam(257),
    _adam(33, weight_decay=0.0, step=1, scale=1.0),
    _adam(33, eps=1e-3, step=10_000),
    _adam(257, peak=True, scale=-0.5),
    _adam(WIDE),
]


def _sgd(size: int, *, buffer: bool = False, nesterov: bool = False, **options: float) -> Case:
    rates = {"lr": 0.1, "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.1, **options}
    return Case(
        f"{size} {options}{' buffer' * buffer}{' nesterov' * nesterov}",
        lambda d: {
            "p": d.normal(size), "g": d.normal(size), **rates, "nesterov": nesterov, "scale": 0.5,
            "buffer": d.normal(size) if buffer else None,
        },
    )  # fmt: skip


def _lion(size: int, **options: float) -> Case:
    rates = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1, "scale": 0.5}
    return Case(
        f"{size} {options}",
        lambda d: (
            {"p": d.normal(size), "g": d.normal(size), "m": d.normal(size), **rates} | options
        ),
    )


def _rmsprop(size: int, *, mean: bool = False, buffer: bool = False) -> Case:
    rates = {
        "lr": 0.01, "alpha": 0.9, "eps": 1e-6, "momentum": 0.8, "weight_decay": 0.1, "scale": 0.5
    }  # fmt: skip

    def make(d: Draw) -> Arguments:
        given = {"p": d.normal(size), "g": d.normal(size)}
        average = d.normal(size)
        return given | {
            "square": average * average + d.positive(size), **rates,
            "mean": average if mean else None, "buffer": d.normal(size) if buffer else None,
        }  # fmt: skip

    return Case(f"{size}{' mean' * mean}{' buffer' * buffer}", make)


def _blocks(size: int, *, signed: bool = True, spread: float = 3.0) -> Callable[[Draw], np.ndarray]:
    """Numbers over many decades, with a block of zeros where there are several blocks."""

    def make(d: Draw) -> np.ndarray:
        x = d.normal(size) * np.exp(d.dtype.type(spread) * d.normal(size))
        x[256 : 2 * 256] = 0
        return x if signed else x * x

    return make


def _quantize(size: int, *, signed: bool, spread: float = 3.0) -> Case:
    make = _blocks(size, signed=signed, spread=spread)
    name = f"{size} {'signed' if signed else 'unsigned'} spread {spread}"
    return Case(name, lambda d: {"x": make(d), "signed": signed})


def _coded(size: int, *, signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Codes and scales of numbers drawn as float32, whatever the dtype of the case is."""
    x = _blocks(size, signed=signed)(Draw(f"coded {size}", "float32"))
    return quantize_blockwise.reference(x, signed=signed)


def _dequantize(size: int, *, signed: bool) -> Case:
    def make(_d: Draw) -> Arguments:
        codes, absmax = _coded(size, signed=signed)
        return {"codes": codes, "absmax": absmax, "signed": signed}

    return Case(f"{size} {'signed' if signed else 'unsigned'}", make)


def _adam_8bit(blocks: int, **options: float) -> Case:
    rates = {
        "lr": 1e-2, "beta1": 0.9, "beta2": 0.95, "eps": 1e-3, "l2": 0.0, "decay": 0.99, "step": 3,
        "scale": 0.5, **options,
    }  # fmt: skip

    def make(d: Draw) -> Arguments:
        size = blocks * 256
        p, g = d.normal(size), d.normal(size)
        m, m_absmax = _coded(size, signed=True)
        v, v_absmax = _coded(size, signed=False)
        given = {"p": p, "g": g, "m": m, "v": v, "m_absmax": m_absmax, "v_absmax": v_absmax}
        return given | rates

    return Case(f"{blocks} blocks {options}", make)


def _adafactor(*shape: int, **options: float) -> Case:
    rates = {
        "lr": 0.05, "beta2_decay": -0.8, "eps1": 1e-7, "eps2": 1e-3, "d": 0.5,
        "weight_decay": 0.1, "step": 4, "scale": 0.5, **options,
    }  # fmt: skip
    *stack, rows, columns = shape
    return Case(
        f"{shape} {options}",
        lambda d: {
            "p": d.normal(*shape), "g": d.normal(*shape), "row": d.positive(*stack, rows, 1),
            "column": d.positive(*stack, 1, columns), **rates,
        },
    )  # fmt: skip


def _adafactor_vector(size: int, **options: float) -> Case:
    matrix = _adafactor(size, 1, **options)

    def make(d: Draw) -> Arguments:
        given = matrix.make(d)
        given.pop("column")
        return {
            **given, "p": given["p"].reshape(-1), "g": given["g"].reshape(-1),
            "v": given.pop("row").reshape(-1),
        }  # fmt: skip

    return Case(matrix.name, make)


_NEWTON_SCHULZ = {"coefficients": (3.4445, -4.775, 2.0315), "steps": 5, "eps": 1e-7}


def _newton_schulz(rows: int, columns: int) -> Case:
    return Case(f"({rows}, {columns})", lambda d: {"x": d.normal(rows, columns), **_NEWTON_SCHULZ})


def _muon(rows: int, columns: int, *, nesterov: bool) -> Case:
    rates = {"lr": 0.1, "ratio": 1.5, "momentum": 0.9, "weight_decay": 0.1, "scale": 0.5}
    return Case(
        f"({rows}, {columns}){' nesterov' * nesterov}",
        lambda d: {
            "p": d.normal(rows, columns), "g": d.normal(rows, columns),
            "buffer": d.normal(rows, columns), "nesterov": nesterov, **rates, **_NEWTON_SCHULZ,
        },
    )  # fmt: skip


CASES: dict[str, list[Case]] = {
    "update.accumulate": [_accumulate(1), _accumulate(257), _accumulate(3, WIDE)],
    "update.sum_of_squares": [
        _sum_of_squares(1),
        _sum_of_squares(257),
        _sum_of_squares(3 * WIDE),
        _sum_of_squares(100, scale=1e12),
    ],
    "update.adam": _ADAM,
    "update.adamw": _ADAM,
    "update.limit": [_limit(1), _limit(257), _limit(3, 17, bound=0.0)],
    "update.multiply": [_multiply(1), _multiply(257), _multiply(3, WIDE, factor=-2.0)],
    "momentum.sgd": [
        _sgd(1, momentum=0.0),
        _sgd(257, momentum=0.0, weight_decay=0.0),
        _sgd(257, buffer=True, dampening=0.3),
        _sgd(33, buffer=True, nesterov=True),
        _sgd(WIDE, buffer=True),
    ],
    "momentum.lion": [_lion(1), _lion(257, scale=-1.0), _lion(33, weight_decay=0.0), _lion(WIDE)],
    "momentum.rmsprop": [
        _rmsprop(1),
        _rmsprop(257, mean=True),
        _rmsprop(33, buffer=True),
        _rmsprop(WIDE, mean=True, buffer=True),
    ],
    "blockwise.quantize_blockwise": [
        _quantize(size, signed=signed)
        for size in (1, 255, 256, 257, 1000, WIDE)
        for signed in (True, False)
    ],
    "blockwise.dequantize_blockwise": [
        _dequantize(size, signed=signed)
        for size in (1, 257, 1000, WIDE)
        for signed in (True, False)
    ],
    "blockwise.adam_8bit": [
        _adam_8bit(1),
        _adam_8bit(3, l2=0.1, decay=1.0),
        _adam_8bit(5, step=1, scale=-1.0),
        _adam_8bit(257),
    ],
    "factored.adafactor": [
        _adafactor(1, 1),
        _adafactor(7, 129),
        _adafactor(3, 5, 2, step=1),
        _adafactor(33, 2, weight_decay=0.0, d=10.0),
    ],
    "factored.adafactor_vector": [_adafactor_vector(1), _adafactor_vector(257, step=1)],
    "orthogonal.newton_schulz": [
        _newton_schulz(1, 1),
        _newton_schulz(7, 33),
        _newton_schulz(33, 7),
    ],
    "orthogonal.muon": [_muon(7, 33, nesterov=True), _muon(33, 7, nesterov=False)],
}
