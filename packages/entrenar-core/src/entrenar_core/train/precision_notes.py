"""What to say of a training's precision."""

from entrenar_core.kernels import has_bf16
from entrenar_core.train.config import TrainingCourse

__all__ = ["precision_notes"]


def precision_notes(training: TrainingCourse) -> list[str]:
    """Which numbers are rounded, and by what matrices are multiplied; nothing with fp32."""
    chosen = training.mixed_precision
    if chosen == "bf16":
        how = (
            "by the processor's instructions for it"
            if has_bf16()
            else "which this processor has no instructions for: they are rounded and multiplied as "
            "float32, and it takes no less time"
        )
        return [f"mixed_precision bf16: matrices are multiplied in bfloat16, {how}"]
    if chosen == "fp16":
        return ["mixed_precision fp16: all arithmetic is float32"]
    return []
