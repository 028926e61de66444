"""Masked rows: their layout, what is hidden in them, and what that depends on."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors

from entrenar_common.errors import ConfigError, FormatError
from entrenar_core.data.batches import IGNORED
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.masking import (
    BECOME_ANOTHER,
    BECOME_MASK,
    MaskedBatches,
    MaskedRows,
    MaskTokens,
)
from entrenar_core.data.tokenizer import Tokenizer
from masked_text import (
    CLS,
    MASK,
    PAD,
    SEP,
    SPECIAL,
    UNK,
    VOCABULARY,
    around,
    documents,
    tokenizer,
)

TOKENS = MaskTokens.of(tokenizer())


def all_rows(docs, *, seq_len=10, share=0.15, seed=0):
    rows = MaskedRows(docs, seq_len=seq_len, tokens=TOKENS, share=share)
    return rows.gather(np.arange(rows.count), seed=seed, purpose="test")


def shown(batch):
    """What each row says when nothing is hidden, without its padding."""
    whole = np.where(batch.labels == IGNORED, batch.ids, batch.labels)
    return [row[mask].tolist() for row, mask in zip(whole, batch.mask, strict=True)]


def cut(docs, width):
    """The rows by their definition."""
    found = []
    for i in range(len(docs)):
        text = [int(t) for t in docs.document(i) if t not in (CLS, SEP)]
        found += [[CLS, *text[k : k + width], SEP] for k in range(0, len(text), width)]
    return found


def trials(share, count):
    """How far a count of successes may be from its mean: five standard deviations."""
    return 5 * math.sqrt(count * share * (1 - share))


# --- the tokens ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("processor", "before", "after"),
    [
        (around(), [CLS], [SEP]),
        (around("[CLS] [CLS] $A [SEP]"), [CLS, CLS], [SEP]),
        (around("$A"), [], []),
        (around("$A [SEP]"), [], [SEP]),
        (processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS)), [CLS], [SEP]),
        (processors.RobertaProcessing(("[SEP]", SEP), ("[CLS]", CLS)), [CLS], [SEP]),
    ],
)
def test_the_tokens_around_a_text_are_those_of_the_template(processor, before, after):
    found = MaskTokens.of(tokenizer(processor=processor))
    assert (found.before.tolist(), found.after.tolist()) == (before, after)


def test_the_tokens_of_text_are_all_but_the_special_ones():
    assert TOKENS.text.tolist() == list(range(len(SPECIAL), VOCABULARY))
    assert (TOKENS.mask, TOKENS.pad) == (MASK, PAD)


def test_a_tokenizer_without_a_mask_is_refused():
    with pytest.raises(ConfigError, match="no mask token") as error:
        MaskTokens.of(tokenizer({"pad_token": "[PAD]"}))
    assert "mask_token" in error.value.hint


def test_a_tokenizer_without_padding_is_refused():
    with pytest.raises(ConfigError, match="no padding token"):
        MaskTokens.of(tokenizer({"mask_token": "[MASK]"}))


def test_a_mask_that_is_no_special_token_is_refused():
    with pytest.raises(ConfigError, match=r"reads its mask token, id 4, as the ids \[2, 4, 3\]"):
        MaskTokens.of(tokenizer(special=False))


def test_a_mask_that_the_tokenizer_does_not_have_is_a_damaged_file():
    strange = tokenizer({"pad_token": "[PAD]", "mask_token": "<mask>"})
    with pytest.raises(FormatError, match=r"<mask>. is not in tokenizer"):
        MaskTokens.of(strange)


def test_the_mask_token_is_kept_when_a_tokenizer_is_saved(tmp_path):
    tokenizer().save(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()  # special_tokens_map.json is enough
    assert Tokenizer.load(tmp_path).mask_id == MASK


# --- the layout ----------------------------------------------------------------------------------


@pytest.mark.tier2
@settings(deadline=None, max_examples=30)
@given(lengths=st.lists(st.integers(0, 20), min_size=1, max_size=6), seq_len=st.integers(3, 12))
def test_rows_are_the_windows_of_each_document_between_the_tokens_of_the_template(lengths, seq_len):
    docs = documents(*lengths)
    batch = all_rows(docs, seq_len=seq_len)
    assert shown(batch) == cut(docs, seq_len - 2)


def test_a_document_without_the_tokens_of_the_template_gives_the_same_rows():
    lengths = (0, 5, 8, 17, 0)
    with_them, without = documents(*lengths), documents(*lengths, around=False)
    assert shown(all_rows(with_them)) == shown(all_rows(without))


def test_the_mask_covers_all_but_the_padding():
    batch = all_rows(documents(3, 8, 1))
    assert batch.mask.sum(axis=1).tolist() == [5, 10, 3]
    assert (batch.ids[~batch.mask] == PAD).all()
    assert (batch.labels[~batch.mask] == IGNORED).all()


def test_rows_are_padded_to_the_longest_of_them_alone():
    rows = MaskedRows(documents(3, 8, 1), seq_len=50, tokens=TOKENS, share=0.15)
    assert rows.gather(np.array([0, 2]), seed=0, purpose="test").ids.shape == (2, 5)


def test_names_are_those_of_the_documents_that_rows_are_from():
    docs = documents(9, 0, 17, 3)
    batches = MaskedBatches(docs, seq_len=10, batch_size=1, seed=0, tokens=TOKENS, share=0.15)
    assert batches.rows == 2 + 0 + 3 + 1
    assert batches.names(np.array([5, 2, 3, 4])) == ["d2", "d3"]


# --- what is hidden ------------------------------------------------------------------------------

LONG = documents(*[200] * 100)


def test_every_row_has_its_share_of_hidden_tokens_to_the_next_whole_number():
    hidden = (all_rows(LONG, seq_len=52, share=0.15).labels != IGNORED).sum(axis=1)
    assert len(hidden) == 400
    assert set(hidden.tolist()) == {7, 8}  # of 50 tokens, 7.5 on average


@pytest.mark.tier2
def test_the_number_is_rounded_so_that_it_is_right_on_average():
    batch = all_rows(documents(*[10] * 4000), seq_len=12, share=0.13)
    found = (batch.labels != IGNORED).sum()
    assert abs(found - 4000 * 1.3) <= trials(0.3, 4000)


@pytest.mark.tier2
def test_of_hidden_tokens_most_become_the_mask_and_some_another_or_stay():
    batch = all_rows(LONG, seq_len=52, share=0.5)
    chosen = batch.labels != IGNORED
    ids, labels = batch.ids[chosen], batch.labels[chosen]
    count, words = len(ids), len(TOKENS.text)
    # another word is drawn among all, so that it can be the same one
    stayed = 1 - BECOME_MASK - BECOME_ANOTHER + BECOME_ANOTHER / words
    other = BECOME_ANOTHER * (words - 1) / words
    assert count == 10_000
    for share, found in [
        (BECOME_MASK, ids == MASK),
        (stayed, ids == labels),
        (other, (ids != MASK) & (ids != labels)),
    ]:
        assert abs(np.count_nonzero(found) - share * count) <= trials(share, count)


@pytest.mark.tier2
def test_other_tokens_are_drawn_evenly_among_those_of_text():
    batch = all_rows(LONG, seq_len=52, share=0.9)
    other = batch.ids[(batch.labels != IGNORED) & (batch.ids != MASK) & (batch.ids != batch.labels)]
    counts = np.bincount(other, minlength=VOCABULARY)
    assert not counts[: len(SPECIAL)].any()
    expected = len(other) / len(TOKENS.text)
    statistic = ((counts[len(SPECIAL) :] - expected) ** 2 / expected).sum()
    freedom = len(TOKENS.text) - 1
    assert abs(statistic - freedom) <= 5 * math.sqrt(2 * freedom)


@pytest.mark.tier2
def test_every_place_of_a_row_is_hidden_as_often():
    batch = all_rows(documents(*[20] * 3000), seq_len=22, share=0.25)
    hidden = (batch.labels != IGNORED).sum(axis=0)
    assert hidden[0] == hidden[-1] == 0
    assert (np.abs(hidden[1:-1] - 3000 * 0.25) <= trials(0.25, 3000)).all()


@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_rows_have_a_hidden_token_too(length):
    batch = all_rows(documents(*[length] * 50))
    assert ((batch.labels != IGNORED).sum(axis=1) == 1).all()


def test_special_tokens_in_a_text_are_never_hidden():
    text = np.array([CLS, UNK, 7, UNK, UNK, UNK, SEP], np.int32)
    docs = TokenizedDocuments.from_arrays(["a"], [text], [9])
    for seed in range(20):
        assert np.flatnonzero(all_rows(docs, seed=seed).labels[0] >= 0).tolist() == [2]


def test_a_row_without_a_token_of_text_has_nothing_to_predict():
    docs = TokenizedDocuments.from_arrays(["a"], [np.array([CLS, UNK, SEP], np.int32)], [9])
    batch = all_rows(docs)
    assert batch.ids.tolist() == [[CLS, UNK, SEP]]
    assert batch.targets == 0


# --- what it depends on --------------------------------------------------------------------------


def batches(batch_size=2, *, seed=0, accumulation=1):
    return MaskedBatches(
        documents(*range(40)), seq_len=10, batch_size=batch_size, seed=seed, tokens=TOKENS,
        share=0.15, accumulation=accumulation,
    )  # fmt: skip


def content(batch):
    """ids and labels of every row by its number, without padding."""
    return {
        int(row): (ids[mask].tolist(), labels[mask].tolist())
        for row, ids, labels, mask in zip(
            batch.row_ids, batch.ids, batch.labels, batch.mask, strict=True
        )
    }


def test_a_batch_is_a_function_of_its_position():
    first, again = batches(), batches()
    forwards = [content(first.batch(i)) for i in range(150)]
    backwards = [content(again.batch(i)) for i in reversed(range(150))]
    assert forwards == backwards[::-1]


def test_each_epoch_hides_other_tokens_in_another_order():
    source = batches()
    epochs = [
        [content(source.batch(e * source.steps_per_epoch + i)) for i in range(50)] for e in (0, 1)
    ]
    rows = [[row for batch in epoch for row in batch] for epoch in epochs]
    assert rows[0] != rows[1]
    first, second = ({k: v for batch in epoch for k, v in batch.items()} for epoch in epochs)
    long = [row for row in first.keys() & second.keys() if len(first[row][0]) > 8]
    assert len(long) > 20
    assert sum(first[row] == second[row] for row in long) < len(long) / 2


def test_another_seed_gives_other_masks():
    docs = documents(*[50] * 10)
    found = [all_rows(docs, seed=seed).labels.tolist() for seed in (0, 1)]
    assert found[0] != found[1]


@pytest.mark.tier2
def test_the_masks_of_a_step_do_not_depend_on_how_it_is_cut():
    steps = []
    for batch_size, accumulation in [(8, 1), (2, 4), (1, 8)]:
        source = batches(batch_size, accumulation=accumulation)
        assert source.rows % 8 != 0  # else every way of counting epochs is right
        parts = [content(source.batch(i)) for i in range(3 * source.steps_per_epoch)]
        groups = [parts[i : i + accumulation] for i in range(0, len(parts), accumulation)]
        steps.append([{k: v for part in group for k, v in part.items()} for group in groups])
    assert steps[0] == steps[1] == steps[2]
    assert len(steps[0]) == 3 * (batches().rows // 8)


def test_what_is_hidden_in_a_row_does_not_depend_on_the_rows_beside_it():
    rows = MaskedRows(documents(*range(20)), seq_len=10, tokens=TOKENS, share=0.15)
    every = content(rows.gather(np.arange(rows.count), seed=3, purpose="test", epoch=5))
    for row in range(rows.count):
        alone = rows.gather(np.array([row]), seed=3, purpose="test", epoch=5)
        assert content(alone) == {row: every[row]}


def test_what_models_are_measured_on_is_the_same_whatever_the_batch():
    rows = MaskedRows(documents(*range(20)), seq_len=10, tokens=TOKENS, share=0.15)
    found = [
        {k: v for batch in rows.in_order(size, seed=1) for k, v in content(batch).items()}
        for size in (1, 3, 64)
    ]
    assert found[0] == found[1] == found[2]
    assert list(found[1]) == list(range(rows.count))


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, 1, -0.1, math.nan])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ConfigError, match="share of hidden tokens"):
        MaskedRows(documents(9), seq_len=10, tokens=TOKENS, share=share)


def test_rows_without_room_for_a_token_are_refused():
    with pytest.raises(ConfigError, match="seq_len 2 leaves no token between the 2"):
        MaskedRows(documents(9), seq_len=2, tokens=TOKENS, share=0.15)


def test_too_few_rows_for_a_step_are_refused():
    with pytest.raises(ConfigError, match="make 4 rows of 10, fewer than the 6 of one step"):
        MaskedBatches(
            documents(9, 9),
            seq_len=10,
            batch_size=2,
            seed=0,
            tokens=TOKENS,
            share=0.15,
            accumulation=3,
        )


def test_batches_before_the_first_are_refused():
    with pytest.raises(ConfigError, match="position -1 is negative"):
        batches().batch(-1)


def test_batches_without_rows_are_refused():
    with pytest.raises(ConfigError, match="batch_size 0"):
        batches(0)
