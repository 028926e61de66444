"""`ops.join`."""

from entrenar_core.autograd import ops
from op_cases import case, normal


def _concat(axis, *shapes):
    return case(
        "concat",
        lambda *xs: ops.concat(list(xs), axis=axis),
        *(normal(*shape) for shape in shapes),
        torch=lambda t, *xs: t.cat(xs, axis),
    )


def _stack(axis, count, *shape):
    return case(
        "stack",
        lambda *xs: ops.stack(list(xs), axis=axis),
        *(normal(*shape) for _ in range(count)),
        torch=lambda t, *xs: t.stack(xs, axis),
    )


def _split(shape, parts, sizes, axis):
    """The parts, each with a weight of its own, so that a mixed-up one shows."""

    def weighed(found):
        return [part * (i + 1.0) for i, part in enumerate(found)]

    return case(
        "split",
        lambda x: ops.concat(weighed(ops.split(x, parts, axis=axis)), axis=axis),
        normal(*shape),
        torch=lambda t, x: t.cat(weighed(t.split(x, sizes, axis)), axis),
    )


CASES = [
    _concat(0, (2, 3), (1, 3), (4, 3)),
    _concat(-1, (2, 3), (2, 1)),
    _concat(1, (2, 3, 2), (2, 0, 2)),
    _concat(0, (3,)),
    _concat(1, (0, 1), (0, 2)),
    _stack(0, 3, 2, 2),
    _stack(1, 2, 2, 3),
    _stack(-1, 2, 2, 3),
    _stack(0, 1),
    _stack(0, 2, 0, 3),
    _split((6, 2), 3, 2, 0),
    _split((2, 6), [1, 0, 5], [1, 0, 5], -1),
    _split((2, 6, 2), [2, 4], [2, 4], 1),
    _split((1,), 1, 1, 0),
    _split((0, 4), [1, 3], [1, 3], 1),
]
