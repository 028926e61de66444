"""Where in a model its matrices are, and what each of them is for."""

from dataclasses import dataclass
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Parameter
from entrenar_core.nn import Embedding, Module, Projection, modules


@dataclass
class Matrix:
    """A parameter with two or more axes, under its first name, and every place that holds it.

    places: (module, attribute), several where it is tied. output_axis: the axis of the outputs, by
    the projections that use it. embedding and head: whether it is a table, and the output weight.
    """

    name: str
    parameter: Parameter
    places: list[tuple[Module, str]]
    output_axis: int = 0
    embedding: bool = False
    head: bool = False

    @property
    def adapters(self) -> Any:
        """The adapters that work beside it; None where none does.

        Raises ConfigError for a tied parameter, whose places then have different weights.
        """
        beside = [getattr(owner, "adapters", None) for owner, _ in self.places]
        found = [each for each in beside if each is not None and each.active]
        if found and len(self.places) > 1:
            raise ConfigError(
                f"{self.name} is used in {len(self.places)} places, and an adapter works in one",
                hint="leave the tied table and the output out of the adapter's target_modules",
            )
        return found[0] if found else None

    def put(self, value: Any) -> None:
        """Make `value` what the modules have in the parameter's place."""
        for owner, attribute in self.places:
            setattr(owner, attribute, value)


def matrices(model: Module) -> dict[str, Matrix]:
    """The matrices of `model` by their names in `named_parameters`, in its order, without those of
    adapters, which are no numbers of a file: what is stored is the weight with them in it."""
    found: dict[int, Matrix] = {}
    for path, module in modules(model):
        if ".adapters." in f".{path}.":
            continue
        for attribute, value in vars(module).items():
            if not isinstance(value, Parameter) or value.ndim < 2:
                continue
            name = f"{path}.{attribute}" if path else attribute
            matrix = found.setdefault(id(value), Matrix(name, value, []))
            matrix.places.append((module, attribute))
            matrix.embedding |= isinstance(module, Embedding)
            if isinstance(module, Projection):
                matrix.output_axis = module.output_axis
    head = getattr(model, "output_weight", None)
    if head is not None and id(head) in found:
        found[id(head)].head = True
    order = list(model.named_parameters())
    return {m.name: m for m in sorted(found.values(), key=lambda m: order.index(m.name))}


def projections(model: Module) -> dict[str, Projection]:
    """The projections of `model` by the names of their weights, without one that makes the logits:
    losses over a vocabulary use its weight alone."""
    head = getattr(model, "output_weight", None)
    return {
        f"{path}.weight" if path else "weight": module
        for path, module in modules(model)
        if isinstance(module, Projection) and module.weight is not head
    }
