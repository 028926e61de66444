"""Products of matrices in bfloat16 beside PyTorch's, at the shapes of training and of decoding.

Both sides are given float32. PyTorch converts both factors and leaves the product in bfloat16, as
under torch.autocast; ours is in float32.
"""

from typing import Any

import numpy as np
import torch
from kernel_cases import Calls, Case, normal

from entrenar_core import kernels

HEAD_TOKENS = 1024
"""Of which the products of the head are made at a time."""
STEPS = {"134M": (1024, 768, 2048), "24M": (2048, 288, 768)}
"""Tokens of a step, hidden and inner width."""
VOCABULARY = 32000
FEW = (1, 16)
"""Rows where one token of each text is decoded."""


def _weights(hidden: int, inner: int) -> list[tuple[int, int]]:
    """(outputs, inputs) of attention's projections; of gate and up; of down."""
    return [(hidden, hidden), (inner, hidden), (hidden, inner)]


def _forward() -> list[Case]:
    """x (tokens, inputs) times the transpose of W (outputs, inputs)."""
    shapes = [
        (tokens, *weight)
        for tokens, hidden, inner in STEPS.values()
        for weight in _weights(hidden, inner)
    ]
    shapes += [(HEAD_TOKENS, VOCABULARY, hidden) for _, hidden, _ in STEPS.values()]
    return [_product("matmul in bf16, x·Wᵀ", m, n, k, trans_b=True) for m, n, k in shapes]


def _input_gradients() -> list[Case]:
    """g (tokens, outputs) times W (outputs, inputs)."""
    shapes = [
        (tokens, inputs, outputs)
        for tokens, hidden, inner in STEPS.values()
        for outputs, inputs in _weights(hidden, inner)
    ]
    shapes += [(HEAD_TOKENS, hidden, VOCABULARY) for _, hidden, _ in STEPS.values()]
    return [_product("matmul in bf16, g·W", m, n, k) for m, n, k in shapes]


def _weight_gradients() -> list[Case]:
    """The transpose of g (tokens, outputs) times x (tokens, inputs)."""
    shapes = [
        (*weight, tokens)
        for tokens, hidden, inner in STEPS.values()
        for weight in _weights(hidden, inner)
    ]
    shapes += [(VOCABULARY, hidden, HEAD_TOKENS) for _, hidden, _ in STEPS.values()]
    return [_product("matmul in bf16, gᵀ·x", m, n, k, trans_a=True) for m, n, k in shapes]


def _few_rows() -> list[Case]:
    """x (texts, inputs) times the transpose of W, which is the same for every token."""
    _, hidden, inner = STEPS["134M"]
    shapes = [(hidden, hidden), (inner, hidden), (VOCABULARY, hidden)]
    name = "matmul in bf16, few rows"
    return [_product(name, m, n, k, trans_b=True, kept=True) for m in FEW for n, k in shapes]


def _product(
    kernel: str, m: int, n: int, k: int, *,
    trans_a: bool = False, trans_b: bool = False, kept: bool = False,
) -> Case:  # fmt: skip
    """(m, k) times (k, n). With `kept`, b is a weight that both sides have made ready before."""

    def make() -> dict[str, Any]:
        a = normal(*((k, m) if trans_a else (m, k)))
        b = normal(*((n, k) if trans_b else (k, n)))
        out = np.empty((m, n), np.float32)
        left, right = torch.from_numpy(a), torch.from_numpy(b)
        if kept:
            b, right = kernels.packed_bf16(b), right.bfloat16()

        def ours() -> Any:
            return kernels.matmul_bf16(a, b, trans_a=trans_a, trans_b=trans_b, out=out)

        def theirs() -> Any:
            with torch.no_grad():
                x, y = left.bfloat16(), right.bfloat16()  # nothing is done where it is one already
                return torch.mm(x.t() if trans_a else x, y.t() if trans_b else y)

        def entrenar() -> Calls:
            yield "product", ours

        def pytorch() -> Calls:
            yield "product", theirs

        return {"entrenar": entrenar, "torch": pytorch}

    note = ", weight ready" * kept
    moved = {"product": 0}
    return Case(
        kernel, f"{m} × {n} × {k}{note}", 4 * (m * k + n * k + m * n), moved, make, 2 * m * n * k
    )


PRODUCTS = [*_forward(), *_input_gradients(), *_weight_gradients(), *_few_rows()]
