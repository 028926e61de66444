"""Weights as they are meant: what is packed is one weight, what is not learned is left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple
from weakref import WeakKeyDictionary

from entrenar_inspect.artifact import Artifact, Entry
from entrenar_inspect.names import WRAPPED, is_of_adapter, pattern_of
from entrenar_inspect.packing import ENDS, Weight, unpacked

_BUFFERS = frozenset({
    "masked_bias", "position_ids", "token_type_ids", "running_mean", "running_var",
    "num_batches_tracked", "rope_freqs.weight", "rope_factors_long.weight",
    "rope_factors_short.weight", "attn_rot_embd.weight",
})  # fmt: skip
"""Last parts of the names of what a model stores without learning it."""

_INTEGERS = frozenset({"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64"})


class Place(NamedTuple):
    """Where a pattern is met first: the tensor, and its shape where that is known."""

    name: str
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Weights:
    """All weights by name, in the files' order.

    buffers: names of tensors that are none; companions: names of those that describe packed ones;
    unknown: those of integers that may be packed in a way that is not known here.
    """

    by_name: Mapping[str, Weight]
    buffers: tuple[str, ...]
    companions: frozenset[str]
    unknown: tuple[str, ...]

    @cached_property
    def model(self) -> Mapping[str, Weight]:
        """Those of the model that adapters are on, by the names that it had before."""
        if not any(map(is_of_adapter, self.by_name)):
            return self.by_name
        return {
            name.replace(WRAPPED, "."): weight
            for name, weight in self.by_name.items()
            if not is_of_adapter(name)
        }

    @cached_property
    def places(self) -> Mapping[str, Place]:
        """Where each pattern of the model's names is met first."""
        found: dict[str, Place] = {}
        for name, weight in self.model.items():
            found.setdefault(pattern_of(name), Place(name, weight.shape))
        return found


def weights_of(artifact: Artifact) -> Weights:
    """The weights of an artifact, from its headers and, where they are in 4 bits of bitsandbytes,
    from the few bytes that describe each. They are found once, since headers do not change."""
    found = _FOUND.get(artifact)
    if found is None:
        found = _FOUND[artifact] = _sorted_out(artifact)
    return found


_FOUND: WeakKeyDictionary[Artifact, Weights] = WeakKeyDictionary()


def _sorted_out(artifact: Artifact) -> Weights:
    packed: dict[str, Weight] = {}
    companions: set[str] = set()
    for name, entry in artifact.tensors.items():
        if name.endswith(ENDS):
            for found in unpacked(artifact, entry):
                packed[found.codes] = found.weight
                companions.update(found.companions)
    by_name: dict[str, Weight] = {}
    buffers: list[str] = []
    unknown: list[str] = []
    for name, entry in artifact.tensors.items():
        if name in packed:
            by_name[packed[name].name] = packed[name]
        elif name not in companions:
            _sort_in(entry, by_name, buffers, unknown)
    return Weights(by_name, tuple(buffers), frozenset(companions), tuple(unknown))


def _sort_in(
    entry: Entry, by_name: dict[str, Weight], buffers: list[str], unknown: list[str]
) -> None:
    if is_buffer(entry):
        buffers.append(entry.name)
        is_matrix = entry.dtype in _INTEGERS and len(entry.shape) > 1
        if is_matrix and not _is_named_buffer(entry.name) and not _is_mask(entry):
            unknown.append(entry.name)
    else:
        by_name[entry.name] = Weight(
            entry.name, entry.dtype, entry.shape, entry.elements, entry.same_as
        )


def is_buffer(entry: Entry) -> bool:
    """Whether it is stored without being learned: integers, masks, frequencies, running means.

    Of codes that are packed into integers this is true as well.
    """
    if _is_named_buffer(entry.name) or _is_mask(entry):
        return True
    return entry.dtype in _INTEGERS or entry.dtype == "BOOL"


def _is_named_buffer(name: str) -> bool:
    last = name.rpartition(".")[2]
    return last in _BUFFERS or last.endswith("inv_freq") or _two_last(name) in _BUFFERS


def _two_last(name: str) -> str:
    return ".".join(name.rsplit(".", 2)[-2:])


def _is_mask(entry: Entry) -> bool:
    """GPT-2 and GPT-NeoX kept the triangle of attention under the name of a bias."""
    shape = entry.shape
    return entry.name.endswith(".bias") and len(shape) == 4 and shape == (1, 1, shape[2], shape[2])
