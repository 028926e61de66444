"""`ops.low_rank`."""

from functools import partial

from entrenar_core.autograd import ops
from op_cases import case, normal


def _linear(_t, x, weight, a, b, dropped=None, bias=None, residual=None, *, transposed=False):
    y = x @ (weight if transposed else weight.T)
    y = y + 0.5 * (x if dropped is None else dropped) @ a.T @ b.T
    y = y if bias is None else y + bias
    return y if residual is None else y + residual


def _weight(_t, weight, a, b, *, transposed=False):
    update = 0.5 * b @ a
    return weight + (update.T if transposed else update)


def _product(*inputs, **options):
    return case(
        "low_rank_linear",
        partial(ops.low_rank_linear, scale=0.5, **options),
        *inputs,
        torch=partial(_linear, **options),
    )


CASES = [
    _product(normal(2, 3, 4), normal(5, 4), normal(2, 4), normal(5, 2)),
    _product(normal(3, 4), normal(5, 4), normal(1, 4), normal(5, 1), None, normal(5)),
    _product(
        normal(2, 3, 4), normal(5, 4), normal(2, 4), normal(5, 2),
        normal(2, 3, 4), normal(5), normal(2, 3, 5),
    ),
    _product(normal(3, 4), normal(4, 5), normal(2, 4), normal(5, 2), transposed=True),
    _product(
        normal(3, 4), normal(4, 5), normal(6, 4), normal(5, 6), normal(3, 4), None, normal(3, 5),
        transposed=True,
    ),
    *(
        case(
            "low_rank_weight",
            partial(ops.low_rank_weight, scale=0.5, transposed=transposed),
            normal(*shape), normal(2, 4), normal(5, 2),
            torch=partial(_weight, transposed=transposed),
        )
        for transposed, shape in ((False, (5, 4)), (True, (4, 5)))
    ),
]  # fmt: skip
