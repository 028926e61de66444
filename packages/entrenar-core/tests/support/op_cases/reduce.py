"""`ops.reduce`."""

from entrenar_core.autograd import ops
from op_cases import case, normal

CASES = [
    case("sum", lambda x: ops.sum(x), normal(2, 3, 4), torch=lambda t, x: x.sum()),
    case("sum", lambda x: ops.sum(x, axis=1), normal(2, 3, 4), torch=lambda t, x: x.sum(1)),
    case(
        "sum",
        lambda x: ops.sum(x, axis=(0, -1)),
        normal(2, 3, 4),
        torch=lambda t, x: x.sum((0, -1)),
    ),
    case(
        "sum",
        lambda x: ops.sum(x, axis=-1, keepdims=True),
        normal(2, 3, 4),
        torch=lambda t, x: x.sum(-1, keepdim=True),
    ),
    case("mean", lambda x: ops.mean(x), normal(2, 3, 4), torch=lambda t, x: x.mean()),
    case(
        "mean",
        lambda x: ops.mean(x, axis=(0, 2)),
        normal(2, 3, 4),
        torch=lambda t, x: x.mean((0, 2)),
    ),
    case(
        "mean",
        lambda x: ops.mean(x, axis=0, keepdims=True),
        normal(2, 3, 4),
        torch=lambda t, x: x.mean(0, keepdim=True),
    ),
]
