"""The base of every module: names its parameters by the attributes that lead to them."""

from collections.abc import Iterable, Iterator
from typing import Any

from entrenar_core.autograd import Parameter


class Module:
    """Holds parameters and other modules in plain attributes and lists.

    A parameter's name is the path of attributes to it, such as
    `model.layers.0.self_attn.q_proj.weight`, which makes it the name in a checkpoint.
    """

    def children(self) -> Iterable[tuple[str, Any]]:
        """What it holds, by the names that lead there: its attributes."""
        return vars(self).items()

    def named_parameters(self) -> dict[str, Parameter]:
        """Every parameter by name, in the order in which the attributes were set. A parameter
        reached twice (a tied one) appears once, under its first name."""
        found: dict[str, Parameter] = {}
        seen: set[int] = set()
        for name, value in _walk(self, ""):
            if id(value) not in seen:
                seen.add(id(value))
                found[name] = value
        return found

    def tied_names(self) -> dict[str, str]:
        """The further names of parameters that are reached twice → their first name."""
        first: dict[int, str] = {}
        tied: dict[str, str] = {}
        for name, value in _walk(self, ""):
            if first.setdefault(id(value), name) != name:
                tied[name] = first[id(value)]
        return tied

    def parameters(self) -> list[Parameter]:
        """The values of `named_parameters`."""
        return list(self.named_parameters().values())

    def parameter_count(self) -> int:
        """How many numbers are trained, tied ones counted once."""
        return sum(p.data.size for p in self.parameters())

    def freeze(self) -> None:
        """Stop asking for gradients of this module's parameters."""
        for parameter in self.parameters():
            parameter.requires_grad = False


def modules(value: Any, path: str = "") -> Iterator[tuple[str, Module]]:
    """Every module in `value`, itself included, with the attributes that lead there."""
    if isinstance(value, Module):
        yield path, value
        children: Any = value.children()
    elif isinstance(value, list):
        children = enumerate(value)
    else:
        return
    for name, child in children:
        yield from modules(child, f"{path}.{name}" if path else str(name))


def _walk(value: Any, path: str) -> Iterator[tuple[str, Parameter]]:
    if isinstance(value, Parameter):
        yield path, value
        return
    if isinstance(value, Module):
        children = value.children()
    elif isinstance(value, list):
        children = enumerate(value)
    else:
        return
    for name, child in children:
        yield from _walk(child, f"{path}.{name}" if path else str(name))
