"""Training a model on the numbers that its weights will be stored as.

Weights are exchanged where they are held and not where they are used, so every use sees the same
numbers: a tied head, a table, a loss that takes the output weight.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from entrenar_common.errors import CheckpointError, ConfigError
from entrenar_core.autograd import Parameter, Tensor, no_grad
from entrenar_core.qat.config import QatConfig
from entrenar_core.qat.fake import FakeQuantized
from entrenar_core.qat.inputs import FakeInput
from entrenar_core.qat.places import projections
from entrenar_core.quant import QuantError, RunningRange, Stored, quant_error


class StandIn(Tensor):
    """What modules have in a parameter's place: its numbers as stored, a leaf that gathers the
    gradients of any number of passes. After its time a gradient would be lost: ConfigError."""

    __slots__ = ("_gradient", "_over")

    def __init__(self, data: np.ndarray, *, requires_grad: bool):
        self._over, self._gradient = False, None
        super().__init__(data, requires_grad=requires_grad)

    @property
    def grad(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._gradient

    @grad.setter
    def grad(self, value: Any) -> None:
        if self._over:
            raise ConfigError(
                "a gradient of a quantized weight came after its step",
                hint="call backward() inside `with quantized.active(step):`",
            )
        self._gradient = value

    def taken(self) -> Any:
        """The gradient; there will be no other one."""
        self._over = True
        return self._gradient


class QuantizedModel:
    """A model with the matrices that are quantized in training; made by `prepare`.

    `model` is the given one: its parameters are what an optimizer moves, in full precision, and
    outside `active` and `exported` it computes with them. Beside adapters (`lora.adapt`, called
    before) these are A and B, and W + s·B·A is quantized, W staying as it is. `matrices` has what
    is quantized by name, `inputs` the projections whose inputs are.
    """

    def __init__(self, model: Any, config: QatConfig):
        self.model, self.config = model, config
        self.matrices = {
            name: FakeQuantized(matrix, form, config)
            for name, (matrix, form) in config.chosen(model).items()
        }
        self._projections = projections(model) if config.activations is not None else {}
        self.inputs = {
            name: FakeInput(config.activations, config.activation_momentum)
            for name in self._projections
            if config.activations is not None
        }

    def parameters(self) -> dict[str, Parameter]:
        """What is trained besides the model's own parameters: the logarithms of learnable steps,
        as `qat.<weight>.log_step`. They are vectors, which the usual rule gives no weight decay."""
        return {
            f"qat.{name}.log_step": fake.log_step
            for name, fake in self.matrices.items()
            if fake.log_step is not None
        }

    @contextmanager
    def active(self, step: int) -> Iterator[None]:
        """Inside, the model computes with weights and inputs as they are quantized at `step`.

        One block is for one optimizer step: weights are quantized once, for all its micro-batches,
        and every backward() is called inside. At the end the gradients are added to those of the
        parameters; after an exception they are not. Forget old gradients before, step after it.
        Learned steps start from what the observer says when their weights are first rounded.
        """
        count = self.config.schedule.matrices(step, len(self.matrices))
        chosen = list(enumerate(self.matrices.values()))[:count]
        for _, fake in chosen[self._rounded_before(step) :]:
            fake.observe()
        pulls = []
        try:
            for index, fake in chosen:
                stand_in, pull = _stand_in(fake, step, index)
                pulls.append((stand_in, pull))
                fake.put(stand_in)
            for observed in self.inputs.values():
                observed.begin()
            with self._on_inputs():
                yield
        finally:
            for _, fake in chosen:
                fake.put_back()
        for observed in self.inputs.values():
            observed.end()
        for stand_in, pull in pulls:
            pull(stand_in.taken())

    def observe(self, step: int) -> None:
        """Let learned steps of weights that no step before `step` has rounded follow from these, as
        they are now: for an evaluation meanwhile."""
        for fake in list(self.matrices.values())[self._rounded_before(step) :]:
            fake.observe()

    def _rounded_before(self, step: int) -> int:
        """How many of the matrices have been rounded; before the first step `prepare` has looked at
        all of them."""
        count = len(self.matrices)
        return self.config.schedule.matrices(step - 1, count) if step > 0 else count

    def forget_inputs(self) -> None:
        """Called inside `active`: ranges do not follow the inputs of this step so far, which is
        lost."""
        for observed in self.inputs.values():
            observed.begin()

    @contextmanager
    def exported(self) -> Iterator[None]:
        """Inside, the model computes with its weights as they are stored in the end, to evaluate
        it: whatever the schedule says, without noise, with no gradient and no look at inputs."""
        try:
            for fake in self.matrices.values():
                fake.put(Tensor(fake.exported()))
            with self._on_inputs(), no_grad():
                yield
        finally:
            for fake in self.matrices.values():
                fake.put_back()

    @contextmanager
    def _on_inputs(self) -> Iterator[None]:
        try:
            for name, observed in self.inputs.items():
                self._projections[name].on_input = observed
            yield
        finally:
            for name in self.inputs:
                self._projections[name].on_input = None

    def stored(self) -> dict[str, Stored]:
        """The weights in their formats, (out, in) whatever the layers have, by name: what is to be
        written. What they stand for is what `exported` computes with."""
        return {name: fake.stored() for name, fake in self.matrices.items()}

    def finish(self) -> None:
        """Give the parameters the numbers that their stored weights stand for, in place.

        Stored again, they are the same in ggml's simple formats and in symmetric integers with a
        scale from the largest number, but not to the bit in q4_k, q5_k, q6_k, nf4 or with learned
        steps: to write those, use `stored`. Active adapters are fused (`lora.fuse`), those of a
        quantized weight as these numbers; weights that are held in fewer bits are exchanged.
        """
        fused = {n.rpartition(".")[0]: f.exported() for n, f in self.matrices.items() if f.adapted}
        for fake in self.matrices.values():
            if not fake.adapted:
                fake.settle()
        if getattr(self.model, "active_adapters", ()) and not self.model.fused:
            from entrenar_core.lora import fuse  # which a model without adapters has no need of

            fuse(self.model, weights=fused)

    def errors(self) -> dict[str, QuantError]:
        """How far each matrix is from what is stored; `sqnr_db` of them is what to log."""
        return {
            name: quant_error(fake.whole(), fake.exported()) for name, fake in self.matrices.items()
        }

    def take_ranges(self, ranges: Mapping[str, RunningRange]) -> None:
        """Start with the ranges of inputs that a calibration found, by the names of the weights.

        Raises ConfigError where one is missing.
        """
        for name, observed in self.inputs.items():
            if name not in ranges:
                raise ConfigError(
                    f"no range for the input of {name}",
                    hint="calibrate the model that is quantized",
                )
            observed.range.restore(ranges[name].state())

    def state(self) -> dict[str, np.ndarray]:
        """What has to be saved besides the model and the optimizer: learned steps, ranges of
        inputs. Views of it, by `qat.<weight>.<what>`."""
        found: dict[str, np.ndarray] = {n: p.data for n, p in self.parameters().items()}
        for name, fake in self.matrices.items():
            if fake.log_step is not None and fake.zero is not None:
                found[f"qat.{name}.zero"] = fake.zero
        for name, observed in self.inputs.items():
            for end, array in observed.range.state().items():
                found[f"qat.{name}.input_{end}"] = array
        return found

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over what `state` gave. Raises CheckpointError where it is of another config."""
        fixed = {name: view for name, view in self.state().items() if ".input_" not in name}
        ranges = {
            name: {end: f"qat.{name}.input_{end}" for end in ("low", "high")}
            for name in self.inputs
        }
        known = {key for keys in ranges.values() for key in keys.values()}
        wrong = sorted(fixed.keys() ^ (arrays.keys() - known))
        wrong += [n for n in fixed if n in arrays and arrays[n].shape != fixed[n].shape]
        # a range has both ends, or none before the first step
        wrong += [n for n, keys in ranges.items() if len(arrays.keys() & keys.values()) == 1]
        if wrong:
            raise CheckpointError(
                f"the state of the quantization is of another config: {wrong[0]} differs, and "
                f"{len(wrong) - 1} more",
                hint="resume with the config that the checkpoint was made with",
            )
        for name, view in fixed.items():
            view[...] = arrays[name]
        for name, observed in self.inputs.items():
            ends = {end: arrays[key].copy() for end, key in ranges[name].items() if key in arrays}
            observed.range.restore(ends)


def prepare(model: Any, config: QatConfig) -> QuantizedModel:
    """The handle for training `model` (any Module) as `config` says; the model stays as it is.

        quantized = prepare(model, QatConfig(weights="q4_0"))
        optimizer = AdamW({**model.named_parameters(), **quantized.parameters()})
        for step in range(steps):
            optimizer.zero_grad()
            with quantized.active(step):
                loss(model).backward()
            optimizer.step(rate)
        tensors = quantized.stored()

    Raises ConfigError for what the config, the model or its adapters cannot do, ShapeError for a
    matrix that its format cannot store.
    """
    return QuantizedModel(model, config)


def _stand_in(fake: FakeQuantized, step: int, index: int) -> tuple[StandIn, Callable[[Any], None]]:
    """What stands in for a weight at a step, and what takes its gradient to the weight."""
    master = fake.matrix.parameter
    if fake.passes_straight:
        with no_grad():
            value = fake.value(step, index)
        stand_in = StandIn(value.data, requires_grad=master.requires_grad)
        # the gradient is the weight's own: it is gathered where that one is
        stand_in.grad_buffer, stand_in.grad = master.grad_buffer, master.grad
        return stand_in, lambda gradient: setattr(master, "grad", gradient)
    value = fake.value(step, index)

    def pull(gradient: Any) -> None:
        if gradient is not None:
            value.backward(gradient)

    return StandIn(value.data, requires_grad=value.requires_grad), pull
