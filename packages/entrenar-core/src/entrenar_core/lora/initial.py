"""How the factors of an adapter start.

Sources: Hu et al. 2021, arXiv:2106.09685 (A random, B zero); Meng et al. 2024, arXiv:2404.02948
(PiSSA); Büyükakyüz 2024, arXiv:2406.01775 (OLoRA); Li et al. 2023, arXiv:2310.08659 (LoftQ).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from entrenar_core.lora.config import LoraConfig
from entrenar_core.quant import format_named
from entrenar_core.rng import stream


class Start(NamedTuple):
    """a (r, in), b (out, r) and what the base's weight becomes, (out, in): an array, or what is
    stored in few bits; None where it stays."""

    a: np.ndarray
    b: np.ndarray
    weight: Any = None


def random_start(
    shape: tuple[int, int], rank: int, *, config: LoraConfig, seed: int, name: str, embedding: bool
) -> Start:
    """Factors of a product that is zero, for a weight of `shape` (out, in): a function of the seed
    and `name` alone. In float32.

    For projections A is random and B zero. For tables of vectors it is A that is zero.
    """
    out, inner = shape
    draws = stream(seed, f"lora {name}")
    if embedding:
        b = draws.standard_normal((out, rank), np.float32)
        return Start(np.zeros((rank, inner), np.float32), b)
    if config.init == "gaussian":
        a = draws.standard_normal((rank, inner), np.float32) / np.float32(rank)
    else:
        bound = inner**-0.5
        a = draws.uniform(-bound, bound, (rank, inner)).astype(np.float32)
    return Start(a, np.zeros((out, rank), np.float32))


def pissa(weight: np.ndarray, rank: int, scale: float, _config: LoraConfig) -> Start:
    """The `rank` largest singular vectors and values of the weight; the base keeps the others."""
    a, b = _factors(weight, rank, scale)
    return Start(a, b, weight - scale * (b @ a))


def olora(weight: np.ndarray, rank: int, scale: float, _config: LoraConfig) -> Start:
    """The first `rank` columns of Q and rows of R of weight = Q·R; the base loses their product
    times the scale."""
    q, r = np.linalg.qr(weight)
    a, b = np.ascontiguousarray(r[:rank]), np.ascontiguousarray(q[:, :rank])
    return Start(a, b, weight - scale * (b @ a))


def loftq(weight: np.ndarray, rank: int, scale: float, config: LoraConfig) -> Start:
    """A base in few bits and the product that is nearest to what it lost, found in turns: scale·b·a
    is that product, whatever the scale is."""
    form = format_named(config.loftq_format)
    start, product = Start(weight, weight), np.zeros_like(weight)
    for _ in range(config.loftq_iterations):
        stored = form.quantize(weight - product)
        a, b = _factors(weight - stored.dequantize().astype(weight.dtype), rank, scale)
        start, product = Start(a, b, stored), scale * (b @ a)
    return start


def _factors(matrix: np.ndarray, rank: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """a and b of the best approximation scale·b·a of a matrix, the singular values in both."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(s[:rank] / scale).astype(matrix.dtype)
    return root[:, None] * vt[:rank], u[:, :rank] * root


FROM_WEIGHT: dict[str, Callable[[np.ndarray, int, float, LoraConfig], Start]] = {
    "pissa": pissa, "olora": olora, "loftq": loftq,
}  # fmt: skip
"""The starts that depend on the weight."""
