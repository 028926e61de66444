"""A model that was trained on the numbers it is stored as: finished, written, and described."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.progress import Progress
from entrenar_core.convert.gguf import check_gguf
from entrenar_core.convert.lattice import write_lattice
from entrenar_core.convert.recipe import recipe_named
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.qat import QuantizedModel
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.quantization import quantized
from entrenar_distill.report import QuantizedStudent

GGUF = "model.gguf"


@dataclass(frozen=True)
class Finished:
    """What is left of a training on stored numbers once the model has them.

    weights: the numbers in full precision that they were rounded from, by name.
    """

    record: QuantizedStudent
    weights: dict[str, np.ndarray]


def check(model: Any, training: TrainingConfig, steps: int, tokenizer: Tokenizer) -> str | None:
    """What a run of `steps` would do, in words; None for one without quantization.

    Raises what `entrenar_core.train.quantization.quantized` raises, and UnsupportedError where a
    recipe is given and llama.cpp cannot run the model.
    """
    config = training.quantization
    if config is None:
        return None
    handle = quantized(model, config, seed=training.seed, steps=steps)
    words = f"{len(handle.matrices)} matrices in {config.name}"
    if config.activations is not None:
        words += f", inputs of {len(handle.inputs)} projections in {config.activations} bits"
    words += f", all of it from step {config.schedule.last} on"
    if config.recipe is not None:
        check_gguf(model, tokenizer)
        words += f"; written as {GGUF} too"
    return words


def finish(
    handle: QuantizedModel, training: TrainingConfig, held_out_loss: Callable[[], float]
) -> Finished:
    """Give the model the numbers that it is stored as, and say what they are.

    `held_out_loss` measures the model: with inputs that are rounded too, where they are, since a
    model that is read from a file computes with whole ones.
    """
    config = training.quantization
    assert config is not None
    loss = None
    if handle.inputs:
        with handle.exported():
            loss = held_out_loss()
    stored = handle.stored().values()
    sqnr = {name: error.sqnr_db for name, error in handle.errors().items()}
    worst = min(sqnr, key=sqnr.__getitem__)
    size = sum(each.size for each in stored)
    record = QuantizedStudent(
        name=config.name,
        from_step=config.schedule.last,
        matrices=len(sqnr),
        parameters=size,
        bits_per_weight=8 * sum(each.nbytes for each in stored) / size,
        sqnr_db=sqnr,
        worst=worst,
        activations=config.activations,
        loss_with_inputs=loss,
    )
    weights = {n: m.matrix.parameter.data.copy() for n, m in handle.matrices.items()}
    handle.finish()
    return Finished(record, weights)


def write(folder: Path, finished: Finished, training: TrainingConfig, progress: Progress) -> None:
    """Write the GGUF file of the finished model in `folder`, where the config asks for a recipe."""
    config = training.quantization
    if config is None or config.recipe is None:
        return
    recipe = recipe_named(config.recipe)
    write_lattice(folder, folder / GGUF, recipe, weights=finished.weights, progress=progress)
