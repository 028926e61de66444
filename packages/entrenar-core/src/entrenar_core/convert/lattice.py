"""The formats that a model's own matrices get in a GGUF file, what training can aim at, and the
file of a model that was trained so."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import IntegrityError
from entrenar_common.progress import Progress
from entrenar_core.convert.gguf import GGUFPlan
from entrenar_core.convert.recipe import Recipe, Shape
from entrenar_core.io.files import Written
from entrenar_core.models.gguf_family import family_of
from entrenar_core.models.stored import StoredModel


def formats_of(model: Any, recipe: Recipe) -> dict[str, str]:
    """The name of each matrix of `model` → the format that it has in a file written by `recipe`,
    without those that are kept in float32.

    Rows of a matrix are stored one by one, so their order in the file, which llama.cpp wants
    different from Hugging Face's, changes nothing. Raises UnsupportedError for a model that
    llama.cpp cannot run.
    """
    config = model.config
    family = family_of(config.model_type)
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {}
    for ours, parameter in model.base_parameters().items():
        name = family.names.to_gguf(ours)
        if name is not None:
            shapes[ours] = name, family.gguf_shape(name, tuple(parameter.shape), config)
    tied = "output.weight" not in {name for name, _ in shapes.values()}
    shape = Shape.of(family.architecture, config, tied=tied)
    formats = {ours: recipe.format_of(*place, shape).name for ours, place in shapes.items()}
    return {ours: form for ours, form in formats.items() if form != "f32"}


def write_lattice(
    folder: Path,
    output: Path,
    recipe: Recipe,
    *,
    weights: Mapping[str, np.ndarray],
    pre: str | None = None,
    progress: Progress | None = None,
) -> Written:
    """Write the model in `folder`, whose matrices have the numbers that `recipe` makes of
    `weights`, to the GGUF file `output`, and compare: the file stands for these very numbers.

    Rounding the folder's numbers again could move them, so the file is made of `weights`, those
    that were trained. Raises IntegrityError, with the first tensor, where file and folder differ by
    a bit; else what `GGUFPlan` raises.
    """
    with GGUFPlan(folder, recipe, pre=pre, weights=weights) as plan:
        written = plan.write(output, progress=progress)
        head = plan.family.head
    with StoredModel(folder, head=head) as wanted, StoredModel(output, head=head) as found:
        for name in wanted.model.named_parameters():
            if wanted.read(name).tobytes() != found.read(name).astype(np.float32).tobytes():
                raise IntegrityError(
                    f"{output}: {name} differs from the numbers that the model was trained with",
                    hint="the disk or this program is at fault: write it again, and report it",
                )
            wanted.release(name)
            found.release(name)
    return written
