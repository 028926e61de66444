"""`@op`: forward and backward of an operation in one function.

    @op
    def mul(x, y):
        return x * y, (lambda g: g * y, lambda g: g * x)

The function sees arrays and returns its value with one vjp for each positional input (`joint` for
several inputs at once, `into` to write gradients in place, None for an input without one). A vjp
returns a new array, or g itself, or a view of g.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from entrenar_core.autograd.tape import Node, Vjp
from entrenar_core.autograd.tensor import Tensor

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


def op(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """Make a differentiable operation of `function`: see the module's text.

    If `function` has a keyword `needs`, it is given a tuple that says for each positional input
    whether its gradient will be asked for.
    """
    name = function.__name__
    parameters = inspect.signature(function).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    wants_needs = "needs" in inspect.signature(function).parameters

    @functools.wraps(function)
    def call(*given: Any, **options: Any) -> Tensor:
        inputs = given + tuple(options.pop(key, None) for key in positional[len(given) :])
        recording = _recording.get()
        needs = tuple(recording and isinstance(x, Tensor) and x.requires_grad for x in inputs)
        arrays = [x.data if isinstance(x, Tensor) else x for x in inputs]
        if wants_needs:
            options["needs"] = needs
        value, vjps = function(*arrays, **options)
        out = Tensor(value)
        if any(needs):
            out.requires_grad = True
            out.node = _record(name, vjps, inputs, needs)
        return out

    return call


def _record(name: str, vjps: Any, inputs: tuple[Any, ...], needs: tuple[bool, ...]) -> Node:
    edges = tuple(
        (x.node or x) if needed else None for x, needed in zip(inputs, needs, strict=True)
    )
    shapes = tuple(x.shape if needed else () for x, needed in zip(inputs, needs, strict=True))
    return Node(name, tuple(_as_vjp(vjp) for vjp in vjps), edges, shapes)


def _as_vjp(vjp: Any) -> Vjp:
    if isinstance(vjp, Vjp):
        return vjp
    return Vjp(_no_gradient if vjp is None else vjp)


def _no_gradient(_g: Any) -> Any:
    raise AssertionError("an op was asked for the gradient of an input that has none")
