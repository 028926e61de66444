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
        inputs = given
        if len(given) < len(positional):
            inputs += tuple([options.pop(key, other) for key, other in positional[len(given) :]])
        arrays, needs, is_held = _arrays(name, inputs)
        if is_held:
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
        if True in needs:
            out.requires_grad = True
            out.node = record(name, vjps, inputs, needs, told=told)
        return out

    return call


def _arrays(name: str, inputs: tuple[Any, ...]) -> tuple[list[Any], tuple[bool, ...], bool]:
    """The inputs as arrays, constants in the dtype of the tensors beside them; whether the gradient
    of each will be asked for; and whether any is held in few bits.

    A loop, and no expression for each of these: a step calls it a thousand times.
    """
    recording = _recording.get()
    arrays: list[Any] = []
    needs: list[bool] = []
    dtype, is_held, constants = None, False, []
    for x in inputs:
        if isinstance(x, Tensor):
            array = x.data
            if array.dtype is not dtype:
                dtype = _common(name, inputs, dtype, array.dtype)
            is_held = is_held or type(array) is Held
            arrays.append(array)
            needs.append(recording and x.requires_grad)
        else:
            if x is not None:
                constants.append(len(arrays))
            arrays.append(x)
            needs.append(False)
    for place in constants:
        arrays[place] = _constant(arrays[place], dtype)
    return arrays, tuple(needs), is_held


def _common(name: str, inputs: tuple[Any, ...], dtype: Any, other: Any) -> Any:
    """The dtype of the tensors up to one of dtype `other`; integers have no say."""
    if other not in _FLOATS:
        return dtype
    if dtype is not None and other != dtype:
        raise ShapeError(
            f"{name}: {_shown(inputs)} mixes {dtype} with {other}",
            hint="convert one of them: x.astype('float32')",
        )
    return other


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
    edges: list[Any] = []
    shapes: list[tuple[int, ...]] = []
    for x, needed in zip(inputs, needs, strict=True):
        edges.append((x.node or x) if needed else None)
        shapes.append(x.data.shape if needed else ())
    return Node(name, tuple([_as_vjp(vjp) for vjp in vjps]), tuple(edges), tuple(shapes), told)


def _as_vjp(vjp: Any) -> Vjp:
    if isinstance(vjp, Vjp):
        return vjp
    return Vjp(_no_gradient if vjp is None else vjp)


def _no_gradient(_g: Any) -> Any:
    raise AssertionError("an op was asked for the gradient of an input that has none")
