"""Models on the hub, known by their headers: nothing else of their weights is fetched."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, NoReturn

from entrenar_common.errors import ConfigError, NotFoundError, UnsupportedError
from entrenar_common.text import escape_controls, nearest
from entrenar_common.units import format_bytes
from entrenar_core.io.gguf_header import MAGIC
from entrenar_core.io.hub_headers import (
    GGUF_CHUNK,
    SAFETENSORS_CHUNK,
    read_gguf,
    read_safetensors,
)
from entrenar_core.io.hub_model import HubModel
from entrenar_core.io.hub_weights import HubWeights, gguf_of, safetensors_of
from entrenar_core.io.safetensors_write import INDEX_NAME, SINGLE_NAME
from entrenar_core.io.strict_json import parse_json_bytes
from entrenar_inspect.artifact import APR, GGUF, PYTORCH, SAFETENSORS, Artifact, Entry, WeightFile
from entrenar_inspect.entries import entries_of, gguf_entries
from entrenar_inspect.hub_place import HubPlace, parse_place
from entrenar_inspect.opening import ADAPTER_WEIGHTS, CONFIG, SUFFIXES, config_keys

MAX_BESIDE_BYTES = 10**6
"""Of a file beside the weights that is fetched: a longer one, such as some tokenizer.json, counts
as not there."""

MOST_SHOWN = 40


def open_remote(spec: str) -> Artifact:
    """What is at `hf://org/name[@revision][/path/in/repo]`, of which only headers are fetched.

    Without a file, what a loader would take of the repository, or of a folder in it:
    model.safetensors, else the shards of its index, else an adapter, else the only GGUF file.
    `beside` fetches small files (`MAX_BESIDE_BYTES`) when they are asked for, and `read` raises
    UnsupportedError. `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` are honoured.

    Raises ConfigError (a malformed spec, several files of which one has to be named),
    NotFoundError, FormatError, UnsupportedError (PyTorch's files), HubError, IntegrityError.
    """
    place = parse_place(spec)
    model = HubModel(place.model, place.revision or None)
    if place.path in model.sizes:
        return _open_file(spec, place, model, place.path)
    if place.path and not any(name.startswith(place.path + "/") for name in model.sizes):
        raise _no_such_file(place, model)
    found = safetensors_of(model, place.path)
    if found is not None:
        return _safetensors(spec, model, place.path, found, of_model=True)
    return _open_file(spec, place, model, _only_file(place, model))


def _no_such_file(place: HubPlace, model: HubModel) -> NotFoundError:
    close = nearest(place.path, model.sizes)
    names = sorted(model.sizes)
    shown = ", ".join(map(escape_controls, names[:5])) + (", …" if len(names) > 5 else "")
    return NotFoundError(
        f"{model.path(place.path)}: the repository has no such file or folder",
        hint=f"did you mean {place.spec(close)}?" if close else f"it has {shown or 'no files'}",
    )


def _only_file(place: HubPlace, model: HubModel) -> str:
    """The file to open of a folder without model.safetensors; parts count as their first."""
    inside = [name for name in model.sizes if _parent(name) == place.path]
    for name in ADAPTER_WEIGHTS:
        if _join(place.path, name) in inside:
            return _join(place.path, name)
    for kind in (GGUF, SAFETENSORS, PYTORCH, APR):
        names = sorted(n for n in inside if SUFFIXES.get(PurePosixPath(n).suffix) == kind)
        first = [n for n in names if "-of-" not in n or "-00001-of-" in n]
        if len(first) > 1 and kind in (GGUF, SAFETENSORS):
            _which(place, model, kind, first)
        if first:
            return first[0]
    raise NotFoundError(
        f"{model.path(place.path)}: no weights in it: no {', '.join(SUFFIXES)}",
        hint=f"give another folder of the repository, such as {place.spec(elsewhere)}"
        if (elsewhere := _folder_with_weights(model))
        else "check the name",
    )


def _which(place: HubPlace, model: HubModel, kind: str, names: Sequence[str]) -> NoReturn:
    sizes = [model.sizes[name] for name in names]
    shown = [
        place.spec(name) + (f" ({format_bytes(size)})" if size is not None else "")
        for name, size in list(zip(names, sizes, strict=True))[:MOST_SHOWN]
    ]
    more = len(names) - len(shown)
    raise ConfigError(
        f"{model.path(place.path)}: {len(names)} {kind} files, and nothing says which is meant",
        details=[*shown, *([f"and {more} more"] if more else [])],
        hint=f"give one of them, such as {place.spec(names[0])}",
    )


def _folder_with_weights(model: HubModel) -> str | None:
    found = (n for n in sorted(model.sizes) if PurePosixPath(n).suffix in (".gguf", ".safetensors"))
    return next((_parent(name) for name in found), None)


def _open_file(spec: str, place: HubPlace, model: HubModel, name: str) -> Artifact:
    kind = SUFFIXES.get(PurePosixPath(name).suffix)
    if kind in (PYTORCH, APR):
        raise UnsupportedError(
            f"{model.path(name)}: of {kind} files on the hub no headers can be fetched",
            hint=f"download it, and give the local file: hf download {model.name} "
            f"{escape_controls(name)}",
        )
    file = model.open(name)
    head = file.take(0, GGUF_CHUNK if kind == GGUF else SAFETENSORS_CHUNK)
    if head.startswith(MAGIC):
        return _gguf(spec, model, _parent(name), gguf_of(model, read_gguf(file, head)))
    header = read_safetensors(file, head)
    folder, last = _parent(name), PurePosixPath(name).name
    shard = "-of-" in last and _join(folder, INDEX_NAME) in model.sizes
    note = f"{last} is one shard of a model: give {place.spec(folder)} for all of it"
    return _safetensors(
        spec,
        model,
        folder,
        HubWeights([header], header.metadata, [note] if shard else []),
        of_model=shard or last in (SINGLE_NAME, *ADAPTER_WEIGHTS),
    )


def _safetensors(
    spec: str, model: HubModel, folder: str, found: HubWeights, *, of_model: bool
) -> Artifact:
    config, name = None, _join(folder, CONFIG)
    if of_model and name in model.sizes:
        path = model.path(name)
        config = config_keys(parse_json_bytes(model.read(name), path), path)
    tensors = [entries_of(file.tensors, file.name) for file in found.files]
    return _artifact(spec, SAFETENSORS, model, folder, found, tensors, config)


def _gguf(spec: str, model: HubModel, folder: str, found: HubWeights) -> Artifact:
    tensors = [gguf_entries(file.tensors, file.name) for file in found.files]
    return _artifact(spec, GGUF, model, folder, found, tensors, None)


def _artifact(
    spec: str,
    kind: str,
    model: HubModel,
    folder: str,
    found: HubWeights,
    tensors: Sequence[Sequence[Entry]],
    config: Mapping[str, Any] | None,
) -> Artifact:
    return Artifact(
        spec, kind, _NotFetched(model), tensors=chain.from_iterable(tensors), config=config,
        files=[WeightFile(file.name, file.size) for file in found.files],
        metadata=found.metadata, notes=found.notes, beside=_beside(model, folder),
        fetched=lambda: model.fetched,
    )  # fmt: skip


def _beside(model: HubModel, folder: str) -> Callable[[str], bytes | None]:
    kept: dict[str, bytes | None] = {}

    def fetch(name: str) -> bytes | None:
        if name not in model.sizes:
            return None
        file = model.open(name)
        return file.take(0, file.size) if file.size <= MAX_BESIDE_BYTES else None

    def beside(name: str) -> bytes | None:
        name = _join(folder, name)
        if name not in kept:
            kept[name] = fetch(name)
        return kept[name]

    return beside


class _NotFetched:
    """In the place of a reader: the values stay where they are."""

    def __init__(self, model: HubModel) -> None:
        self._model = model

    def read(self, name: str) -> NoReturn:
        raise UnsupportedError(
            f"{self._model.name}: tensor '{escape_controls(name)}': values of tensors on the hub "
            "are not fetched",
            hint=f"download the model, and give the folder: hf download {self._model.name}",
        )

    def release(self, name: str) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is open between requests."""


def _parent(name: str) -> str:
    """The folder of a file in the repository, "" for the repository itself."""
    return name.rpartition("/")[0]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
