"""`ops.shape`."""

from entrenar_core.autograd import ops
from op_cases import case, normal

CASES = [
    case(
        "reshape",
        lambda x: ops.reshape(x, (4, -1)),
        normal(2, 3, 4),
        torch=lambda t, x: x.reshape(4, -1),
    ),
]
