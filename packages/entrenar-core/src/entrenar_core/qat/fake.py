"""A weight as it will be stored, with a gradient: one matrix that is quantized in training."""

import math
from dataclasses import dataclass, replace

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
    def passes_straight(self) -> bool:
        """Whether the gradient of what is stored is that of the weight, exactly."""
        observed = isinstance(self.config.range_observer, MinMax)
        clips = isinstance(self.form, Integer) and not observed
        return self.config.gradient == "clipped" and not clips

    def value(self, step: int, index: int) -> Tensor:
        """The weight at a step of training; `index` is the number of the matrix, for its noise."""
        w = self.matrix.parameter
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
            scale, zero = self._parameters(self.form)
        return self.form.quantize_with(array, scale.data, zero)

    def exported(self) -> np.ndarray:
        """The numbers of `stored`, in the layer's own layout."""
        return self._back(self.stored().dequantize()).astype(self.matrix.parameter.dtype)

    def _stored_part(self, w: Tensor, step: int) -> Tensor:
        if not isinstance(self.form, Integer):
            return ops.stored_ste(w, form=self.form)
        form = replace(self.form, bits=self.config.schedule.bits(step, self.form.bits))
        scale, zero = self._parameters(form)
        length = w.size // scale.size
        return ops.fake_quantize(
            w,
            scale,
            zero,
            form=form,
            alpha=self.config.alpha if self.config.gradient == "soft" else None,
            scale_gradient=1 / math.sqrt(length * form.high),
        )

    def _parameters(self, form: Integer) -> tuple[Tensor, np.ndarray]:
        """Scales and zero points for `form`, which has the bits of a step."""
        if self.log_step is None or self.zero is None:
            scale, zero = self.config.range_observer.parameters(self._oriented(), form)
            return Tensor(scale), zero
        assert isinstance(self.form, Integer)
        # the same range in other bits: a longer or shorter step
        ratio = self.form.high / form.high
        return ops.exp(self.log_step) * ratio, np.rint(self.zero / ratio)

    def _oriented(self) -> np.ndarray:
        w = self.matrix.parameter.data
        return np.ascontiguousarray(self._back(w))

    def _back(self, w: np.ndarray) -> np.ndarray:
        return np.moveaxis(w, self.matrix.output_axis, 0) if w.ndim == 2 else w

    def _turn(self, w: Tensor) -> Tensor:
        return ops.transpose(w, 0, 1) if self.matrix.output_axis and w.ndim == 2 else w
