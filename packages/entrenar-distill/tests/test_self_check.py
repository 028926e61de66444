"""Each check of a loss passes for the losses that there are, and fails for one that is broken in
the way that it is about."""

from dataclasses import replace

import numpy as np
import pytest

from entrenar_core.autograd import Tensor
from entrenar_core.data.batches import IGNORED, Batch, Batches
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.distill import Distillation, LiveTeacher
from entrenar_core.kernels.divergences import Divergence
from entrenar_core.testing import tiny_llama, tiny_model
from entrenar_core.train.objective import LanguageModelling
from entrenar_distill.check import Status
from entrenar_distill.self_check import CHECKS, self_check
from entrenar_distill.self_check_causality import causality, labels
from entrenar_distill.self_check_division import accumulation, padding
from entrenar_distill.self_check_mask import mask
from entrenar_distill.self_check_match import match
from entrenar_distill.self_check_packing import boundaries, packing
from entrenar_distill.self_check_slope import slope
from entrenar_distill.self_check_subject import Subject, first_rows, in_float64

EOS, LENGTH = 60, 16


def documents() -> TokenizedDocuments:
    """Ten documents of 5 to 14 random ids."""
    rng = np.random.default_rng(3)
    ids = [rng.integers(0, EOS, size=5 + i).astype(np.int32) for i in range(10)]
    return TokenizedDocuments.from_arrays([f"d{i}" for i in range(10)], ids, [9] * 10)


def rows(**settings) -> Batches:
    found = {"seq_len": LENGTH, "batch_size": 2, "seed": 0, "eos_id": EOS, **settings}
    return Batches(documents(), **found)


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A small student and teacher with the loss that is run, at T = 3."""
    batches = rows()
    student = tiny_llama(seed=1, dtype="float64", num_hidden_layers=1)
    teacher = tiny_llama(seed=2, dtype="float64", num_hidden_layers=1)
    teacher.freeze()
    batch = first_rows(batches.batch, batches.rows, count=4, tokens=LENGTH)
    return Subject(student, (teacher,), whole(), whole(), batch)


def whole(kind=Distillation, **settings):
    divergence = Divergence(**{"temperature": 3.0, **settings})

    def make(student, teachers):
        (teacher,) = teachers
        shared = teacher.config.vocab_size
        live = LiveTeacher(teacher, shared=shared)
        return kind(student, live, divergence=divergence, alpha=0.6)

    return make


def broken(subject, kind) -> Subject:
    return replace(subject, objective=whole(kind), logits=whole(kind))


def failed(checks) -> set[str]:
    return {check.name for check in checks if check.status is Status.PROBLEM}


# --- losses as they are -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{}, {"name": "reverse_kl"}, {"name": "jsd", "top_k": 4}, {"name": "mse"}],
    ids=["forward", "reverse", "jsd of the likeliest", "mse"],
)
def test_losses_that_are_run_pass_every_check(subject, settings):
    found = self_check(replace(subject, objective=whole(**settings), logits=whole(**settings)))
    assert [check.name for check in found if check.status is not Status.OK] == []


def test_a_loss_with_kinks_passes_with_its_own_bound(subject):
    settings = {"name": "tvd"}
    kinked = replace(subject, objective=whole(**settings), logits=whole(**settings), smooth=False)
    assert failed(slope(kinked)) == set()


@pytest.mark.parametrize("kind", ["mistral", "gpt2"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_models_in_float32_pass_with_the_bounds_of_float32(subject, check, kind):
    student, teacher = (tiny_model(kind, seed=seed) for seed in (1, 2))
    teacher.freeze()
    single = replace(subject, student=student, teachers=(teacher,))
    assert not single.double
    assert failed(check(single)) == set()


def test_a_loss_that_does_not_say_its_divergence_is_not_checked_for_it(subject):
    plain = replace(subject, logits=lambda student, _teacher: LanguageModelling(student))
    assert {check.status for check in match(plain)} == {Status.SKIPPED}


def test_a_copy_in_float64_says_the_same_and_trains_the_same():
    model = tiny_llama(seed=1, num_hidden_layers=1)
    model.parameters()[0].requires_grad = False
    copy, ids = in_float64(model), np.arange(12).reshape(2, 6)
    assert copy.dtype == np.float64
    assert np.abs(copy(ids).numpy() - model(ids).numpy()).max() < 1e-4
    assert [p.requires_grad for p in copy.parameters()] == [
        p.requires_grad for p in model.parameters()
    ]
    assert model.dtype == np.float32


# --- losses that are broken -------------------------------------------------------------------


def rolled(batch: Batch, by: int) -> Batch:
    return replace(batch, ids=np.roll(batch.ids, by, axis=1))


class OfTheNextPosition(Distillation):
    """The teacher is asked one position too late."""

    def loss(self, batch, normalizer):
        told = self.teacher.expected(rolled(batch, -1))
        return self.loss_of(self.student.hidden(batch.ids), told, batch, normalizer)


def test_a_teacher_that_is_shifted_by_one_does_not_match_itself(subject):
    assert {"self_divergence", "self_everywhere"} <= failed(
        match(broken(subject, OfTheNextPosition))
    )


class WithoutTheFirst(Distillation):
    """What the teacher says at the first position is lost: the mean hardly shows it."""

    def loss(self, batch, normalizer):
        hidden = np.array(self.teacher.model.hidden(batch.ids).data)
        hidden[0, 0] *= 1 + 1e-2
        told = self.teacher.expected_of(Tensor(hidden), batch)
        return self.loss_of(self.student.hidden(batch.ids), told, batch, normalizer)


def test_one_position_that_does_not_match_is_enough(subject):
    assert {"self_everywhere", "self_first"} <= failed(match(broken(subject, WithoutTheFirst)))


class SeesTheNext(Distillation):
    """Label t is compared with what the student says at t + 1, where it has seen it."""

    def loss(self, batch, normalizer):
        ahead = self.student.hidden(rolled(batch, -1).ids)
        return self.loss_of(ahead, self.teacher.expected(batch), batch, normalizer)


class SeesThePrevious(Distillation):
    """Label t is compared with what the student says at t − 1."""

    def loss(self, batch, normalizer):
        behind = self.student.hidden(rolled(batch, 1).ids)
        told = self.teacher.expected(rolled(batch, 1))
        return self.loss_of(behind, told, batch, normalizer)


def test_a_loss_that_is_shifted_by_one_sees_what_comes_later(subject):
    assert "causal_loss" in failed(causality(broken(subject, SeesTheNext)))


def test_a_loss_that_is_shifted_back_by_one_does_not_see_its_token(subject):
    assert "causal_newest" in failed(causality(broken(subject, SeesThePrevious)))


class MeanOfMeans(Distillation):
    """Each micro-batch is divided by its own tokens, as many trainers do."""

    def begin(self, step, batches):
        self.parts_of_step = len(batches)

    def loss(self, batch, normalizer):
        del normalizer
        return super().loss(batch, batch.targets * self.parts_of_step)


def test_a_mean_of_the_means_of_micro_batches_is_not_the_mean(subject):
    found = failed(accumulation(broken(subject, MeanOfMeans)))
    assert found == {"accumulation_2", "accumulation_4"}


class WithoutSquaredTemperature(Distillation):
    """The value has its factor T², the gradient has not."""

    def loss_of(self, found, expected, batch, normalizer):
        value = super().loss_of(found, expected, batch, normalizer)
        alpha, factor = self.alpha, self.divergence.factor
        # s·(a·F·D + (1 − a)·CE) = alpha·D + (1 − alpha)·CE
        self.alpha = alpha / (alpha + factor * (1 - alpha))
        scale = alpha / (self.alpha * factor)
        flat = super().loss_of(found, expected, batch, normalizer) * scale
        self.alpha = alpha
        return flat + Tensor(np.asarray(value.item() - flat.item()))


class HalfAsSteep(Distillation):
    """The gradient lacks a factor that the value has."""

    def loss(self, batch, normalizer):
        value = super().loss(batch, normalizer)
        return value * 0.5 + Tensor(np.asarray(0.5 * value.item()))


@pytest.mark.parametrize("kind", [WithoutSquaredTemperature, HalfAsSteep])
def test_a_gradient_of_another_loss_is_not_that_of_its_differences(subject, kind):
    found = failed(slope(broken(subject, kind)))
    assert found == {"gradient_head", "gradient_weights"}


def mask_shifted(by: int):
    class MaskOffByOne(Distillation):
        """What has a label is learned from one position beside."""

        def loss(self, batch, normalizer):
            valid = np.roll(batch.labels != IGNORED, by, axis=1)
            filled = np.where(batch.labels == IGNORED, 0, batch.labels)
            moved = replace(batch, labels=np.where(valid, filled, IGNORED))
            return super().loss(moved, normalizer)

    return MaskOffByOne


@pytest.mark.parametrize("by", [-1, 1])
def test_a_mask_that_is_off_by_one_is_seen_on_either_side(subject, by):
    assert failed(mask(broken(subject, mask_shifted(by)))) == {"mask_poison", "mask_reach"}


class PerPosition(Distillation):
    """The loss is divided by all positions, those of padding too."""

    def loss(self, batch, normalizer):
        return super().loss(batch, batch.labels.size)


def test_a_loss_that_counts_padding_changes_with_it(subject):
    assert "padding_right" in failed(padding(broken(subject, PerPosition)))


class Stand:
    """A student that is `model` but for its hidden states."""

    def __init__(self, model):
        self.model = model
        self.config, self.dtype = model.config, model.dtype
        self.output_weight, self.named_parameters = model.output_weight, model.named_parameters


class SeesAll(Stand):
    def hidden(self, ids, mask=None, *, positions=None, documents=None):
        del documents
        found = self.model.hidden(ids, mask, positions=positions)
        return found + found.mean(axis=1, keepdims=True)


class SeesPadding(Stand):
    def hidden(self, ids, mask=None, *, positions=None, documents=None):
        del mask, documents
        return self.model.hidden(ids, positions=positions)


def test_a_model_that_reads_ahead_is_not_causal(subject):
    found = failed(causality(replace(subject, student=SeesAll(subject.student))))
    assert "causal_models" in found


def test_a_model_that_reads_padding_is_changed_by_it(subject):
    found = failed(padding(replace(subject, student=SeesPadding(subject.student))))
    assert found == {"padding_left"}


class Unbounded(Stand):
    def hidden(self, ids, mask=None, *, positions=None, documents=None):
        del documents
        return self.model.hidden(ids, mask, positions=positions)


@pytest.fixture(scope="module")
def bounded(subject) -> Subject:
    batches = rows(boundaries=True)
    batch = first_rows(batches.batch, batches.rows, count=4, tokens=LENGTH)
    return replace(subject, batch=batch)


def test_a_document_behind_others_is_read_as_if_it_were_alone(bounded):
    (found,) = boundaries(bounded)
    assert found.status is Status.OK


def test_a_student_that_reads_over_boundaries_is_found(bounded):
    assert failed(boundaries(replace(bounded, student=Unbounded(bounded.student)))) == {
        "boundaries"
    }


def test_a_loss_that_keeps_documents_apart_passes_the_others_too(bounded):
    checks = [check for check in CHECKS if check not in (slope, match)]
    assert [failed(check(bounded)) for check in checks] == [set()] * len(checks)


# --- rows -------------------------------------------------------------------------------------


def test_rows_and_columns_with_labels_are_chosen():
    """Nothing could be tried on prompts alone."""
    labels = np.full((6, 40), IGNORED)
    labels[4, 30:36] = labels[5, 32:39] = 1
    ids = np.zeros((6, 40), np.int64)
    one = Batch(ids, labels, np.arange(6), ids, ids)
    found = first_rows(lambda _: one, 6, count=2, tokens=10)
    assert found.row_ids.tolist() == [4, 5]
    assert found.targets == 6 + 7


@pytest.mark.parametrize(
    "settings", [{}, {"packing": False}, {"boundaries": True}], ids=["packed", "padded", "bounded"]
)
def test_labels_are_the_next_tokens_of_the_documents(settings):
    batches = rows(**settings)
    found = [labels(batches.batch(i), documents(), EOS) for i in range(batches.steps_per_epoch)]
    assert {check.status for check in found} == {Status.OK}


def test_labels_that_are_shifted_by_one_are_not():
    batch = rows().batch(0)
    shifted = replace(batch, labels=np.roll(batch.labels, 1, axis=1))
    assert labels(shifted, documents(), EOS).status is Status.PROBLEM


def test_ids_of_another_document_are_not():
    batch = rows().batch(0)
    assert batch.documents is not None
    other = replace(batch, documents=(batch.documents + 1) % 10)
    assert labels(other, documents(), EOS).status is Status.PROBLEM


def test_the_share_that_stands_behind_other_documents_is_counted():
    ids = np.zeros((1, 8), np.int64)
    owners = np.array([[4, 4, 4, 5, 5, 6, 6, 6]])
    wanted = np.where(np.arange(8) == 7, IGNORED, 1)[None]
    batch = Batch(ids, wanted, np.zeros(1, np.int64), owners, ids)
    assert packing([batch]).note.startswith("57% of 7 tokens in 1 rows")  # 4 of 7
