"""Layout of rows, their order, and the algebra of batches."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_common.errors import ConfigError
from entrenar_core.data.batches import IGNORED, Batches
from entrenar_core.data.documents import TokenizedDocuments

EOS, PAD = 1_000_000, 1_000_001


def documents(*lengths):
    """Documents of the given lengths; the tokens of all of them are 0, 1, 2, …"""
    starts = np.cumsum([0, *lengths])
    ids = [np.arange(a, a + n, dtype=np.int32) for a, n in zip(starts, lengths, strict=False)]
    return TokenizedDocuments.from_arrays([f"d{i}" for i in range(len(ids))], ids, list(lengths))


def joined(docs):
    """The stream by its definition: every document followed by EOS."""
    return [int(t) for i in range(len(docs)) for t in [*docs.document(i), EOS]]


def one_epoch(batches, epoch=0):
    steps = batches.steps_per_epoch
    return [batches.batch(epoch * steps + step) for step in range(steps)]


corpora = st.lists(st.integers(0, 12), min_size=1, max_size=12).filter(lambda n: sum(n) >= 12)
shapes = {"seq_len": st.integers(1, 7), "batch_size": st.integers(1, 3), "seed": st.integers(0, 9)}


@pytest.mark.tier2
@settings(deadline=None)
@given(lengths=corpora, **shapes)
def test_packed_rows_are_consecutive_slices_of_the_stream(lengths, seq_len, batch_size, seed):
    docs = documents(*lengths)
    stream = joined(docs)
    if (len(stream) - 1) // seq_len < batch_size:
        return
    batches = Batches(docs, seq_len=seq_len, batch_size=batch_size, seed=seed, eos_id=EOS)
    for batch in one_epoch(batches):
        for row, ids, labels in zip(batch.row_ids, batch.ids, batch.labels, strict=True):
            at = row * seq_len
            assert ids.tolist() == stream[at : at + seq_len]
            assert labels.tolist() == stream[at + 1 : at + 1 + seq_len]


@pytest.mark.tier2
@pytest.mark.parametrize("packing", [True, False])
@settings(deadline=None)
@given(lengths=corpora, **shapes)
def test_each_id_is_said_to_be_where_it_is_from(packing, lengths, seq_len, batch_size, seed):
    docs = documents(*lengths)
    options = {"seq_len": seq_len, "batch_size": batch_size, "seed": seed, "packing": packing}
    try:
        batches = Batches(docs, **options, eos_id=EOS, pad_id=PAD)
    except ConfigError:  # not one batch
        return
    for batch in one_epoch(batches):
        places = zip(batch.ids.flat, batch.documents.flat, batch.positions.flat, strict=True)
        for token, document, position in places:
            if document < 0:
                assert (token, position) == (PAD, 0)
            else:
                assert token == [*docs.document(document), EOS][position]


@pytest.mark.tier2
@settings(deadline=None)
@given(lengths=corpora, **shapes)
def test_with_boundaries_only_the_first_token_of_each_document_is_no_target(
    lengths, seq_len, batch_size, seed
):
    docs = documents(*lengths)
    options = {"seq_len": seq_len, "batch_size": batch_size, "seed": seed, "eos_id": EOS}
    try:
        whole = Batches(docs, **options)
    except ConfigError:  # not one batch
        return
    bounded = Batches(docs, **options, boundaries=True)
    firsts = np.cumsum([0, *(n + 1 for n in lengths)])  # in the stream
    for wanted, found in zip(one_epoch(whole), one_epoch(bounded), strict=True):
        assert np.array_equal(found.ids, wanted.ids)
        targets = found.row_ids[:, None] * seq_len + np.arange(1, seq_len + 1)
        labels = np.where(np.isin(targets, firsts), IGNORED, wanted.labels)
        assert np.array_equal(found.labels, labels)


def test_a_batch_hands_out_its_documents_only_where_they_are_to_be_kept_apart():
    options = {"seq_len": 3, "batch_size": 2, "seed": 0, "eos_id": EOS}
    whole, bounded = (Batches(documents(5, 6), **options, boundaries=b) for b in (False, True))
    assert whole.batch(0).segments is None
    batch = bounded.batch(0)
    assert np.array_equal(batch.segments, batch.documents)
    assert [np.array_equal(part.segments, part.documents) for part in batch.split(2)] == [True] * 2


def test_boundaries_without_packing_are_refused():
    with pytest.raises(ConfigError, match="of which each has only one"):
        Batches(
            documents(9), seq_len=2, batch_size=1, seed=0, eos_id=EOS, packing=False,
            boundaries=True,
        )  # fmt: skip


@pytest.mark.tier2
@settings(deadline=None)
@given(lengths=corpora, **shapes)
def test_each_token_is_a_target_once_an_epoch_up_to_the_dropped_tail(
    lengths, seq_len, batch_size, seed
):
    docs = documents(*lengths)
    stream = joined(docs)
    rows = (len(stream) - 1) // seq_len
    if rows < batch_size:
        return
    batches = Batches(docs, seq_len=seq_len, batch_size=batch_size, seed=seed, eos_id=EOS)
    epoch = one_epoch(batches)
    used = np.concatenate([batch.row_ids for batch in epoch])
    assert len(set(used.tolist())) == len(used) == rows // batch_size * batch_size
    targets = sorted(t for batch in epoch for t in batch.labels.ravel().tolist() if t != EOS)
    covered = [t for row in used for t in stream[row * seq_len + 1 : (row + 1) * seq_len + 1]]
    assert targets == sorted(t for t in covered if t != EOS)
    assert len(set(targets)) == len(targets)


def test_ids_and_labels_are_int64():
    batch = Batches(documents(9), seq_len=2, batch_size=2, seed=0, eos_id=EOS).batch(0)
    assert {batch.ids.dtype, batch.labels.dtype, batch.row_ids.dtype} == {np.dtype(np.int64)}
    assert batch.ids.shape == batch.labels.shape == (2, 2)


@pytest.fixture
def large():
    return documents(*[37] * 20)


def order(docs, seed, epoch):
    batches = Batches(docs, seq_len=5, batch_size=4, seed=seed, eos_id=EOS)
    return np.concatenate([batch.row_ids for batch in one_epoch(batches, epoch)]).tolist()


def test_equal_seeds_give_equal_orders_and_others_do_not(large):
    assert order(large, 3, 0) == order(large, 3, 0)
    assert order(large, 3, 0) != order(large, 4, 0)


def test_the_order_differs_between_epochs(large):
    assert order(large, 3, 0) != order(large, 3, 1)


def test_a_batch_does_not_depend_on_what_was_asked_before(large):
    forward = Batches(large, seq_len=5, batch_size=4, seed=1, eos_id=EOS)
    last = 2 * forward.steps_per_epoch - 1
    wanted = [forward.batch(position).ids.tolist() for position in range(last + 1)]
    backward = Batches(large, seq_len=5, batch_size=4, seed=1, eos_id=EOS)
    assert [backward.batch(p).ids.tolist() for p in range(last, -1, -1)] == wanted[::-1]


@pytest.mark.tier2
def test_another_process_has_the_same_order(large):
    program = (
        "import numpy as np\n"
        "from entrenar_core.data.batches import Batches\n"
        "from entrenar_core.data.documents import TokenizedDocuments\n"
        "ids = [np.zeros(37, np.int32)] * 20\n"
        "docs = TokenizedDocuments.from_arrays(['x'] * 20, ids, [37] * 20)\n"
        "b = Batches(docs, seq_len=5, batch_size=4, seed=3, eos_id=1)\n"
        "print([r for s in range(b.steps_per_epoch) for r in b.batch(s).row_ids.tolist()])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == str(order(large, 3, 0))


def test_a_batch_is_the_concatenation_of_its_parts(large):
    batch = Batches(large, seq_len=5, batch_size=8, seed=0, eos_id=EOS).batch(3)
    parts = batch.split(2)
    assert [part.ids.shape for part in parts] == [(4, 5), (4, 5)]
    for name in ("ids", "labels", "row_ids"):
        whole = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(whole, getattr(batch, name))


@pytest.mark.parametrize("parts", [0, 3, 16])
def test_a_batch_cannot_be_split_unevenly(large, parts):
    batch = Batches(large, seq_len=5, batch_size=8, seed=0, eos_id=EOS).batch(0)
    with pytest.raises(ConfigError, match="equal parts"):
        batch.split(parts)


def test_fewer_rows_than_a_batch_is_a_config_error():
    with pytest.raises(ConfigError, match="fewer than one batch"):
        Batches(documents(10), seq_len=5, batch_size=3, seed=0, eos_id=EOS)


@pytest.mark.parametrize("packing", [True, False])
def test_no_eos_token_is_a_config_error(packing):
    with pytest.raises(ConfigError, match="end-of-text"):
        Batches(documents(9), seq_len=2, batch_size=1, seed=0, eos_id=None, packing=packing)


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0)])
def test_sizes_below_one_are_config_errors(sizes):
    with pytest.raises(ConfigError, match="at least 1"):
        Batches(documents(9), seq_len=sizes[0], batch_size=sizes[1], seed=0, eos_id=EOS)


def test_a_negative_position_is_a_config_error(large):
    with pytest.raises(ConfigError, match="negative"):
        Batches(large, seq_len=5, batch_size=8, seed=0, eos_id=EOS).batch(-1)


@pytest.mark.tier2
@settings(deadline=None)
@given(lengths=corpora, seq_len=st.integers(1, 7), with_eos=st.booleans())
def test_padded_rows_have_each_document_alone(lengths, seq_len, with_eos):
    docs = documents(*lengths)
    wanted = []
    for index in range(len(docs)):
        tokens = [*docs.document(index).tolist(), *([EOS] if with_eos else [])]
        for at in range(0, len(tokens) - 1, seq_len):
            wanted.append((tokens[at : at + seq_len], tokens[at + 1 : at + 1 + seq_len]))
    if not wanted:
        return
    batches = Batches(
        docs, seq_len=seq_len, batch_size=1, seed=0, packing=False,
        eos_id=EOS if with_eos else None, pad_id=PAD,
    )  # fmt: skip
    found = [
        (batch.row_ids[0], [t for t in batch.ids[0].tolist() if t != PAD],
         [t for t in batch.labels[0].tolist() if t != IGNORED])
        for batch in one_epoch(batches)
    ]  # fmt: skip
    assert [(ids, labels) for _, ids, labels in sorted(found)] == wanted


def test_padding_is_on_the_right_and_masked():
    batches = Batches(
        documents(3), seq_len=6, batch_size=1, seed=0, eos_id=EOS, pad_id=PAD, packing=False
    )
    batch = batches.batch(0)
    assert batch.ids.tolist() == [[0, 1, 2, EOS, PAD, PAD]]
    assert batch.labels.tolist() == [[1, 2, EOS, IGNORED, IGNORED, IGNORED]]
    assert batch.targets == 3


def test_without_a_pad_token_padding_is_eos():
    batches = Batches(documents(2), seq_len=4, batch_size=1, seed=0, eos_id=EOS, packing=False)
    assert batches.batch(0).ids.tolist() == [[0, 1, EOS, EOS]]
