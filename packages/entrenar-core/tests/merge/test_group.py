"""Tensors that are read some rows at a time."""

import ml_dtypes
import numba
import numpy as np
import pytest

from entrenar_core.merge import group as module
from entrenar_core.merge.group import Group, Held

pytestmark = pytest.mark.tier2

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def normal(kind, *shape):
    return np.random.default_rng(0).standard_normal(shape).astype(kind)


@pytest.mark.parametrize(
    "kinds, work, wanted",
    [
        ((BFLOAT16, BFLOAT16), BFLOAT16, BFLOAT16),
        ((BFLOAT16, np.float32), BFLOAT16, np.float32),
        ((np.float32, np.float16), np.dtype(np.float32), np.float32),
    ],
)
@pytest.mark.parametrize("elements", [1, 20, 1000])
def test_the_numbers_of_a_tensor_are_those_of_the_blocks(kinds, work, wanted, elements):
    held = [Held(normal(kind, 13, 7)) for kind in kinds]
    group = Group(held, None, work, elements=elements)
    stored = np.concatenate([block.stored.copy() for block in group.blocks()], axis=1)
    assert stored.dtype == wanted
    for tensor, rows in zip(held, stored, strict=True):
        parts = list(group.flat(tensor))
        assert len(parts) == len(list(group.blocks()))
        found = np.concatenate(parts)
        assert found.dtype == wanted
        np.testing.assert_array_equal(found, rows.reshape(-1))
        np.testing.assert_array_equal(rows, tensor.array.astype(work).astype(wanted))


def test_numbers_that_lie_in_memory_as_they_are_needed_are_not_copied():
    held = Held(normal(BFLOAT16, 13, 7))
    group = Group([held], None, BFLOAT16, elements=20)
    assert all(np.shares_memory(part, held.array) for part in group.flat(held))


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
def test_a_worker_is_left_its_processor_for_as_long_as_it_is_busy(monkeypatch):
    before, busy = numba.get_num_threads(), [0, 1, 1, 0]
    monkeypatch.setattr(module, "busy_workers", lambda: busy.pop(0))
    group = Group([Held(normal(np.float32, 4, 7))], None, np.dtype(np.float32), elements=7)
    seen = [numba.get_num_threads() for _ in group.blocks()]
    assert seen == [before, before - 1, before - 1, before]
    assert numba.get_num_threads() == before
