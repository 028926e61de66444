"""The index of a model in several files: which shard has which tensor, and whether that is so."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from entrenar_common.errors import FormatError, RefusedError
from entrenar_common.text import escape_controls

_FETCH_AGAIN = "the folder is damaged or incomplete: fetch or write it again"


class Shard(Protocol):
    """A file of tensors whose header was read, wherever it is."""

    @property
    def path(self) -> Path: ...  # for messages

    @property
    def tensors(self) -> Mapping[str, Any]: ...


S = TypeVar("S", bound=Shard)


class Index(NamedTuple):
    """What an index says: the shard of each tensor, and the bytes of all of them, if anything."""

    weight_map: dict[str, str]
    total_size: Any

    @property
    def shards(self) -> list[str]:
        """The names of the files, sorted."""
        return sorted(set(self.weight_map.values()))


def parse_index(index: Any, path: Path) -> Index:
    """The index from the JSON that came from `path`.

    Raises FormatError where it is no index, and RefusedError where a shard is outside the folder.
    """
    weight_map = index.get("weight_map") if type(index) is dict else None
    if type(weight_map) is not dict or any(type(v) is not str for v in weight_map.values()):
        raise FormatError(
            f"{path}: weight_map is not a map of tensor names to file names", hint=_FETCH_AGAIN
        )
    for shard in sorted(set(weight_map.values())):
        # a link is fine (the hub's cache consists of them), a path that leaves the folder is not
        if not shard or shard in (".", "..") or set(shard) & set("/\\:\0"):
            raise RefusedError(
                f"{path}: shard name '{escape_controls(shard)}' is not a plain file name",
                hint="the index points outside its folder: do not trust where it came from",
            )
    metadata = index.get("metadata")
    return Index(weight_map, metadata.get("total_size") if type(metadata) is dict else None)


def place_tensors(
    index: Index, shards: Mapping[str, S], path: Path
) -> tuple[dict[str, S], list[str]]:
    """The shard that has each tensor which the index lists, and what is odd but harmless, in words.

    `shards` are by name, `path` is the index's. Raises FormatError where index and shards disagree.
    """
    _refuse_twice_stored(shards.values(), path.parent)
    found: dict[str, S] = {}
    for name, shard in index.weight_map.items():
        if name not in shards[shard].tensors:
            raise FormatError(
                f"{path}: tensor '{escape_controls(name)}' is not in {shard}", hint=_FETCH_AGAIN
            )
        found[name] = shards[shard]
    odd = []
    extra = sum(len(shard.tensors) for shard in shards.values()) - len(found)
    if extra:
        odd.append(f"{path}: {extra} tensors in the shards are not listed")
    size = sum(shard.tensors[name].nbytes for name, shard in found.items())
    if index.total_size is not None and index.total_size != size:
        odd.append(f"{path}: total_size says {index.total_size!r}, the tensors take {size} bytes")
    return found, odd


def _refuse_twice_stored(shards: Iterable[Shard], folder: Path) -> None:
    first: dict[str, Shard] = {}
    for shard in shards:
        for name in shard.tensors:
            if name in first:
                raise FormatError(
                    f"{folder}: tensor '{escape_controls(name)}' is in two shards, "
                    f"{first[name].path.name} and {shard.path.name}",
                    hint=_FETCH_AGAIN,
                )
            first[name] = shard
