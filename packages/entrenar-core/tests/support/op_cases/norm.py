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


def _layer_norm(*shape, eps=1e-3, weight=True, bias=True):
    return case(
        "layer_norm",
        lambda x, weight, bias: ops.layer_norm(x, weight, bias, eps=eps),
        normal(*shape),
        normal(shape[-1]) if weight else None,
        normal(shape[-1]) if bias else None,
        torch=lambda t, x, weight, bias: t.nn.functional.layer_norm(
            x, shape[-1:], weight, bias, eps
        ),
    )


CASES = [
    _rms_norm(2, 3, 5, eps=1e-3),
    # one element divided by itself: with a small eps the gradient is nothing but rounding
    _rms_norm(1, 1, eps=0.5),
    _rms_norm(7, eps=1e-3),
    _rms_norm(2, 1, 3, 2, eps=1e-3),
    _rms_norm(0, 3, eps=1e-3),
    _layer_norm(2, 3, 5),
    _layer_norm(2, 3, 5, bias=False),
    _layer_norm(2, 3, 5, weight=False),
    _layer_norm(2, 3, 5, weight=False, bias=False),
    _layer_norm(7),
    _layer_norm(2, 1, 3, 2),
    _layer_norm(0, 3),
    case(
        "layer_norm",
        lambda x, weight, bias: ops.layer_norm(x, weight, bias, eps=1e-3),
        normal(2, 1),
        normal(1),
        normal(1),
        oracle="rows of one element give the bias and no gradient; PyTorch's is a rounding",
    ),
]
