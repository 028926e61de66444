"""`ops.indexing`."""

import numpy as np

from entrenar_core.autograd import ops
from op_cases import case, normal

MASK = np.array(
    [[True, False, True, True], [False, False, False, True], [True, True, False, False]]
)


def _getitem(shape, index, *, torch=True):
    """`torch`: whether PyTorch takes the index too; it has no negative steps."""

    def parts(t):
        given = index if isinstance(index, tuple) else (index,)
        return tuple(t.tensor(i) if isinstance(i, np.ndarray | list) else i for i in given)

    if not torch:
        oracle = "PyTorch has no negative steps; the values are compared with NumPy's"
        return case("getitem", lambda x: ops.getitem(x, index), normal(*shape), oracle=oracle)
    return case(
        "getitem",
        lambda x: ops.getitem(x, index),
        normal(*shape),
        torch=lambda t, x: x[parts(t)],
    )


def _gather(shape, high, places, axis):
    indices = np.random.default_rng(0).integers(-high, high, places)

    def torch(t, x):
        wide = list(x.shape)
        wide[axis] = places[axis]
        return t.gather(x, axis, t.tensor(indices % max(high, 1)).expand(wide))

    return case("gather", lambda x: ops.gather(x, indices, axis=axis), normal(*shape), torch=torch)


def _scatter_add(shape, high, places, values, axis):
    indices = np.random.default_rng(0).integers(-high, high, places)

    def torch(t, x, y):
        wide = list(x.shape)
        wide[axis] = places[axis]
        where = t.tensor(indices % max(high, 1)).expand(wide)
        return t.scatter_add(x, axis, where, y.expand(wide))

    return case(
        "scatter_add",
        lambda x, y: ops.scatter_add(x, indices, y, axis=axis),
        normal(*shape),
        normal(*values),
        torch=torch,
    )


CASES = [
    _getitem((3, 4), 1),
    _getitem((3, 4), (-1, 2)),
    _getitem((3, 4), np.s_[1:]),
    _getitem((3, 4), np.s_[:, 1:4:2]),
    _getitem((5, 4), np.s_[::-2, ::-1], torch=False),
    _getitem((2, 3, 4), np.s_[..., 0]),
    _getitem((2, 3, 4), np.s_[1, ..., None, 2:]),
    _getitem((3, 4), np.s_[1:1]),
    _getitem((0, 4), np.s_[:, 2]),
    _getitem((), ()),
    _getitem((), (None, ...)),
    _getitem((5, 2), [3, 0, 3, 3]),  # one row three times
    _getitem((5, 2), np.array([[0, -1], [4, 0]])),
    _getitem((5, 2), np.array([], int)),
    _getitem((3, 4), (np.array([0, 2, 0]), np.array([1, 1, 1]))),
    _getitem((3, 4), (np.array([[0], [2]]), np.array([1, 3, 1]))),
    _getitem((2, 3, 4), np.s_[:, [2, 2, 0], 1:]),
    _getitem((2, 3, 4), np.s_[0, [2, 1], None]),
    _getitem((3, 4), MASK),
    _getitem((3, 4), np.s_[[True, False, True], 1:]),
    _getitem((2, 3, 4), (np.s_[:], MASK)),
    _getitem((3, 4), np.zeros((3, 4), bool)),
    _gather((3, 4), 4, (3, 2), 1),
    _gather((3, 4), 3, (5, 4), 0),
    _gather((2, 3, 4), 3, (1, 6, 1), -2),
    _gather((3, 4), 4, (3, 0), 1),
    _gather((0, 4), 4, (0, 2), 1),
    _gather((1,), 1, (1,), 0),
    _scatter_add((3, 4), 4, (3, 6), (3, 6), 1),
    _scatter_add((3, 4), 3, (5, 4), (5, 1), 0),
    _scatter_add((2, 3, 4), 3, (1, 6, 1), (1, 6, 4), 1),
    _scatter_add((3, 4), 4, (3, 0), (3, 0), -1),
    _scatter_add((1,), 1, (1,), (), 0),
]
