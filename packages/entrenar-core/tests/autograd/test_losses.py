"""The chunked losses against the same formula on whole logits, written out in float64."""

import numpy as np
import pytest

from entrenar_common.errors import ShapeError
from entrenar_core.autograd import Tensor, no_grad, ops
from entrenar_core.autograd.ops import linear_loss
from entrenar_core.distill import Divergence
from entrenar_core.testing import difference

# "The same" in float32 is 1e-6 relative; a whole loss is a sum of dozens of rounded terms.
BOUNDS = {"float32": 1e-6, "float64": 1e-12}


def log_softmax(z):
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def mean_cross_entropy(hidden, weight, labels):
    log_p = log_softmax(hidden.astype(np.float64) @ weight.astype(np.float64).T)
    valid = labels >= 0
    return -log_p[valid, labels[valid]].mean()


def mean_kl(student, teacher, labels, temperature, shared):
    log_q, log_p = (
        log_softmax((h.astype(np.float64) @ w.astype(np.float64).T)[..., :shared] / temperature)
        for h, w in (student, teacher)
    )
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)[labels >= 0].mean()


class Problem:
    def __init__(self, dtype, vocabulary=37, teacher_vocabulary=37, rows=(3, 11)):
        rng = np.random.default_rng(0)
        self.hidden = rng.standard_normal((*rows, 8)).astype(dtype)
        self.weight = rng.standard_normal((vocabulary, 8)).astype(dtype)
        self.teacher = (
            rng.standard_normal((*rows, 6)).astype(dtype),
            rng.standard_normal((teacher_vocabulary, 6)).astype(dtype),
        )
        labels = rng.integers(0, min(vocabulary, teacher_vocabulary), rows)
        self.labels = np.where(rng.random(rows) < 0.3, -100, labels)
        self.count = int((self.labels >= 0).sum())

    def cross_entropy(self):
        return ops.linear_cross_entropy(*self.inputs(), self.labels, normalizer=self.count)

    def distillation(self, temperature, alpha, shared, teacher=None):
        self.parts = ops.DistillationParts()
        return ops.linear_distillation(
            *self.inputs(), self.labels,
            expected=ops.FromHidden(*(teacher or self.teacher), shared=shared),
            divergence=Divergence(temperature=temperature), alpha=alpha,
            normalizer=self.count, parts=self.parts,
        )  # fmt: skip

    def inputs(self):
        self.leaves = [Tensor(a, requires_grad=True) for a in (self.hidden, self.weight)]
        return self.leaves

    def gradients(self, value):
        value.backward()
        return [leaf.grad for leaf in self.leaves]


@pytest.fixture(params=BOUNDS)
def dtype(request):
    return request.param


@pytest.mark.tier2
@pytest.mark.parametrize("chunk", [1, 5, 1024])
def test_cross_entropy_is_that_of_whole_logits(dtype, chunk, monkeypatch):
    monkeypatch.setattr(linear_loss, "CHUNK", chunk)
    p = Problem(dtype)
    wanted = mean_cross_entropy(p.hidden, p.weight, p.labels)
    assert difference(p.cross_entropy().item(), wanted) <= BOUNDS[dtype]


@pytest.mark.parametrize("chunk", [5, 1024])
@pytest.mark.parametrize(("smoothing", "z_loss"), [(0.2, 0.0), (0.0, 0.3), (0.2, 0.3)])
def test_smoothing_and_z_loss_are_those_of_whole_logits(
    dtype, chunk, smoothing, z_loss, monkeypatch
):
    monkeypatch.setattr(linear_loss, "CHUNK", chunk)
    p = Problem(dtype)
    options = {"label_smoothing": smoothing, "z_loss": z_loss}

    def chunked():
        return ops.linear_cross_entropy(*p.inputs(), p.labels, normalizer=p.count, **options)

    hidden, weight = (Tensor(a.astype(np.float64)) for a in (p.hidden, p.weight))
    hidden.requires_grad = weight.requires_grad = True
    whole = ops.cross_entropy(ops.linear(hidden, weight), p.labels, **options)
    whole.backward()
    value = chunked()
    assert difference(value.item(), whole.item()) <= BOUNDS[dtype]
    for found, wanted in zip(p.gradients(value), (hidden.grad, weight.grad), strict=True):
        assert difference(found, wanted) <= 2 * BOUNDS[dtype]
    with no_grad():
        assert difference(chunked().item(), whole.item()) <= BOUNDS[dtype]


def test_no_tokens_at_all_have_loss_and_gradient_zero(dtype):
    p = Problem(dtype, rows=(0, 11))
    p.count = 1
    for make in (p.cross_entropy, lambda: p.distillation(2.0, 0.5, 37)):
        value = make()
        assert value.item() == 0.0
        assert not any(gradient.any() for gradient in p.gradients(value))


@pytest.mark.parametrize("chunk", [5, 1024])
@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 0.5), (4.0, 0.9), (0.5, 1.0), (2.0, 0.0)])
@pytest.mark.parametrize(("ours", "theirs"), [(37, 37), (40, 33), (33, 40)])
def test_distillation_is_the_mixture_of_whole_logits(
    dtype, chunk, temperature, alpha, ours, theirs, monkeypatch
):
    monkeypatch.setattr(linear_loss, "CHUNK", chunk)
    p, shared = Problem(dtype, ours, theirs), min(ours, theirs)
    hard = mean_cross_entropy(p.hidden, p.weight, p.labels)
    soft = mean_kl((p.hidden, p.weight), p.teacher, p.labels, temperature, shared)
    value = p.distillation(temperature, alpha, shared).item()
    assert (
        difference(value, alpha * temperature**2 * soft + (1 - alpha) * hard) <= 3 * BOUNDS[dtype]
    )
    assert difference(p.parts.cross_entropy, hard) <= 3 * BOUNDS[dtype]
    assert difference(p.parts.divergence, soft) <= 3 * BOUNDS[dtype]


def test_agreement_is_the_share_of_equal_argmaxes(dtype):
    p = Problem(dtype, 40, 33)
    p.distillation(2.0, 0.5, 33)
    valid = p.labels >= 0
    ours = (p.hidden @ p.weight.T)[..., :33].argmax(axis=-1)
    theirs = (p.teacher[0] @ p.teacher[1].T)[..., :33].argmax(axis=-1)
    assert p.parts.agreement == pytest.approx((ours == theirs)[valid].mean())


def test_with_alpha_zero_distillation_is_cross_entropy(dtype):
    p = Problem(dtype)
    alone = p.cross_entropy()
    wanted = p.gradients(alone)
    mixed = p.distillation(3.0, 0.0, 37)
    assert difference(mixed.item(), alone.item()) <= BOUNDS[dtype]
    for found, gradient in zip(p.gradients(mixed), wanted, strict=True):
        assert difference(found, gradient) <= BOUNDS[dtype]


def test_a_student_equal_to_its_teacher_has_no_divergence_and_no_gradient(dtype):
    p = Problem(dtype)
    value = p.distillation(2.0, 1.0, 37, teacher=(p.hidden, p.weight))
    tiny = 10 * np.finfo(dtype).eps
    assert 0 <= p.parts.divergence <= tiny
    assert p.parts.agreement == 1.0
    assert max(np.abs(gradient).max() for gradient in p.gradients(value)) <= 10 * tiny


def test_the_divergence_is_never_negative(dtype):
    p = Problem(dtype)
    near = (p.hidden, p.weight * (1 + np.finfo(dtype).eps))
    p.distillation(1.0, 1.0, 37, teacher=near)
    assert p.parts.divergence >= -np.finfo(dtype).eps


def test_ids_beyond_the_shared_ones_have_no_part_in_the_divergence(dtype):
    p = Problem(dtype, 40, 40)
    first = p.gradients(p.distillation(2.0, 1.0, 33))
    p.weight[33:] += 5
    p.teacher[1][33:] -= 5
    second = p.gradients(p.distillation(2.0, 1.0, 33))
    assert np.array_equal(first[0], second[0])
    assert not second[1][33:].any()


def test_parts_of_several_calls_add_up(dtype):
    p = Problem(dtype)
    p.distillation(2.0, 0.5, 37)
    once = p.parts.divergence
    parts = ops.DistillationParts()
    for _ in range(2):
        ops.linear_distillation(
            p.hidden, p.weight, p.labels, expected=ops.FromHidden(*p.teacher, shared=37),
            divergence=Divergence(temperature=2.0), alpha=0.5,
            normalizer=p.count, parts=parts,
        )  # fmt: skip
    assert parts.divergence == pytest.approx(2 * once)


@pytest.mark.parametrize("chunk", [1, 7, 20])
def test_the_size_of_a_chunk_changes_nothing_beyond_rounding(dtype, chunk, monkeypatch):
    p = Problem(dtype)
    whole = p.gradients(p.distillation(2.0, 0.5, 37))
    whole_hard = p.gradients(p.cross_entropy())
    monkeypatch.setattr(linear_loss, "CHUNK", chunk)
    cut = p.gradients(p.distillation(2.0, 0.5, 37))
    cut_hard = p.gradients(p.cross_entropy())
    for found, wanted in zip(cut + cut_hard, whole + whole_hard, strict=True):
        assert difference(found, wanted) <= BOUNDS[dtype]


def test_a_batch_in_which_nothing_counts_has_loss_and_gradient_zero(dtype):
    p = Problem(dtype)
    p.labels[...] = -100
    p.count = 1
    for make in (p.cross_entropy, lambda: p.distillation(2.0, 0.5, 37)):
        value = make()
        assert value.item() == 0.0
        assert not any(gradient.any() for gradient in p.gradients(value))


def test_the_loss_without_a_tape_is_the_same(dtype):
    p = Problem(dtype)
    with_tape = p.cross_entropy().item()
    with no_grad():
        assert difference(p.cross_entropy().item(), with_tape) <= BOUNDS[dtype]


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_frozen_input_leaves_the_gradient_of_the_other(dtype, frozen):
    p = Problem(dtype)
    wanted = p.gradients(p.cross_entropy())[1 - frozen]
    leaves = [Tensor(a, requires_grad=i != frozen) for i, a in enumerate((p.hidden, p.weight))]
    ops.linear_cross_entropy(*leaves, p.labels, normalizer=p.count).backward()
    assert leaves[frozen].grad is None
    assert np.array_equal(leaves[1 - frozen].grad, wanted)


@pytest.mark.parametrize("label", [6, 10**6])
def test_a_label_beyond_the_vocabulary_is_an_error_that_names_it(label):
    hidden, weight = np.ones((1, 2, 4), np.float32), np.ones((6, 4), np.float32)
    with pytest.raises(ShapeError, match=str(label)):
        ops.linear_cross_entropy(hidden, weight, np.array([[0, label]]), normalizer=2)


@pytest.mark.parametrize("ids", [[[0, 6]], [[-1, 0]]])
def test_an_id_outside_the_embedding_is_an_error(ids):
    with pytest.raises(ShapeError, match="of 6 rows"):
        ops.embedding(np.ones((6, 4), np.float32), np.array(ids))


def test_a_weight_of_another_width_is_an_error_that_shows_both_shapes():
    hidden, weight = np.ones((1, 2, 4), np.float32), np.ones((6, 3), np.float32)
    with pytest.raises(ShapeError, match=r"hidden \(1, 2, 4\) and weight \(6, 3\)"):
        ops.linear_cross_entropy(hidden, weight, np.array([[0, 1]]), normalizer=2)


@pytest.mark.parametrize(
    ("teacher_hidden", "teacher_weight", "shared"),
    [
        ((1, 3, 5), (6, 5), 6),
        ((1, 2, 5), (6, 4), 6),
        ((1, 2, 5), (6, 5), 7),
        ((1, 2, 5), (6, 5), 0),
    ],
)
def test_a_teacher_that_does_not_fit_is_an_error_that_shows_its_shapes(
    teacher_hidden, teacher_weight, shared
):
    with pytest.raises(ShapeError, match=r"linear_distillation: .*teacher") as caught:
        ops.linear_distillation(
            np.ones((1, 2, 4)), np.ones((6, 4)), np.array([[0, 1]]),
            expected=ops.FromHidden(
                np.ones(teacher_hidden), np.ones(teacher_weight), shared=shared
            ),
            divergence=Divergence(), alpha=0.5, normalizer=2, parts=ops.DistillationParts(),
        )  # fmt: skip
    assert str(teacher_hidden) in str(caught.value)
    assert str(teacher_weight) in str(caught.value)
