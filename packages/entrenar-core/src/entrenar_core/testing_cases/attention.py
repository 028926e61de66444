"""Cases of attention and of rotary position embedding."""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from entrenar_core.kernels import attention, attention_bf16, attention_weights
from entrenar_core.testing_cases.case import (
    WIDE,
    Arguments,
    Case,
    Draw,
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
    "first": {"first": 0.1},
    "bias": {"bias": "bhts"},
    "dropout": {"dropout": 0.25, "key": 2**63 + 12345},
}
"""Options of attention. `mask` is the share of keys that count, `first` that of queries that
begin a document, `bias` the shape: an axis that is not named by its letter has size 1."""


FEATURED: Heads = (2, 70, 133, 4, 2, 16)


def _features() -> dict[str, dict[str, Any]]:
    """Every feature, and every pair of them."""
    found = dict(FEATURES)
    for one, two in itertools.combinations(FEATURES, 2):
        found[f"{one} and {two}"] = FEATURES[one] | FEATURES[two]
    return found


def _attention(
    name: str, heads: Heads, *, scale: float = 0.3, mask: float | None = None,
    first: float | None = None, bias: str | None = None, columns: bool = False, **options: Any,
) -> Case:  # fmt: skip
    """`columns` lays the bias out by columns, as a transposed array is."""
    b, t, s, h, g, d = heads

    def make(draw: Draw) -> Arguments:
        given: Arguments = {"q": draw.normal(b, t, h, d), "k": draw.normal(b, s, g, d)}
        given |= {"v": draw.normal(b, s, g, d), "scale": scale, **options}
        if mask is not None:
            given["mask"] = draw.positive(b, s) < 0.5 + mask
        if first is not None:
            begins = draw.positive(b, t) < 0.5 + first
            own = np.where(begins, np.arange(s - t, s), 0)
            given["first"] = np.maximum.accumulate(own, axis=1)
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
        _attention("a document for each query", HEADS["many tiles"], first=1.0),
        _attention("documents of many tiles", (1, 600, 600, 2, 1, 16), first=0.01),
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


Forward = Callable[..., tuple[np.ndarray, np.ndarray]]


def _attention_grad(
    name: str, heads: Heads, needs_bias: bool = False, *, of: Forward, **options: Any
) -> Case:
    forward = _attention(name, heads, **options)

    def make(draw: Draw) -> Arguments:
        given = forward.make(draw)
        o, lse = of(**given)
        g = {"g": draw.normal(*o.shape), **given, "o": o, "lse": np.ascontiguousarray(lse)}
        return g | ({"needs_bias": True} if needs_bias else {})

    return Case(name, make)


def _attention_grad_cases(forward: Forward) -> list[Case]:
    grad = functools.partial(_attention_grad, of=forward)
    cases = [grad(name, heads) for name, heads in HEADS.items()]
    cases += [grad(name, FEATURED, **options) for name, options in _features().items()]
    # a bias that is the same for all keys changes nothing, so its gradient is rounding alone
    cases += [
        grad(f"the gradient of a bias {axes}", FEATURED, True, bias=axes, **more)
        for axes in (*_BIAS_SHAPES, "bhts")
        for more in ({"window": 30, "mask": 0.7},)
        if "s" in axes
    ]
    return [
        *cases,
        grad("a bias's by columns", FEATURED, True, bias="bhts", columns=True),
        grad("a bias's with dropout", FEATURED, True, bias="hts", dropout=0.5, key=3),
        grad("no key counts", HEADS["grouped"], mask=-1.0),
        grad("one sequence in parts", (1, 600, 600, 1, 1, 16), window=400, mask=0.6),
        grad("a document for each query", HEADS["many tiles"], first=1.0),
        grad("documents in parts", (1, 600, 600, 1, 1, 16), first=0.01, mask=0.9),
    ]


def _rounding(cases: list[Case]) -> list[Case]:
    """The same for kernels that round their weights to bfloat16."""
    return [dataclasses.replace(case, step=2.0**-8) for case in cases]


CASES: dict[str, list[Case]] = {
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
    "attention.attention_grad": _attention_grad_cases(attention.reference),
    "attention_bf16.attention_bf16": _rounding([*_attention_cases(), _attention_cached()]),
    "attention_bf16.attention_bf16_grad": _rounding(
        _attention_grad_cases(attention_bf16.reference)
    ),
    "attention.attention_weights": [
        _attention_weights("grouped", HEADS["grouped"]),
        _attention_weights("all options", FEATURED, window=21, mask=0.6, first=0.1, bias="hts"),
    ],
    "attention.attention_weights_grad": [
        _attention_weights_grad("grouped", HEADS["grouped"]),
        _attention_weights_grad(
            "all options", FEATURED, window=21, mask=0.6, first=0.1, bias="hts"
        ),
    ],
}
