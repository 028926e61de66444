"""What follows from the methods' definitions, whatever the numbers."""

import ml_dtypes
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_core.merge.tensor import merge_arrays
from mergekit_arrays import related

FLOAT32 = np.dtype(np.float32)
EPSILON = float(np.finfo(np.float32).eps)
SEEDS = st.integers(0, 10**6)
SHAPES = st.sampled_from([(1,), (7,), (3, 5), (1, 1), (2, 3, 4), (40, 30)])
WEIGHTS = st.lists(st.floats(0.125, 2, width=32), min_size=2, max_size=4)
DENSITIES = st.floats(0.05, 1)

few = settings(max_examples=25, deadline=None)


def made(seed, shape, models):
    return related(shape, models, dtype=FLOAT32, seed=seed)


def near(found, wanted, *, epsilons=4, scale=None):
    """Equal but for rounding errors, relative to the largest element, or to `scale` where numbers
    of that size may cancel."""
    scale = np.abs(wanted).max() if scale is None else scale
    assert np.abs(found.astype(np.float64) - wanted).max() <= epsilons * EPSILON * scale


@few
@given(SEEDS, SHAPES)
def test_slerp_at_0_is_the_base_and_at_1_the_other_model(seed, shape):
    base, (model,) = made(seed, shape, 1)
    near(merge_arrays("slerp", [model], base=base, settings={"t": 0.0}), base)
    near(merge_arrays("slerp", [model], base=base, settings={"t": 1.0}), model)


@few
@given(SEEDS, st.floats(0, 1))
def test_slerp_of_vectors_of_one_norm_keeps_the_norm_and_shares_the_angle(seed, t):
    rng = np.random.default_rng(seed)
    a, b = (v / np.linalg.norm(v) for v in rng.standard_normal((2, 50)))
    found = merge_arrays(
        "slerp", [b.astype(np.float32)], base=a.astype(np.float32), settings={"t": t}
    ).astype(np.float64)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-6)
    angle = np.arccos(a @ b)
    assert found @ a == pytest.approx(np.cos(t * angle), abs=1e-6)
    assert found @ b == pytest.approx(np.cos((1 - t) * angle), abs=1e-6)


@few
@given(SEEDS, SHAPES, st.floats(0.125, 8, width=32))
def test_the_mean_of_one_model_is_that_model(seed, shape, weight):
    _, (model,) = made(seed, shape, 1)
    near(merge_arrays("linear", [model], settings={"weight": weight}), model)


@few
@given(SEEDS, SHAPES, WEIGHTS)
def test_the_mean_is_that_of_float64(seed, shape, weights):
    _, models = made(seed, shape, len(weights))
    wanted = np.average(np.array(models, np.float64), axis=0, weights=weights)
    addends = np.average(np.abs(models), axis=0, weights=weights)
    near(merge_arrays("linear", models, settings={"weight": weights}), wanted, scale=addends.max())


@few
@given(SEEDS, SHAPES)
def test_models_of_weight_0_change_nothing(seed, shape):
    base, models = made(seed, shape, 3)
    for method in ("task_arithmetic", "ties", "breadcrumbs"):
        with_it = merge_arrays(method, models, base=base, settings={"weight": [0.5, 0, 0.25]})
        without = merge_arrays(
            method, [models[0], models[2]], base=base, settings={"weight": [0.5, 0.25]}
        )
        assert np.array_equal(with_it, without)
    assert np.array_equal(
        merge_arrays("linear", models, settings={"weight": [0.5, 0, 0.25]}),
        merge_arrays("linear", [models[0], models[2]], settings={"weight": [0.5, 0.25]}),
    )


def test_with_all_weights_0_the_result_is_the_base():
    base, models = made(1, (20, 30), 2)
    for method in ("task_arithmetic", "ties", "dare_linear", "della"):
        found = merge_arrays(method, models, base=base, settings={"weight": 0.0, "density": 0.5}
                             if method != "task_arithmetic" else {"weight": 0.0})  # fmt: skip
        assert np.array_equal(found, base)


@few
@given(SEEDS, WEIGHTS, DENSITIES, st.booleans())
def test_opposite_task_vectors_are_merged_to_the_opposite(seed, weights, density, normalize):
    """Where the elected sign is not that of an exact 0: there + wins. A base of 0 makes task
    vectors exact."""
    models = np.random.default_rng(seed).standard_normal((len(weights), 30, 7)).astype(np.float32)
    base = np.zeros((30, 7), np.float32)
    given = {"weight": weights, "density": density, "normalize": normalize}
    for method in ("ties", "breadcrumbs", "breadcrumbs_ties", "dare_ties"):
        one = merge_arrays(method, list(models), base=base, settings=given)
        other = merge_arrays(method, list(-models), base=base, settings=given)
        assert np.array_equal(one, -other)


def test_where_weighted_changes_cancel_exactly_plus_is_elected():
    """1·3 + 1·(−3) = 0: the positive one counts, and is not averaged with the other."""
    base = np.zeros(1, np.float32)
    models = [np.float32([3]), np.float32([-3])]
    found = merge_arrays("ties", models, base=base, settings={"weight": 1.0})
    assert found.tolist() == [3]


SAME = [
    ("breadcrumbs", {"gamma": 0.0, "density": 1.0}, "task_arithmetic", {}),
    ("dare_linear", {"density": 1.0}, "task_arithmetic", {}),
    ("della_linear", {"density": 1.0}, "task_arithmetic", {}),
    ("dare_ties", {"density": 1.0}, "ties", {"normalize": False}),
    ("della", {"density": 1.0}, "ties", {}),
    ("breadcrumbs_ties", {"density": 1.0}, "ties", {"normalize": False}),
]


@pytest.mark.parametrize(("one", "changes", "other", "others"), SAME)
def test_methods_that_keep_everything_are_one(one, changes, other, others):
    base, models = made(3, (30, 40), 3)
    weights = {"weight": [0.5, -0.25, 0.7]}
    assert np.array_equal(
        merge_arrays(one, models, base=base, settings=weights | changes),
        merge_arrays(other, models, base=base, settings=weights | others),
    )


@few
@given(SEEDS, DENSITIES)
def test_crumbs_without_outliers_are_the_largest_as_ties_keeps_them(seed, density):
    """Of one model, and where no two elements are equal, and ties keeps none by its minimum."""
    base, (model,) = made(seed, (20, 15), 1)
    base = np.zeros_like(base)
    found = merge_arrays(
        "breadcrumbs", [model], base=base, settings={"weight": 1.0, "density": density, "gamma": 0}
    )
    wanted = merge_arrays("ties", [model], base=base, settings={"weight": 1.0, "density": density})
    assert np.array_equal(found, wanted)


@few
@given(SEEDS, st.floats(-2, 2, width=32), st.floats(-2, 2, width=32))
def test_task_arithmetic_is_the_base_and_the_weighted_sum_of_changes(seed, first, second):
    base, models = made(seed, (9, 11), 2)
    wide = base.astype(np.float64)
    wanted = wide + 0.5 * (first * (models[0] - wide) + second * (models[1] - wide))
    found = merge_arrays(
        "task_arithmetic", models, base=base, settings={"weight": [first, second], "lambda": 0.5}
    )
    near(found, wanted, epsilons=8)


def test_the_models_mean_is_where_model_stock_ends_for_equal_directions():
    """cos θ = 1, so t = N/(1 + N − 1) = 1: the mean of the models."""
    base, (model,) = made(5, (12, 10), 1)
    models = [base + factor * (model - base) for factor in (np.float32(1), np.float32(2))]
    found = merge_arrays("model_stock", models, base=base)
    near(found, np.mean(models, axis=0, dtype=np.float64), epsilons=8)


def test_the_base_is_where_model_stock_ends_for_changes_at_right_angles():
    base = np.zeros(4, np.float32)
    models = [np.float32([1, 0, 0, 0]), np.float32([0, 1, 0, 0])]
    assert merge_arrays("model_stock", models, base=base).tolist() == [0, 0, 0, 0]


def test_the_karcher_mean_of_two_is_halfway_on_the_arc():
    rng = np.random.default_rng(2)
    a, b = (v / np.linalg.norm(v) for v in rng.standard_normal((2, 60)))
    found = merge_arrays("karcher", [a.astype(np.float32), b.astype(np.float32)])
    near(found, (a + b) / np.linalg.norm(a + b), epsilons=16)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
def test_multislerp_of_models_that_are_equal_is_that_model(dtype):
    """As tensors are that a fine-tuning left alone; mergekit's result in float16 is NaN."""
    _, (model,) = related((9, 8), 1, dtype=dtype)
    found = merge_arrays("multislerp", [model, model], settings={"weight": [0.25, 0.75]})
    step = 4 * float(ml_dtypes.finfo(dtype).eps) * np.abs(model.astype(np.float64)).max()
    assert np.abs(found.astype(np.float64) - model.astype(np.float64)).max() <= step


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
def test_multislerp_of_models_that_are_the_base_is_the_base(dtype):
    base, _ = related((9, 8), 1, dtype=dtype)
    found = merge_arrays("multislerp", [base, base], base=base, settings={"weight": 0.5})
    assert np.array_equal(found, base)


def test_nearswap_takes_what_is_nearer_than_t_from_the_other_model():
    base, other = np.float32([1, 1, 1]), np.float32([1.01, 1.5, -1])
    found = merge_arrays("nearswap", [other], base=base, settings={"t": 0.1})
    assert found == pytest.approx([1.01, 1 + 0.1, 1 - 0.1], rel=1e-6)


def test_ties_by_hand():
    """Trim to half, elect by the weighted sum, take the mean of those that agree (Yadav et al.
    2023, §3): changes (3, −1, 2, 0.5), (−1, −4, 1, 3) and (2, 1, −5, 0.25) with weights 1, 1, 2.

    Trimmed: (3, 0, 2, 0), (0, −4, 0, 3), (2, 0, −5, 0). Weighted sums: 3 + 4, −4, 2 − 10, 3. Signs
    +, −, −, +. Means (3 + 2·2)/3, −4/1, −5·2/2, 3/1.
    """
    base = np.float32([10, 20, 30, 40])
    changes = np.float32([[3, -1, 2, 0.5], [-1, -4, 1, 3], [2, 1, -5, 0.25]])
    found = merge_arrays(
        "ties", list(base + changes), base=base, settings={"weight": [1, 1, 2], "density": 0.5}
    )
    assert found == pytest.approx([10 + 7 / 3, 16, 25, 43], rel=1e-6)


@pytest.fixture
def threads():
    before = numba.get_num_threads()
    yield numba.set_num_threads
    numba.set_num_threads(before)


METHODS = {
    "linear": {"weight": 0.5},
    "slerp": {"t": 0.4},
    "ties": {"weight": 0.5, "density": 0.3, "rescale": True},
    "dare_ties": {"weight": 0.5, "density": 0.3},
    "della_linear": {"weight": 0.5, "density": 0.3, "epsilon": 0.1},
    "breadcrumbs": {"weight": 0.5, "density": 0.3, "gamma": 0.05},
    "sce": {"select_topk": 0.3},
    "karcher": {},
    "arcee_fusion": {},
}


@pytest.mark.parametrize("method", METHODS)
def test_one_thread_and_two_make_the_same_bits(method, threads):
    """Of a tensor of several blocks, the last of them not whole."""
    if numba.config.NUMBA_NUM_THREADS < 2:  # type: ignore[attr-defined]
        pytest.skip("one processor")
    pair = method in ("slerp", "arcee_fusion")
    base, models = made(0, (1100, 300), 1 if pair else 2)
    given = {"settings": METHODS[method], "base": base}
    threads(1)
    one = merge_arrays(method, models, **given)
    threads(2)
    assert np.array_equal(one, merge_arrays(method, models, **given))
