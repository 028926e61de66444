"""The headers of files of tensors on the hub: of a file's bytes only those are fetched."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from entrenar_common.errors import FormatError
from entrenar_core.io import gguf_header, safetensors_header
from entrenar_core.io.gguf_cursor import MoreNeeded
from entrenar_core.io.gguf_header import GGUFTensor
from entrenar_core.io.gguf_metadata import Metadata
from entrenar_core.io.hub_file import HubFile
from entrenar_core.io.safetensors_header import PREFIX_BYTES, TensorInfo

SAFETENSORS_CHUNK = 64 * 2**10
"""What is asked for first; headers of models with a few hundred tensors fit."""

GGUF_CHUNK = 2**20
"""What is asked for first; vocabularies take from half of it to thirty times as much."""


@dataclass(frozen=True, eq=False)
class SafetensorsHeader:
    """What a safetensors file on the hub says: see `SafetensorsFile`."""

    name: str
    path: Path
    size: int
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class GGUFHeader:
    """What a GGUF file on the hub says: see `GGUFFile`."""

    name: str
    path: Path
    size: int
    tensors: Mapping[str, GGUFTensor]
    metadata: Metadata


def read_safetensors(file: HubFile, head: bytes = b"") -> SafetensorsHeader:
    """The header of a safetensors file, of which the first bytes may be here already.

    Raises what `SafetensorsFile` raises of the header, and what `HubFile.take` raises.
    """
    head = head or file.take(0, SAFETENSORS_CHUNK)
    end = PREFIX_BYTES + safetensors_header.check_prefix(head, file.size, file.path)
    head += file.take(len(head), end - len(head))
    found = safetensors_header.parse_header(head[PREFIX_BYTES:end], file.size, file.path)
    return SafetensorsHeader(file.name, file.path, file.size, found.tensors, found.metadata)


def read_gguf(file: HubFile, head: bytes = b"") -> GGUFHeader:
    """The header of a GGUF file, of which the first bytes may be here already.

    Its length is not written in it, so twice as many bytes are fetched until it ends among them.
    Raises what `GGUFFile` raises of the header, and what `HubFile.take` raises.
    """
    head = head or file.take(0, GGUF_CHUNK)
    while True:
        try:
            found = gguf_header.parse_header(head, file.path, size=file.size)
            break
        except MoreNeeded as more:
            needed = more.length
        if needed > gguf_header.MAX_HEADER_BYTES:
            raise FormatError(
                f"{file.path}: the header takes more than {gguf_header.MAX_HEADER_BYTES} bytes",
                hint="the file is damaged: fetch or write it again",
            )
        head += file.take(len(head), max(needed, 2 * len(head)) - len(head))
    metadata = Metadata(found.metadata, head[: found.data_start], file.path)
    return GGUFHeader(file.name, file.path, file.size, found.tensors, metadata)
