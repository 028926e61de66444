"""The index of a part of a cache: for each of its rows where it ends, its digest, and its sums."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from entrenar_common.errors import IntegrityError
from entrenar_core.io import files

DIGEST = 8
"""Bytes of a row's digest, a BLAKE2b over all that is stored of it."""

AGAIN = "the cache is damaged: make it again"


def index_type(temperatures: int) -> np.dtype:
    """An entry: `end` in the part's file, `digest`, how many `targets` the row has and how many ids
    are `kept` of them, and the probability of these, summed over the targets, by temperature
    (`mass`)."""
    return np.dtype(
        [
            ("end", "<i8"),
            ("digest", "u1", DIGEST),
            ("targets", "<i8"),
            ("kept", "<i8"),
            ("mass", "<f8", temperatures),
        ]
    )


def digest(data: bytes) -> np.ndarray:
    """The digest of a row's bytes, uint8 (8,)."""
    return np.frombuffer(hashlib.blake2b(data, digest_size=DIGEST).digest(), np.uint8)


def rows_name(part: int) -> str:
    """The file of a part's rows."""
    return f"part-{part:05d}.rows"


def index_name(part: int) -> str:
    """The file of a part's index, which is written when its rows are on the disk."""
    return f"part-{part:05d}.index"


def read_index(folder: Path, part: int, *, rows: int, temperatures: int) -> np.ndarray:
    """The entries of the part's `rows` rows.

    Raises IntegrityError where it has another number of them, or its rows' file another size.
    """
    kind, path = index_type(temperatures), folder / index_name(part)
    data = files.read_bytes(path, max_bytes=max(1, rows * kind.itemsize))
    if len(data) != rows * kind.itemsize:
        raise IntegrityError(
            f"{path}: has {len(data)} bytes, wanted {rows * kind.itemsize}", hint=AGAIN
        )
    found = np.frombuffer(data, kind)
    check_size(folder / rows_name(part), int(found["end"][-1]))
    return found


def check_size(path: Path, wanted: int) -> None:
    """Raise IntegrityError unless the file is there, with `wanted` bytes."""
    size = path.stat().st_size if path.is_file() else None
    if size != wanted:
        shown = "is missing" if size is None else f"has {size} bytes, wanted {wanted}"
        raise IntegrityError(f"{path}: {shown}", hint=AGAIN)


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The entries of several parts."""
    return np.concatenate(parts)
