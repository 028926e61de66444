"""A model that was trained on the numbers it is stored as: finished, written, and described."""

from pathlib import Path
from typing import Any

from entrenar_common.progress import Progress
from entrenar_core.convert.export import export
from entrenar_core.convert.gguf import check_gguf
from entrenar_core.convert.lattice import write_lattice
from entrenar_core.convert.recipe import recipe_named
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.train.quantization import quantized
from entrenar_core.train.stored_numbers import Finished
from entrenar_distill.config import DistillConfig

GGUF = "model.gguf"


def check(model: Any, config: DistillConfig, steps: int, tokenizer: Tokenizer) -> str | None:
    """What training on stored weights does in a run of `steps`, in words; None where it is not
    asked for.

    Raises what `entrenar_core.train.quantization.quantized` raises, and UnsupportedError where a
    GGUF file is asked for and llama.cpp cannot run the model.
    """
    if config.recipe is not None:
        check_gguf(model, tokenizer, pre=config.output.pre)
    training = config.training
    found = training.quantization
    if found is None:
        return None
    handle = quantized(model, found, seed=training.seed, steps=steps)
    words = f"{len(handle.matrices)} matrices in {found.name}"
    if found.activations is not None:
        words += f", inputs of {len(handle.inputs)} projections in {found.activations} bits"
    return f"{words}, all of it from step {found.schedule.last} on"


def write(
    folder: Path, finished: Finished | None, config: DistillConfig, progress: Progress
) -> str | None:
    """Write the model in `folder` as a GGUF file too, where the config asks for one.

    Returns the recipe that has changed its weights by this, None where the file has the very
    numbers of the folder or there is none.
    """
    if config.recipe is None:
        return None
    pre, trained = config.output.pre, config.training.quantization
    if finished is not None and trained is not None and trained.recipe is not None:
        recipe, weights = recipe_named(trained.recipe), finished.weights
        write_lattice(folder, folder / GGUF, recipe, weights=weights, pre=pre, progress=progress)
        return None
    export(
        folder, folder / GGUF, form="gguf", quantization=config.recipe, pre=pre, progress=progress
    )
    return None if config.recipe == "f32" else config.recipe
