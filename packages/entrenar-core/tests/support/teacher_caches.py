"""Teachers of toy size, rows for them, and caches of what they predict."""

from pathlib import Path
from typing import Any

import numpy as np

from entrenar_core.data.batches import Batches
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.distill import LiveTeacher
from entrenar_core.distill.cache import CachedTeacher, CacheWriter, Keys, Settings
from entrenar_core.testing import tiny_llama

IDS, LENGTH, SHARED = 61, 8, 59
"""Ids of the models, tokens of a row, and ids that are compared."""

KEYS = Keys(
    teacher="a" * 64,
    teacher_dtype="float32",
    tokenizer="b" * 64,
    text="c" * 64,
    training="d" * 64,
    seq_len=LENGTH,
    packing=True,
    boundaries=False,
    eos_id=0,
    pad_id=None,
    rows=9,
    shared=SHARED,
)


def rows(*, seed: int = 0, packing: bool = True, batch_size: int = 2) -> Batches:
    """Nine rows of eight tokens when they are packed."""
    rng = np.random.default_rng(5)
    lengths = [13, 20, 5, 31]
    documents = TokenizedDocuments.from_arrays(
        ["a.txt", "b.txt", "c.txt", "d.txt"],
        [rng.integers(1, IDS, n).astype(np.int32) for n in lengths],
        lengths,
    )
    return Batches(
        documents, seq_len=LENGTH, batch_size=batch_size, seed=seed, eos_id=0, packing=packing
    )


def live(**options: Any) -> LiveTeacher:
    return LiveTeacher(tiny_llama(seed=1, **options), shared=SHARED)


def writer(path: Path, *, teacher: LiveTeacher | None = None, **settings: Any) -> CacheWriter:
    chosen = Settings(**{"temperatures": (2.0, 1.0), "mass": 0.9, "max_k": 20, **settings})
    return CacheWriter(path, teacher or live(), rows(), keys=KEYS, settings=chosen)


def cached(path: Path, **settings: Any) -> CachedTeacher:
    """A cache that was made in `path`."""
    return CachedTeacher(writer(path, **settings).write())
