"""The formats that a model's own matrices get in a GGUF file: what training can aim at."""

from typing import Any

from entrenar_core.convert.recipe import Recipe, Shape
from entrenar_core.models.gguf_family import family_of


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
    for ours, parameter in model.named_parameters().items():
        name = family.names.to_gguf(ours)
        if name is not None:
            shapes[ours] = name, family.gguf_shape(name, tuple(parameter.shape), config)
    tied = "output.weight" not in {name for name, _ in shapes.values()}
    shape = Shape.of(family.architecture, config, tied=tied)
    formats = {ours: recipe.format_of(*place, shape).name for ours, place in shapes.items()}
    return {ours: form for ours, form in formats.items() if form != "f32"}
