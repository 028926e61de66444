"""An array that may have a gradient."""

from typing import Any

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core.autograd.tape import Node, backward

_FLOATS = ("float32", "float64")


class Tensor:
    """A float array with the history that produced it.

    `data` is the array; numbers and lists become float32. `grad` is None until `backward()` of
    something computed from this tensor; gradients of several calls add up until `grad` is set to
    None. `grad_buffer`, if set, is the memory that `grad` will use.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    array([2., 4.], dtype=float32)
    """

    __slots__ = ("__weakref__", "data", "grad", "grad_buffer", "node", "requires_grad")
    __array_priority__ = 1000  # numpy_array * tensor is ours

    def __init__(self, data: Any, *, requires_grad: bool = False):
        self.data = data if isinstance(data, np.ndarray) else _as_array(data)
        if requires_grad and self.data.dtype.name not in _FLOATS:
            raise ShapeError(
                f"a tensor of {self.data.dtype} cannot require a gradient",
                hint="use float32 or float64",
            )
        self.requires_grad = requires_grad
        self.grad: Any = None
        self.grad_buffer: Any = None
        self.node: Node | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    def numpy(self) -> np.ndarray:
        """The array itself, not a copy."""
        return self.data

    def item(self) -> float:
        """The only element, as a Python number."""
        return self.data.item()

    def backward(self, gradient: Any = None) -> None:
        """See `tape.backward`."""
        backward(self, gradient)

    def __repr__(self) -> str:
        kept = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({np.array2string(self.data, threshold=20)}, {self.dtype}{kept})"


class Parameter(Tensor):
    """A tensor that is trained: a leaf that requires a gradient."""

    __slots__ = ()

    def __init__(self, data: Any):
        super().__init__(data, requires_grad=True)


def _as_array(data: Any) -> np.ndarray:
    array = np.asarray(data)
    if isinstance(data, np.generic):
        return array
    return array.astype(np.float32) if array.dtype == np.float64 else array
