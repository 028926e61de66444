"""Formats that are chosen for a model, tensor by tensor, so that its file has a given size.

Bits are spent where the loss feels them: a format costs half of Σ E[g²]·Δ², with g the gradient of
the loss on sample text and Δ what the format does to the weights, and the cheapest choice that fits
is looked for (`entrenar_core.qat`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_common.units import format_bytes
from entrenar_core import models
from entrenar_core.autograd import Tensor, ops
from entrenar_core.convert.gguf import GGUFPlan
from entrenar_core.convert.recipe import FILE_TYPES, FORMATS, RECIPES, Shape
from entrenar_core.data.batches import Batch
from entrenar_core.io.gguf import file_size
from entrenar_core.qat import Choice, choose, options_of, sensitivities, squared_gradients
from entrenar_core.quant import BlockFormat

CANDIDATES = ("q4_0", "q4_k", "q5_0", "q5_k", "q6_k", "q8_0", "f16")
"""What a matrix may be stored as."""

PADDING = 32
"""Bytes that a tensor may take beyond its own, to end where the next one can begin."""


@dataclass(frozen=True)
class Mixture:
    """Formats by the names of tensors in GGUF files, to be used as a Recipe is; others are f32."""

    formats: Mapping[str, str]
    name: str = "mixed"

    @property
    def file_type(self) -> int:
        """The number of the recipe that most tensors would be of."""
        used = list(self.formats.values())
        most = max(sorted(set(used)), key=used.count, default="f32")
        return FILE_TYPES.get(most) or FILE_TYPES[f"{most}_m"]

    def format_of(self, name: str, shape: tuple[int, ...], model: Shape) -> BlockFormat:
        """The format of the tensor called `name`."""
        del shape, model
        return FORMATS[self.formats.get(name, "f32")]


def mixture_within(
    source: Path, max_bytes: int, batches: Iterable[Batch], *, pre: str | None = None
) -> tuple[Mixture, Choice]:
    """The formats with which the GGUF file of the language model at `source` has at most
    `max_bytes` and its loss on `batches` suffers least, by an estimate.

    The model is in memory as a whole meanwhile, with gradients. Raises ConfigError where no choice
    is small enough, or for a model that has no loss on text.
    """
    with GGUFPlan(source, RECIPES["q8_0"], pre=pre) as plan:
        places = {plan.ours[t.name]: t for t in plan.tensors if t.form.name != "f32"}
        taken = file_size(plan.keys, plan.tensors) - sum(t.nbytes for t in places.values())
    room = max_bytes - taken - PADDING * len(places)
    model = models.load(source)
    if not hasattr(model, "output_weight"):
        raise ConfigError(
            f"{source}: not a language model, so text says nothing about its weights",
            hint="choose a quantization by name",
        )
    gradients = squared_gradients(model, batches, loss=lambda batch: _loss(model, batch))
    found = sensitivities(model, CANDIDATES, names=places, gradients=gradients)
    options = options_of(found)
    smallest = sum(min(o.nbytes for o in each) for each in options.values())
    if smallest > room:
        raise ConfigError(
            f"{format_bytes(max_bytes)} are too few: with the smallest formats the file has "
            f"{format_bytes(max_bytes - room + smallest)}",
            hint="allow more, or use a smaller model",
        )
    choice = choose(options, room)
    return Mixture({places[ours].name: form for ours, form in choice.formats.items()}), choice


def _loss(model: Any, batch: Batch) -> Tensor:
    return ops.linear_cross_entropy(
        model.hidden(batch.ids, documents=batch.segments),
        model.output_weight,
        batch.labels,
        normalizer=max(1, batch.targets),
    )
