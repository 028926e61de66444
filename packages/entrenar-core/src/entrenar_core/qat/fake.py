"""A weight as it will be stored, with a gradient: one matrix that is quantized in training.

Beside adapters that is the sum of the weight and their updates: W stays, A and B get the gradient.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from entrenar_core.autograd import Parameter, Tensor, no_grad, ops
from entrenar_core.qat.config import QatConfig
from entrenar_core.qat.places import Matrix
from entrenar_core.quant import Format, Integer, MinMax, Stored
from entrenar_core.rng import stream

NOISE_BLOCK = 32
"""Elements that are quantized or left alone together, where only a share of them is."""


@dataclass
class FakeQuantized:
    """One matrix and its format. With learnable steps, `log_step` (S,) is a parameter: the natural
    logarithm of each step, so that it stays positive and moves in proportion; `zero` (S,) stays."""

    matrix: Matrix
    form: Format
    config: QatConfig
    log_step: Parameter | None = None
    zero: np.ndarray | None = None
    _aside: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        if isinstance(self.form, Integer) and self.config.gradient == "learnable":
            step, self.zero = self.config.range_observer.parameters(self._oriented(), self.form)
            self.log_step = Parameter(np.log(step))
        self.form.quantize(self._oriented()[:1])  # a shape that cannot be stored is reported now

    def observe(self) -> None:
        """Start learned steps anew, from the weights as they are; nothing for other gradients."""
        if self.log_step is None or self.zero is None:
            return
        assert isinstance(self.form, Integer)
        step, self.zero[...] = self.config.range_observer.parameters(self._oriented(), self.form)
        self.log_step.data[...] = np.log(step)

    @property
    def adapted(self) -> bool:
        """Whether what is quantized is the weight together with the updates of adapters."""
        return self._adapters is not None

    @property
    def _adapters(self) -> Any:
        return self.matrix.adapters if self._aside is None else self._aside

    def weight(self) -> Tensor:
        """What is quantized, in full precision: the parameter, or its sum with the updates of the
        adapters beside it. What is held in 16 or few bits is float32 here.

        Raises ConfigError for an adapter that is no part of a weight alone, or of a tied one.
        """
        w, adapters = self.matrix.parameter, self._adapters
        if adapters is not None:
            return adapters.weight_alone(w, name=self.matrix.name)
        held = not isinstance(w.data, np.ndarray) or w.dtype.name not in ("float32", "float64")
        return Tensor(np.asarray(w.data, np.float32)) if held else w

    def whole(self) -> np.ndarray:
        """The numbers of `weight`, which what is stored was rounded from: a copy."""
        with no_grad():
            return self.weight().data.copy()

    def settle(self) -> None:
        """Give a parameter without adapters the numbers that its stored weight stands for."""
        parameter, values = self.matrix.parameter, self.exported()
        if isinstance(parameter.data, np.ndarray) and parameter.dtype == values.dtype:
            parameter.data[...] = values
        else:
            parameter.data = values

    def put(self, value: Tensor) -> None:
        """Let the model compute with `value`, which has the updates of adapters in it."""
        if self.matrix.adapters is not None:
            owner: Any = self.matrix.places[0][0]
            self._aside, owner.adapters = owner.adapters, None
        self.matrix.put(value)

    def put_back(self) -> None:
        """Let the model compute with the parameter again, and the adapters beside it."""
        self.matrix.put(self.matrix.parameter)
        if self._aside is not None:
            owner: Any = self.matrix.places[0][0]
            owner.adapters, self._aside = self._aside, None

    @property
    def passes_straight(self) -> bool:
        """Whether the gradient of what is stored is that of the parameter, exactly."""
        if self.adapted:
            return False
        observed = isinstance(self.config.range_observer, MinMax)
        clips = isinstance(self.form, Integer) and not observed
        return self.config.gradient == "clipped" and not clips

    def value(self, step: int, index: int) -> Tensor:
        """The weight at a step of training; `index` is the number of the matrix, for its noise."""
        w = self.weight()
        y = self._stored_part(self._turn(w), step)
        y = self._turn(y)
        if self.config.noise is None:
            return y
        rng = stream(self.config.seed, "quantization noise", step, index)
        blocks = rng.random(math.ceil(w.size / NOISE_BLOCK)) < self.config.noise
        chosen = np.repeat(blocks, NOISE_BLOCK)[: w.size].reshape(w.shape)
        return ops.where(chosen, y, w)

    def stored(self) -> Stored:
        """The weight in its format, (out, in) whatever the layer has, and with its learned steps.

        What it stands for is, to the bit, what a training step without noise computes with once the
        schedule has come to its end.
        """
        array = self._oriented()
        if not isinstance(self.form, Integer):
            return self.form.quantize(array)
        with no_grad():
            scale, zero = self._parameters(self.form, array)
        return self.form.quantize_with(array, scale.data, zero)

    def exported(self) -> np.ndarray:
        """The numbers of `stored`, in the layer's own layout."""
        dtype = np.float64 if self.matrix.parameter.dtype == np.float64 else np.float32
        return self._back(self.stored().dequantize()).astype(dtype)

    def _stored_part(self, w: Tensor, step: int) -> Tensor:
        if not isinstance(self.form, Integer):
            return ops.stored_ste(w, form=self.form)
        form = replace(self.form, bits=self.config.schedule.bits(step, self.form.bits))
        scale, zero = self._parameters(form, np.ascontiguousarray(w.data))
        length = w.size // scale.size
        return ops.fake_quantize(
            w,
            scale,
            zero,
            form=form,
            alpha=self.config.alpha if self.config.gradient == "soft" else None,
            scale_gradient=1 / math.sqrt(length * form.high),
        )

    def _parameters(self, form: Integer, array: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """Scales, zero points of `array`, (out, in), for `form`, which has the bits of a step."""
        if self.log_step is None or self.zero is None:
            scale, zero = self.config.range_observer.parameters(array, form)
            return Tensor(scale), zero
        assert isinstance(self.form, Integer)
        # the same range in other bits: a longer or shorter step
        ratio = self.form.high / form.high
        return ops.exp(self.log_step) * ratio, np.rint(self.zero / ratio)

    def _oriented(self) -> np.ndarray:
        with no_grad():
            w = self.weight().data
        return np.ascontiguousarray(self._back(w))

    def _back(self, w: np.ndarray) -> np.ndarray:
        return np.moveaxis(w, self.matrix.output_axis, 0) if w.ndim == 2 else w

    def _turn(self, w: Tensor) -> Tensor:
        return ops.transpose(w, 0, 1) if self.matrix.output_axis and w.ndim == 2 else w
