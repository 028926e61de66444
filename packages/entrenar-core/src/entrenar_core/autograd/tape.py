"""The walk from a scalar back to the leaves.

Design notes. Nodes are numbered as they are made, so descending numbers are a reverse topological
order: nothing recurses, and a chain of any depth works. A gradient is un-broadcast once per edge,
here and not in the ops. Inputs that need no gradient have no edge. A node's closures, and with
them the activations they hold, are dropped as soon as the node has run.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from entrenar_common.errors import ShapeError
from entrenar_core import kernels
from entrenar_core.autograd import observe

if TYPE_CHECKING:
    from entrenar_core.autograd.tensor import Tensor

_numbers = itertools.count()


class Dest(NamedTuple):
    """Where a gradient may be written by a vjp that can write in place."""

    array: Any  # None: allocate
    add: bool  # add to what `array` holds, instead of overwriting it


class Vjp:
    """The pullback of `count` consecutive inputs of an op.

    `function(g)` returns one gradient for each of them (not in a tuple when there is one). With
    `into`, it is called `function(g, dests)`, one `Dest` (or None: not needed) for each input, and
    returns the arrays that it wrote.
    """

    __slots__ = ("count", "function", "into")

    def __init__(self, function: Callable[..., Any], count: int = 1, into: bool = False):
        self.function, self.count, self.into = function, count, into


def joint(function: Callable[..., Any], count: int) -> Vjp:
    """One function for the gradients of `count` inputs at once."""
    return Vjp(function, count)


def into(function: Callable[..., Any], count: int = 1) -> Vjp:
    """A function that writes, or adds to, gradients where they are wanted: see `Vjp`."""
    return Vjp(function, count, into=True)


class Node:
    """One recorded call of an op: a number, its pullbacks, and an edge for each input.

    An edge is the producing node, or the leaf tensor itself, or None where no gradient is needed.
    `told` is what to tell of its way back those who watch: see `observe`.
    """

    __slots__ = ("edges", "name", "number", "shapes", "told", "vjps")

    def __init__(
        self, name: str, vjps: tuple[Vjp, ...], edges: tuple[Any, ...], shapes: Any, told: Any
    ):
        self.number = next(_numbers)
        self.name, self.vjps, self.edges, self.shapes = name, vjps, edges, shapes
        self.told = told


class _Gradient:
    """A gradient under way to a node: its array, and whether nobody else holds that array."""

    __slots__ = ("array", "owned")

    def __init__(self, array: Any, owned: bool):
        self.array, self.owned = array, owned


def backward(root: "Tensor", gradient: Any = None) -> None:
    """Add d root / d leaf to `.grad` of every leaf that `root` was computed from.

    `gradient` (the shape of root) is what root's own gradient is taken to be, 1 for a scalar.
    Raises ShapeError when root is no scalar and no gradient is given, or when its graph has been
    walked already.
    """
    if gradient is None:
        if root.data.size != 1:
            raise ShapeError(
                f"backward() of a tensor of shape {root.shape} needs the gradient to start from",
                hint="reduce it to a scalar (.sum(), .mean()) or pass one: y.backward(g)",
            )
        gradient = np.ones_like(root.data)
    elif np.shape(gradient) != root.shape:
        raise ShapeError(
            f"backward() of a tensor of shape {root.shape} from a gradient of shape "
            f"{np.shape(gradient)}",
            hint="the gradient has the tensor's shape",
        )
    if root.node is None:
        raise ShapeError(
            "backward() of a tensor that was not computed from anything requiring a gradient",
            hint="make an input with requires_grad=True, outside no_grad()",
        )
    pending: dict[Node, _Gradient] = {
        root.node: _Gradient(np.asarray(gradient, root.dtype), owned=False)
    }
    order = _reachable(root.node)
    while order:
        node = order.pop()
        incoming = pending.pop(node, None)
        if incoming is not None:
            observe.backward(node, partial(_pull_back, node, incoming, pending))
        node.vjps = node.edges = ()


def _reachable(start: Node) -> list[Node]:
    """Every node below `start`, by ascending number."""
    seen, stack = {start}, [start]
    while stack:
        node = stack.pop()
        if not node.vjps:
            raise ShapeError(
                f"the graph behind `{node.name}` has already been walked by backward()",
                hint="compute the result again before calling backward() a second time",
            )
        for edge in node.edges:
            if isinstance(edge, Node) and edge not in seen:
                seen.add(edge)
                stack.append(edge)
    return sorted(seen, key=lambda node: node.number)


def _pull_back(node: Node, incoming: _Gradient, pending: dict[Node, _Gradient]) -> None:
    g, position = incoming.array, 0
    lent: list[tuple[Any, Any]] = []  # edges whose gradient is g's own memory
    for vjp in node.vjps:
        span = slice(position, position + vjp.count)
        position += vjp.count
        edges, shapes = node.edges[span], node.shapes[span]
        if not any(edge is not None for edge in edges):
            continue
        dests = [None if edge is None else _dest(edge, edges, pending) for edge in edges]
        results = vjp.function(g, *dests) if vjp.into else vjp.function(g)
        results = results if vjp.count > 1 else (results,)
        for edge, shape, dest, result in zip(edges, shapes, dests, results, strict=True):
            if dest is None:
                continue
            if result is dest.array:
                _written(edge, result)
                continue
            result = _unbroadcast(np.asarray(result), shape)
            if np.may_share_memory(result, g):
                lent.append((edge, result))
            else:
                _deliver(edge, result, True, pending)
    # g itself is not needed any more, so a single borrower may own its memory
    for edge, result in lent:
        _deliver(edge, result, incoming.owned and len(lent) == 1, pending)


def _dest(edge: Any, siblings: tuple[Any, ...], pending: dict[Node, _Gradient]) -> Dest:
    nowhere = Dest(None, False)
    # two inputs of one vjp are the same tensor: add afterwards (`==` of tensors is elementwise)
    if sum(sibling is edge for sibling in siblings) > 1:
        return nowhere
    if isinstance(edge, Node):
        waiting = pending.get(edge)
        dest = Dest(waiting.array, True) if waiting and waiting.owned else nowhere
    else:
        dest = Dest(edge.grad_buffer, False) if edge.grad is None else Dest(edge.grad, True)
    return dest if dest.array is None or dest.array.flags.c_contiguous else nowhere


def _written(edge: Any, array: Any) -> None:
    if not isinstance(edge, Node):
        edge.grad = array


def _deliver(edge: Any, array: Any, owned: bool, pending: dict[Node, _Gradient]) -> None:
    if not isinstance(edge, Node):
        _deliver_to_leaf(edge, array, owned)
        return
    waiting = pending.get(edge)
    if waiting is None:
        pending[edge] = _Gradient(array, owned)
    elif waiting.owned:
        kernels.accumulate(waiting.array, array)
    elif owned:
        pending[edge] = _Gradient(kernels.accumulate(array, waiting.array), True)
    else:
        # the sum of two 0-d arrays is a scalar, which nothing can be added to in place
        pending[edge] = _Gradient(np.asarray(waiting.array + array), True)


def _deliver_to_leaf(leaf: "Tensor", array: Any, owned: bool) -> None:
    if leaf.grad is not None:
        leaf.grad += array
    elif leaf.grad_buffer is not None:
        leaf.grad_buffer[...] = array
        leaf.grad = leaf.grad_buffer
    else:
        leaf.grad = array if owned else np.array(array)


def _unbroadcast(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Sum `gradient` over the axes along which an input of `shape` was broadcast."""
    if gradient.shape == shape:
        return gradient
    extra = gradient.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, n in enumerate(shape) if n == 1 and gradient.shape[extra + i] != 1
    )
    return gradient.sum(axis=axes, keepdims=True).reshape(shape)
