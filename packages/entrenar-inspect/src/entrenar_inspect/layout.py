"""What tensors are called and where they tell a model's dimensions: the words of the tables."""

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

    Names are Hugging Face's, with {} for each number, from where they are the family's own: what
    comes before, such as `model.` or `bert.`, is the prefix.

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
