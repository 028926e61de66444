"""Learning from a teacher of whom some ids are known: beside one of whom all are, and torch."""

import numpy as np
import pytest

from entrenar_core import kernels
from entrenar_core.distill import DIVERGENCES, Divergence
from entrenar_core.testing import difference

ROWS, WIDTH, SHARED = 5, 17, 13
TARGETS = np.array([3, -100, 16, 0, 5])
VALID = TARGETS >= 0
COUNTS = np.array([4, 0, 1, 12, 13])
"""Some ids, none where none is asked for, one, all but one, all."""

each = pytest.mark.parametrize("name", sorted(DIVERGENCES.keys() - {"mse"}))
each_dtype = pytest.mark.parametrize(("dtype", "bound"), [("float32", 2e-6), ("float64", 1e-13)])


def logits(dtype="float64", spread=2.0):
    rng = np.random.default_rng(3)
    return tuple(
        (rng.standard_normal((ROWS, width)) * spread).astype(dtype) for width in (WIDTH, SHARED)
    )


def known(teacher, counts, temperature):
    """The likeliest ids of each row with their log p, and what the others have: from softmax."""
    wide = teacher.astype(np.float64) / temperature
    p = np.exp(wide) / np.exp(wide).sum(axis=-1, keepdims=True)
    order = np.argsort(-wide, axis=-1, kind="stable")
    mask = np.arange(SHARED) < np.asarray(counts)[:, None]
    kept = np.take_along_axis(p, order, axis=-1)
    rest = np.where(mask, 0, kept).sum(axis=-1)
    with np.errstate(divide="ignore"):
        return {
            "ids": order[mask].astype(np.int32),
            "log_p": np.log(kept[mask]).astype(teacher.dtype),
            "offsets": np.concatenate([[0], np.cumsum(counts)]),
            "tails": np.log(rest).astype(teacher.dtype),
        }


def apart(student, found, divergence, *, alpha=0.6, scale=0.25, targets=TARGETS):
    """Losses, divergences, agreement and the gradient; what is given stays as it is."""
    z = student.copy()
    return *kernels.sparse_distillation_grad(
        z, *found.values(), targets, divergence=divergence, alpha=alpha, shared=SHARED, scale=scale
    ), z


def apart_live(student, teacher, divergence):
    z = student.copy()
    return *kernels.distillation_grad(
        z, teacher.copy(), TARGETS, divergence=divergence, alpha=0.6, shared=SHARED, scale=0.25
    ), z


@each_dtype
@each
def test_all_ids_give_what_a_live_teacher_gives(name, dtype, bound):
    student, teacher = logits(dtype)
    chosen = Divergence(name, 2.0, beta=0.3, skew=0.2)
    found = apart(student, known(teacher, [SHARED] * ROWS, 2.0), chosen)
    for ours, theirs in zip(found, apart_live(student, teacher, chosen), strict=True):
        assert difference(ours, theirs) <= bound


@each_dtype
@pytest.mark.parametrize("k", [1, 4, 12])
@each
def test_k_ids_give_what_top_k_of_a_live_teacher_gives(name, k, dtype, bound):
    student, teacher = logits(dtype)
    chosen = Divergence(name, 2.0, beta=0.3, skew=0.2, top_k=k)
    found = apart(student, known(teacher, [k] * ROWS, 2.0), chosen)
    for ours, theirs in zip(found, apart_live(student, teacher, chosen), strict=True):
        assert difference(ours, theirs) <= bound


def in_torch(name, p, q, w):
    """Of outcomes (n,) that all have some probability, from the formulas."""

    def kl(a, b):
        return (a * (a / b).log()).sum()

    if name == "jsd":
        m = w * p + (1 - w) * q
        return (w * kl(p, m) + (1 - w) * kl(q, m)) / (w * (1 - w))
    return {
        "forward_kl": lambda: kl(p, q),
        "reverse_kl": lambda: kl(q, p),
        "symmetric": lambda: w * kl(p, q) + (1 - w) * kl(q, p),
        "skewed_forward_kl": lambda: kl(p, w * p + (1 - w) * q),
        "skewed_reverse_kl": lambda: kl(q, (1 - w) * p + w * q),
        "tvd": lambda: (p - q).abs().sum() / 2,
    }[name]()


@pytest.mark.parity
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@each
def test_value_and_gradient_are_those_of_torch(name, temperature):
    torch = pytest.importorskip("torch")
    student, teacher = logits()
    chosen = Divergence(name, temperature, beta=0.3, skew=0.2)
    ce, value, agreed, gradient = apart(student, known(teacher, COUNTS, temperature), chosen)

    z = torch.tensor(student, requires_grad=True)
    weight = {"beta": 0.3, "skew": 0.2, None: 0.0}[DIVERGENCES[name].weight]
    total = 0
    for i in np.flatnonzero(VALID):
        p = torch.softmax(torch.tensor(teacher[i]) / temperature, -1)
        q = torch.softmax(z[i, :SHARED] / temperature, -1)
        ids = p.topk(int(COUNTS[i])).indices
        left = torch.ones(SHARED, dtype=torch.bool).scatter(0, ids, False)
        more = [left] if left.any() else []
        sides = [torch.cat([x[ids], *(x[m].sum()[None] for m in more)]) for x in (p, q)]
        apart_by = in_torch(name, *sides, weight)
        hard = torch.nn.functional.cross_entropy(z[i], torch.tensor(TARGETS[i]))
        total = total + 0.25 * (0.6 * temperature**2 * apart_by + 0.4 * hard)
        assert value[i] == pytest.approx(apart_by.item(), rel=1e-9)
        assert ce[i] == pytest.approx(hard.item(), rel=1e-9)
        assert agreed[i] == (p.argmax() == q.argmax())
    total.backward()
    assert difference(gradient, z.grad.numpy()) <= 1e-9


@each
def test_the_gradient_is_that_of_the_value(name):
    """Central differences of the loss that is logged."""
    student, teacher = logits()
    chosen, found = Divergence(name, 2.5, beta=0.3, skew=0.2), known(teacher, COUNTS, 2.5)
    u, step = np.random.default_rng(5).standard_normal(student.shape), 1e-6

    def loss(z):
        ce, value, _, _ = apart(z, found, chosen)
        return 0.25 * (0.6 * chosen.factor * value + 0.4 * ce).sum()

    *_, gradient = apart(student, found, chosen)
    pushed = (loss(student + step * u) - loss(student - step * u)) / (2 * step)
    assert pushed == pytest.approx((gradient * u).sum(), rel=1e-6)


@each_dtype
def test_rows_without_a_target_have_no_part(dtype, bound):
    student, teacher = logits(dtype)
    *found, gradient = apart(student, known(teacher, COUNTS, 1.0), Divergence())
    assert [part[1] for part in found] == [0, 0, 0]
    assert not gradient[1].any()


@each_dtype
@each
def test_a_student_that_is_its_teacher_has_nothing_to_learn(name, dtype, bound):
    student, teacher = logits(dtype)
    student[:, :SHARED] = teacher
    found = known(teacher, COUNTS, 2.0)
    _, value, agreed, gradient = apart(student, found, Divergence(name, 2.0), alpha=1.0)
    assert agreed.tolist() == VALID.tolist()
    assert np.abs(value).max() <= bound
    if name != "tvd":  # which has a kink there
        assert np.abs(gradient).max() <= bound
