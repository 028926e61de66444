"""`ops.shape`."""

from entrenar_core.autograd import ops
from op_cases import case, normal


def _case(name, shape, torch, *args, **options):
    return case(
        name, lambda x: getattr(ops, name)(x, *args, **options), normal(*shape), torch=torch
    )


def _reshape(before, after):
    return _case("reshape", before, lambda t, x: x.reshape(after), after)


def _permute(shape, axes):
    return _case("permute", shape, lambda t, x: x.permute(axes), axes)


def _expand(before, after):
    return _case("expand", before, lambda t, x: x.expand(after), after)


def _pad(shape, widths, value, theirs):
    return _case(
        "pad", shape, lambda t, x: t.nn.functional.pad(x, theirs, value=value), widths, value=value
    )


CASES = [
    _reshape((2, 3, 4), (4, -1)),
    _reshape((2, 3), (6,)),
    _reshape((1,), ()),
    _reshape((0, 3), (3, 0, 2)),
    _case("transpose", (2, 3, 4), lambda t, x: x.transpose(-1, -2)),
    _case("transpose", (2, 3, 4), lambda t, x: x.transpose(0, 2), 0, 2),
    _case("transpose", (0, 3), lambda t, x: x.T, 1, -2),
    _permute((2, 3, 4), (2, 0, 1)),
    _permute((2, 3, 4), (-1, 0, -2)),
    _permute((1, 0), (1, 0)),
    _permute((), ()),
    _expand((3, 1), (3, 4)),
    _expand((3,), (2, -1)),
    _expand((1, 3), (2, 5, 3)),
    _expand((), (2, 1)),
    _expand((1, 2), (0, 2)),
    _expand((2, 3), (2, 3)),
    _case("squeeze", (2, 1, 3, 1), lambda t, x: x.squeeze()),
    _case("squeeze", (2, 1, 3, 1), lambda t, x: x.squeeze(1), axis=1),
    _case("squeeze", (1, 0, 1), lambda t, x: x.squeeze((0, -1)), axis=(0, -1)),
    _case("unsqueeze", (2, 3), lambda t, x: x.unsqueeze(1), 1),
    _case("unsqueeze", (2, 0), lambda t, x: x.unsqueeze(-1), -1),
    _case("unsqueeze", (2, 3), lambda t, x: x[None, :, None], (0, 2)),
    _case("flip", (2, 3), lambda t, x: x.flip((0, 1))),
    _case("flip", (2, 3, 2), lambda t, x: x.flip((0, 2)), axis=(0, -1)),
    _case("flip", (0, 3), lambda t, x: x.flip(1), axis=1),
    _pad((2, 3), ((1, 2), (0, 3)), 1.5, (0, 3, 1, 2)),
    _pad((2, 3), (1, 2), 0.0, (1, 2, 1, 2)),
    _pad((2,), 2, -1.0, (2, 2)),
    _pad((0, 2), 1, 0.5, (1, 1, 1, 1)),
    _pad((1, 1), ((0, 0), (0, 0)), 0.5, (0, 0, 0, 0)),
]
