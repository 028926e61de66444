"""What a training takes in memory, before it starts: shared by the scripts of this folder."""

import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from entrenar_common.errors import OutOfMemoryError
from entrenar_common.tables import Fields
from entrenar_common.units import format_binary, format_count
from entrenar_core.estimate.engines import ENGINES
from entrenar_core.estimate.find import find_shape
from entrenar_core.estimate.own_memory import own_memory
from entrenar_core.estimate.requests import check_optimizer
from entrenar_core.estimate.setup import FULL, LORA, Setup
from entrenar_core.estimate.shape import ModelShape, model_shape
from entrenar_core.estimate.targets import matching
from entrenar_core.estimate.trained import trained_parameters
from entrenar_core.train.declarative import TrainSpec
from entrenar_core.train.measuring import available_memory


@dataclass(frozen=True)
class Needs:
    """The peak of memory of a training, term by term, and what there is on this machine."""

    model: str
    parameters: int
    trained: int
    terms: dict[str, int]
    total: int
    available: int

    def check(self) -> None:
        """Raise OutOfMemoryError, which says how much is needed, where there is not enough."""
        if self.total > self.available:
            raise OutOfMemoryError(
                f"training {self.model} takes {format_binary(self.total)}, and this machine has "
                f"{format_binary(self.available)} available",
                hint="lower data.batch_size or data.max_length, or see finetune_qlora.py",
            )

    def __view__(self) -> list[Any]:
        count = f"{format_count(self.parameters)}, {format_count(self.trained)} of them trained"
        sizes = [(name, format_binary(size)) for name, size in self.terms.items() if size]
        end = [("needed", format_binary(self.total)), ("available", format_binary(self.available))]
        return [Fields(self.model, [("parameters", count), *sizes, *end])]


def needs(spec: TrainSpec, base: str = "float32") -> Needs:
    """Of training as `spec` says, on a base in this precision: computed from shapes.

    Raises what finding the shape raises, and UsageError for an optimizer that is not estimated.
    """
    check_optimizer(ENGINES["entrenar"], spec.optimizer.name)
    shape = _shape(spec)
    wanted = () if spec.lora is None else spec.lora.target_modules
    targets = (wanted,) if isinstance(wanted, str) else wanted
    setup = Setup(
        FULL if spec.lora is None else LORA, base,
        matching(shape.linears, targets) if targets else (),
        0 if spec.lora is None else spec.lora.rank, spec.optimizer.name, spec.data.batch_size,
        spec.training.gradient_accumulation, spec.data.max_length,
    )  # fmt: skip
    memory = own_memory(shape, setup)
    terms = {term.name: memory[term.name] for term in memory.terms if memory.at_peak(term)}
    trained = trained_parameters(shape, setup)
    return Needs(shape.name, shape.parameters, trained, terms, memory.total, available_memory())


def _shape(spec: TrainSpec) -> ModelShape:
    if spec.model.path is not None:
        return find_shape(spec.model.path, revision=spec.model.revision)
    return model_shape(spec.model.config or {}, name=spec.output.dir, origin="configuration")


def data_setting(data: Sequence[str]) -> list[tuple[str, str]]:
    """The setting of `data.train`: these files, or the standard library of the running Python."""
    found = data or [f"{sysconfig.get_path('stdlib')}/*.py"]
    return [("data.train", f"[{', '.join(found)}]")]
