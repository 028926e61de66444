"""`ops.reduce`."""

import warnings

import numpy as np

from entrenar_core.autograd import ops
from op_cases import case, distinct, normal, positive

AXES = [  # shape, axis, keepdims
    ((2, 3, 4), None, False),
    ((2, 3, 4), None, True),
    ((2, 3, 4), 1, False),
    ((2, 3, 4), (0, -1), False),
    ((2, 3, 4), (0, -1), True),
    ((2, 3, 4), -1, True),
    ((3, 1), 1, False),
    ((1, 1), None, False),
    ((), None, False),
    ((2, 0, 3), 0, False),
    ((2, 0, 3), (0, 2), True),
]
EMPTY_AXES = [((2, 0, 3), 1, False), ((0, 4), None, False), ((0, 4), 0, True)]


def _reductions(name, torch, axes, draw=normal, **options):
    def build(shape, axis, keepdims):
        def call(x):
            return getattr(ops, name)(x, axis=axis, keepdims=keepdims, **options)

        def oracle(t, x):
            every = tuple(range(x.ndim)) if axis is None else axis
            with warnings.catch_warnings():  # of variances of nothing, also where there are none
                warnings.simplefilter("ignore")
                return getattr(t, torch)(x, dim=every, keepdim=keepdims, **options)

        return case(name, call, np.asarray(draw(*shape)), torch=oracle)

    return [build(*item) for item in axes]


def _cumsum(shape, axis):
    return case(
        "cumsum",
        lambda x: ops.cumsum(x, axis=axis),
        normal(*shape),
        torch=lambda t, x: t.cumsum(x.reshape(-1) if axis is None else x, axis or 0),
    )


SEVERAL = [item for item in AXES if item[0] not in [(3, 1), (1, 1), ()]]
"""Those with more than one element in each result: the variance of one is 0 whatever it is."""

# A sum of numbers that cancel has no relative precision, so sums and means are of positive ones.
CASES = [
    *_reductions("sum", "sum", AXES + EMPTY_AXES, draw=positive),
    *_reductions("mean", "mean", AXES, draw=positive),
    *_reductions("var", "var", AXES, correction=0),
    *_reductions("var", "var", SEVERAL, correction=1),
    *_reductions("std", "std", SEVERAL, correction=0),
    *_reductions("std", "std", SEVERAL, correction=1),
    *_reductions("max", "amax", AXES, draw=distinct),
    *_reductions("min", "amin", AXES, draw=distinct),
    *_reductions("logsumexp", "logsumexp", AXES),
    _cumsum((5,), 0),
    _cumsum((2, 3, 4), 1),
    _cumsum((2, 3, 4), -1),
    _cumsum((2, 3), None),
    _cumsum((2, 0), 1),
    _cumsum((0, 2), 1),
    _cumsum((1, 1), 0),
]
