"""The k-th smallest magnitudes, found by counting."""

import ml_dtypes
import numpy as np
import pytest

from entrenar_core.merge.group import Group, Held
from entrenar_core.merge.selection import ranked

TYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def rank_by_sorting(values: np.ndarray, rank: int) -> tuple[float, int, int]:
    found = np.sort(values)[rank]
    return float(found), int((values < found).sum()), int((values == found).sum())


@pytest.mark.parametrize("kind", TYPES)
def test_ranks_are_those_of_a_sort(kind):
    rng = np.random.default_rng(0)
    models = [(rng.standard_normal((57, 13)) * 0.01).astype(TYPES[kind]) for _ in range(2)]
    models[1][:20] = 0
    work = np.dtype(TYPES[kind])
    found = Group([Held(m) for m in models], None, work, elements=100)  # several blocks
    ranks = [[0, 5, 370, 740], [0, 259, 260, 740]]
    result = ranked([found], lambda block: block.models.reshape(2, -1), ranks)
    for model, wanted, got in zip(models, ranks, result, strict=True):
        values = np.abs(model.astype(np.float32)).reshape(-1)
        assert [tuple(rank) for rank in got] == [rank_by_sorting(values, r) for r in wanted]


def test_groups_count_together():
    parts = [np.float32([1, 5, 3]), np.float32([2, 4])]
    groups = [Group([Held(part)], None, np.dtype(np.float32)) for part in parts]
    (found,) = ranked(groups, lambda block: block.models.reshape(1, -1), [[0, 2, 4]])
    assert [rank.magnitude for rank in found] == [1, 3, 5]
