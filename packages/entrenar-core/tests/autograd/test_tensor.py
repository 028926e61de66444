"""`Tensor`: what it takes, how it looks, its operators and methods, what it shares and refuses."""

import operator

import numpy as np
import pytest

from entrenar_common.errors import ShapeError, UnsupportedError
from entrenar_core.autograd import Parameter, Tensor, ops

X = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)


def leaf(values=X):
    return Tensor(np.array(values), requires_grad=True)


# --- making one ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        ([1.0, 2.0], "float32"),
        ([[1, 2], [3, 4]], "int64"),
        (np.float64(1.5), "float64"),
        (np.zeros(2), "float64"),
        (Tensor(np.zeros(2)), "float64"),
        ([Tensor([1.0]), Tensor([2.0])], "float32"),
        (True, "bool"),
    ],
)
def test_lists_and_numbers_become_float32_and_arrays_stay(data, dtype):
    assert Tensor(data).dtype == dtype


def test_a_tensor_of_an_array_is_that_array():
    assert Tensor(X).numpy() is X


@pytest.mark.parametrize("data", ["text", None, [1, "x"], 1j, [object()]])
def test_only_numbers_make_a_tensor(data):
    with pytest.raises(ShapeError, match="real numbers"):
        Tensor(data)


def test_lists_of_several_lengths_make_no_tensor():
    with pytest.raises(ShapeError, match="cannot be made of this list"):
        Tensor([[1.0], [1.0, 2.0]])


# --- what it is ----------------------------------------------------------------------------------


def test_it_knows_its_shape():
    x = Tensor(np.zeros((2, 3, 1)))
    assert (x.shape, x.ndim, x.size, len(x)) == ((2, 3, 1), 3, 6, 2)


def test_a_number_has_no_length():
    with pytest.raises(TypeError, match="unsized"):
        len(Tensor(1.0))


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (Tensor([1.0, 2.5]), "Tensor([1. , 2.5], float32)"),
        (Tensor(np.arange(2)), "Tensor([0, 1], int64)"),
        (Tensor(2.0), "Tensor(2., float32)"),
        (Tensor([1.0], requires_grad=True), "Tensor([1.], float32, requires_grad=True)"),
        (Parameter(np.ones(1)), "Parameter([1.], float64, requires_grad=True)"),
        (Tensor(np.zeros((0, 3))), "Tensor([], shape=(0, 3), float64)"),
        (Tensor(np.zeros((5, 4))[:, :1]), "Tensor([[0.],\n        [0.],\n" + "        [0.],\n" * 2
         + "        [0.]], float64)"),
    ],
)  # fmt: skip
def test_repr_shows_values_type_and_origin(tensor, text):
    assert repr(tensor) == text


def test_repr_says_which_operation_made_it():
    assert repr(leaf([3.0]) * 2) == "Tensor([6.], float64, from mul)"


def test_repr_abbreviates_what_is_large_and_says_its_shape():
    text = repr(Tensor(np.zeros((50, 60), np.float32)))
    assert len(text) < 400
    assert text.endswith(", shape=(50, 60), float32)")


def test_twenty_elements_are_shown_and_21_abbreviated():
    assert "shape" not in repr(Tensor(np.arange(20.0)))
    assert "shape=(21,)" in repr(Tensor(np.arange(21.0)))


def test_the_only_element_is_a_number():
    assert [Tensor([[2.5]]).item(), float(Tensor(2.5)), Tensor([1, 2]).tolist()] == [
        2.5,
        2.5,
        [1, 2],
    ]
    assert type(Tensor([2.5]).item()) is float


@pytest.mark.parametrize("function", [Tensor.item, float, bool])
@pytest.mark.parametrize("shape", [(2,), (0,), (1, 3)])
def test_several_elements_or_none_are_no_number(function, shape):
    with pytest.raises(ShapeError, match="is not a single number") as caught:
        function(Tensor(np.zeros(shape)))
    assert str(shape) in str(caught.value)
    assert caught.value.hint


def test_one_element_is_true_unless_it_is_zero():
    assert [bool(Tensor([2.0])), bool(Tensor([[0.0]]))] == [True, False]


def test_iteration_gives_the_rows_with_their_history():
    x = leaf()
    rows = list(x)
    assert [row.tolist() for row in rows] == X.tolist()
    (rows[1] * 2).sum().backward()
    assert x.grad.tolist() == [[0, 0, 0], [2, 2, 2]]


def test_iteration_over_a_number_is_refused():
    with pytest.raises(TypeError):
        iter(Tensor(1.0))


def test_tensors_are_keys_by_identity():
    x, y = Tensor([1.0]), Tensor([1.0])
    assert len({x: 1, y: 2}) == 2
    assert {x: 1}[x] == 1


# --- operators -----------------------------------------------------------------------------------

OPERATORS = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.pow,
]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]
OTHERS = {
    "number": 2.0,
    "integer": 3,
    "numpy number": np.float64(2.0),
    "numpy integer": np.int64(3),
    "list": [1.0, 2.0, 4.0],
    "tuple": (1, 2, 4),
    "array": np.array([[1.0, 3.0, 2.0]] * 2, np.float32),
    "float64 array": np.array([1.0, 3.0, 2.0]),
    "integers": np.array([[1], [4]]),
    "booleans": np.array([True, True, True]),
    "tensor": Tensor(np.array([1.0, 3.0, 2.0], np.float32)),
    "tensor of integers": Tensor([1, 3, 2]),
}


def plain(other):
    return np.asarray(other.data if isinstance(other, Tensor) else other, np.float32)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("function", OPERATORS + COMPARISONS)
def test_operators_are_those_of_numpy_on_both_sides_in_the_tensors_type(function, other):
    value = OTHERS[other]
    for found, wanted in (
        (function(leaf(), value), function(X, plain(value))),
        (function(value, leaf()), function(plain(value), X)),
    ):
        assert found.dtype == wanted.dtype
        assert found.shape == wanted.shape
        np.testing.assert_allclose(getattr(found, "data", found), wanted, rtol=1e-6)


@pytest.mark.parametrize("function", COMPARISONS)
def test_a_comparison_is_a_plain_array_of_booleans(function):
    found = function(leaf(), 3.0)
    assert type(found) is np.ndarray
    assert found.dtype == bool


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("equal", np.equal),
        ("not_equal", np.not_equal),
        ("less", np.less),
        ("less_equal", np.less_equal),
        ("greater", np.greater),
        ("greater_equal", np.greater_equal),
    ],
)
def test_comparisons_are_functions_too(name, function):
    found = getattr(ops, name)(leaf(), [4.0, 2.0, 3.0])
    assert type(found) is np.ndarray
    assert found.tolist() == function(X, [4.0, 2.0, 3.0]).tolist()


def test_a_number_of_double_precision_is_compared_in_the_tensors_precision():
    assert ops.equal(Tensor([0.1]), np.float64(0.1)).all()
    assert ops.equal(Tensor([0.1]), np.array([0.1])).all()


def test_matrix_products_work_from_both_sides():
    a, b = X, X.T.copy()
    assert (leaf(a) @ b).tolist() == (a @ leaf(b)).tolist() == (a @ b).tolist()
    assert (leaf(a) @ [1, 0, 0]).tolist() == [1.0, 4.0]


def test_signs():
    assert ((-leaf()).tolist(), abs(leaf(-X)).tolist()) == ((-X).tolist(), X.tolist())


@pytest.mark.parametrize("function", [*OPERATORS, operator.matmul, operator.lt])
@pytest.mark.parametrize("other", [None, "text", object(), {}])
def test_operators_with_something_else_are_a_type_error(function, other):
    with pytest.raises(TypeError):
        function(leaf(), other)
    with pytest.raises(TypeError):
        function(other, leaf())


def test_integers_and_a_fraction_make_float32():
    x = Tensor([1, 2])
    assert [(x * 0.5).dtype, (x / 2).dtype, (x + 1).dtype] == ["float32", "float32", "int64"]
    assert [ops.exp(x).dtype, x.mean().dtype, x.var().dtype] == ["float32"] * 3


def test_in_place_operators_make_a_new_tensor():
    x = leaf()
    y = kept = x * 2.0
    z = y * y
    y += 1.0
    y *= 3.0
    assert y is not kept
    z.sum().backward()  # needs the old y
    assert kept.tolist() == (X * 2).tolist()
    assert x.grad.tolist() == (8 * X).tolist()


def test_a_tensor_cannot_be_added_to_an_array_in_place():
    total = np.zeros((2, 3), np.float32)
    with pytest.raises(TypeError, match="does not support ufuncs"):
        total += leaf()
    assert not total.any()


def test_elements_cannot_be_assigned():
    x = leaf()
    with pytest.raises(UnsupportedError, match="cannot be assigned") as caught:
        x[0] = 1.0
    assert "ops.where" in caught.value.hint


def test_a_tensor_equals_nothing_that_is_no_number():
    assert (leaf() == None, leaf() != "text") == (False, True)  # noqa: E711


# --- beside NumPy --------------------------------------------------------------------------------


def test_numpy_takes_a_tensor_without_gradient_as_an_array():
    x = Tensor(X)
    assert np.asarray(x) is X
    assert np.asarray(x, np.float64).dtype == np.float64
    assert np.array(x) is not X
    assert np.concatenate([x, x]).shape == (4, 3)


def test_numpy_does_not_take_a_tensor_with_a_gradient():
    for convert in (np.asarray, np.sort, lambda x: np.concatenate([x, x]), Tensor):
        with pytest.raises(UnsupportedError, match="history") as caught:
            convert(leaf())
    assert "detach" in caught.value.hint


def test_functions_of_numpy_for_elements_are_refused():
    with pytest.raises(TypeError, match="does not support ufuncs"):
        np.exp(Tensor(X))


def test_detach_shares_the_array_and_forgets_the_history():
    x = leaf() * 2
    y = x.detach()
    assert (y.data is x.data, y.requires_grad, y.node) == (True, False, None)


# --- methods -------------------------------------------------------------------------------------

METHODS = {
    "exp": (lambda x: x.exp(), np.exp),
    "log": (lambda x: x.log(), np.log),
    "sqrt": (lambda x: x.sqrt(), np.sqrt),
    "abs": (lambda x: x.abs(), np.abs),
    "clip": (lambda x: x.clip(2.0, 4.0), lambda a: a.clip(2.0, 4.0)),
    "clip from below": (lambda x: x.clip(min=2.0), lambda a: a.clip(2.0)),
    "clip from above": (lambda x: x.clip(max=2.0), lambda a: a.clip(None, 2.0)),
    "sum": (lambda x: x.sum(), np.sum),
    "sum over an axis": (lambda x: x.sum(0, keepdims=True), lambda a: a.sum(0, keepdims=True)),
    "mean": (lambda x: x.mean(1), lambda a: a.mean(1)),
    "mean kept": (lambda x: x.mean(1, True), lambda a: a.mean(1, keepdims=True)),
    "var": (lambda x: x.var(1, correction=1), lambda a: a.var(1, ddof=1)),
    "var kept": (lambda x: x.var(keepdims=True), lambda a: a.var(keepdims=True)),
    "std": (lambda x: x.std(-1), lambda a: a.std(-1)),
    "std corrected": (lambda x: x.std(0, 1, True), lambda a: a.std(0, ddof=1, keepdims=True)),
    "max": (lambda x: x.max((0, 1)), lambda a: a.max((0, 1))),
    "max kept": (lambda x: x.max(0, True), lambda a: a.max(0, keepdims=True)),
    "min": (lambda x: x.min(axis=0), lambda a: a.min(0)),
    "min kept": (lambda x: x.min(0, True), lambda a: a.min(0, keepdims=True)),
    "logsumexp": (lambda x: x.logsumexp(1), lambda a: np.log(np.exp(a).sum(1))),
    "logsumexp kept": (
        lambda x: x.logsumexp(1, True),
        lambda a: np.log(np.exp(a).sum(1, keepdims=True)),
    ),
    "cumsum": (lambda x: x.cumsum(1), lambda a: a.cumsum(1)),
    "cumsum of all": (lambda x: x.cumsum(), np.cumsum),
    "reshape": (lambda x: x.reshape(3, -1), lambda a: a.reshape(3, -1)),
    "reshape to a tuple": (lambda x: x.reshape((3, 2)), lambda a: a.reshape(3, 2)),
    "reshape to a number": (lambda x: x.reshape(-1), np.ravel),
    "reshape to nothing": (lambda x: x[0, 0].reshape(), lambda a: a[0, 0]),
    "expand": (lambda x: x.expand(4, -1, 3), lambda a: np.broadcast_to(a, (4, 2, 3))),
    "expand to a number": (lambda x: x[0, 0].expand(2), lambda a: np.full(2, a[0, 0])),
    "permute": (lambda x: x.permute(1, 0), np.transpose),
    "transpose": (lambda x: x.transpose(), np.transpose),
    "transpose two axes": (lambda x: x[None].transpose(0, 1), lambda a: a[:, None]),
    "T": (lambda x: x[None].T, lambda a: a[None].T),
    "squeeze": (lambda x: x[None, :, None].squeeze(), lambda a: a),
    "squeeze an axis": (lambda x: x[None, :, None].squeeze(0), lambda a: a[:, None]),
    "unsqueeze": (lambda x: x.unsqueeze(1), lambda a: a[:, None]),
    "astype": (lambda x: x.astype("float64"), lambda a: a.astype(np.float64)),
    "getitem": (lambda x: x[1, ::-1], lambda a: a[1, ::-1]),
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_a_method_does_what_numpy_does_and_is_recorded(name):
    method, function = METHODS[name]
    found, wanted = method(leaf()), np.asarray(function(X))
    assert (found.shape, found.dtype, found.requires_grad) == (wanted.shape, wanted.dtype, True)
    np.testing.assert_allclose(found.data, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    "method",
    [
        lambda x: x.reshape(-1),
        lambda x: x.T,
        lambda x: x.permute(1, 0),
        lambda x: x.transpose(),
        lambda x: x.expand(2, 2, 3),
        lambda x: x[1:, ::2],
        lambda x: x[..., None],
        lambda x: x.squeeze(),
        lambda x: x.unsqueeze(0),
        lambda x: ops.flip(x, axis=1),
        lambda x: ops.split(x, 3, axis=1)[1],
        lambda x: x.astype("float32"),
        lambda x: x.detach(),
    ],
)
def test_what_needs_no_copy_is_a_view(method):
    assert np.shares_memory(method(Tensor(X)).data, X)


def test_astype_carries_the_gradient_back_in_the_type_of_its_input():
    x = leaf()
    y = x.astype(np.float64) * np.pi
    assert y.dtype == np.float64
    y.sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_allclose(x.grad, np.full((2, 3), np.pi), rtol=1e-7)


def test_astype_of_integers_makes_floats():
    assert Tensor([1, 2]).astype("float32").dtype == np.float32


@pytest.mark.parametrize("dtype", ["int64", np.float16, bool, "nonsense"])
def test_astype_goes_to_floats_that_have_gradients(dtype):
    with pytest.raises(ShapeError, match="carries no gradient"):
        leaf().astype(dtype)


# --- functions with what they take when nothing is said ------------------------------------------

DEFAULTS = {
    "sum": np.sum,
    "mean": np.mean,
    "var": np.var,
    "std": np.std,
    "max": np.max,
    "min": np.min,
    "logsumexp": lambda a, axis=None: np.log(np.sum(np.exp(a), axis)),
    "cumsum": np.cumsum,
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_reductions_are_over_everything_and_keep_no_axes_unless_told(name):
    function, numpys = getattr(ops, name), DEFAULTS[name]
    for found, wanted in (
        (function(Tensor(X)), numpys(X)),
        (function(Tensor(X), axis=0), numpys(X, axis=0)),
    ):
        assert found.shape == np.shape(wanted)
        np.testing.assert_allclose(found.data, wanted, rtol=1e-6)


@pytest.mark.parametrize("correction", [1, 2])
def test_the_variance_of_fewer_than_its_correction_is_not_a_number(correction):
    with np.errstate(invalid="ignore"):
        assert np.isnan(Tensor([3.0]).var(correction=correction).item())
        assert np.isnan(Tensor([3.0]).std(correction=correction).item())


def test_pad_puts_zeros():
    assert ops.pad(Tensor([1.0]), 1).tolist() == [0.0, 1.0, 0.0]


def test_joining_is_along_the_first_axis():
    x = Tensor(X)
    assert ops.concat([x, x]).shape == (4, 3)
    assert ops.stack([x, x, x]).shape == (3, 2, 3)
    assert [part.shape for part in ops.split(x, 2)] == [(1, 3), (1, 3)]


def test_einsum_without_an_arrow_sums_over_what_occurs_twice():
    a, b = X, X.T[:, :1]
    assert ops.einsum("kj,jb", a, b).tolist() == (b.T @ a.T).tolist()
    assert ops.einsum(" ij -> j ", a).tolist() == a.sum(0).tolist()


def test_numbers_and_lists_alone_make_float32():
    assert [ops.add(1, 2.5).dtype, ops.exp(1).dtype, ops.mul([1, 2], 0.5).dtype] == ["float32"] * 3
    assert [ops.add(1, 2).dtype, ops.neg([1]).dtype] == ["int64"] * 2
    assert ops.concat([[1.0], [2]]).dtype == np.float32


def test_split_takes_arrays_and_lists():
    assert [part.tolist() for part in ops.split([1.0, 2.0, 3.0], [1, 2])] == [[1.0], [2.0, 3.0]]


def test_half_precision_stays_what_it_is():
    x = Tensor(np.ones(2, np.float16))
    assert [(x + 1).dtype, (x * x).dtype, x.sum().dtype, ops.exp(x).dtype] == ["float16"] * 4


def test_indices_may_be_tensors():
    x, i = leaf(), Tensor([1, 1])
    x[i, 0].sum().backward()
    assert x.grad.tolist() == [[0, 0, 0], [2, 0, 0]]
    assert ops.gather(Tensor(X), Tensor([[2], [0]]), axis=1).tolist() == [[3.0], [4.0]]
    assert Tensor(X)[True].shape == (1, 2, 3)
    assert Tensor(X)[[]].shape == (0, 3)
