"""Losses of features: their gradients, what padding may not do, and what equal models cost."""

import numpy as np
import pytest

from entrenar_common.errors import ShapeError
from entrenar_core.autograd import Tensor
from entrenar_core.distill import features
from entrenar_core.distill.features import structure
from entrenar_core.testing import check_grads, difference
from feature_cases import BATCH, CASES, MASKS, TEACHER, TIME, HeadShape, normal, tensors

NAMES = [case.name for case in CASES]


def gradients(case, mask, inputs):
    loss = case.call(mask, 5, *inputs)
    loss.backward()
    return loss.item(), [x.grad for x in inputs if x.grad is not None]


@pytest.mark.parametrize("padding", ["whole", "holes"])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_gradients_are_those_of_central_differences(case, padding):
    used = case.student[:2] if case.torch == "scores" else case.student  # values are in no score
    rest = [*case.student[len(used) :], *(Tensor(x) for x in case.teacher)]
    rest = [x if isinstance(x, Tensor) else Tensor(x) for x in rest]

    def loss(*inputs):
        return case.call(MASKS[padding], 3, *inputs, *rest)

    check_grads(loss, *used, rtol=2e-6)


@pytest.mark.parametrize("padding", ["right", "left", "holes"])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_what_stands_at_padding_changes_nothing(case, padding):
    mask = MASKS[padding]
    clean, dirty = tensors(case), tensors(case)
    for tensor in dirty:
        if tensor.shape[:2] == mask.shape:
            tensor.data[~mask] = np.nan
    value, wanted = gradients(case, mask, clean)
    again, found = gradients(case, mask, dirty)
    assert again == value
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
    for gradient in found:
        if gradient.shape[:2] == mask.shape:
            assert not gradient[~mask].any()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_a_sequence_between_padding_costs_what_it_costs_alone(case, side):
    lengths = MASKS[side].sum(axis=1)
    given = tensors(case)
    whole = case.call(MASKS[side], 1, *given).item()
    alone = 0.0
    for b, n in enumerate(lengths):
        rows = MASKS[side][b : b + 1]
        cut = [
            Tensor(x.data[b : b + 1][:, rows[0]]) if x.shape[:2] == (BATCH, TIME) else x
            for x in given
        ]
        alone += case.call(np.ones((1, n), bool), 1, *cut).item()
    assert whole == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_parts_of_a_batch_add_up_to_it(case):
    mask, given = MASKS["right"], tensors(case)
    value, wanted = gradients(case, mask, given)
    parts = tensors(case)
    added = 0.0
    for b in range(BATCH):
        rows = slice(b, b + 1)
        cut = [x[rows] if x.shape[:2] == mask.shape else x for x in parts]
        loss = case.call(mask[rows], 5, *cut)
        loss.backward()
        added += loss.item()
    assert added == pytest.approx(value, rel=1e-12)
    found = [x.grad for x in parts if x.grad is not None]
    assert max(difference(a, b) for a, b in zip(found, wanted, strict=True)) <= 1e-12


@pytest.mark.parametrize("padding", MASKS)
@pytest.mark.parametrize(
    "name",
    [
        "hidden_mse", "hidden_cosine", "patient_mse", "attention_transfer",
        "attention_transfer_squared", "similarity_preserving", "distance_relation",
        "angle_relation",
    ],
)  # fmt: skip
def test_equal_hidden_states_cost_nothing(name, padding):
    states = normal("equal", BATCH, TIME, TEACHER)
    student = Tensor(states, requires_grad=True)
    loss = getattr(features, name)(student, Tensor(states), MASKS[padding], normalizer=1)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-14)
    assert np.abs(student.grad).max() < 1e-13


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    ("name", "options"), [("score_mse", {}), ("relation_divergence", {"heads": 2})]
)
def test_equal_heads_cost_nothing(name, options, causal):
    shape = HeadShape(4, 2, 3, causal)
    ours = [Tensor(x, requires_grad=True) for x in shape.arrays("equal")]
    theirs = [Tensor(x.data) for x in ours]
    loss = getattr(features, name)(
        shape.of(*ours), shape.of(*theirs), MASKS["left"], normalizer=1, **options
    )
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-14)
    assert all(x.grad is None or np.abs(x.grad).max() < 1e-13 for x in ours)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_a_batch_in_which_nothing_counts_costs_nothing(case):
    loss = case.call(np.zeros((BATCH, TIME), bool), 1, *tensors(case))
    assert loss.item() == 0


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_float32_stays_float32_and_is_close_to_float64(case):
    exact, found = tensors(case), tensors(case, dtype="float32")
    value, wanted = gradients(case, MASKS["right"], exact)
    rounded, gradient = gradients(case, MASKS["right"], found)
    assert all(x.dtype == np.float32 for x in gradient)
    assert rounded == pytest.approx(value, rel=1e-5)
    assert max(difference(a, b) for a, b in zip(gradient, wanted, strict=True)) <= 1e-4


def test_equal_tokens_of_a_sequence_have_a_finite_gradient():
    states = normal("twice", 1, 4, TEACHER)
    states[0, 1] = states[0, 0]
    for loss in (features.distance_relation, features.angle_relation):
        student = Tensor(states.astype(np.float32), requires_grad=True)
        loss(
            student, Tensor(states.astype(np.float32) ** 2), np.ones((1, 4), bool), normalizer=1
        ).backward()
        assert np.isfinite(student.grad).all()


def test_angles_in_blocks_are_the_same(monkeypatch):
    (case,) = (case for case in CASES if case.torch == "angle")
    whole, wanted = gradients(case, MASKS["whole"], tensors(case))
    monkeypatch.setattr(structure, "ANGLES", 2 * TIME**2)
    value, found = gradients(case, MASKS["whole"], tensors(case))
    assert value == pytest.approx(whole, rel=1e-13)
    assert difference(found[0], wanted[0]) <= 1e-12


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: features.hidden_mse(x, x[:, :, :3], MASKS["left"], normalizer=1), "projection"),
        (lambda x: features.hidden_cosine(x, x, MASKS["left"][:2], normalizer=1), "booleans"),
        (lambda x: features.hidden_mse(x, x, MASKS["left"] * 1, normalizer=1), "booleans"),
    ],
)
def test_features_that_do_not_fit_are_refused(call, words):
    with pytest.raises(ShapeError) as error:
        call(Tensor(normal("x", BATCH, TIME, TEACHER)))
    assert words in error.value.hint


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [("score_mse", {}, "MiniLM"), ("relation_divergence", {"heads": 5}, "divides 12")],
)
def test_heads_that_do_not_fit_are_refused(name, options, words):
    ours, theirs = HeadShape(4, 2, 3), HeadShape(2, 2, 6)
    sides = [s.of(*map(Tensor, s.arrays("x"))) for s in (ours, theirs)]
    with pytest.raises(ShapeError) as error:
        getattr(features, name)(*sides, MASKS["whole"], normalizer=1, **options)
    assert words in error.value.hint
