"""Rows that are short enough for where they lie to matter."""

import numpy as np
import pytest

from entrenar_core.kernels.cpu import softmax

APART = 4096


@pytest.mark.tier2
@pytest.mark.parametrize("kernel", [softmax._softmax, softmax._log_softmax])
def test_the_bits_do_not_depend_on_where_the_result_lies(kernel):
    memory = np.zeros(2 * APART, np.float32)
    for size in range(1, 100):
        x = memory[:size]
        x[:] = np.random.default_rng(size).standard_normal(size)
        found = []
        for place in (size, size + 1, size + 3, size + 16, APART):
            y = memory[place : place + size].reshape(1, size)
            kernel(x.reshape(1, size), y, False)
            found.append(y.copy())
        for result in found:
            assert np.array_equal(result, found[-1]), size
