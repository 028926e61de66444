"""The scatter into a table: equal ids, and a table that is zeroed in pieces of another size."""

import numpy as np
import pytest

from entrenar_core import kernels
from entrenar_core.kernels.cpu import embedding

pytestmark = pytest.mark.tier2


def scattered(g, ids, rows):
    wanted = np.zeros((rows, g.shape[1]))
    np.add.at(wanted, ids, g.astype(np.float64))
    return wanted


@pytest.mark.parametrize("add", [False, True])
def test_rows_of_equal_ids_are_added_up(add):
    g = np.random.default_rng(0).integers(-8, 8, (200, 150)).astype(np.float32)
    ids = np.full(200, 3)
    out = np.full((5, 150), 1.0, np.float32)
    kernels.embedding_grad(g, ids, out=out, add=add)
    assert np.array_equal(out, scattered(g, ids, 5) + add)


@pytest.mark.parametrize("rows", [1, 299, 300, 301, 1000])
def test_a_huge_table_is_zeroed_whole(rows, monkeypatch):
    monkeypatch.setattr(embedding, "HUGE", 5000)
    g = np.random.default_rng(0).integers(-8, 8, (7, 100)).astype(np.float32)
    ids = np.array([0, rows - 1, 0, rows // 2, 0, 0, rows - 1])
    out = np.full((rows, 100), np.nan, np.float32)
    kernels.embedding_grad(g, ids, out=out, add=False)
    assert np.array_equal(out, scattered(g, ids, rows))


@pytest.mark.parametrize("add", [False, True])
def test_without_ids_there_is_no_gradient(add):
    out = np.full((5, 150), 2.0, np.float32)
    kernels.embedding_grad(np.empty((0, 150), np.float32), np.empty(0, int), out=out, add=add)
    assert np.array_equal(out, np.full((5, 150), 2.0 * add))
