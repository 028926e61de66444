"""`ops.elementwise`."""

from entrenar_core.autograd import ops
from op_cases import away_from_zero, case, normal

CASES = [
    case("add", ops.add, normal(3, 4), normal(3, 4), torch=lambda t, x, y: x + y),
    case("add", ops.add, normal(3, 4), normal(4), torch=lambda t, x, y: x + y),
    case("add", ops.add, normal(2, 1, 4), normal(3, 1), torch=lambda t, x, y: x + y),
    case("sub", ops.sub, normal(3, 4), normal(3, 1), torch=lambda t, x, y: x - y),
    case("mul", ops.mul, normal(3, 4), normal(4), torch=lambda t, x, y: x * y),
    case("mul", ops.mul, normal(2, 1, 4), normal(3, 1), torch=lambda t, x, y: x * y),
    case("div", ops.div, normal(3, 4), away_from_zero(4), torch=lambda t, x, y: x / y),
    case("div", ops.div, normal(), away_from_zero(2, 3), torch=lambda t, x, y: x / y),
]
