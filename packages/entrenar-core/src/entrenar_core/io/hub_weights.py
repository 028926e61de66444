"""The weights of a model on the hub, known by the headers of its files."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Generic, TypeVar

from entrenar_common.errors import NotFoundError
from entrenar_core.io import gguf_parts, shards
from entrenar_core.io.hub_file import HubFile
from entrenar_core.io.hub_headers import (
    GGUFHeader,
    SafetensorsHeader,
    read_gguf,
    read_safetensors,
)
from entrenar_core.io.hub_model import HubModel
from entrenar_core.io.safetensors_write import INDEX_NAME, SINGLE_NAME
from entrenar_core.io.strict_json import parse_json_bytes

MOST_THREADS = 8
"""Requests at a time, for models in many files."""

H = TypeVar("H", SafetensorsHeader, GGUFHeader)


@dataclass(frozen=True, eq=False)
class HubWeights(Generic[H]):
    """Tensors on the hub. `files` are their headers, `metadata` is the first one's, `notes` says
    what is odd but harmless."""

    files: Sequence[H]
    metadata: Mapping[str, Any]
    notes: Sequence[str] = ()


def safetensors_of(model: HubModel, folder: str = "") -> HubWeights[SafetensorsHeader] | None:
    """`model.safetensors` in a folder of the repository, else the shards of
    `model.safetensors.index.json`, as a loader would; None where there is neither.

    Raises what `SafetensorsFolder` raises, and HubError.
    """
    single, index = (str(PurePosixPath(folder, name)) for name in (SINGLE_NAME, INDEX_NAME))
    if single in model.sizes:
        file = read_safetensors(model.open(single))
        return HubWeights([file], file.metadata)
    if index not in model.sizes:
        return None
    path = model.path(index)
    listed = shards.parse_index(parse_json_bytes(model.read(index), path), path)
    names = {shard: str(PurePosixPath(folder, shard)) for shard in listed.shards}
    for name in names.values():
        if name not in model.sizes:
            raise NotFoundError(
                f"{model.path(name)}: missing, though {INDEX_NAME} lists it",
                hint="the repository is incomplete: choose another revision",
            )
    files = _read_all(model, list(names.values()), read_safetensors)
    _, notes = shards.place_tensors(listed, dict(zip(names, files, strict=True)), path)
    return HubWeights(files, files[0].metadata if files else {}, notes)


def gguf_of(model: HubModel, first: GGUFHeader) -> HubWeights[GGUFHeader]:
    """The model whose only or first file has this header, with its other parts.

    Raises what `GGUFFiles` raises, and HubError.
    """
    place, count = PurePosixPath(first.name), gguf_parts.part_count(first)
    others = [str(place.with_name(path.name)) for path in gguf_parts.other_parts(first)]
    for number, name in enumerate(others, 2):
        if name not in model.sizes:
            raise NotFoundError(
                f"{model.path(name)}: missing: it is part {number} of {count} of {place.name}",
                hint="the repository is incomplete: choose another revision",
            )
    files = [first, *_read_all(model, others, read_gguf)]
    for number, file in enumerate(files[1:], 1):
        gguf_parts.check_part(file, number, count)
    gguf_parts.place_tensors(files)
    return HubWeights(files, gguf_parts.whole_metadata(first))


def _read_all(model: HubModel, names: Sequence[str], read: Callable[[HubFile], H]) -> list[H]:
    """Headers in the order of `names`; the first failure ends it."""
    if not names:
        return []
    with ThreadPoolExecutor(min(MOST_THREADS, len(names))) as pool:
        return list(pool.map(lambda name: read(model.open(name)), names))
