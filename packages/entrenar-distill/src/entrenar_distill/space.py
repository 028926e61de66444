"""The bytes that a run writes, before it writes them."""

from dataclasses import dataclass
from typing import Any

from entrenar_core.convert.gguf import gguf_nbytes
from entrenar_core.convert.recipe import recipe_named
from entrenar_distill.config import DistillConfig
from entrenar_distill.pieces import Pieces
from entrenar_distill.pipeline import phases_of

_FLOAT, _MOMENTS = 4, 2


@dataclass(frozen=True)
class Space:
    """Bytes of tensors: of one checkpoint, and how many of them lie on the disk at most, the one
    that is being written included; of the student, its adapter and its GGUF file."""

    checkpoint: int
    checkpoints: int
    student: int
    adapter: int
    gguf: int

    @property
    def total(self) -> int:
        return self.checkpoint * self.checkpoints + self.student + self.adapter + self.gguf


def space_of(config: DistillConfig, pieces: Pieces) -> Space:
    """What a run of `config` takes, from its student, its terms and its number of steps."""
    student, steps = pieces.student, pieces.steps
    assert steps is not None
    trained = sum(p.size for p in student.parameters() if p.requires_grad)
    beside = sum(p.size for term in pieces.terms or () for p in term.parameters().values())
    lora = config.student.lora
    whole = lora is None or lora.fuse
    base = sum(_size(p) for p in student.base_parameters().values())
    gguf = 0 if config.recipe is None else gguf_nbytes(student, recipe_named(config.recipe))
    return Space(
        checkpoint=(1 + _MOMENTS) * _FLOAT * (trained + beside),
        checkpoints=_most_checkpoints(config, steps),
        student=_FLOAT * base if whole else 0,
        adapter=0 if lora is None else _FLOAT * trained,
        gguf=gguf,
    )


def _size(parameter: Any) -> int:
    count = 1
    for side in parameter.shape:
        count *= side
    return count


def _most_checkpoints(config: DistillConfig, steps: int) -> int:
    """Each is written before an old one is removed; the best one is kept besides the last ones
    where there are evaluations to tell it by. All phases keep theirs."""
    output, every = config.output, config.training.evaluate_every
    saved = -(-steps // output.checkpoint_every)
    best = every is not None and every <= steps
    kept = min(saved, output.keep_checkpoints + best)
    phases = len(phases_of(config))
    return kept * phases + (saved > kept)
