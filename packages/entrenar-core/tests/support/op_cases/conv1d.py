"""`ops.conv1d`."""

from functools import partial

from entrenar_core.autograd import ops
from op_cases import case, normal


def _conv1d(_t, x, weight, bias=None, residual=None):
    y = x @ weight
    y = y if bias is None else y + bias
    return y if residual is None else y + residual


def _gelu_conv1d(approximate, t, x, *rest):
    return _conv1d(t, t.nn.functional.gelu(x, approximate=approximate), *rest)


def _split(part, parts, heads, t, x):
    y = t.tensor_split(x, parts, dim=-1)[part]
    return y.reshape(*x.shape[:2], heads, y.shape[-1] // heads)


def _split_case(shape, part, parts, heads):
    call = partial(ops.split_heads, part=part, parts=parts, heads=heads)
    return case("split_heads", call, normal(*shape), torch=partial(_split, part, parts, heads))


def _all_parts(x):
    q, k, v = (ops.split_heads(x, part=i, parts=3, heads=2) for i in range(3))
    return q * k + v * 2.0


def _all_parts_torch(_t, x):
    q, k, v = (part.reshape(*x.shape[:2], 2, -1) for part in x.chunk(3, dim=-1))
    return q * k + v * 2


CASES = [
    case("conv1d", ops.conv1d, normal(2, 3, 4), normal(4, 5), torch=_conv1d),
    case("conv1d", ops.conv1d, normal(3, 4), normal(4, 5), normal(5), torch=_conv1d),
    case("conv1d", ops.conv1d, normal(0, 4), normal(4, 5), normal(5), torch=_conv1d),
    case("conv1d", ops.conv1d, normal(1, 1), normal(1, 1), None, normal(1, 1), torch=_conv1d),
    case(
        "conv1d",
        ops.conv1d,
        normal(2, 3, 4),
        normal(4, 5),
        normal(5),
        normal(2, 3, 5),
        torch=_conv1d,
    ),
    *(
        case(
            "gelu_conv1d",
            partial(ops.gelu_conv1d, approximate=approximate),
            *inputs,
            torch=partial(_gelu_conv1d, "tanh" if approximate else "none"),
            label=f"approximate={approximate}",
        )
        for approximate in (False, True)
        for inputs in (
            (normal(2, 3, 4), normal(4, 5), normal(5), normal(2, 3, 5)),
            (normal(3, 1), normal(1, 5)),
            (normal(0, 4), normal(4, 2)),
        )
    ),
    _split_case((2, 3, 12), 1, 3, 2),
    _split_case((2, 1, 6), 2, 3, 1),
    _split_case((1, 2, 4), 0, 1, 2),
    _split_case((0, 2, 4), 0, 1, 2),
    case(
        "split_heads", _all_parts, normal(2, 3, 12), torch=_all_parts_torch, label="all three parts"
    ),
]
