"""`@op`: forward and backward of an operation in one function.

    @op
    def mul(x, y):
        return x * y, (lambda g: g * y, lambda g: g * x)

The function sees arrays and returns its value with one vjp for each positional input (`joint` for
several inputs at once, `into` to write gradients in place, None for an input without one). A vjp
returns a new array, or g itself, or a view of g.

What all operations have in common is done here. Tensors of one operation have one dtype; arrays and
numbers beside them are constants and take it on. Inputs that do not fit are a ShapeError that names
the operation and every shape.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from entrenar_common.errors import ShapeError, UnsupportedError
from entrenar_core.autograd import observe
from entrenar_core.autograd.tape import Node, Vjp
from entrenar_core.autograd.tensor import Tensor
from entrenar_core.kernels.held import Held

_FLOATS = (np.dtype("float32"), np.dtype("float64"))

_recording: ContextVar[bool] = ContextVar("recording", default=True)


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside, nothing is recorded: results have `requires_grad=False`.

    >>> x = Tensor([1.0], requires_grad=True)
    >>> with no_grad():
    ...     (x * x).requires_grad
    False
    """
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


def takes_held(*inputs: str) -> Callable[[Any], Any]:
    """Let these inputs of the operation that follows be matrices `Held` in few bits. All others are
    given as float32 copies."""

    def mark(function: Any) -> Any:
        function.held = frozenset(inputs)
        return function

    return mark


def op(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """Make a differentiable operation of `function`: see the module's text.

    If `function` has a keyword `needs`, it is given a tuple that says for each positional input
    whether its gradient will be asked for.
    """
    name = function.__name__
    parameters = inspect.signature(function).parameters.values()
    positional = [
        (p.name, None if p.default is p.empty else p.default)
        for p in parameters
        if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    wants_needs = "needs" in inspect.signature(function).parameters

    @functools.wraps(function)
    def call(*given: Any, **options: Any) -> Tensor:
        left = positional[len(given) :]
        inputs = given + tuple(options.pop(key, default) for key, default in left)
        recording = _recording.get()
        needs = tuple(recording and isinstance(x, Tensor) and x.requires_grad for x in inputs)
        arrays = _arrays(name, inputs)
        if any(type(array) is Held for array in arrays):
            arrays = _unheld(function, positional, arrays, needs)
        if wants_needs:
            options["needs"] = needs
        try:
            (value, vjps), told = observe.forward(name, function, arrays, options, needs)
        except (ValueError, IndexError) as problem:
            if isinstance(problem, ShapeError):
                raise
            raise _misfit(name, function, arrays, problem) from problem
        out = Tensor(value)
        if any(needs):
            out.requires_grad = True
            out.node = record(name, vjps, inputs, needs, told=told)
        return out

    return call


def _arrays(name: str, inputs: tuple[Any, ...]) -> list[Any]:
    """The inputs as arrays: constants in the dtype of the tensors beside them."""
    dtype = None
    for x in inputs:
        if isinstance(x, Tensor) and x.data.dtype in _FLOATS:
            if dtype is not None and x.data.dtype != dtype:
                raise ShapeError(
                    f"{name}: {_shown(inputs)} mixes {dtype} with {x.data.dtype}",
                    hint="convert one of them: x.astype('float32')",
                )
            dtype = x.data.dtype
    return [x.data if isinstance(x, Tensor) else _constant(x, dtype) for x in inputs]


def _unheld(
    function: Any, positional: list[tuple[str, Any]], arrays: list[Any], needs: tuple[bool, ...]
) -> list[Any]:
    """`arrays` with held matrices only where they are taken."""
    found, taken = list(arrays), getattr(function, "held", frozenset())
    for place, array in enumerate(arrays):
        if type(array) is not Held:
            continue
        parameter = positional[place][0] if place < len(positional) else f"input {place}"
        if needs[place]:
            raise UnsupportedError(
                f"{function.__name__}: {parameter} {array.shape} is held in few bits, and has no "
                "gradient",
                hint="freeze it and train an adapter beside it, or load the model in float32",
            )
        if parameter not in taken:
            found[place] = np.asarray(array)
    return found


def _constant(x: Any, dtype: Any) -> Any:
    if isinstance(x, np.floating):
        return float(x)  # a number of numpy's decides no dtype, as Python's does not
    if dtype is not None and isinstance(x, np.ndarray) and x.dtype != dtype and x.dtype in _FLOATS:
        return x.astype(dtype)
    return x


def _misfit(name: str, function: Any, arrays: list[Any], problem: Exception) -> ShapeError:
    summary = (inspect.getdoc(function) or "").partition("\n")[0]
    return ShapeError(
        f"{name}: {_shown(arrays)} do not fit: {problem}", hint=f"{name} is {summary}"
    )


def _shown(inputs: Any) -> str:
    """dtype and shape of every array among `inputs`, and other small values as they are."""
    described = [
        f"{x.dtype} {x.shape}" if hasattr(x, "shape") else repr(x) for x in inputs if x is not None
    ]
    return ", ".join(described)


def record(
    name: str,
    vjps: Any,
    inputs: tuple[Any, ...],
    needs: tuple[bool, ...],
    *,
    told: observe.Call | None = None,
) -> Node:
    edges = tuple(
        (x.node or x) if needed else None for x, needed in zip(inputs, needs, strict=True)
    )
    shapes = tuple(x.shape if needed else () for x, needed in zip(inputs, needs, strict=True))
    return Node(name, tuple(_as_vjp(vjp) for vjp in vjps), edges, shapes, told)


def _as_vjp(vjp: Any) -> Vjp:
    if isinstance(vjp, Vjp):
        return vjp
    return Vjp(_no_gradient if vjp is None else vjp)


def _no_gradient(_g: Any) -> Any:
    raise AssertionError("an op was asked for the gradient of an input that has none")
