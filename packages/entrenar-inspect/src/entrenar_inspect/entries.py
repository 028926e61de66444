"""Tensors as the headers of the formats describe them, each made an Entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from entrenar_inspect.artifact import Entry

if TYPE_CHECKING:
    from entrenar_core.io.gguf_header import GGUFTensor


def entries_of(tensors: Mapping[str, Any], file: str) -> list[Entry]:
    """The tensors of a file in safetensors, PyTorch's or the APR format that is called `file`."""
    first, found = {}, []
    for info in tensors.values():
        # two names of torch.save for the same elements of one storage
        place = (info.key, info.offset, info.shape, info.stride) if hasattr(info, "key") else None
        same_as = first.setdefault(place, info.name) if place and info.size else info.name
        found.append(
            Entry(
                info.name,
                str(getattr(info.dtype, "name", info.dtype)).upper(),
                info.shape,
                info.nbytes,
                file,
                getattr(info, "begin", 0),
                None if same_as == info.name else same_as,
            )
        )
    return found


def gguf_entries(tensors: Mapping[str, GGUFTensor], file: str) -> list[Entry]:
    """The tensors of a GGUF file that is called `file`."""
    return [
        Entry(
            info.name, info.form.name.upper(), info.shape, info.end - info.begin, file, info.begin
        )
        for info in tensors.values()
    ]
