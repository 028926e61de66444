"""What kind of file something is, by how it begins: nothing that reads one has to be loaded."""

import os
from pathlib import Path

from entrenar_core.io.os_calls import read_errors
from entrenar_core.io.other_kinds import HEAD_BYTES

GGUF_MAGIC = b"GGUF"
TORCH_SUFFIXES = {".pth", ".pt", ".bin"}
"""What files of torch.save are called."""

SAFETENSORS_NAMES = ("model.safetensors", "model.safetensors.index.json")
TORCH_NAMES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
"""What a model folder calls its weights: a single file, and the index of shards."""


def is_gguf(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a file that begins as GGUF files do; what it is called does not matter."""
    return _head(path).startswith(GGUF_MAGIC)


def is_apr(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a file that begins as APR files do, with an object."""
    head = _head(path)
    # a safetensors file begins so too where its header's length ends in the byte of a brace
    return head.lstrip(b" \t\r\n").startswith(b"{") and b"\0" not in head


def is_torch(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a file that begins as those of torch.save do, as a zip archive or a pickle,
    or is called like one and is not in safetensors."""
    head = _head(path)
    if head[8:9] == b"{":
        return False
    called = Path(path).suffix.lower() in TORCH_SUFFIXES and Path(path).is_file()
    return head.startswith((b"PK\x03\x04", b"\x80")) or called


def _head(path: str | os.PathLike[str]) -> bytes:
    """The first bytes of a file, none of what is no file."""
    path = Path(path)
    if not path.is_file():
        return b""
    with read_errors(path), path.open("rb") as file:
        return file.read(HEAD_BYTES)
