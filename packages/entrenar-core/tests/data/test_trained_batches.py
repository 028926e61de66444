"""Labels of documents of which a part is trained on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_common.errors import ConfigError
from entrenar_core.data.batches import IGNORED, Batches
from entrenar_core.data.documents import TokenizedDocuments

pytestmark = pytest.mark.tier2

EOS = 1_000_000


def documents(masks, *, closed):
    """Documents with these masks; the tokens of all of them are 0, 1, 2, …"""
    starts = np.cumsum([0, *map(len, masks)])
    ids = [np.arange(a, a + len(m), dtype=np.int32) for a, m in zip(starts, masks, strict=False)]
    trained = [np.array(mask, bool) for mask in masks]
    names = [f"d{i}" for i in range(len(ids))]
    return TokenizedDocuments.from_arrays(
        names, ids, [len(m) for m in masks], trained=trained, closed=closed
    )


def batches(docs, *, packing, seq_len, batch_size=1, eos_id=EOS):
    return Batches(
        docs, seq_len=seq_len, batch_size=batch_size, seed=3, eos_id=eos_id, packing=packing
    )


def targets(found):
    """The labels of an epoch with what is before each, sorted."""
    pairs = []
    for step in range(found.steps_per_epoch):
        batch = found.batch(step)
        counted = batch.labels != IGNORED
        pairs += zip(batch.ids[counted].tolist(), batch.labels[counted].tolist(), strict=True)
    return sorted(pairs)


def expected(docs, *, through):
    """The same by definition, of the first `through` targets of the stream of all documents."""
    stream, trained = [], []
    for i in range(len(docs)):
        ids = [*docs.document(i).tolist(), *([] if docs.closed else [EOS])]
        stream += ids
        trained += [*docs.targets(i).tolist(), *([] if docs.closed else [True])]
    return sorted((stream[i - 1], stream[i]) for i in range(1, through + 1) if trained[i])


masks = st.lists(
    st.lists(st.booleans(), min_size=1, max_size=9).map(lambda mask: [False, *mask]),
    min_size=1,
    max_size=8,
)


@settings(deadline=None)
@given(masks=masks, closed=st.booleans(), seq_len=st.integers(1, 7))
def test_packed_and_padded_rows_have_the_same_targets(masks, closed, seq_len):
    """All but those in the last row of the stream, which is not full."""
    docs = documents(masks, closed=closed)
    length = docs.total_tokens + (0 if closed else len(docs))
    every = expected(docs, through=length - 1)
    if every:
        padded = batches(docs, packing=False, seq_len=seq_len)
        assert targets(padded) == every
    full = (length - 1) // seq_len * seq_len
    within = expected(docs, through=full)
    if within:
        assert targets(batches(docs, packing=True, seq_len=seq_len)) == within


@pytest.mark.parametrize("packing", [True, False])
def test_no_row_is_without_a_target(packing):
    docs = documents([[False] * 40 + [True], [False, True], [False] * 20 + [True]], closed=True)
    found = batches(docs, packing=packing, seq_len=5)
    assert found.rows < len(docs.tokens) // 5
    for step in range(found.steps_per_epoch):
        assert (found.batch(step).labels != IGNORED).any(axis=1).all()


def test_documents_that_are_closed_are_followed_by_nothing():
    docs = documents([[False, True, True], [False, True]], closed=True)
    batch = batches(docs, packing=True, seq_len=4).batch(0)
    assert batch.ids.tolist() == [[0, 1, 2, 3]]
    assert batch.labels.tolist() == [[1, 2, IGNORED, 4]]


def test_the_end_after_a_completion_is_a_target():
    docs = documents([[False, True], [False, True]], closed=False)
    batch = batches(docs, packing=True, seq_len=5).batch(0)
    assert batch.ids.tolist() == [[0, 1, EOS, 2, 3]]
    assert batch.labels.tolist() == [[1, EOS, IGNORED, 3, EOS]]


@pytest.mark.parametrize("packing", [True, False])
def test_documents_of_which_nothing_is_trained_on_are_an_error(packing):
    docs = documents([[False, False, False]] * 2, closed=True)
    with pytest.raises(ConfigError, match="of 6 tokens in 2 documents none is trained on"):
        batches(docs, packing=packing, seq_len=1)


def test_rows_are_in_another_order_in_each_epoch():
    docs = documents([[False, True] * 40], closed=True)
    found = batches(docs, packing=True, seq_len=2)
    epochs = [
        [found.batch(e * found.steps_per_epoch + i).row_ids[0] for i in range(found.rows)]
        for e in (0, 1)
    ]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert epochs[0] != epochs[1]
