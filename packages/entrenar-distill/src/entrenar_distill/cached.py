"""A teacher that is on a disk: its model until it is needed, and a cache of its predictions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrenar_common.errors import ConfigError
from entrenar_core import models
from entrenar_core.distill.cache import CachedTeacher, CacheFolder, Keys
from entrenar_core.io import files
from entrenar_core.models.source import read_raw
from entrenar_distill.config import DistillConfig

if TYPE_CHECKING:
    from entrenar_distill.inputs import Inputs


@dataclass(frozen=True)
class StoredTeacher:
    """The model in `folder`, of which the config is known and no weight is in memory."""

    folder: Path
    dtype: str

    @cached_property
    def config(self) -> Any:
        """What `config` of the model is."""
        return models.read_config(self.folder)

    def parameter_count(self) -> int:
        """What `parameter_count()` of the model is."""
        return models.parameter_count(read_raw(self.folder))

    def load(self) -> Any:
        """The model, frozen."""
        model = models.load(self.folder, dtype=self.dtype)
        model.freeze()
        return model


def teacher_in(folder: Path, config: DistillConfig) -> Any:
    """The teacher's model; with a cache of its predictions, where it lies.

    Raises ConfigError for a loss that takes more than predictions, beside a cache.
    """
    stored = StoredTeacher(folder, config.training.frozen_dtype)
    if config.teacher.cache is None:
        return stored.load()
    settings = config.distillation
    inside = {"progressive": settings.progressive, "attention": settings.attention}
    for name, section in inside.items():
        if section is not None:
            raise ConfigError(
                f"distillation.{name} learns from inside the teacher, and teacher.cache "
                "has its predictions alone",
                hint="leave one of the two out",
            )
    return stored


def loaded(teacher: Any) -> Any:
    """The teacher's model, read where it lies if it is not in memory."""
    return teacher.load() if isinstance(teacher, StoredTeacher) else teacher


def open_cache(inputs: Inputs) -> CachedTeacher:
    """The cache that the config names, which is about what `inputs` are.

    Raises IntegrityError for one of something else, and what opening it raises.
    """
    config = inputs.config
    assert config.teacher.cache is not None
    found = CachedTeacher(CacheFolder(Path(config.teacher.cache)))
    found.check(keys_of(inputs), config.distillation.divergence())
    return found


def keys_of(inputs: Inputs) -> Keys:
    """What a cache of the teacher's predictions for these inputs is about."""
    config, tokenizer = inputs.config, inputs.tokenizer
    return Keys(
        teacher=hash_of_model(inputs.teacher_folder),
        teacher_dtype=config.training.frozen_dtype,
        tokenizer=tokenizer.fingerprint,
        text=inputs.documents,
        training=inputs.train.fingerprint,
        seq_len=config.dataset.max_length,
        packing=config.dataset.packing,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        rows=inputs.batches.rows,
        shared=inputs.shared,
    )


def hash_of_model(folder: Path) -> str:
    """A hash of the files that make the model in `folder`."""
    digest = hashlib.sha256()
    for path in models.model_files(folder):
        digest.update(files.sha256_file(path).encode())
    return digest.hexdigest()
