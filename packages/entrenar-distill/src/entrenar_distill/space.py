"""The bytes that a run writes, before it writes them."""

from dataclasses import dataclass

from entrenar_distill.config import DistillConfig
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


def space_of(
    config: DistillConfig,
    *,
    trained: int,
    beside: int,
    parameters: int,
    gguf: int,
    steps: int | None,
) -> Space:
    """What a run of `config` takes: `trained` numbers of a student of so many `parameters`, and
    those `beside` it, are in checkpoints with two moments of each; `gguf` are the bytes of its
    file, 0 for none; `steps` are how many there are, None where that is not known."""
    lora = config.student.lora
    return Space(
        checkpoint=(1 + _MOMENTS) * _FLOAT * (trained + beside),
        checkpoints=_most_checkpoints(config, steps),
        student=_FLOAT * parameters if lora is None or lora.fuse else 0,
        adapter=0 if lora is None else _FLOAT * trained,
        gguf=gguf,
    )


def _most_checkpoints(config: DistillConfig, steps: int | None) -> int:
    """Each is written before an old one is removed; the best one is kept besides the last ones
    where there are evaluations to tell it by. All phases keep theirs."""
    output, every = config.output, config.training.evaluate_every
    best = every is not None and (steps is None or every <= steps)
    kept, phases = output.keep_checkpoints + best, len(phases_of(config))
    if steps is None:
        return kept * phases + 1
    saved = -(-steps // output.checkpoint_every)
    return min(saved, kept) * phases + (saved > kept)
