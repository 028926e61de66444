"""Which tensors two models have in common, and what headers say became of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from entrenar_common.errors import NotFoundError
from entrenar_common.text import escape_controls
from entrenar_inspect.artifact import Entry
from entrenar_inspect.differences import Difference

SAME, DIFFERS, RESHAPED, RETYPED = "same", "differs", "reshaped", "retyped"
ADDED, REMOVED = "added", "removed"
CHANGES = (SAME, DIFFERS, RESHAPED, RETYPED, ADDED, REMOVED)
"""What may have become of a tensor."""


@dataclass(frozen=True)
class Stored:
    """How a tensor is stored."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class TensorPair:
    """One tensor on both sides; a side that does not have it is None.

    name: the one it is compared by; name_in_a, name_in_b: those of the files; change: one of
    CHANGES; difference: that of the numbers, None where they were not looked at.
    """

    name: str
    change: str
    a: Stored | None
    b: Stored | None
    name_in_a: str | None = None
    name_in_b: str | None = None
    difference: Difference | None = None


def pairs_of(
    a: Mapping[str, Entry], b: Mapping[str, Entry], name_filter: str | None
) -> list[TensorPair]:
    """The tensors of both sides, by the names they are compared by, that fit the filter; those of b
    alone are last.

    Raises NotFoundError where none does.
    """
    names = [*a, *(name for name in b if name not in a)]
    pairs = [_pair(name, a.get(name), b.get(name)) for name in names]
    if name_filter is None:
        return pairs
    found = [pair for pair in pairs if _fits(pair, name_filter)]
    if not found:
        raise NotFoundError(
            f"no tensor of the two models fits '{escape_controls(name_filter)}'",
            hint="a filter is a whole name with wildcards, such as '*.q_proj.weight'",
        )
    return found


def _fits(pair: TensorPair, name_filter: str) -> bool:
    names = (pair.name, pair.name_in_a, pair.name_in_b)
    return any(name is not None and fnmatchcase(name, name_filter) for name in names)


def _pair(name: str, a: Entry | None, b: Entry | None) -> TensorPair:
    one, other = (None if e is None else Stored(e.dtype, e.shape) for e in (a, b))
    in_a, in_b = (None if e is None else e.name for e in (a, b))
    return TensorPair(name, _change(one, other), one, other, in_a, in_b)


def _change(a: Stored | None, b: Stored | None) -> str:
    if a is None or b is None:
        return ADDED if a is None else REMOVED
    if a.shape != b.shape:
        return RESHAPED
    return SAME if a.dtype == b.dtype else RETYPED


def module_of(name: str) -> str:
    """The kind of module that has a tensor.

    >>> module_of("model.layers.3.self_attn.q_proj.weight"), module_of("lm_head.weight")
    ('q_proj', 'lm_head')
    """
    parts = [part for part in name.split(".") if not part.isdigit()]
    return parts[-2] if len(parts) > 1 else name
