"""Arguments for every kernel: what overrides are compared on and what the benchmark starts from.

The sizes are odd, one, or beyond 65,535 (where 16-bit counters and the grids of a GPU end), because
those are where kernels that are split in tiles go wrong.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes  # noqa: F401  makes numpy know bfloat16 by name
import numpy as np

from entrenar_core.kernels import attention, attention_weights, quantize_blockwise
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


def _norm_grad(rows: int, width: int, *, out: bool = False, add: bool = False) -> Case:
    def make(d: Draw) -> Arguments:
        x = d.normal(rows, width)
        given: Arguments = {"g": d.normal(rows, width), "x": x, "weight": d.normal(width)}
        given["rstd"] = (1 / np.sqrt((x * x).mean(axis=-1) + 1e-5)).astype(d.dtype)
        return given | ({"out": d.normal(rows, width), "add": add} if out else {})

    return Case(f"({rows}, {width}){' into out' * out}{' +=' * add}", make)


def _activation(*names: str) -> Callable[..., list[Case]]:
    """Cases with a keyword `approximate`, both ways."""
    plain = _elementwise(*names)

    def cases(*shapes: tuple[int, int], scale: float = 1.0) -> list[Case]:
        return [
            Case(f"{case.name}, approximate {way}", _with(case, approximate=way))
            for case in plain(*shapes, scale=scale)
            for way in (False, True)
        ]

    return cases


def _with(case: Case, **options: Any) -> Callable[[Draw], Arguments]:
    return lambda d: case.make(d) | options


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


def _rope(
    b: int, t: int, h: int, d: int, inverse: bool = False, own_positions: bool = False
) -> Case:
    def make(draw: Draw) -> Arguments:
        angle = draw.normal(*([b] * own_positions), t, d // 2) * draw.dtype.type(3)
        given: Arguments = {"x": draw.normal(b, t, h, d), "cos": np.cos(angle)}
        return given | {"sin": np.sin(angle), "inverse": inverse}

    kind = f"{' inverse' * inverse}{' with its own positions' * own_positions}"
    return Case(f"({b}, {t}, {h}, {d}){kind}", make)


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
    "many sequences in tiles": (WIDE, 5, 5, 1, 1, 2),
    "one query, keys in parts": (1, 2, 1100, 2, 1, 16),
    "wide heads": (1, 65, 65, 2, 2, 80),
    "whole tiles": (2, 128, 192, 1, 1, 48),
}

FEATURES: dict[str, dict[str, Any]] = {
    "full": {"causal": False},
    "window": {"window": 21},
    "mask": {"mask": 0.6},
    "bias": {"bias": "bhts"},
    "dropout": {"dropout": 0.25, "key": 2**63 + 12345},
}
"""Options of attention. `mask` is the share of keys that count, `bias` the shape: an axis that is
not named by its letter has size 1."""

FEATURED: Heads = (2, 70, 133, 4, 2, 16)


def _features() -> dict[str, dict[str, Any]]:
    """Every feature, and every pair of them."""
    found = dict(FEATURES)
    for one, two in itertools.combinations(FEATURES, 2):
        found[f"{one} and {two}"] = FEATURES[one] | FEATURES[two]
    return found


def _attention(
    name: str, heads: Heads, *, scale: float = 0.3, mask: float | None = None,
    bias: str | None = None, columns: bool = False, **options: Any,
) -> Case:  # fmt: skip
    """`columns` lays the bias out by columns, as a transposed array is."""
    b, t, s, h, g, d = heads

    def make(draw: Draw) -> Arguments:
        given: Arguments = {"q": draw.normal(b, t, h, d), "k": draw.normal(b, s, g, d)}
        given |= {"v": draw.normal(b, s, g, d), "scale": scale, **options}
        if mask is not None:
            given["mask"] = draw.positive(b, s) < 0.5 + mask
        if bias is not None:
            sizes = zip("bhts", (b, h, t, s), strict=True)
            array = draw.normal(*(n if axis in bias else 1 for axis, n in sizes))
            given["bias"] = np.asfortranarray(array) if columns else array
        return given

    return Case(name, make)


def _attention_cases() -> list[Case]:
    cases = [_attention(name, heads) for name, heads in HEADS.items()]
    cases += [_attention(name, FEATURED, **options) for name, options in _features().items()]
    cases += [_attention(f"a bias {axes}", FEATURED, bias=axes) for axes in _BIAS_SHAPES]
    few = {key: options for key, options in _features().items() if "dropout" not in key}
    cases += [_attention(f"few, {k}", (2, 3, 90, 4, 2, 16), **o) for k, o in few.items()]
    return [
        *cases,
        _attention("large scores", HEADS["grouped"], scale=20.0),
        _attention("a bias by columns", FEATURED, bias="bhts", columns=True),
        _attention("no key counts", HEADS["grouped"], mask=-1.0),
        _attention("no key of a few counts", HEADS["more keys than queries"], mask=-1.0),
        _attention("a few, parts and a mask", HEADS["one query, keys in parts"], mask=0.1),
        _attention("few, far window", HEADS["one query, keys in parts"], window=300),
    ]


_BIAS_SHAPES = ("", "s", "t", "ts", "h", "hs", "hts", "b", "bs", "bts", "bht")


def _attention_weights(name: str, heads: Heads, **options: Any) -> Case:
    def make(draw: Draw) -> Arguments:
        given = _attention(name, heads, **options).make(draw)
        return {key: value for key, value in given.items() if key != "v"}

    return Case(name, make)


def _attention_weights_grad(name: str, heads: Heads, **options: Any) -> Case:
    def make(draw: Draw) -> Arguments:
        given = _attention_weights(name, heads, **options).make(draw)
        weights = attention_weights.reference(**given)
        kept = {key: given[key] for key in ("q", "k", "scale")}
        shape = given["bias"].shape if "bias" in given else None
        found = {"g": draw.normal(*weights.shape), **kept, "weights": weights}
        return found | {"bias_shape": shape}

    return Case(name, make)


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


def _attention_grad(name: str, heads: Heads, needs_bias: bool = False, **options: Any) -> Case:
    forward = _attention(name, heads, **options)

    def make(draw: Draw) -> Arguments:
        given = forward.make(draw)
        o, lse = attention.reference(**given)
        g = {"g": draw.normal(*o.shape), **given, "o": o, "lse": np.ascontiguousarray(lse)}
        return g | ({"needs_bias": True} if needs_bias else {})

    return Case(name, make)


def _attention_grad_cases() -> list[Case]:
    cases = [_attention_grad(name, heads) for name, heads in HEADS.items()]
    cases += [_attention_grad(name, FEATURED, **options) for name, options in _features().items()]
    # a bias that is the same for all keys changes nothing, so its gradient is rounding alone
    cases += [
        _attention_grad(f"the gradient of a bias {axes}", FEATURED, True, bias=axes, **more)
        for axes in (*_BIAS_SHAPES, "bhts")
        for more in ({"window": 30, "mask": 0.7},)
        if "s" in axes
    ]
    return [
        *cases,
        _attention_grad("a bias's by columns", FEATURED, True, bias="bhts", columns=True),
        _attention_grad("a bias's with dropout", FEATURED, True, bias="hts", dropout=0.5, key=3),
        _attention_grad("no key counts", HEADS["grouped"], mask=-1.0),
        _attention_grad("one sequence in parts", (1, 600, 600, 1, 1, 16), window=400, mask=0.6),
    ]


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
    return Case(f"{case.name}, smoothed, with z-loss", _with(case, **options))


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


_SHAPES = ((1, 1), (1, 17), (33, 1), (7, 129), (WIDE, 1), (2, WIDE))

CASES: dict[str, list[Case]] = {
    "activation.sigmoid": _elementwise("x")(*_SHAPES),
    "activation.silu": [*_elementwise("x")(*_SHAPES), *_elementwise("x")((5, 31), scale=30.0)],
    "activation.silu_grad": [
        *_elementwise("g", "x")(*_SHAPES),
        *_elementwise("g", "x")((5, 31), scale=30.0),
    ],
    "activation.gelu": [*_activation("x")(*_SHAPES), *_activation("x")((5, 31), scale=30.0)],
    "activation.gelu_grad": [
        *_activation("g", "x")(*_SHAPES),
        *_activation("g", "x")((5, 31), scale=30.0),
        *(_in_place(case, 2, WIDE) for case in _activation("g", "x")((2, WIDE))),
    ],
    "activation.softplus": _elementwise("x")(*_SHAPES),
    "activation.swiglu": [
        *_elementwise("gate", "up")(*_SHAPES),
        *_elementwise("gate", "up")((5, 31), scale=30.0),
    ],
    "activation.swiglu_grad": [
        *_elementwise("g", "gate", "up")(*_SHAPES),
        *_elementwise("g", "gate", "up")((5, 31), scale=30.0),
        *(_in_place(case, 2, WIDE) for case in _elementwise("g", "gate", "up")((2, WIDE))),
    ],
    "attention.rope": [
        _rope(1, 1, 1, 2),
        _rope(2, 7, 3, 10),
        _rope(2, 7, 3, 10, inverse=True),
        _rope(WIDE, 1, 1, 2),
        _rope(1, WIDE, 1, 2),
        _rope(3, 5, 2, 34, own_positions=True),
        _rope(3, 5, 2, 34, inverse=True, own_positions=True),
        # more than the caches hold
        _rope(1, 4099, 32, 32),
        _rope(3, 1400, 32, 32, inverse=True, own_positions=True),
    ],
    "attention.attention": [*_attention_cases(), _attention_cached()],
    "attention.attention_grad": _attention_grad_cases(),
    "attention.attention_weights": [
        _attention_weights("grouped", HEADS["grouped"]),
        _attention_weights("all options", FEATURED, window=21, mask=0.6, bias="hts"),
    ],
    "attention.attention_weights_grad": [
        _attention_weights_grad("grouped", HEADS["grouped"]),
        _attention_weights_grad("all options", FEATURED, window=21, mask=0.6, bias="hts"),
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
    "narrow.widen": [_widen(1, 1), _widen(7, 129), _widen(WIDE, 3), _widen(3, 65_536, every=True)],
    "norm.layer_norm": [
        _layer_norm(1, 1),
        _layer_norm(5, 129),
        _layer_norm(5, 129, affine=False),
        _layer_norm(7, 64, shift=10.0),
        _layer_norm(WIDE, 3),
        _layer_norm(2, WIDE),
    ],
    "norm.layer_norm_grad": [
        _layer_norm_grad(1, 1),
        _layer_norm_grad(5, 129),
        _layer_norm_grad(5, 129, affine=False),
        _layer_norm_grad(33, 24, out=True),
        _layer_norm_grad(33, 24, out=True, add=True),
        _layer_norm_grad(WIDE, 3),
        _layer_norm_grad(2, WIDE),
    ],
    "matmul_stack.matmul_stack": [
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
    "softmax.softmax": [*_elementwise("x")(*_SHAPES), *_elementwise("x")((5, 31), scale=40.0)],
    "softmax.softmax_grad": _elementwise("g", "y")(*_SHAPES),
    "softmax.log_softmax": [*_elementwise("x")(*_SHAPES), *_elementwise("x")((5, 31), scale=40.0)],
    "softmax.log_softmax_grad": _elementwise("g", "y")(*_SHAPES),
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
"""For every kernel, by the name it has in `registry.KERNELS`."""
