"""Losses of whole arrays against their formulas written out in float64, and at their edges."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core.autograd import Tensor, no_grad, ops
from entrenar_core.testing import difference

BOUNDS = {"float32": 1e-6, "float64": 1e-12}
RNG = np.random.default_rng(0)
LOGITS = 3 * RNG.standard_normal((2, 4, 7))
LABELS = np.array([[0, 6, -100, 3], [-100, 2, 2, 5]])
COUNTED = LABELS >= 0
X, Y = RNG.standard_normal((3, 5)), RNG.standard_normal((3, 5))


@pytest.fixture(params=BOUNDS)
def dtype(request):
    return request.param


def run(function, *arrays, dtype, g=1.0, **options):
    """The value, and the gradients of g times it."""
    leaves = [Tensor(np.asarray(a, dtype), requires_grad=True) for a in arrays]
    y = function(*leaves, **options)
    y.backward(np.broadcast_to(np.asarray(g), y.shape))
    return y.data, *(leaf.grad for leaf in leaves)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# --- cross-entropy -------------------------------------------------------------------------------


def cross_entropy(smoothing, z_loss):
    """Loss and gradient of every row, written out from the distribution that is aimed at."""
    z = LOGITS.astype(np.float64)
    lse = np.log(np.exp(z).sum(-1))
    aim = np.full(z.shape, smoothing / 7) + (1 - smoothing) * (np.arange(7) == LABELS[..., None])
    losses = -(aim * (z - lse[..., None])).sum(-1) + z_loss * lse**2
    gradient = softmax(z) - aim + 2 * z_loss * lse[..., None] * softmax(z)
    return losses * COUNTED, gradient * COUNTED[..., None]


@pytest.mark.parametrize(("smoothing", "z_loss"), [(0, 0), (0.1, 0), (0, 0.2), (0.3, 0.01)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_and_its_gradient_are_those_of_the_formula(
    smoothing, z_loss, reduction, dtype
):
    losses, slope = cross_entropy(smoothing, z_loss)
    g = np.arange(1.0, 9).reshape(2, 4) if reduction == "none" else np.asarray(0.7)
    value, gradient = run(
        lambda z: ops.cross_entropy(
            z, LABELS, label_smoothing=smoothing, z_loss=z_loss, reduction=reduction
        ),
        LOGITS, dtype=dtype, g=g,
    )  # fmt: skip
    reduce = {"mean": lambda x: x.sum() / 6, "sum": np.sum, "none": lambda x: x}[reduction]
    share = 1 / 6 if reduction == "mean" else 1
    assert difference(value, reduce(losses)) <= 2 * BOUNDS[dtype]
    assert difference(gradient, (g[..., None] if g.ndim else g) * share * slope) <= (
        2 * BOUNDS[dtype]
    )


def test_the_mean_is_what_is_taken_by_default(dtype):
    assert difference(run(lambda z: ops.cross_entropy(z, LABELS), LOGITS, dtype=dtype)[0],
                      cross_entropy(0, 0)[0].sum() / 6) <= BOUNDS[dtype]  # fmt: skip


def test_an_ignored_row_has_no_loss_and_no_gradient(dtype):
    labels = np.array([1, 4, 4])
    z = LOGITS[0, :3]
    value, gradient = run(
        lambda x: ops.cross_entropy(x, labels, ignore_index=4, reduction="none"), z, dtype=dtype
    )
    assert value[0] > 0
    assert value[1:].tolist() == [0, 0]
    assert not gradient[1:].any()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_batch_in_which_nothing_counts_has_loss_and_gradient_zero(reduction, dtype):
    value, gradient = run(
        lambda z: ops.cross_entropy(z, np.full((2, 4), -100), reduction=reduction),
        LOGITS, dtype=dtype,
    )  # fmt: skip
    assert value == 0
    assert not gradient.any()


def test_cross_entropy_leaves_the_logits_as_they_were():
    z = Tensor(LOGITS.copy(), requires_grad=True)
    ops.cross_entropy(z, LABELS).backward()
    assert np.array_equal(z.data, LOGITS)


@pytest.mark.parametrize("label", [-1, -99, 7, 10**6])
def test_a_label_that_is_none_is_an_error_that_shows_it(label):
    with pytest.raises(ShapeError, match=rf"label {label} for a vocabulary of 7") as caught:
        ops.cross_entropy(Tensor(LOGITS[0]), np.array([0, 1, label, -100]))
    assert caught.value.hint == "labels are 0 to 6, or -100 where there is none"


@pytest.mark.parametrize("labels", [np.zeros(3, int), np.zeros((4, 1), int), np.zeros(4)])
def test_labels_that_do_not_fit_the_logits_are_an_error(labels):
    with pytest.raises(ShapeError, match=r"targets .* for logits \(4, 7\)") as caught:
        ops.cross_entropy(Tensor(LOGITS[0]), labels)
    assert caught.value.hint == "give one integer for each row of logits, so (4,) in all"


@pytest.mark.parametrize("name", ["mse", "l1", "smooth_l1"])
def test_a_reduction_that_is_none_is_an_error_that_lists_them(name):
    with pytest.raises(ConfigError, match="'average'"):
        getattr(ops, name)(Tensor(X), Tensor(Y), reduction="average")


# --- losses of differences -----------------------------------------------------------------------

D = X - Y
SMALL = np.abs(D) < 0.8
DIFFERENCES = {
    "mse": ({}, D**2, 2 * D),
    "l1": ({}, np.abs(D), np.sign(D)),
    "smooth_l1": (
        {"beta": 0.8},
        np.where(SMALL, D**2 / 1.6, np.abs(D) - 0.4),
        np.where(SMALL, D / 0.8, np.sign(D)),
    ),
}


@pytest.mark.parametrize("name", DIFFERENCES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_loss_of_differences_is_that_of_the_formula(name, reduction, dtype):
    options, losses, slope = DIFFERENCES[name]
    function = getattr(ops, name)
    g = np.arange(15.0).reshape(3, 5) if reduction == "none" else 3.0
    value, dx, dy = run(function, X, Y, dtype=dtype, g=g, reduction=reduction, **options)
    reduce = {"mean": np.mean, "sum": np.sum, "none": lambda x: x}[reduction]
    share = 1 / 15 if reduction == "mean" else 1
    assert difference(value, reduce(losses)) <= BOUNDS[dtype]
    assert difference(dx, g * share * slope) <= 2 * BOUNDS[dtype]
    assert np.array_equal(dy, -dx)


@pytest.mark.parametrize("name", DIFFERENCES)
def test_the_mean_of_differences_is_what_is_taken_by_default(name):
    function = getattr(ops, name)
    default, mean = function(Tensor(X), Tensor(Y)), function(Tensor(X), Tensor(Y), reduction="mean")
    assert default.item() == mean.item()


@pytest.mark.parametrize("name", ["l1", "smooth_l1"])
def test_where_both_are_equal_the_gradient_is_zero(name):
    _, dx, dy = run(getattr(ops, name), X, X, dtype="float64")
    assert not dx.any()
    assert not dy.any()


@pytest.mark.parametrize(
    ("d", "loss", "slope"), [(0.5, 0.25, 1), (-0.5, 0.25, -1), (0.25, 0.0625, 0.5)]
)
def test_at_beta_smooth_l1_goes_from_a_parabola_to_a_line(d, loss, slope):
    value, dx, _ = run(ops.smooth_l1, [d], [0.0], dtype="float64", beta=0.5)
    assert (value, dx.tolist()) == (loss, [slope])


def test_smooth_l1_has_a_beta_of_one_by_default_and_none_below_zero():
    assert ops.smooth_l1(Tensor([3.0]), Tensor([0.0])).item() == 2.5
    with pytest.raises(ConfigError, match="-1"):
        ops.smooth_l1(Tensor([3.0]), Tensor([0.0]), beta=-1)


def test_smooth_l1_with_beta_zero_is_l1():
    found, wanted = (
        run(f, X, Y, dtype="float64", **options)
        for f, options in ((ops.smooth_l1, {"beta": 0}), (ops.l1, {}))
    )
    assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    "name",
    ["mse", "l1", "smooth_l1", "kl_divergence", "binary_cross_entropy",
     "binary_cross_entropy_with_logits"],
)  # fmt: skip
def test_shapes_that_would_broadcast_are_an_error_that_shows_both(name):
    with pytest.raises(ShapeError, match=rf"{name}: .*\(3, 5\), .*\(5,\)"):
        getattr(ops, name)(Tensor(np.full((3, 5), 0.5)), Tensor(np.full(5, 0.5)))


@pytest.mark.parametrize("name", ["mse", "l1", "smooth_l1", "binary_cross_entropy"])
def test_the_mean_of_no_losses_is_zero(name, dtype):
    value, dx, _ = run(getattr(ops, name), np.zeros((0, 3)), np.zeros((0, 3)), dtype=dtype)
    assert value == 0
    assert dx.shape == (0, 3)


# --- binary cross-entropy ------------------------------------------------------------------------

T = RNG.uniform(0, 1, X.shape)
P = 1 / (1 + np.exp(-X))


def test_binary_cross_entropy_and_its_gradients_are_those_of_the_formula(dtype):
    g = np.arange(15.0).reshape(3, 5)
    value, dp, dt = run(ops.binary_cross_entropy, P, T, dtype=dtype, g=g, reduction="none")
    assert difference(value, -T * np.log(P) - (1 - T) * np.log(1 - P)) <= 2 * BOUNDS[dtype]
    assert difference(dp, g * ((1 - T) / (1 - P) - T / P)) <= 3 * BOUNDS[dtype]
    assert difference(dt, g * (np.log(1 - P) - np.log(P))) <= 3 * BOUNDS[dtype]


@pytest.mark.parametrize("weight", [None, 2.5, np.array([0.5, 1, 2, 3, 4])])
def test_binary_cross_entropy_with_logits_is_that_of_their_sigmoid(weight, dtype):
    w = 1 if weight is None else weight
    g = np.arange(15.0).reshape(3, 5)
    value, dx, dt = run(
        ops.binary_cross_entropy_with_logits, X, T, dtype=dtype, g=g, reduction="none",
        pos_weight=weight,
    )  # fmt: skip
    assert difference(value, -w * T * np.log(P) - (1 - T) * np.log(1 - P)) <= 2 * BOUNDS[dtype]
    assert difference(dx, g * ((1 - T) * P - w * T * (1 - P))) <= 3 * BOUNDS[dtype]
    assert difference(dt, g * (np.log(1 - P) - w * np.log(P))) <= 3 * BOUNDS[dtype]


@pytest.mark.parametrize("name", ["binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_binary_cross_entropy_is_a_mean_by_default(name):
    function, given = getattr(ops, name), (Tensor(P), Tensor(T))
    assert function(*given).item() == pytest.approx(function(*given, reduction="none").data.mean())


def test_targets_may_be_integers(dtype):
    targets = (X > 0).astype(int)
    found = ops.binary_cross_entropy_with_logits(Tensor(Y.astype(dtype)), targets)
    wanted = ops.binary_cross_entropy_with_logits(Tensor(Y.astype(dtype)), targets.astype(dtype))
    assert found.dtype == dtype
    assert found.item() == wanted.item()


def test_a_certain_and_wrong_prediction_costs_a_hundred(dtype):
    value, dp, _ = run(
        ops.binary_cross_entropy, [0.0, 1.0, 0.0, 1.0], [1, 0, 0, 1], dtype=dtype, reduction="none"
    )
    assert value.tolist() == [100, 100, 0, 0]
    assert difference(dp, [-1e12, 1e12, 0, 0]) <= BOUNDS[dtype]


def test_large_logits_neither_overflow_nor_lose_the_loss(dtype):
    value, dx, _ = run(
        ops.binary_cross_entropy_with_logits,
        [-1000.0, 1000.0, 1000.0], [1, 0, 1], dtype=dtype, reduction="none",
    )  # fmt: skip
    assert value.tolist() == [1000, 1000, 0]
    assert difference(dx, [-1, 1, 0]) <= BOUNDS[dtype]


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_what_is_no_probability_is_an_error(p):
    with pytest.raises(ShapeError, match="between 0 and 1"):
        ops.binary_cross_entropy(Tensor([0.5, p]), Tensor([0.0, 1.0]))


# --- divergence ----------------------------------------------------------------------------------

Q, R = softmax(2 * RNG.standard_normal((2, 3, 6))), softmax(2 * RNG.standard_normal((2, 3, 6)))


@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_divergence_is_that_of_the_formula(log_target, reduction, dtype):
    g = np.arange(6.0).reshape(2, 3) if reduction == "none" else np.asarray(2.0)
    value, dq, dp = run(
        ops.kl_divergence, np.log(Q), np.log(R) if log_target else R, dtype=dtype, g=g,
        log_target=log_target, reduction=reduction,
    )  # fmt: skip
    ratio = np.log(R / Q)
    each = (R * ratio).sum(-1)
    reduce = {"mean": np.mean, "sum": np.sum, "none": lambda x: x}[reduction]
    wide = (g[..., None] if g.ndim else g) / (6 if reduction == "mean" else 1)
    assert difference(value, reduce(each)) <= 5 * BOUNDS[dtype]
    assert difference(dq, -wide * R) <= 2 * BOUNDS[dtype]
    assert difference(dp, wide * (ratio + 1) * (R if log_target else 1)) <= 5 * BOUNDS[dtype]


@pytest.mark.parametrize("log_target", [False, True])
def test_the_divergence_of_equal_distributions_is_zero(log_target, dtype):
    log_q = np.log(Q).astype(dtype)
    value, *_ = run(
        ops.kl_divergence, log_q, log_q if log_target else np.exp(log_q), dtype=dtype,
        log_target=log_target, reduction="none",
    )  # fmt: skip
    assert np.abs(value).max() <= 10 * np.finfo(dtype).eps


@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("log_q", [np.log(0.25), -np.inf])
def test_what_has_no_probability_adds_nothing(log_target, log_q):
    p = np.array([0.5, 0.0, 0.5])
    q = np.array([np.log(0.5), log_q, np.log(0.25)])
    with np.errstate(divide="ignore"):
        target = np.log(p) if log_target else p
    value, dq, dp = run(ops.kl_divergence, q, target, dtype="float64", log_target=log_target)
    assert value == pytest.approx(0.5 * np.log(2))
    assert dq.tolist() == [-0.5, 0, -0.5]
    assert dp[1] == 0
    assert np.isfinite(dp).all()


# --- similarities --------------------------------------------------------------------------------


def test_cosine_similarity_and_its_gradients_are_those_of_the_formula(dtype):
    g = np.array([1.0, -2, 3])
    value, dx, dy = run(ops.cosine_similarity, X, Y, dtype=dtype, g=g)
    for i in range(3):
        a, b = X[i], Y[i]
        na, nb = np.linalg.norm(a), np.linalg.norm(b)
        assert difference(value[i], a @ b / (na * nb)) <= 3 * BOUNDS[dtype]
        assert difference(dx[i], g[i] * (b - a * (a @ b) / na**2) / (na * nb)) <= 3 * BOUNDS[dtype]
        assert difference(dy[i], g[i] * (a - b * (a @ b) / nb**2) / (na * nb)) <= 3 * BOUNDS[dtype]


def test_a_vector_shorter_than_eps_is_divided_by_eps():
    x, y = np.array([[0.0, 0.0], [0.03, 0.04]]), np.array([[3.0, 4.0], [3.0, 4.0]])
    value, dx, dy = run(ops.cosine_similarity, x, y, dtype="float64", eps=0.1)
    assert difference(value, [0, 0.5]) <= 1e-12
    assert difference(dx, [[6, 8], [6, 8]]) <= 1e-12  # linear in x down there: y/(‖y‖·eps)
    assert difference(dy, [[0, 0], [0, 0]]) <= 1e-12 or np.abs(dy).max() <= 1e-12


def info_nce(queries, keys, temperature):
    a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (queries, keys))
    z = a @ b.T / temperature
    return -np.log(softmax(z)[np.arange(len(z)), np.arange(len(z))]).mean()


def test_info_nce_is_cross_entropy_over_cosines(dtype):
    queries, keys = RNG.standard_normal((4, 6)), RNG.standard_normal((7, 6))
    value, dq, dk = run(ops.info_nce, queries, keys, dtype=dtype, temperature=0.2)
    assert difference(value, info_nce(queries, keys, 0.2)) <= 5 * BOUNDS[dtype]
    assert (dq.shape, dk.shape) == (queries.shape, keys.shape)


def test_symmetric_info_nce_is_the_mean_of_both_directions(dtype):
    queries, keys = RNG.standard_normal((4, 6)), RNG.standard_normal((4, 6))
    value, dq, dk = run(ops.info_nce, queries, keys, dtype=dtype, temperature=0.2, symmetric=True)
    both = info_nce(queries, keys, 0.2), info_nce(keys, queries, 0.2)
    assert difference(value, sum(both) / 2) <= 5 * BOUNDS[dtype]
    _, dk_again, dq_again = run(
        ops.info_nce, keys, queries, dtype=dtype, temperature=0.2, symmetric=True
    )
    assert difference(dq, dq_again) <= 5 * BOUNDS[dtype]
    assert difference(dk, dk_again) <= 5 * BOUNDS[dtype]


def test_the_gradient_of_info_nce_is_at_right_angles_to_each_row():
    queries, keys = RNG.standard_normal((4, 6)), RNG.standard_normal((4, 6))
    _, dq, dk = run(ops.info_nce, queries, keys, dtype="float64", temperature=0.2)
    assert np.abs((dq * queries).sum(-1)).max() <= 1e-14
    assert np.abs((dk * keys).sum(-1)).max() <= 1e-14
    assert np.abs(dq).max() > 0.01


@pytest.mark.parametrize(
    ("queries", "keys", "symmetric"),
    [
        ((4, 6), (3, 6), False),
        ((4, 6), (5, 6), True),
        ((4, 6), (4, 5), False),
        ((6,), (4, 6), False),
    ],
)
def test_rows_that_have_no_partner_are_an_error_that_shows_the_shapes(queries, keys, symmetric):
    with pytest.raises(ShapeError, match="info_nce: float64"):
        ops.info_nce(
            Tensor(np.ones(queries)), Tensor(np.ones(keys)), temperature=1.0, symmetric=symmetric
        )


def test_without_a_tape_the_values_are_the_same():
    with no_grad():
        free = ops.cross_entropy(Tensor(LOGITS, requires_grad=True), LABELS)
    assert not free.requires_grad
    assert free.item() == ops.cross_entropy(Tensor(LOGITS, requires_grad=True), LABELS).item()
