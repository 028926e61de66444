"""Which module an operation belongs to, for those who watch operations."""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from entrenar_core.autograd.observe import inside
from entrenar_core.nn.module import Module, modules

__all__ = ["watching_modules"]


@contextmanager
def watching_modules(models: Mapping[str, Module]) -> Iterator[None]:
    """Inside, what the modules of `models` call is told of with where they are, such as
    `student.model.layers.0.mlp.up_proj`: the name that a model has here, and the path in it.

    An operation belongs to the innermost module that was called and has not returned; one that is
    called for a module without calling it, as where two are fused, to the one around it.

    The classes' `__call__` are others meanwhile, and what they were afterwards: a module that
    nobody watches is called as if there were no such thing.
    """
    names: dict[int, str] = {}
    owners: set[type] = set()
    for model, root in models.items():
        for path, module in modules(root, model):
            names.setdefault(id(module), path)
            owners |= {c for c in type(module).__mro__ if "__call__" in vars(c)}
    with ExitStack() as stack:
        for owner in owners:
            former = vars(owner)["__call__"]
            stack.callback(setattr, owner, "__call__", former)
            setattr(owner, "__call__", _named(former, names))  # noqa: B010
        yield


def _named(call: Callable[..., Any], names: Mapping[int, str]) -> Callable[..., Any]:
    """`call` of a module, whose operations have its name meanwhile, if it has one."""

    @functools.wraps(call)
    def named(self: Module, *given: Any, **options: Any) -> Any:
        name = names.get(id(self))
        if name is None:
            return call(self, *given, **options)
        with inside(name):
            return call(self, *given, **options)

    return named
