"""`ops.norm`."""

from entrenar_core.autograd import ops
from op_cases import case, normal


def _rms_norm(*shape, eps):
    return case(
        "rms_norm",
        lambda x, weight: ops.rms_norm(x, weight, eps=eps),
        normal(*shape),
        normal(shape[-1]),
        torch=lambda t, x, weight: t.nn.functional.rms_norm(x, weight.shape, weight, eps),
    )


CASES = [
    _rms_norm(2, 3, 5, eps=1e-3),
    # one element divided by itself: with a small eps the gradient is nothing but rounding
    _rms_norm(1, 1, eps=0.5),
]
