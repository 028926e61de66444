"""How the ids of a teacher and a student are related, and what is done about other ids."""

import dataclasses
import json

import numpy as np
import pytest
import tokenizers as library

from entrenar_common.errors import ConfigError
from entrenar_core import models
from entrenar_core.data.batches import Batch
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.distill import (
    Distillation,
    Divergence,
    LiveTeacher,
    decide,
    shared_vocabulary,
)
from entrenar_core.testing import difference, tiny_llama, tiny_model
from renumbered import renumbered, renumbered_model
from tokenizer_cases import trained
from word_tokenizers import of_words


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_json(*trained(300))


@pytest.mark.parametrize(
    ("rows", "kind", "said"),
    [
        ((300, 300), "identical", "identical: 300 ids"),
        ((384, 320), "padded", "padded: 320 ids of the teacher's 384 and student's 320"),
        ((300, 320), "padded", "padded: 300 ids of the teacher's 300 and student's 320"),
    ],
)
def test_one_tokenizer_makes_one_vocabulary(tokenizer, rows, kind, said):
    found = decide(tokenizer, tokenizer, teacher_rows=rows[0], student_rows=rows[1])
    assert (found.kind, found.shared, str(found)) == (kind, min(rows), said)


def test_a_permuted_vocabulary_says_how_many_ids_are_remapped(tokenizer):
    other, new = renumbered(tokenizer)
    found = decide(other, tokenizer, teacher_rows=310, student_rows=320)
    moved = np.count_nonzero(new != np.arange(300))
    assert str(found) == f"permuted: {moved} ids remapped, 310 compared"
    assert np.array_equal(found.order(), [*new, *range(300, 310)])


def test_the_order_is_a_permutation_where_a_tokenizer_has_gaps():
    """Ids 0, 1 and 5 for the student, 0 to 2 for the teacher: rows of no token fill the gap."""
    model = library.models.WordLevel({"<unk>": 0, "a": 1, "b": 5}, unk_token="<unk>")
    inner = library.Tokenizer(model)
    inner.pre_tokenizer = library.pre_tokenizers.WhitespaceSplit()
    gaps = Tokenizer.from_json(json.loads(inner.to_str()), {})
    dense = of_words("<unk>", "b", "a")
    found = decide(dense, gaps, teacher_rows=7, student_rows=8)
    assert found.order().tolist() == [0, 2, 3, 4, 5, 1, 6]
    assert found.remapped == 2
    assert decide(dense, gaps, teacher_rows=4, student_rows=8).kind == "different"


def test_different_tokenizers_are_found_with_a_reason(tokenizer):
    other = Tokenizer.from_json(*trained(290))
    found = decide(other, tokenizer, teacher_rows=290, student_rows=300)
    assert (found.kind, found.shared) == ("different", 0)
    assert "10 tokens are in one and not in the other" in str(found)


@pytest.mark.parametrize(("rows", "whose"), [((299, 300), "teacher"), ((300, 299), "student")])
def test_a_tokenizer_with_more_ids_than_rows_is_refused(tokenizer, rows, whose):
    with pytest.raises(ConfigError, match=f"the {whose}'s embedding has 299 rows"):
        decide(tokenizer, tokenizer, teacher_rows=rows[0], student_rows=rows[1])


def test_ids_that_are_to_be_remapped_are_not_shared_yet(tokenizer):
    other, _ = renumbered(tokenizer)
    model = tiny_llama(vocab_size=300)
    assert shared_vocabulary(model, model, tokenizer, tokenizer) == 300
    with pytest.raises(ConfigError, match="tokens have other ids"):
        shared_vocabulary(model, model, other, tokenizer)


# --- a model with other ids ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_relabelled_model_computes_what_it_did_under_its_old_ids(kind, tied):
    model = tiny_model(kind, tie_word_embeddings=tied)
    before = tiny_model(kind, tie_word_embeddings=tied)
    rows = model.config.vocab_size
    order = np.random.default_rng(1).permutation(rows)
    models.relabel(model, order)
    ids = np.random.default_rng(2).integers(0, rows, (2, 7))
    assert np.array_equal(model.hidden(ids).data, before.hidden(order[ids]).data)
    # a product of matrices rounds by where a column stands
    assert difference(model(ids).data, before(order[ids]).data[..., order]) < 1e-6


def test_the_special_tokens_of_a_relabelled_model_move_along():
    model = tiny_llama()
    model.config = dataclasses.replace(model.config, bos_token_id=3, eos_token_id=[4, 5])
    order = np.roll(np.arange(61), 2)  # the new id 2 is the old 0
    models.relabel(model, order)
    assert (model.config.bos_token_id, model.config.eos_token_id) == (5, [6, 7])


@pytest.mark.parametrize("order", [np.zeros(61, int), np.arange(60)])
def test_what_is_no_permutation_is_refused(order):
    with pytest.raises(ConfigError, match="no new order of the model's 61 ids"):
        models.relabel(tiny_llama(), order)


def test_a_teacher_with_permuted_ids_teaches_the_same(tokenizer):
    """Losses, gradients and all: renumbering is undone exactly."""
    teacher = tiny_llama(vocab_size=310, seed=1)
    other, new = renumbered(tokenizer)
    moved = renumbered_model(teacher, new)
    ids = np.random.default_rng(0).integers(0, 300, (2, 9))
    batch = Batch(ids, np.roll(ids, -1, axis=1), np.arange(2))

    def outcome(model):
        student = tiny_llama(vocab_size=320)
        live = LiveTeacher(model, shared=310)
        task = Distillation(student, live, divergence=Divergence("jsd", 2.0), alpha=0.5)
        loss = task.loss(batch, batch.targets)
        loss.backward()
        return [loss.item(), *(p.grad for p in student.parameters())]

    found = decide(other, tokenizer, teacher_rows=310, student_rows=320)
    assert outcome(moved)[0] != outcome(teacher)[0]
    models.relabel(moved, found.order())
    for one, two in zip(outcome(moved), outcome(teacher), strict=True):
        assert np.array_equal(one, two)
