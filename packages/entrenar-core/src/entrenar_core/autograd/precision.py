"""In what precision matrices are multiplied.

Everything else is float32 or float64, as it lies in memory: weights, activations, gradients and
what an optimizer keeps. An operation multiplies backwards as it did forwards, wherever backward()
is called.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from entrenar_core import kernels


@dataclass(frozen=True)
class Products:
    """The kernels by which operations multiply matrices."""

    matmul: Callable[..., Any]
    matmul_stack: Callable[..., Any]
    attention: Callable[..., Any]
    attention_grad: Callable[..., Any]


WHOLE = Products(kernels.matmul, kernels.matmul_stack, kernels.attention, kernels.attention_grad)
"""In the type that the numbers have."""

BF16 = Products(
    kernels.matmul_bf16, kernels.matmul_stack_bf16, kernels.attention_bf16,
    kernels.attention_bf16_grad,
)  # fmt: skip
"""Operands rounded to bfloat16, sums in float32."""

BF16_USED = Products(
    kernels.matmul_bf16, kernels.matmul_stack_bf16, kernels.attention, kernels.attention_grad
)
"""The same for models that write text: attention of one query with many keys takes longer to round
than to compute, so it is left as it is."""

INT8 = Products(
    kernels.matmul_int8, kernels.matmul_stack, kernels.attention, kernels.attention_grad
)
"""Products with weights in `kernels.Int8Panels` in integers, all others in the type of the numbers.
"""

_products: ContextVar[Products] = ContextVar("products", default=WHOLE)


def products() -> Products:
    """How an operation that begins now multiplies."""
    return _products.get()


@contextmanager
def multiplied_in(precision: Products) -> Iterator[None]:
    """Inside, operations multiply matrices by these kernels, and so do their gradients later.

    >>> from entrenar_core.autograd import Tensor, ops
    >>> with multiplied_in(BF16):
    ...     float(ops.matmul(Tensor([[1.0 + 2.0**-9]]), Tensor([[1.0]])).data[0, 0])
    1.0
    """
    token = _products.set(precision)
    try:
        yield
    finally:
        _products.reset(token)
