"""What a file is that is not what its name says: told to the user, and never read as that."""

from pathlib import Path

from entrenar_common.errors import FormatError
from entrenar_core.io.strict_json import LFS_HINT, LFS_POINTER

HEAD_BYTES = 64
"""Enough of a file's start to recognise it."""

_MAGICS = (
    (b"\x1f\x8b", "a gzip archive"),
    (b"PK\x03\x04", "a zip archive (PyTorch saves those)"),
    (b"GGUF", "a GGUF file"),
    (b"tjgg", "a model of llama.cpp from before GGUF"),
    (b"lmgg", "a model of llama.cpp from before GGUF"),
    (b"\x80", "a Python pickle (PyTorch's old format)"),
    (b"\x28\xb5\x2f\xfd", "a zstandard archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a numpy array file"),
)


def refuse_as_something_else(head: bytes, path: Path, wanted: str) -> None:
    """FormatError where the first bytes of a file that is not `wanted` show plainly what it is."""
    if head.startswith(LFS_POINTER.encode()):
        raise FormatError(f"{path}: this is a Git LFS pointer, not weights", hint=LFS_HINT)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for kind, starts in (("HTML", (b"<!doctype", b"<html", b"<?xml")), ("JSON", (b"{", b"["))):
        if text.startswith(starts):
            raise FormatError(
                f"{path}: looks like {kind}, not weights",
                hint="a download has probably saved an error page: look at it and fetch again",
            )
    for magic, kind in _MAGICS:
        if head.startswith(magic):
            raise FormatError(
                f"{path}: this is {kind}, named {path.suffix or 'without a suffix'}",
                hint=f"convert it to {wanted}, or fetch the model's .{wanted.lower()} files",
            )


def refuse_safetensors(head: bytes, path: Path) -> None:
    """FormatError where these are the first bytes of a safetensors file."""
    if head[8:9] == b"{" and head[5:8] == b"\0\0\0":  # a header of less than a terabyte
        raise FormatError(
            f"{path}: this is a safetensors file, named {path.suffix or 'without a suffix'}",
            hint="give it the suffix .safetensors",
        )
