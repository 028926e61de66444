"""What may be asked of an estimate: the options that several tools have, checked."""

from collections.abc import Sequence

from entrenar_common.errors import UsageError
from entrenar_common.text import escape_controls, nearest
from entrenar_core.estimate.engines import ENGINES, Engine
from entrenar_core.estimate.shape import ModelShape


def engine_for(engine: str | None, vram: int | None, ram: int | None) -> tuple[Engine, int | None]:
    """The engine that is meant, and the memory that there is for it.

    Raises UsageError for options that contradict each other.
    """
    if vram is not None and ram is not None:
        raise UsageError("--vram and --ram are both given", hint="give the one that is meant")
    name = engine or ("entrenar" if ram is not None else "torch")
    if name == "entrenar" and vram is not None:
        raise UsageError(
            "--vram with the engine entrenar, which works in main memory",
            hint="give --ram, or --engine torch",
        )
    if name == "torch" and ram is not None:
        raise UsageError(
            "--ram with the engine torch, which is planned for a GPU",
            hint="give --vram, or --engine entrenar",
        )
    return ENGINES[name], ram if vram is None else vram


def check_optimizer(engine: Engine, name: str) -> None:
    """Raise UsageError for an optimizer that an engine has not."""
    if name in engine.optimizers:
        return
    like = nearest(name, engine.optimizers)
    raise UsageError(
        f"--optimizer {escape_controls(name)}: not one that is planned for {engine.name}",
        hint=(f"did you mean {like}? " if like else "") + f"use one of "
        f"{', '.join(engine.optimizers)}",
    )


def check_sizes(shape: ModelShape, *, seq_len: int, rank: int | None) -> None:
    """Raise UsageError for more positions than a model has learned, or a rank above its own."""
    learned_positions = shape.blocks.norms == "layer"
    if learned_positions and seq_len > shape.positions:
        raise UsageError(
            f"--seq-len {seq_len}: {shape.name} has learned {shape.positions} positions",
            hint=f"give at most {shape.positions}",
        )
    largest = max(min(sides) for sides in shape.linears.values())
    if rank is not None and rank > largest:
        raise UsageError(
            f"--rank {rank}: no matrix of {shape.name} has a rank above {largest}",
            hint="give a lower one, such as 16",
        )


def check_adapters(method: str, rank: int | None, targets: Sequence[str] | None) -> None:
    """Raise UsageError for settings of adapters where there are none."""
    if method == "full" and (rank or targets):
        raise UsageError(
            "--method full trains all weights: --rank and --target-modules are for adapters",
            hint="leave them out, or use --method lora",
        )
