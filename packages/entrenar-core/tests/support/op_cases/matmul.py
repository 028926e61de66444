"""`ops.matmul`."""

import numpy as np

from entrenar_core.autograd import ops
from op_cases import case, normal

IDS = np.array([[3, 0, 3], [6, 3, 1]])  # with a repeated row


def _linear(t, x, weight, bias=None, residual=None):
    y = t.nn.functional.linear(x, weight, bias)
    return y if residual is None else y + residual


def _embedding(t, weight, ids):
    return t.nn.functional.embedding(t.tensor(ids), weight)


CASES = [
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
]
