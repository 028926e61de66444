"""Cases of the steps of merging models."""

import numpy as np

from entrenar_core.kernels.trimming import LOWER, UPPER
from entrenar_core.testing_cases.case import WIDE, Arguments, Case, Draw

SHAPES = ((1, 1), (2, 17), (3, 4097), (5, WIDE))
WORK = ("float32", "bfloat16", "float16")


def _ties(draw: Draw, *shape: int) -> np.ndarray:
    """Numbers of which many are equal, some of them 0."""
    return np.round(draw.normal(*shape), 1)


def _wide(numbers: np.ndarray) -> np.ndarray:
    """As float32, if they are of half precision."""
    return numbers.astype(np.result_type(np.float32, numbers.dtype))


def _over(shapes=SHAPES):
    def cases(make) -> list[Case]:
        return [Case(f"{n} of {size}", lambda d, n=n, s=size: make(d, n, s)) for n, size in shapes]

    return cases


def _worked(make, shapes=SHAPES) -> list[Case]:
    return [
        Case(f"{n} of {size} in {work}", lambda d, n=n, s=size, w=work: make(d, n, s) | {"work": w})
        for n, size in shapes
        for work in WORK
    ]


def _keys(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(7)


def _keep_between(d: Draw, n: int, size: int) -> Arguments:
    quarter = max(size // 40, 1)  # about half of the elements that are equal to a bound
    return {
        "x": _ties(d, n, size),
        "bounds": np.tile(np.array([[0.5, 1.5]], np.float32), (n, 1)),
        "ties": np.tile(np.array([[1, quarter, quarter]], np.int64), (n, 1)),
        "seen": np.zeros((n, 2), np.int64) + np.arange(n)[:, None],
    }  # fmt: skip


def _keep_drawn(d: Draw, n: int, size: int) -> Arguments:
    limits = np.full(n, 2**31, np.uint64) // np.arange(1, n + 1, dtype=np.uint64)
    return {"x": d.normal(n, size), "keys": _keys(n), "limits": limits, "start": 12_345 + n}


def _keep_ranked(d: Draw, n: int, rows: int, columns: int) -> Arguments:
    chances = np.tile(np.array([[0.3, 0.4]], np.float64), (n, 1))
    x = _ties(d, n, rows, columns)
    return {"x": x, "keys": _keys(n), "chances": chances, "start": 999}


def _consensus(elect: bool, normalize: bool, factor: float):
    def make(d: Draw, n: int, size: int) -> Arguments:
        return {
            "deltas": _ties(d, n, size), "weights": np.linspace(-0.5, 1.5, n, dtype=d.dtype),
            "base": d.normal(size), "elect": elect, "normalize": normalize, "factor": factor,
        }  # fmt: skip

    options = f"elect {elect}, normalize {normalize}, factor {factor}"
    shapes = SHAPES if elect and normalize else SHAPES[2:3]
    return [Case(f"{case.name}, {options}", case.make) for case in _worked(make, shapes)]


def _counts(width: int):
    return lambda d, n, size: {"x": _ties(d, n, size), "counts": np.ones((n, width), np.int64)}


def _among(d: Draw, n: int, size: int) -> Arguments:
    x = _ties(d, n, size)
    among = (np.abs(x[:, 0]).astype(np.float32).view(np.uint32) >> 16).astype(np.int64)
    return {"x": x, "among": among, "counts": np.ones((n, LOWER), np.int64)}


def _pair(d: Draw, size: int) -> Arguments:
    a, change = d.normal(size), d.normal(size)
    return {"a": a, "b": a + (np.abs(change) > 1) * change * d.dtype.type(0.125)}


def _scaled_pair(d: Draw) -> Arguments:
    """Numbers whose squares are too small for 32 bits, and some whose are large."""
    pair = _pair(d, 4097)
    scale = np.ones(4097)
    scale[:2100], scale[4000:] = 2.0**-80, 2.0**66
    with np.errstate(over="ignore"):  # infinite in float16
        return {name: (array * scale).astype(d.dtype) for name, array in pair.items()}


def _odd_pair(d: Draw) -> Arguments:
    pair = _pair(d, 4097)
    pair["a"][[3, 2000]] = np.inf, np.inf
    pair["b"][[3, 2000, 2500]] = np.inf, -np.inf, np.inf
    return pair


_over_all = _over()

CASES = {
    "merging.task_vectors": _worked(lambda d, n, size: {"inputs": d.normal(n + 1, size)}),
    "trimming.upper_counts": _over_all(_counts(UPPER)),
    "trimming.lower_counts": _over_all(_among),
    "trimming.keep_between": _over_all(_keep_between),
    "trimming.keep_drawn": _over_all(_keep_drawn),
    "trimming.keep_ranked": [
        Case(f"{shape}", lambda d, s=shape: _keep_ranked(d, *s))
        for shape in ((1, 1, 1), (2, 3, 1), (2, 7, 129), (3, 2, 4097))
    ],
    "merging.scale_rows": _worked(
        lambda d, n, size: {"x": d.normal(n, size), "factors": d.normal(n)}
    ),
    "merging.combine": _over_all(
        lambda d, n, size: {"inputs": d.normal(n, size), "weights": _wide(d.normal(n))}
    ),
    "comparing.magnitudes": _over_all(lambda d, n, size: {"x": d.normal(n, size)}),
    "comparing.differences": [
        *(Case(f"{size}", lambda d, s=size: _pair(d, s)) for size in (1, 17, 4097, WIDE, 200_003)),
        Case("tiny and huge", _scaled_pair),
        Case("not all finite", _odd_pair),
        Case("equal", lambda d: dict.fromkeys("ab", d.normal(4097))),
    ],
    "merging.consensus": [
        case
        for options in (
            (True, True, 1.0),
            (True, False, 0.7),
            (False, True, 1.0),
            (False, False, 2.0),
        )
        for case in _consensus(*options)
    ],
    "merging.weighted_sum": [
        *_over_all(lambda d, n, size: {"x": d.normal(n, size), "weights": d.normal(n)}),
        Case("divided", lambda d: {"x": d.normal(3, 4097), "weights": d.normal(3), "divisor": 1.7}),
    ],
    "comparing.compare": _over_all(
        lambda d, n, size: {
            "changes": d.normal(n, size),
            "base": d.normal(size),
            "merged": d.normal(size),
        }
    ),
    "summing.add_rows": [
        Case(
            f"{k} rows of {columns} of {n}",
            lambda d, n=n, k=k, c=columns: {"x": d.normal(n, k, c), "sums": d.normal(n, c)},
        )
        for n, k, columns in ((1, 1, 1), (2, 4097, 1), (3, 1000, 17), (WIDE, 2, 3))
    ],
    "summing.add_squares": [
        Case(
            f"{k} vectors of {n}",
            lambda d, n=n, k=k: {"x": d.normal(n, k, 8), "sums": _wide(abs(d.normal(n, 8)))},
        )
        for n, k in ((1, 1), (2, 3), (2, 4097), (WIDE, 2))
    ],
    "summing.unit_products": [
        Case(
            f"{k} groups",
            lambda d, k=k: {"x": d.normal(2, k, 512), "lengths": _wide(1 + abs(d.normal(2)))},
        )
        for k in (1, 3, 129)
    ],
}
