"""What a plan is made from, the tensors of models, and what is in it, those of the result."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from entrenar_core.merge.reference import ModelRef


class ModelTensors(Protocol):
    """What a plan has to know of a model's tensors."""

    @property
    def model_type(self) -> str:
        """Its architecture, as its config calls it."""
        ...

    @property
    def layers(self) -> int:
        """How many it has."""
        ...

    @property
    def vocabulary(self) -> Collection[str]:
        """Those with one row, or number, for each token."""
        ...

    @property
    def tied(self) -> Mapping[str, str]:
        """What it has under the name of another tensor only, such as the output matrix of a model
        that uses its embeddings: that name → the stored one's."""
        ...

    def names(self) -> Sequence[str]:
        """Those that are stored, in an order that is its own."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """That of a stored one."""
        ...

    def dtype(self, name: str) -> str:
        """NumPy's name for the numbers of a stored one, such as "bfloat16"."""
        ...


Shapes = Mapping[ModelRef, ModelTensors]


@dataclass(frozen=True)
class Source:
    """A stored tensor of a model."""

    model: ModelRef
    name: str


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the result: its name, and what it is made of.

    `models` are those but the base; in the order of their names where the method does not see
    their order, else in the config's. `shared`, `per_model` (aligned with `models`) and `per_input`
    (with the base, if there is one, and then `models`) have the method's parameters by name.
    `is_vocabulary`: it has a row for each token. `is_copied`: it is its one input as it is, for no
    other model has it, and there are no settings.
    """

    name: str
    base: Source | None
    models: tuple[Source, ...]
    shared: Mapping[str, Any] = field(default_factory=dict)
    per_model: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    per_input: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    is_vocabulary: bool = False
    is_copied: bool = False

    @property
    def inputs(self) -> tuple[Source, ...]:
        """All of them, the base first."""
        return ((self.base,) if self.base else ()) + self.models

    @property
    def models_named(self) -> tuple[ModelRef, ...]:
        """The models but the base."""
        return tuple(source.model for source in self.models)

    @property
    def settings(self) -> dict[str, Any]:
        """All parameters of the method by name."""
        return {**self.shared, **self.per_model, **self.per_input}


@dataclass(frozen=True)
class Plan:
    """The tensors of the result, in the order of its layers, of which it has `layers`. `notes` say
    what of the config and the models has no effect."""

    tensors: tuple[PlannedTensor, ...]
    layers: int
    notes: tuple[str, ...]
