"""An array that may have a gradient, with the operators and methods of an array."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from entrenar_common.errors import ShapeError, UnsupportedError
from entrenar_core.autograd import ops  # imports this module too: nothing of it is used here yet
from entrenar_core.autograd.tape import Node, backward
from entrenar_core.kernels.held import Held

_FLOATS = ("float32", "float64")
_ARRAYS = (np.ndarray, Held)


class Tensor:
    """A float array with the history that produced it.

    `data` is the array; numbers and lists become float32. `grad` is None until `backward()` of
    something computed from this tensor; gradients of several calls add up until `grad` is set to
    None. `grad_buffer`, if set, is the memory that `grad` will use. A frozen weight's `data` may be
    a matrix held in few bits (`kernels.Held`), which NumPy takes as the array that it stands for.

    Operators, indexing and methods are the operations of `ops` with NumPy's names. Comparisons,
    `==` too, give plain arrays of booleans; as a key a tensor is itself alone. `x += y` is
    `x = x + y`: what is recorded never changes, and elements cannot be assigned. Functions of NumPy
    take a tensor that requires no gradient as an array, and refuse one that does, since they would
    drop its history unseen.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    array([2., 4.], dtype=float32)
    """

    __slots__ = ("__weakref__", "data", "grad", "grad_buffer", "node", "requires_grad")
    __array_ufunc__ = None  # numpy_array * tensor is ours, and np.exp(tensor) an error

    def __init__(self, data: Any, *, requires_grad: bool = False):
        self.data: Any = data if isinstance(data, _ARRAYS) else _as_array(data)
        if requires_grad and self.data.dtype.name not in _FLOATS:
            raise ShapeError(
                f"a tensor of {self.data.dtype} cannot require a gradient",
                hint="use float32 or float64",
            )
        if requires_grad and isinstance(self.data, Held):
            raise UnsupportedError(
                f"a matrix {self.data.shape} that is held in few bits cannot require a gradient",
                hint="numpy.asarray gives its float32 numbers",
            )
        self.requires_grad = requires_grad
        self.grad: Any = None
        self.grad_buffer: Any = None
        self.node: Node | None = None

    # --- what it is ------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.data.size

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        kind = type(self).__name__
        if isinstance(self.data, Held):
            return f"{kind}({self.data!r})"
        facts = [np.array2string(self.data, threshold=20, separator=", ", prefix=f"{kind}(")]
        facts += [f"shape={self.shape}"] if self.size == 0 or self.size > 20 else []
        facts += [str(self.dtype)]
        facts += ["requires_grad=True"] if self.requires_grad and self.node is None else []
        facts += [f"from {self.node.name}"] if self.node is not None else []
        return f"{kind}({', '.join(facts)})"

    # --- its values ------------------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """The array itself, not a copy; of a held matrix its float32 numbers."""
        return np.asarray(self.data) if isinstance(self.data, Held) else self.data

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return self.numpy().tolist()

    def item(self) -> float:
        """The only element, as a Python number. Raises ShapeError where there are more or none."""
        if self.data.size != 1:
            raise ShapeError(
                f"a tensor of shape {self.shape} is not a single number",
                hint="reduce it first (.sum(), .mean(), .max()), or take an element: x[0]",
            )
        return self.numpy().item()

    def __float__(self) -> float:
        return float(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self.requires_grad:
            raise UnsupportedError(
                f"NumPy would lose the history of a tensor {self.shape} that requires a gradient",
                hint="use the function of ops or Tensor; or say so: x.data, x.detach()",
            )
        return np.array(self.data, dtype, copy=copy)

    # --- gradients -------------------------------------------------------------------------------

    def backward(self, gradient: Any = None) -> None:
        """See `tape.backward`."""
        backward(self, gradient)

    def detach(self) -> "Tensor":
        """The same array as a tensor without a history, which requires no gradient."""
        return Tensor(self.data)

    # --- operators -------------------------------------------------------------------------------

    def __add__(self, other: Any) -> "Tensor":
        return _binary(ops.add, self, other)

    def __radd__(self, other: Any) -> "Tensor":
        return _binary(ops.add, other, self)

    def __sub__(self, other: Any) -> "Tensor":
        return _binary(ops.sub, self, other)

    def __rsub__(self, other: Any) -> "Tensor":
        return _binary(ops.sub, other, self)

    def __mul__(self, other: Any) -> "Tensor":
        return _binary(ops.mul, self, other)

    def __rmul__(self, other: Any) -> "Tensor":
        return _binary(ops.mul, other, self)

    def __truediv__(self, other: Any) -> "Tensor":
        return _binary(ops.div, self, other)

    def __rtruediv__(self, other: Any) -> "Tensor":
        return _binary(ops.div, other, self)

    def __pow__(self, other: Any) -> "Tensor":
        return _binary(ops.pow, self, other)

    def __rpow__(self, other: Any) -> "Tensor":
        return _binary(ops.pow, other, self)

    def __matmul__(self, other: Any) -> "Tensor":
        return _binary(ops.matmul, self, other)

    def __rmatmul__(self, other: Any) -> "Tensor":
        return _binary(ops.matmul, other, self)

    def __neg__(self) -> "Tensor":
        return ops.neg(self)

    def __abs__(self) -> "Tensor":
        return ops.abs(self)

    def __eq__(self, other: Any) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _binary(ops.equal, self, other)

    def __ne__(self, other: Any) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _binary(ops.not_equal, self, other)

    __hash__ = object.__hash__  # a key by identity

    def __lt__(self, other: Any) -> np.ndarray:
        return _binary(ops.less, self, other)

    def __le__(self, other: Any) -> np.ndarray:
        return _binary(ops.less_equal, self, other)

    def __gt__(self, other: Any) -> np.ndarray:
        return _binary(ops.greater, self, other)

    def __ge__(self, other: Any) -> np.ndarray:
        return _binary(ops.greater_equal, self, other)

    def __getitem__(self, index: Any) -> "Tensor":
        return ops.getitem(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise UnsupportedError(
            "elements of a tensor cannot be assigned: recorded operations may need the old ones",
            hint="use ops.where or ops.scatter_add; x.data[...] = v changes the array unrecorded",
        )

    def __iter__(self) -> Iterator["Tensor"]:
        return (self[i] for i in range(len(self)))

    # --- operations as methods -------------------------------------------------------------------

    def exp(self) -> "Tensor":
        """eˣ."""
        return ops.exp(self)

    def log(self) -> "Tensor":
        """The natural logarithm."""
        return ops.log(self)

    def sqrt(self) -> "Tensor":
        """√x."""
        return ops.sqrt(self)

    def abs(self) -> "Tensor":
        """|x|."""
        return ops.abs(self)

    def clip(self, min: Any = None, max: Any = None) -> "Tensor":  # noqa: A002
        """x between `min` and `max`."""
        return ops.clip(self, min, max)

    def astype(self, dtype: Any) -> "Tensor":
        """x in float32 or float64, with its history."""
        return ops.astype(self, dtype)

    def sum(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """Σ x over `axis`."""
        return ops.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """The mean over `axis`."""
        return ops.mean(self, axis=axis, keepdims=keepdims)

    def var(self, axis: Any = None, correction: float = 0, keepdims: bool = False) -> "Tensor":
        """The variance over `axis`, with n − `correction` as divisor."""
        return ops.var(self, axis=axis, correction=correction, keepdims=keepdims)

    def std(self, axis: Any = None, correction: float = 0, keepdims: bool = False) -> "Tensor":
        """The standard deviation over `axis`."""
        return ops.std(self, axis=axis, correction=correction, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """The largest over `axis`."""
        return ops.max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """The smallest over `axis`."""
        return ops.min(self, axis=axis, keepdims=keepdims)

    def logsumexp(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """ln Σ eˣ over `axis`."""
        return ops.logsumexp(self, axis=axis, keepdims=keepdims)

    def cumsum(self, axis: Any = None) -> "Tensor":
        """Running sums along `axis`."""
        return ops.cumsum(self, axis=axis)

    def reshape(self, *shape: Any) -> "Tensor":
        """x in another shape: `x.reshape(2, -1)` or `x.reshape((2, -1))`."""
        return ops.reshape(self, _one_or_several(shape))

    def expand(self, *shape: Any) -> "Tensor":
        """x broadcast to a shape; −1 keeps a length."""
        return ops.expand(self, _one_or_several(shape))

    def permute(self, *axes: Any) -> "Tensor":
        """x with its axes in another order."""
        return ops.permute(self, _one_or_several(axes))

    def transpose(self, axis1: int = -2, axis2: int = -1) -> "Tensor":
        """x with two axes exchanged."""
        return ops.transpose(self, axis1, axis2)

    @property
    def T(self) -> "Tensor":
        """x with all axes in reverse order, as in NumPy."""
        return ops.permute(self, tuple(range(self.ndim))[::-1])

    def squeeze(self, axis: Any = None) -> "Tensor":
        """x without axes of length 1."""
        return ops.squeeze(self, axis=axis)

    def unsqueeze(self, axis: Any) -> "Tensor":
        """x with new axes of length 1."""
        return ops.unsqueeze(self, axis)


class Parameter(Tensor):
    """A tensor that is trained: a leaf that requires a gradient."""

    __slots__ = ()

    def __init__(self, data: Any):
        super().__init__(data, requires_grad=True)


_OPERANDS = (Tensor, np.ndarray, np.generic, int, float, list, tuple)


def _binary(function: Callable[..., Any], x: Any, y: Any) -> Any:
    """An operator's result, or Python's way of saying that it does not know the other operand."""
    known = isinstance(x, _OPERANDS) and isinstance(y, _OPERANDS)
    return function(x, y) if known else NotImplemented


def _one_or_several(given: tuple[Any, ...]) -> Any:
    """What was given as (2, 3), or as one tuple or number."""
    return given[0] if len(given) == 1 else given


def _as_array(data: Any) -> np.ndarray:
    try:
        array = np.asarray(data)
    except ValueError as problem:
        raise ShapeError(
            f"a tensor cannot be made of this {type(data).__name__}: {problem}",
            hint="the lists inside a list have one length",
        ) from problem
    if array.dtype.kind not in "fiubV":  # V: the float types of ml_dtypes
        raise ShapeError(
            f"a tensor holds real numbers, and not {array.dtype}", hint="use float32 or float64"
        )
    if isinstance(data, np.generic | Tensor):
        return array
    return array.astype(np.float32) if array.dtype == np.float64 else array
