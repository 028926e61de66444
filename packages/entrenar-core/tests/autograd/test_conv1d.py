"""What does not fit GPT-2's operations is said, and the parts of one product share their memory."""

import numpy as np
import pytest

from entrenar_common.errors import ShapeError
from entrenar_core.autograd import Tensor, ops

RNG = np.random.default_rng(0)


def tensor(*shape):
    return Tensor(RNG.standard_normal(shape), requires_grad=True)


def test_a_weight_that_lies_the_other_way_round_is_refused():
    with pytest.raises(ShapeError, match=r"conv1d: x \(2, 4\) has 4 features, weight \(5, 4\)"):
        ops.conv1d(tensor(2, 4), tensor(5, 4))


@pytest.mark.parametrize(("part", "parts", "heads"), [(3, 3, 2), (-1, 3, 2), (0, 5, 1), (0, 3, 8)])
def test_parts_and_heads_that_do_not_divide_the_width_are_refused(part, parts, heads):
    with pytest.raises(ShapeError, match=r"split_heads: part -?\d of \d of x \(2, 3, 12\)"):
        ops.split_heads(tensor(2, 3, 12), part=part, parts=parts, heads=heads)


@pytest.mark.parametrize("used", [[0], [2], [1, 2], [0, 1, 2], [2, 2, 0]])
def test_columns_of_parts_that_are_not_used_get_no_gradient(used):
    x = tensor(2, 3, 12)
    y = sum(ops.split_heads(x * 1.0, part=i, parts=3, heads=2).sum() * (i + 1.0) for i in used)
    y.backward()
    wanted = [used.count(i) * (i + 1.0) for i in range(3) for _ in range(4)]
    assert np.array_equal(x.grad, np.broadcast_to(wanted, x.shape))
