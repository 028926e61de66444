"""Several teachers: what a mixture is made of, and who is asked about which positions."""

import dataclasses

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core.autograd import ops
from entrenar_core.autograd.ops import linear_loss
from entrenar_core.data.batches import IGNORED, Batch, Batches
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.distill import (
    Distillation,
    Divergence,
    LiveTeacher,
    MixedTeacher,
    RoutedTeacher,
)
from entrenar_core.testing import tiny_llama

IDS = np.random.default_rng(0).integers(0, 61, (2, 9))
BATCH = Batch(IDS, np.where(IDS % 4 == 0, IGNORED, np.roll(IDS, -1, axis=1)), np.arange(2))


def live(seed, *, shared=61, dtype="float64", **shape):
    return LiveTeacher(tiny_llama(seed=seed, dtype=dtype, **shape), shared=shared)


def gradients(teacher, batch=BATCH, *, name="forward_kl", alpha=1.0, normalizer=None, parts=1):
    """The loss of a student beside `teacher`, and the gradient of each of its parameters."""
    student = tiny_llama(dtype="float64")
    chosen = Divergence(name, 2.0)
    task = Distillation(student, teacher, divergence=chosen, alpha=alpha)
    total = 0.0
    for part in batch.split(parts):
        loss = task.loss(part, normalizer or batch.targets)
        loss.backward()
        total += loss.item()
    return total, {n: p.grad for n, p in student.named_parameters().items()}


def assert_close(found, wanted, *, rtol=1e-12):
    assert found[0] == pytest.approx(wanted[0], rel=rtol)
    for name, gradient in wanted[1].items():
        assert np.abs(found[1][name] - gradient).max() <= rtol * np.abs(gradient).max(), name


# --- mixed -----------------------------------------------------------------------------------


def test_the_gradient_of_forward_kl_is_the_weighted_sum_of_the_teachers_own():
    teachers, weights = [live(1), live(2, hidden_size=16), live(3)], [0.5, 0.2, 0.3]
    _, found = gradients(MixedTeacher(teachers, weights))
    alone = [gradients(teacher)[1] for teacher in teachers]
    for name, gradient in found.items():
        wanted = sum(w * g[name] for w, g in zip(weights, alone, strict=True))
        assert np.abs(gradient - wanted).max() <= 1e-12 * np.abs(wanted).max()


@pytest.mark.parametrize("name", ["forward_kl", "jsd", "mse"])
def test_two_equal_teachers_are_one(name):
    both = MixedTeacher([live(1), live(1)], [0.3, 0.7])
    assert_close(gradients(both, name=name), gradients(live(1), name=name))


def test_a_student_that_is_the_mixture_has_nothing_to_learn():
    both = MixedTeacher([live(0), live(0)], [0.5, 0.5])
    loss, found = gradients(both)
    assert loss == pytest.approx(0.0, abs=1e-13)
    assert max(np.abs(g).max() for g in found.values()) < 1e-13


def test_teachers_of_different_rows_are_compared_on_what_all_share():
    padded = tiny_llama(seed=2, dtype="float64", vocab_size=70)
    plain = tiny_llama(seed=2, dtype="float64", vocab_size=58)
    source = padded.named_parameters()
    for name, parameter in plain.named_parameters().items():
        parameter.data = source[name].data[: len(parameter.data)]
    ids = IDS % 58
    batch = Batch(ids, np.roll(ids, -1, axis=1), np.arange(2))
    first = live(1, shared=58)
    found = [
        gradients(MixedTeacher([first, LiveTeacher(model, shared=rows)], [0.5, 0.5]), batch)
        for model, rows in ((padded, 61), (plain, 58))
    ]
    assert_close(found[0], found[1])


@pytest.mark.parametrize("weights", [[0.5, 0.4], [1.5, -0.5], [1.0, 0.0]])
def test_weights_that_are_no_shares_are_refused(weights):
    with pytest.raises(ConfigError, match="must all be positive with the sum 1"):
        MixedTeacher([live(1), live(2)], weights)


def test_a_mixture_needs_a_weight_for_each():
    part = live(1).expected(BATCH)
    with pytest.raises(ShapeError, match="1 weights for 2 teachers"):
        ops.Mixed([part, part], [1.0], shared=61).check(18, 61)


def test_logits_are_made_a_chunk_at_a_time(monkeypatch):
    both = MixedTeacher([live(1), live(2)], [0.3, 0.7])
    whole = gradients(both)
    monkeypatch.setattr(linear_loss, "CHUNK", 5)
    assert_close(gradients(both), whole)


# --- routed ----------------------------------------------------------------------------------


def packed(rows=8):
    """Batches of many short documents, several in a row."""
    rng = np.random.default_rng(3)
    ids = [rng.integers(1, 61, n).astype(np.int32) for n in rng.integers(2, 9, 40)]
    docs = TokenizedDocuments.from_arrays([str(n) for n in range(40)], ids, [9] * 40)
    return docs, Batches(docs, seq_len=12, batch_size=rows, seed=0, eos_id=0).batch(0)


def of_documents(batch, chosen):
    """The batch with the labels of other documents ignored."""
    own = np.isin(batch.documents, chosen)
    return dataclasses.replace(batch, labels=np.where(own, batch.labels, IGNORED))


def test_each_document_is_learned_from_its_own_teacher():
    docs, batch = packed()
    teachers, routes = [live(1), live(2, hidden_size=16), live(3)], np.arange(len(docs)) % 3
    found = gradients(RoutedTeacher(teachers, routes), batch, alpha=0.7)
    alone = [
        gradients(
            teacher,
            of_documents(batch, np.flatnonzero(routes == n)),
            alpha=0.7,
            normalizer=batch.targets,
        )
        for n, teacher in enumerate(teachers)
    ]
    summed = {name: sum(each[1][name] for each in alone) for name in found[1]}
    assert_close(found, (sum(each[0] for each in alone), summed))


def test_one_teacher_for_all_routes_is_that_teacher():
    docs, batch = packed()
    everywhere = RoutedTeacher([live(1), live(2)], np.zeros(len(docs), int))
    assert_close(gradients(everywhere, batch), gradients(live(1), batch))


@pytest.mark.parametrize("parts", [2, 8])
def test_cutting_a_step_into_micro_batches_changes_nothing(parts):
    docs, batch = packed()
    teacher = RoutedTeacher([live(1), live(2)], np.arange(len(docs)) % 2)
    assert_close(gradients(teacher, batch, parts=parts), gradients(teacher, batch))


def test_routes_hold_across_chunks(monkeypatch):
    docs, batch = packed()
    teacher = RoutedTeacher([live(1), live(2), live(3)], np.arange(len(docs)) % 3)
    whole = gradients(teacher, batch)
    monkeypatch.setattr(linear_loss, "CHUNK", 7)
    assert_close(gradients(teacher, batch), whole)


def test_padding_is_learned_from_nobody():
    docs, _ = packed()
    batches = Batches(docs, seq_len=12, batch_size=6, seed=0, eos_id=0, packing=False)
    batch = batches.batch(0)
    assert (batch.documents < 0).any()
    teacher = RoutedTeacher([live(1), live(2)], np.arange(len(docs)) % 2)
    alone = [
        gradients(
            each,
            of_documents(batch, np.arange(n, len(docs), 2)),
            normalizer=batch.targets,
        )
        for n, each in enumerate(teacher.teachers)
    ]
    summed = {name: alone[0][1][name] + alone[1][1][name] for name in alone[0][1]}
    assert_close(gradients(teacher, batch), (alone[0][0] + alone[1][0], summed))


class Counted:
    """A teacher that notes the rows it is asked about."""

    def __init__(self, seed):
        self.teacher, self.rows = live(seed), []

    def expected(self, batch):
        self.rows += batch.row_ids.tolist()
        return self.teacher.expected(batch)


def test_a_teacher_reads_the_rows_of_its_documents_only():
    docs, _ = packed()
    batches = Batches(docs, seq_len=12, batch_size=6, seed=0, eos_id=0, packing=False)
    batch = batches.batch(0)
    routes = np.arange(len(docs)) % 2
    teachers = [Counted(1), Counted(2), Counted(3)]
    RoutedTeacher(teachers, routes).expected(batch)
    for number, teacher in enumerate(teachers):
        wanted = batch.row_ids[routes[batch.documents[:, 0]] == number]
        assert teacher.rows == wanted.tolist()
    assert not teachers[2].rows


def test_a_batch_of_no_documents_has_no_route():
    with pytest.raises(ConfigError, match="no route to a teacher"):
        RoutedTeacher([live(1)], np.zeros(1, int)).expected(BATCH)


def test_a_position_of_a_row_that_its_teacher_has_not_read_is_refused():
    part = live(1).expected(BATCH.part(slice(0, 1)))
    owners = np.zeros((3, 9), int)
    with pytest.raises(ShapeError, match="teacher 0 has not read row 1"):
        ops.Routed([part], [np.array([0])], owners).check(27, 61)
