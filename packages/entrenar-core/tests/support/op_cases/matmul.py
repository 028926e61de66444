"""`ops.matmul`."""

from functools import partial

import numpy as np

from entrenar_core.autograd import ops
from op_cases import case, normal

IDS = np.array([[3, 0, 3], [6, 3, 1]])  # with a repeated row


def _linear(t, x, weight, bias=None, residual=None):
    y = t.nn.functional.linear(x, weight, bias)
    return y if residual is None else y + residual


def _embedding(t, weight, ids):
    return t.nn.functional.embedding(t.tensor(ids), weight)


def _matmul(first, second):
    return case("matmul", ops.matmul, normal(*first), normal(*second), torch=lambda t, x, y: x @ y)


MATRICES = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3, 4)),
    ((2, 5, 3), (3,)),
    ((2, 5, 3), (3, 4)),
    ((3,), (2, 3, 4)),
    ((5, 3), (2, 3, 4)),
    ((2, 5, 3), (2, 3, 4)),
    ((2, 1, 5, 3), (4, 3, 2)),
    ((2, 3, 1, 4), (1, 3, 4, 1)),
    ((1, 1), (1, 1)),
    ((2, 0), (0, 3)),
    ((0, 3), (3, 2)),
    ((2, 0, 3), (3, 2)),
    ((0, 2, 3), (0, 3, 2)),
    ((0,), (0,)),
    ((2, 21, 20), (2, 20, 22)),  # too large to go through NumPy
    ((3, 1, 21, 20), (2, 20, 22)),
]

CASES = [
    *(_matmul(*shapes) for shapes in MATRICES),
    case("linear", ops.linear, normal(2, 3, 4), normal(5, 4), torch=_linear),
    case("linear", ops.linear, normal(3, 4), normal(5, 4), normal(5), torch=_linear),
    case(
        "linear",
        ops.linear,
        normal(2, 3, 4),
        normal(5, 4),
        normal(5),
        normal(2, 3, 5),
        torch=_linear,
    ),
    case("linear", ops.linear, normal(1, 1), normal(1, 1), None, normal(1, 1), torch=_linear),
    case("embedding", ops.embedding, normal(7, 4), IDS, torch=_embedding),
    case("embedding", ops.embedding, normal(7, 4), IDS[:0], torch=_embedding),
    case("embedding", partial(ops.embedding, padding_idx=5), normal(7, 4), IDS, torch=_embedding),
]
