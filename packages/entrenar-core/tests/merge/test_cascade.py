"""Means of many rows."""

import numpy as np
import pytest

from entrenar_core.merge.cascade import cascade_mean

COUNTS = [1, 15, 16, 17, 255, 256, 4095, 4096, 4113, 70_001]


@pytest.mark.parametrize("count", COUNTS)
def test_a_mean_of_small_integers_is_exact(count):
    rows = np.random.default_rng(count).integers(-9, 9, (count, 5)).astype(np.float32)
    wanted = rows.sum(axis=0, dtype=np.int64).astype(np.float32) / np.float32(count)
    np.testing.assert_array_equal(cascade_mean(rows.__getitem__, count, 5), wanted)


@pytest.mark.parity
@pytest.mark.parametrize("count", COUNTS)
def test_a_mean_has_the_bits_of_torchs(count):
    torch = pytest.importorskip("torch")
    rows = np.random.default_rng(count).standard_normal((count, 128), np.float32)
    wanted = torch.mean(torch.from_numpy(rows), dim=0).numpy()
    np.testing.assert_array_equal(cascade_mean(rows.__getitem__, count, 128), wanted)
