"""A teacher that is on a disk: its model until it is needed, and a cache of its predictions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrenar_common.errors import ConfigError
from entrenar_core import models
from entrenar_core.distill.cache import CachedTeacher, CacheFolder, Keys
from entrenar_core.models.packing import pack
from entrenar_core.models.source import read_raw
from entrenar_distill.config import DistillConfig

if TYPE_CHECKING:
    from entrenar_distill.inputs import Inputs


@dataclass(frozen=True)
class StoredTeacher:
    """The model in `folder`, of which the config is known and no weight is in memory.

    dtype, quantize: what its matrices will be held in
    """

    folder: Path
    dtype: str
    quantize: str

    @cached_property
    def config(self) -> Any:
        """What `config` of the model is."""
        return models.read_config(self.folder)

    def parameter_count(self) -> int:
        """What `parameter_count()` of the model is."""
        return models.parameter_count(read_raw(self.folder))

    def load(self) -> Any:
        """The model, frozen."""
        model = models.load(self.folder, dtype=self.dtype, quantize=self.quantize)
        model.freeze()
        pack(model)
        return model


def check_inside(config: DistillConfig) -> None:
    """Raise ConfigError for a loss that takes more than predictions, beside a cache."""
    if config.teachers[0].cache is None:
        return
    settings = config.distillation
    inside = {"progressive": settings.progressive, "attention": settings.attention}
    for name, section in inside.items():
        if section is not None:
            raise ConfigError(
                f"distillation.{name} learns from inside the teacher, and teacher.cache "
                "has its predictions alone",
                hint="leave one of the two out",
            )


def loaded(teacher: Any) -> Any:
    """The teacher's model, read where it lies if it is not in memory."""
    return teacher.load() if isinstance(teacher, StoredTeacher) else teacher


def open_cache(inputs: Inputs) -> CachedTeacher:
    """The cache that the config names, which is about what `inputs` are.

    Raises IntegrityError for one of something else, and what opening it raises.
    """
    config = inputs.config
    cache = config.teachers[0].cache
    assert cache is not None
    found = CachedTeacher(CacheFolder(Path(cache)))
    found.check(keys_of(inputs), config.distillation.divergence())
    return found


def keys_of(inputs: Inputs) -> Keys:
    """What a cache of the teacher's predictions for these inputs is about."""
    config, tokenizer, teacher = inputs.config, inputs.tokenizer, inputs.teachers[0]
    held, dtype = teacher.section.quantize, config.training.frozen_dtype
    return Keys(
        teacher=teacher.fingerprint,
        teacher_dtype=dtype if held is None else f"{held}, the rest {dtype}",
        tokenizer=tokenizer.fingerprint,
        text=inputs.documents,
        training=inputs.train.fingerprint,
        seq_len=config.dataset.max_length,
        packing=config.dataset.packing,
        boundaries=config.dataset.boundaries,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        rows=inputs.batches.rows,
        shared=teacher.vocabulary.shared,
    )
