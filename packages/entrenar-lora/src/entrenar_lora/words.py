"""Settings in the words of a plan (pure)."""

from typing import Any

from entrenar_core.estimate.setup import Setup

_BASES = {
    "float32": "a float32 base",
    "bfloat16": "a bfloat16 base",
    "int8": "an 8-bit base",
    "nf4": "a 4-bit base (NF4)",
}
_METHODS = {"int8": "QLoRA (8-bit, LLM.int8())", "nf4": "QLoRA (4-bit, NF4, double quantization)"}


def method_name(setup: Setup) -> str:
    """Such as `QLoRA (4-bit, NF4, double quantization)`."""
    if setup.is_full:
        return f"full fine-tuning ({setup.base})"
    return _METHODS.get(setup.base, f"LoRA ({setup.base} base)")


def sequences(batch_size: int, micro_batch: int, accumulation: int) -> str:
    """How a batch is worked on."""
    noun = "sequence" if batch_size == 1 else "sequences"
    if accumulation == 1:
        return f"{batch_size} {noun} at once"
    return f"{batch_size} {noun}: {micro_batch} at once, accumulated {accumulation} times"


def times(cost: float) -> str:
    """A cost beside full training."""
    return f"{cost:.2f} × full fine-tuning's"


def axis_value(axis: str, value: Any) -> str:
    """A value of an axis of the grid, as what takes memory."""
    return _AXES[axis](value)


_AXES = {
    "targets": lambda value: f"adapting {', '.join(value)}",
    "rank": lambda value: f"rank {value}",
    "base": lambda value: _BASES.get(value, value),
    "optimizer": lambda value: f"the optimizer {value}",
    "checkpointing": lambda _value: "keeping all activations (no checkpointing)",
    "batch": lambda value: f"{value} sequences at once",
}
