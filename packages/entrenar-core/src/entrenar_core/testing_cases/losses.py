"""Cases of the losses over a vocabulary."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from entrenar_core.kernels.divergences import DIVERGENCES, Divergence
from entrenar_core.testing_cases.case import WIDE, Arguments, Case, Draw, with_options


def _losses(rows: int, width: int, *, ignored: float = 0.3, spread: float = 3.0) -> Case:
    return Case(
        f"({rows}, {width}), {ignored} ignored, spread {spread}",
        lambda d: {
            "logits": d.normal(rows, width) * d.dtype.type(spread),
            "targets": d.targets(width, rows, ignored),
        },
    )


def _regularized(case: Case) -> Case:
    options = {"smoothing": 0.1, "z_loss": 0.01}
    return Case(f"{case.name}, smoothed, with z-loss", with_options(case, **options))


def _scaled_losses(*args: int, scale: float, **options: float) -> Case:
    case = _losses(*args, **options)
    return Case(f"{case.name}, scale {scale}", lambda d: case.make(d) | {"scale": scale})


def _distillation(
    rows: int, width: int, teacher: int, shared: int,
    *, alpha: float = 0.5, ignored: float = 0.3, spread: float = 3.0, **divergence: Any,
) -> Case:  # fmt: skip
    chosen = Divergence(**{"temperature": 2.0, **divergence})

    def make(d: Draw) -> Arguments:
        return {
            "logits": d.normal(rows, width) * d.dtype.type(spread),
            "teacher": d.normal(rows, teacher) * d.dtype.type(spread),
            "targets": d.targets(width, rows, ignored),
            "divergence": chosen,
            "alpha": alpha,
            "shared": shared,
            "scale": 1 / rows,
        }

    name = f"({rows}, {width}) from {teacher}, {shared} shared, alpha {alpha}, {ignored} ignored"
    return Case(f"{name}, {chosen}", make, scratch=("teacher",))


def _each_divergence() -> Iterator[Case]:
    for name in DIVERGENCES:
        yield _distillation(7, 131, 120, 120, name=name, beta=0.3, skew=0.2)
        yield _distillation(7, 120, 131, 117, alpha=1.0, name=name, temperature=0.7, top_k=9)
        yield _distillation(3, 40, 40, 40, name=name, top_k=1, spread=20.0)


def _mixture(
    rows: int, width: int, added: int,
    *, weight: float = 0.3, temperature: float = 2.0, spread: float = 3.0, excluded: float = 0.0,
) -> Case:  # fmt: skip
    """A share `excluded` of the ids is impossible to both."""

    def make(d: Draw) -> Arguments:
        mixture = d.normal(rows, width) * d.dtype.type(spread)
        logits = d.normal(rows, added) * d.dtype.type(spread)
        mixture[:, : int(excluded * width)] = logits[:, : int(excluded * width)] = -np.inf
        return {
            "mixture": mixture, "logits": logits, "weight": weight, "temperature": temperature
        }  # fmt: skip

    name = f"({rows}, {width}) and {added}, weight {weight}, T {temperature}, spread {spread}"
    return Case(f"{name}, {excluded} excluded", make)


def _sparse(
    rows: int, width: int, shared: int, most: int,
    *, alpha: float = 0.5, ignored: float = 0.3, spread: float = 3.0, **divergence: Any,
) -> Case:  # fmt: skip
    """From 1 to `most` ids of a teacher in each row, none in every other of those ignored."""
    chosen = Divergence(**{"temperature": 2.0, **divergence})

    def make(d: Draw) -> Arguments:
        targets = d.targets(width, rows, ignored)
        counts = np.minimum(1 + d.ids(most, rows), shared)
        counts[targets < 0] *= np.arange((targets < 0).sum()) % 2
        teacher = d.normal(rows, shared) * d.dtype.type(spread)
        # in float64, so that every dtype has the same ids and rounds its own logs
        wide = teacher.astype(np.float64) / chosen.temperature
        log_p = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
        order = np.argsort(-log_p, axis=-1, kind="stable")
        mask = np.arange(shared) < counts[:, None]
        kept = np.take_along_axis(log_p, order, -1)
        others = np.where(mask, 0, np.exp(kept)).sum(axis=-1)
        return {
            "logits": d.normal(rows, width) * d.dtype.type(spread),
            "ids": order[mask].astype(np.int32),
            "log_p": kept[mask].astype(d.dtype),
            "offsets": np.concatenate([[0], np.cumsum(counts)]),
            "tails": np.log(others, out=np.full(rows, -np.inf), where=others > 0).astype(d.dtype),
            "targets": targets,
            "divergence": chosen,
            "alpha": alpha,
            "shared": shared,
            "scale": 1 / rows,
        }

    name = f"({rows}, {width}), {shared} shared, {most} of a teacher, alpha {alpha}, {ignored}"
    return Case(f"{name} ignored, {chosen}", make)


def _each_sparse() -> Iterator[Case]:
    for name in sorted(DIVERGENCES.keys() - {"mse"}):
        yield _sparse(7, 131, 120, 9, name=name, beta=0.3, skew=0.2)
        yield _sparse(5, 40, 40, 60, alpha=1.0, name=name, temperature=0.7)
        yield _sparse(3, 40, 40, 1, name=name, spread=20.0)


def _likeliest(rows: int, width: int, k: int, mass: float, spread: float = 3.0) -> Case:
    return Case(
        f"{k} of ({rows}, {width}), mass {mass}, spread {spread}",
        lambda d: {
            "logits": d.normal(rows, width) * d.dtype.type(spread),
            "temperatures": np.array([1.0, 0.7, 5.0]),
            "mass": mass,
            "k": k,
        },
        scratch=("logits",),
    )


CASES: dict[str, list[Case]] = {
    "loss.cross_entropy": [
        _losses(1, 1, ignored=0.0),
        _losses(5, 131),
        _losses(3, 17, ignored=1.0),
        _losses(4, 33, spread=40.0),
        _losses(2, WIDE),
        _losses(WIDE, 2),
        _regularized(_losses(5, 131)),
        _regularized(_losses(4, 33, spread=40.0)),
    ],
    "loss.cross_entropy_grad": [
        _scaled_losses(1, 1, scale=1.0, ignored=0.0),
        _scaled_losses(5, 131, scale=0.2),
        _scaled_losses(3, 17, scale=1.0, ignored=1.0),
        _scaled_losses(4, 33, scale=1.0, spread=40.0),
        _scaled_losses(2, WIDE, scale=0.5),
        _scaled_losses(WIDE, 2, scale=0.5),
        _regularized(_scaled_losses(5, 131, scale=0.2)),
        _regularized(_scaled_losses(4, 33, scale=1.0, spread=40.0)),
    ],
    "distillation.distillation_grad": [
        _distillation(1, 1, 1, 1, ignored=0.0),
        _distillation(7, 131, 131, 131),
        _distillation(7, 131, 120, 120, temperature=0.7, alpha=0.9),
        _distillation(7, 120, 131, 120, temperature=5.0, alpha=0.0),
        _distillation(7, 40, 40, 33, alpha=1.0),
        _distillation(3, 17, 17, 17, ignored=1.0),
        _distillation(2, WIDE, WIDE, WIDE),
        _distillation(2, WIDE, WIDE, WIDE, name="jsd", top_k=100),
        *_each_divergence(),
    ],
    "mixture.add_to_mixture": [
        _mixture(1, 1, 1, weight=1.0),
        _mixture(7, 131, 131),
        _mixture(7, 120, 131, weight=0.9, temperature=0.7),
        _mixture(5, 40, 40, spread=40.0, temperature=5.0),
        _mixture(5, 40, 41, excluded=0.5),
        _mixture(2, WIDE, WIDE),
    ],
    "sparse_distillation.sparse_distillation_grad": [
        _sparse(1, 1, 1, 1, ignored=0.0),
        _sparse(7, 131, 131, 20),
        _sparse(7, 131, 120, 20, temperature=0.7, alpha=0.9),
        _sparse(7, 120, 120, 5, temperature=5.0, alpha=0.0),
        _sparse(3, 17, 17, 4, ignored=1.0),
        _sparse(2, WIDE, WIDE, 100),
        *_each_sparse(),
    ],
    "likeliest.likeliest": [
        _likeliest(1, 1, 1, 0.9),
        _likeliest(7, 131, 131, 1.0),
        _likeliest(7, 131, 20, 0.9),
        _likeliest(33, 40, 39, 0.999, spread=1.0),
        _likeliest(5, 40, 6, 0.5, spread=20.0),
        _likeliest(2, WIDE, 500, 0.99),
    ],
}
