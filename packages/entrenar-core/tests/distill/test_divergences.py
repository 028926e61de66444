"""The divergences between teacher and student: what each one is, and what holds for all of them."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entrenar_common.errors import ConfigError
from entrenar_core import kernels
from entrenar_core.distill import DIVERGENCES, Divergence
from entrenar_core.testing import difference

ROWS, WIDTH, TEACHER, SHARED = 4, 17, 15, 13
TARGETS = np.array([3, -100, 16, 0])
VALID = TARGETS >= 0
DTYPES = ("float32", "float64")
FEW = (None, 1, 5)

each = pytest.mark.parametrize("name", DIVERGENCES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def logits(dtype="float64", spread=2.0):
    rng = np.random.default_rng(3)
    return tuple(
        (rng.standard_normal((ROWS, width)) * spread).astype(dtype) for width in (WIDTH, TEACHER)
    )


def apart(student, teacher, divergence, *, alpha=1.0, scale=1.0, targets=TARGETS, shared=SHARED):
    """Losses, divergences and the gradient; what is given stays as it is."""
    z = student.copy()
    ce, value, _ = kernels.distillation_grad(
        z, teacher.copy(), targets, divergence=divergence, alpha=alpha, shared=shared, scale=scale
    )
    return ce, value, z


# --- each one is what its definition says -----------------------------------------------------


def in_torch(t, name, p, q, w):
    """Of distributions (N, n), from the formulas; no logarithm but that of a probability."""

    def kl(a, b):
        return (a * (a / b).log()).sum(-1)

    if name == "jsd":
        m = w * p + (1 - w) * q
        return (w * kl(p, m) + (1 - w) * kl(q, m)) / (w * (1 - w))
    log_ratio = p.log() - q.log()
    return {
        "forward_kl": lambda: kl(p, q),
        "reverse_kl": lambda: kl(q, p),
        "symmetric": lambda: w * kl(p, q) + (1 - w) * kl(q, p),
        "skewed_forward_kl": lambda: kl(p, w * p + (1 - w) * q),
        "skewed_reverse_kl": lambda: kl(q, (1 - w) * p + w * q),
        "tvd": lambda: (p - q).abs().sum(-1) / 2,
        "mse": lambda: log_ratio.var(-1, unbiased=False),
    }[name]()


@pytest.mark.parity
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("top_k", FEW)
@each
def test_value_and_gradient_are_those_of_torch(name, top_k, temperature):
    torch = pytest.importorskip("torch")
    student, teacher = logits()
    chosen = Divergence(name, temperature, beta=0.3, skew=0.2, top_k=top_k)
    alpha, scale = 0.6, 0.25
    ce, value, gradient = apart(student, teacher, chosen, alpha=alpha, scale=scale)

    z = torch.tensor(student, requires_grad=True)
    p = torch.softmax(torch.tensor(teacher)[:, :SHARED] / temperature, -1)
    q = torch.softmax(z[:, :SHARED] / temperature, -1)
    if top_k is not None:
        ids = p.topk(top_k, -1).indices
        p, q = (x.gather(-1, ids) for x in (p, q))
        p, q = (torch.cat([x, 1 - x.sum(-1, keepdim=True)], -1) for x in (p, q))
    weight = {"beta": 0.3, "skew": 0.2, None: 0.0}[DIVERGENCES[name].weight]
    found = in_torch(torch, name, p, q, weight)
    hard = torch.nn.functional.cross_entropy(z, torch.tensor(TARGETS), reduction="none")
    squared = 1.0 if name == "mse" else temperature**2
    loss = alpha * squared * found + (1 - alpha) * hard
    (scale * loss[torch.tensor(VALID)].sum()).backward()
    assert difference(value[VALID], found.detach().numpy()[VALID]) <= 1e-8
    assert difference(ce, hard.detach().numpy()) <= 1e-8
    assert difference(gradient, z.grad.numpy()) <= 1e-8


@pytest.mark.parametrize("top_k", FEW)
@each
def test_the_gradient_is_that_of_the_value(name, top_k):
    """Central differences of the loss that is logged: T² is in both, or in neither."""
    student, teacher = logits()
    chosen = Divergence(name, 2.5, beta=0.3, skew=0.2, top_k=top_k)
    u, step = np.random.default_rng(5).standard_normal(student.shape), 1e-6

    def loss(z):
        ce, value, _ = apart(z, teacher, chosen)
        return (0.6 * chosen.factor * value + 0.4 * ce).sum()

    _, _, gradient = apart(student, teacher, chosen, alpha=0.6)
    pushed = (loss(student + step * u) - loss(student - step * u)) / (2 * step)
    assert pushed == pytest.approx((gradient * u).sum(), rel=1e-6)


@each
def test_the_factor_is_the_squared_temperature_but_for_mse(name):
    assert Divergence(name, 3.0).factor == (1.0 if name == "mse" else 9.0)


@pytest.mark.parametrize("name", sorted(DIVERGENCES.keys() - {"tvd", "mse"}))
def test_a_higher_temperature_leaves_the_size_of_the_gradient(name):
    student, teacher = logits()
    sizes = [np.abs(apart(student, teacher, Divergence(name, t))[2]).max() for t in (100.0, 1000.0)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


# --- ends of a weight's range -----------------------------------------------------------------


ENDS = [
    ("jsd", {"beta": 0.0}, "forward_kl"),
    ("jsd", {"beta": 1.0}, "reverse_kl"),
    ("symmetric", {"beta": 1.0}, "forward_kl"),
    ("symmetric", {"beta": 0.0}, "reverse_kl"),
    ("skewed_forward_kl", {"skew": 0.0}, "forward_kl"),
    ("skewed_reverse_kl", {"skew": 0.0}, "reverse_kl"),
]


@each_dtype
@pytest.mark.parametrize(("name", "weight", "limit"), ENDS)
def test_the_end_of_a_range_is_its_limit(name, weight, limit, dtype):
    for found, wanted in zip(
        apart(*logits(dtype), Divergence(name, 2.0, **weight)),
        apart(*logits(dtype), Divergence(limit, 2.0)),
        strict=True,
    ):
        assert np.array_equal(found, wanted)


@each_dtype
@pytest.mark.parametrize(("name", "weight", "limit"), ENDS)
def test_near_the_end_of_a_range_it_is_nearly_the_limit(name, weight, limit, dtype):
    """It goes there in proportion to the weight, and does not jump."""
    ((key, end),) = weight.items()
    wanted = apart(*logits(dtype), Divergence(limit, 2.0))[1:]
    far, near = (
        [
            difference(found, exact)
            for found, exact in zip(
                apart(*logits(dtype), Divergence(name, 2.0, **{key: abs(end - distance)}))[1:],
                wanted,
                strict=True,
            )
        ]
        for distance in (1e-3, 1e-4)
    )
    for at_1e_3, at_1e_4 in zip(far, near, strict=True):
        assert at_1e_4 <= 0.01
        assert at_1e_4 == pytest.approx(at_1e_3 / 10, rel=0.1)


# --- what holds for all -----------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("top_k", FEW)
@each
def test_of_a_teacher_and_itself_it_is_exactly_zero_and_pulls_nowhere(name, top_k, dtype):
    rng = np.random.default_rng(0)
    z = (rng.standard_normal((ROWS, 1003)) * 4).astype(dtype)
    chosen = Divergence(name, 1.7, top_k=top_k)
    _, value, gradient = apart(z, z, chosen, shared=1003)
    assert not value.any()
    assert np.abs(gradient).max() <= np.finfo(dtype).eps


ELEMENTS = {
    "float32": st.floats(-50, 50, width=32),
    "float64": st.floats(-50, 50),
}


@pytest.mark.tier2
@each_dtype
@each
def test_it_is_never_negative_and_one_outcome_for_many_never_raises_it(name, dtype):
    """The second is the inequality of data processing, for all but mse, which knows no mass."""
    arrays = hnp.arrays(dtype, (1, 9), elements=ELEMENTS[dtype])

    @settings(max_examples=30, deadline=None)
    @given(arrays, arrays, st.floats(0, 0.99), st.floats(0.2, 5.0), st.integers(1, 8))
    def holds(z, y, weight, temperature, top_k):
        chosen = Divergence(name, temperature, beta=weight, skew=weight)
        found = [
            apart(z, y, dataclasses.replace(chosen, top_k=k), targets=np.array([2]), shared=9)[1][0]
            for k in (None, top_k)
        ]
        assert np.isfinite(found).all()
        assert min(found) >= 0
        if name != "mse":
            assert found[1] <= found[0] * (1 + 1e-3) + 100 * np.finfo(dtype).eps * temperature**-1

    holds()


@each_dtype
@pytest.mark.parametrize("top_k", [None, 5])
@each
def test_a_shift_of_all_logits_of_a_row_changes_nothing(name, top_k, dtype):
    student, teacher = logits(dtype)
    chosen = Divergence(name, 2.0, top_k=top_k)
    whole = apart(student, teacher, chosen)
    shifted = apart(student + student.dtype.type(4), teacher - teacher.dtype.type(8), chosen)
    for found, wanted in zip(shifted, whole, strict=True):
        assert difference(found, wanted) <= 100 * np.finfo(dtype).eps


@each_dtype
@each
def test_ignored_rows_and_ids_that_are_not_shared_have_no_part(name, dtype):
    student, teacher = logits(dtype)
    chosen = Divergence(name, 2.0, top_k=5)
    _, value, gradient = apart(student, teacher, chosen)
    assert value[~VALID] == 0
    assert not gradient[~VALID].any()
    assert not gradient[:, SHARED:].any()
    student[~VALID], teacher[~VALID] = 7, -7
    student[:, SHARED:], teacher[:, SHARED:] = 50, 60
    _, again, changed = apart(student, teacher, chosen)
    assert np.array_equal(again, value)
    assert np.array_equal(changed, gradient)


# --- the likeliest ids and the rest -----------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("top_k", [SHARED, SHARED - 1])
@each
def test_a_rest_of_one_id_or_none_is_as_if_all_counted(name, top_k, dtype):
    whole = apart(*logits(dtype), Divergence(name, 2.0))
    few = apart(*logits(dtype), Divergence(name, 2.0, top_k=top_k))
    for found, wanted in zip(few, whole, strict=True):
        assert difference(found, wanted) <= 20 * np.finfo(dtype).eps


@each_dtype
@each
def test_one_id_and_the_rest_are_a_loss_that_pulls(name, dtype):
    _, value, gradient = apart(*logits(dtype), Divergence(name, 2.0, top_k=1))
    assert value[VALID].min() > 0
    assert np.abs(gradient[VALID]).max(axis=1).min() > 0


@each_dtype
def test_of_equally_likely_ids_the_first_count(dtype):
    student, teacher = logits(dtype)
    teacher[...] = 1
    teacher[:, 6] = 2
    found = apart(student, teacher, Divergence("forward_kl", top_k=3))
    teacher[:, [0, 1]] += teacher.dtype.type(1e-6)
    wanted = apart(student, teacher, Divergence("forward_kl", top_k=3))
    for one, other in zip(found, wanted, strict=True):
        assert difference(one, other) <= 1e-5


# --- logits that are hard on arithmetic -------------------------------------------------------


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@each_dtype
@pytest.mark.parametrize("top_k", [None, 1, 5])
@pytest.mark.parametrize("impossible", [-np.inf, -1e4])
def test_a_teacher_that_is_sure_gives_the_closed_forms(impossible, top_k, dtype):
    student, teacher = logits(dtype)
    teacher[...] = impossible
    teacher[:, 4] = 0
    q = softmax(student[:, :SHARED].astype(np.float64))[VALID, 4]

    def value(name, **weights):
        return apart(student, teacher, Divergence(name, top_k=top_k, **weights))[1][VALID]

    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert value("forward_kl") == pytest.approx(-np.log(q), rel=tolerance)
    assert value("tvd") == pytest.approx(1 - q, rel=tolerance)
    m = 0.3 + 0.7 * q
    jsd = -0.3 * np.log(m) + 0.7 * (q * np.log(q / m) - (1 - q) * np.log(0.7))
    assert value("jsd", beta=0.3) == pytest.approx(jsd / 0.21, rel=tolerance)
    skewed = -np.log(0.2 + 0.8 * q)
    assert value("skewed_forward_kl", skew=0.2) == pytest.approx(skewed, rel=tolerance)
    skewed = q * np.log(q / (0.8 + 0.2 * q)) - (1 - q) * np.log(0.2)
    assert value("skewed_reverse_kl", skew=0.2) == pytest.approx(skewed, rel=tolerance)


@each_dtype
@pytest.mark.parametrize("top_k", [None, 5])
@pytest.mark.parametrize("name", ["reverse_kl", "symmetric"])
def test_reverse_kl_is_infinite_where_the_teacher_excludes_an_id(name, top_k, dtype):
    student, teacher = logits(dtype)
    teacher[:, 4:] = -np.inf
    with np.errstate(invalid="ignore"):
        _, value, _ = apart(student, teacher, Divergence(name, top_k=top_k))
    assert np.isposinf(value[VALID]).all()


@each_dtype
@pytest.mark.parametrize("top_k", FEW)
@each
def test_logits_of_ten_thousand_give_finite_losses_and_gradients(name, top_k, dtype):
    rng = np.random.default_rng(0)
    student, teacher = (rng.choice([-1e4, 0, 1e4], (ROWS, SHARED)).astype(dtype) for _ in range(2))
    found = apart(student, teacher, Divergence(name, top_k=top_k), targets=np.zeros(ROWS, int))
    assert all(np.isfinite(array).all() for array in found)
    assert (found[1] >= 0).all()


# --- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"temperature": 0.0}, "temperature 0.0 is out of range"),
        ({"temperature": np.inf}, "temperature inf is out of range"),
        ({"beta": 1.1}, "beta 1.1 is out of range"),
        ({"skew": 1.0}, "skew 1.0 is out of range"),
        ({"top_k": 0}, "top_k 0 is out of range"),
    ],
)
def test_a_number_that_means_nothing_is_refused(wrong, text):
    with pytest.raises(ConfigError, match=text) as caught:
        Divergence("jsd", **wrong)
    assert caught.value.hint


def test_an_unknown_divergence_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="no divergence 'reverse_lk'") as caught:
        Divergence("reverse_lk")
    assert caught.value.hint == "did you mean reverse_kl?"
