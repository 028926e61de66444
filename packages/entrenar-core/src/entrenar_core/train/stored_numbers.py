"""A model that was trained on the numbers it is stored as: given them, and described."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from entrenar_core.qat import QuantizedModel
from entrenar_core.train.config import TrainingConfig

__all__ = ["Finished", "StoredNumbers", "finish"]


@dataclass(frozen=True)
class StoredNumbers:
    """A model's weights as they are stored, after training on these numbers.

    `name` is the recipe or the format; `from_step` the step, counted from 0, from which on all
    `matrices`, of `parameters` numbers, were so. `sqnr_db` has 10·log10(Σw² / Σ(w − stored)²) of
    each, w being the weights in full precision, and `worst` names the least. `activations` are the
    bits that inputs are rounded to, and `loss_with_inputs` the held-out loss with those.
    """

    name: str
    from_step: int
    matrices: int
    parameters: int
    bits_per_weight: float
    sqnr_db: dict[str, float]
    worst: str
    activations: int | None = None
    loss_with_inputs: float | None = None


@dataclass(frozen=True)
class Finished:
    """What is left of a training on stored numbers once the model has them.

    weights: the numbers in full precision that they were rounded from, by name; of a weight with
    an adapter, their sum.
    """

    record: StoredNumbers
    weights: dict[str, np.ndarray]


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
    record = StoredNumbers(
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
    weights = {n: m.whole() for n, m in handle.matrices.items()}
    handle.finish()
    return Finished(record, weights)
