"""The families of models that are known: what configs call them, and what their tensors are called.

Names are Hugging Face's, with {} for each number. A model with a head has its own names behind a
prefix such as `model.` or `bert.`, so patterns here begin after it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

Shape = tuple[int, ...]


class Size(NamedTuple):
    """Where a dimension can be read: an axis of a tensor's shape, divided by `over`."""

    tensor: str
    axis: int = 0
    over: int = 1


class Rule(NamedTuple):
    """What the shape of a tensor has to be, in words, where families share all names."""

    tensor: str
    holds: Callable[[Shape], bool]
    words: str


@dataclass(frozen=True, eq=False)
class Layout:
    """One way in which the tensors of a family are called.

    blocks: the stacks of blocks, an encoder's first; required: of which all are there; forbidden:
    of which none is; rules: what shapes have to be; prefixes: what the prefix has to end with, one
    of them, where names alone do not tell; sizes: where dimensions can be read, by
    "hidden", "inner", "vocabulary", "positions", "experts", "heads", "head_size", "queries" and
    "keys" (rows of these projections).
    """

    blocks: tuple[str, ...]
    required: tuple[str, ...]
    forbidden: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    prefixes: tuple[str, ...] = ()
    sizes: Mapping[str, Size] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Family:
    """One family.

    name: as it is shown; model_types: what configs call it; stem: what its classes' names begin
    with; gguf: general.architecture; layouts: how its tensors are called; vision: where dimensions
    of its part that sees can be read; tied: whether the output head is the embedding where a config
    does not say; inner_factor: the inner width in hidden sizes where nothing says it; reserved: how
    many rows of the position embedding no token uses; stated_reserved: whether the config's number
    of positions counts them.
    """

    name: str
    model_types: tuple[str, ...]
    stem: str
    layouts: tuple[Layout, ...]
    gguf: tuple[str, ...] = ()
    vision: Layout | None = None
    tied: bool = False
    inner_factor: int | None = None
    reserved: int = 0
    stated_reserved: bool = False


def of_model_type(model_type: str) -> Family | None:
    """The family whose configs have this model_type."""
    return next((each for each in all_families() if model_type in each.model_types), None)


def of_class(name: str) -> Family | None:
    """The family of a class that `architectures` names, such as LlamaForCausalLM."""
    return next(
        (
            each
            for each in all_families()
            if name.startswith(each.stem)
            and name[len(each.stem) :].startswith(("For", "Model", "LMHead", "PreTrained"))
        ),
        None,
    )


def of_gguf(architecture: str, *, experts: bool) -> Family | None:
    """The family of a GGUF file, which calls Mixtral llama too, with experts."""
    if architecture == "llama" and experts:
        return by_name("Mixtral")
    return next((each for each in all_families() if architecture in each.gguf), None)


def by_name(name: str) -> Family | None:
    """The family that is shown by this name."""
    return next((each for each in all_families() if each.name == name), None)


def all_families() -> tuple[Family, ...]:
    """All families that are known."""
    from entrenar_inspect.family_table import FAMILIES  # it is made of the classes above

    return FAMILIES
