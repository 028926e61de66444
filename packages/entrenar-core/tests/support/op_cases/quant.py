"""`ops.quant`.

What is rounded has no derivative of use, so what is checked is what stands in for it: the rounded
value with a constant added that makes it so. The constant is computed here, from definitions.
"""

import numpy as np

from entrenar_core.autograd import Tensor, ops
from entrenar_core.quant import Grain, Integer, format_named
from op_cases import RNG, case, normal


def _as(y, wanted):
    """y with the values `wanted`."""
    return y + Tensor(np.asarray(wanted - y.data, y.dtype))


def _case(*shape):
    return case(
        "round_ste",
        lambda x: _as(ops.round_ste(x), x.data),
        normal(*shape) * 3,
        torch=lambda t, x: x * 1,
    )


def _stored(name, *shape):
    form = format_named(name)
    return case(
        "stored_ste",
        lambda x: _as(ops.stored_ste(x, form=form), x.data),
        normal(*shape),
        torch=lambda t, x: x * 1,
    )


def _spread(grain, shape, by_scale):
    """Numbers, one for each scale, for each element of `shape`."""
    length = int(np.prod(shape)) // len(by_scale)
    return grain.restore(np.repeat(by_scale[:, None], length, axis=1), shape)


def _fake(form, *shape, alpha=None, factor=1.0):
    """Away from the middles between two steps and from the ends of the range, where a small change
    would move a number to another step. About a quarter is out of range."""
    grain, count = form.grain, len(form.grain.blocks(np.zeros(shape)))
    scale = RNG.uniform(0.3, 2, count)
    zero = np.zeros(count) if form.symmetric else RNG.integers(1, form.high, count).astype(float)
    span = form.high - form.low
    steps = RNG.integers(form.low - span // 6 - 1, form.high + span // 6 + 2, shape)
    q = steps - _spread(grain, shape, zero)  # without the zero point
    residual = RNG.uniform(-0.35, 0.35, shape)
    x = (q + residual) * _spread(grain, shape, scale)
    inside = (steps >= form.low) & (steps <= form.high)
    outside = np.clip(steps, form.low, form.high) - _spread(grain, shape, zero)

    constants = (residual, inside, outside)

    def call(x, s):
        y = ops.fake_quantize(x, s, zero, form=form, alpha=alpha, scale_gradient=factor)
        # a factor on its gradient is one on how far the scale moves
        moved = scale * (1 - factor) + s.data * factor
        return _as(y, _stand_in(np, x.data, _spread(grain, shape, moved), alpha, *constants))

    def torch(t, x, s):
        s = s.detach() * (1 - factor) + s * factor
        index = t.tensor(_spread(grain, shape, np.arange(count)).copy())
        y = _stand_in(t, x, s[index], alpha, *map(t.tensor, constants))
        return y.to(x.dtype)

    return case("fake_quantize", call, x, scale, torch=torch)


def _stand_in(lib, x, s, alpha, residual, inside, outside):
    """What stands in for the rounding, s being the scale of each element; `lib` is NumPy or torch.
    What is rounded off, or the middle between two steps, counts as a constant."""
    v = x / s
    phi = v - residual
    if alpha is not None:
        middle = lib.floor(v) + 0.5
        phi = middle + 0.5 / (1 - alpha) * lib.tanh(np.log(2 / alpha - 1) * (v - middle))
    return phi * s * inside + outside * s * ~inside


CASES = [
    _case(3, 4),
    _case(1, 1),
    _case(0, 3),
    _stored("int4", 3, 8),
    _stored("nf4", 5, 13),
    _stored("f16", 4, 3),
    _fake(Integer(4), 5, 8),
    _fake(Integer(2), 4, 6),
    _fake(Integer(3, symmetric=False, grain=Grain("tensor")), 7, 3),
    _fake(Integer(8, grain=Grain("group", 4)), 3, 8),
    _fake(Integer(3, symmetric=False, grain=Grain("group", 3, axis=1)), 6, 4),
    _fake(Integer(4, grain=Grain(axis=1)), 5, 4, factor=0.3),
    _fake(Integer(4), 5, 8, alpha=0.2),
    _fake(Integer(3, symmetric=False, grain=Grain("tensor")), 7, 3, alpha=0.5),
]
