"""How a module gets its parameters: uninitialised memory, or only their shapes."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from entrenar_core.autograd import Parameter

_memory: ContextVar[bool] = ContextVar("memory", default=True)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Inside, new parameters have their shape and dtype, but no memory and no values: a model of
    any size can be described, or built before its weights are read.

    >>> with shapes_only():
    ...     new_parameter((10**6, 10**6), "float32").data.strides
    (0, 0)
    """
    token = _memory.set(False)
    try:
        yield
    finally:
        _memory.reset(token)


def new_parameter(shape: tuple[int, ...], dtype: str) -> Parameter:
    """A parameter whose values are undefined until weights are loaded or drawn."""
    if _memory.get():
        return Parameter(np.empty(shape, dtype))
    return Parameter(np.broadcast_to(np.zeros((), dtype), shape))
