"""Cases of products of matrices and of weights in 16 bits."""

import numpy as np

from entrenar_core.kernels.held import Held
from entrenar_core.kernels.int8_panels import packed
from entrenar_core.testing_cases.case import WIDE, Arguments, Case, Draw


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


def _matmul_stack(count: int, m: int, n: int, k: int, kind: str = "plain") -> Case:
    """kind: plain; columns (of wider matrices); transposed; repeated (one matrix for all)."""

    def make(d: Draw) -> Arguments:
        if kind == "transposed":
            a, b = d.normal(count, k, m), d.normal(count, n, k)
            return {"a": a, "b": b, "trans_a": True, "trans_b": True}
        wide = 8 if kind == "columns" else 0
        a, b = d.normal(count, m, k + wide)[..., :k], d.normal(count, k, n + wide)[..., :n]
        return {"a": a, "b": np.broadcast_to(b[:1], b.shape) if kind == "repeated" else b}

    return Case(f"{count} of {m}x{n}x{k} {kind}", make)


def _matmul_int8(
    m: int, n: int, k: int, *, a: str = "plain", block: int | None = None, out: str | None = None,
    add: bool = False, transposed: bool = False,
) -> Case:  # fmt: skip
    """By a matrix in panels, with a scale for each row, or a float16 for each `block` of them;
    `transposed`, where that is how the matrix is held."""

    def make(d: Draw) -> Arguments:
        codes = np.clip(np.rint(d.normal(n, k) * 50), -127, 127) + 128
        scales = d.positive(n, 1 if block is None else k // block)
        kind = np.float32 if block is None else np.float16
        given: Arguments = {
            "a": _laid_out(d, a, m, k),
            "b": Held(packed(codes.astype(np.uint8), scales.astype(kind)), transposed=transposed),
            "trans_b": not transposed,
        }
        if out is not None:
            given |= {"out": _laid_out(d, out, m, n), "add": add}
        return given

    kind = f"{m}x{n}x{k} {a}, panels{' T' * transposed} of {block}, out {out}{' +=' * add}"
    return Case(kind, make)


def _laid_out(d: Draw, kind: str, rows: int, columns: int) -> np.ndarray:
    if kind == "plain":
        return d.normal(rows, columns)
    if kind == "columns":
        return d.normal(rows, columns + 8)[:, 3 : 3 + columns]
    assert kind == "row" and rows == 1
    return d.normal(columns)[None, :]


def _widen(rows: int, columns: int, *, every: bool = False) -> Case:
    """With `every`, rows of all 65,536 patterns of bits, with 0 for every NaN."""

    def make(d: Draw) -> Arguments:
        x = d.normal(rows, columns)
        if every:
            x.view(np.uint16)[...] = np.arange(columns)
            with np.errstate(invalid="ignore"):
                x[np.isnan(x)] = 0
        return {"x": x}

    return Case(f"({rows}, {columns}){' of all bits' * every}", make)


def _rounded(rows: int, columns: int, kind: str) -> Case:
    """Numbers over all magnitudes of the type, subnormal ones and too large ones with them."""

    def make(d: Draw) -> Arguments:
        x = d.normal(rows, columns) * np.exp2(d.dtype.type(12) * d.normal(rows, columns))
        return {"x": x, "out": np.zeros((rows, columns), np.dtype(kind))}

    return Case(f"({rows}, {columns}) to {kind}", make)


def _add_low_rank(rows: int, columns: int, rank: int, kind: str = "") -> Case:
    def make(d: Draw) -> Arguments:
        narrow = d.dtype if kind == "" else np.dtype(kind)
        left, right = (
            d.normal(*shape).astype(np.float32) for shape in ((rows, rank), (rank, columns))
        )
        return {
            "weight": d.normal(rows, columns), "left": left, "right": right,
            "out": np.zeros((rows, columns), narrow),
        }  # fmt: skip

    return Case(f"({rows}, {columns}) rank {rank}{kind and f' to {kind}'}", make)


PRODUCTS = [
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
]
"""Cases of `matmul`, whatever it rounds its operands to."""

STACKS = [
    _matmul_stack(1, 1, 1, 1),
    _matmul_stack(2, 37, 53, 29),
    _matmul_stack(7, 37, 53, 29),
    _matmul_stack(9, 37, 53, 29, "columns"),
    _matmul_stack(9, 37, 53, 29, "transposed"),
    _matmul_stack(9, 37, 53, 29, "repeated"),
    _matmul_stack(9, 1, 33, 17),
    _matmul_stack(9, 33, 17, 1),
    _matmul_stack(2, 130, 120, 110),
    _matmul_stack(5, 130, 120, 110),
    _matmul_stack(WIDE, 1, 3, 2),
]

CASES: dict[str, list[Case]] = {
    "matmul.matmul": PRODUCTS,
    "matmul_bf16.matmul_bf16": [
        *PRODUCTS,
        _matmul(9, 49, 2306, trans_b=True),
        _matmul(200, 300, 1537, trans_a=True, out="plain", add=True),
    ],
    "matmul_bf16.matmul_stack_bf16": STACKS,
    "matmul_int8.matmul_int8": [
        _matmul_int8(1, 1, 1),
        _matmul_int8(1, 33, 17),
        _matmul_int8(9, 49, 33, a="columns", out="columns", add=True),
        _matmul_int8(17, 96, 64, block=32),
        _matmul_int8(5, 97, 96, block=32, out="columns", add=True),
        _matmul_int8(1, 53, 29, a="row", out="row"),
        _matmul_int8(37, 53, 29, transposed=True),
        _matmul_int8(200, 300, 1537),
        _matmul_int8(3, WIDE, 4),
        _matmul_int8(WIDE, 3, 2),
        _matmul_int8(2, 3, WIDE),
        _matmul(37, 53, 29, trans_b=True),
    ],
    "narrow.widen": [_widen(1, 1), _widen(7, 129), _widen(WIDE, 3), _widen(3, 65_536, every=True)],
    "narrow.rounded": [
        _rounded(rows, columns, kind)
        for kind in ("bfloat16", "float16", "float32")
        for rows, columns in ((1, 1), (7, 129), (WIDE, 3))
    ],
    "low_rank.add_low_rank": [
        _add_low_rank(1, 16, 1),
        _add_low_rank(67, 528, 5),
        _add_low_rank(130, 1040, 16),
        _add_low_rank(5, 7, 3),
        _add_low_rank(9, 32, 200),
        _add_low_rank(33, 64, 4, "float32"),
    ],
    "matmul_stack.matmul_stack": STACKS,
}
