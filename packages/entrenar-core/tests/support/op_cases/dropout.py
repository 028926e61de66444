"""`ops.dropout`."""

import numpy as np

from entrenar_core import kernels
from entrenar_core.autograd import ops
from op_cases import case, normal

KEY = 2**63 + 5


def _dropout(p, *shape):
    kept = kernels.dropout.reference(np.ones(shape), p=p, key=KEY) != 0
    return case(
        "dropout",
        lambda x: ops.dropout(x, p=p, key=KEY),
        normal(*shape),
        torch=lambda t, x: x * t.tensor(kept) / (1 - p),
    )


CASES = [
    _dropout(0.5, 3, 4),
    _dropout(0.1, 2, 1, 5),
    _dropout(0.9, 40),
    _dropout(0.0, 3, 4),
    _dropout(0.5),
    _dropout(0.5, 0, 3),
]
