"""Cases of what is measured on logits."""

from entrenar_core.testing_cases.case import WIDE, Case


def _predictions(rows: int, width: int, *, spread: float = 3.0) -> Case:
    return Case(
        f"({rows}, {width}), spread {spread}",
        lambda d: {
            "logits": d.normal(rows, width) * d.dtype.type(spread),
            "targets": d.targets(width, rows, ignored=0.0),
        },
    )


def _divergence(rows: int, width: int, other: int, shared: int, *, spread: float = 3.0) -> Case:
    return Case(
        f"({rows}, {width}) from {other}, {shared} shared, spread {spread}",
        lambda d: {
            "logits": d.normal(rows, width) * d.dtype.type(spread),
            "expected": d.normal(rows, other) * d.dtype.type(spread),
            "shared": shared,
        },
    )


CASES: dict[str, list[Case]] = {
    "scoring.predictions": [
        _predictions(1, 1),
        _predictions(5, 131),
        _predictions(4, 33, spread=40.0),
        _predictions(9, 7, spread=0.0),
        _predictions(2, WIDE),
        _predictions(WIDE, 2),
    ],
    "scoring.divergence": [
        _divergence(1, 1, 1, 1),
        _divergence(7, 131, 131, 131),
        _divergence(7, 131, 120, 120),
        _divergence(7, 40, 40, 33),
        _divergence(4, 33, 33, 33, spread=15.0),
        _divergence(2, WIDE, WIDE, WIDE),
    ],
}
