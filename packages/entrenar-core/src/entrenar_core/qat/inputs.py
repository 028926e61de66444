"""Inputs of projections, rounded to integers in ranges that follow them from step to step."""

import numpy as np

from entrenar_core.autograd import Tensor, ops
from entrenar_core.quant import Integer, MinMax, RunningRange


class FakeInput:
    """What a projection does to its input while it is quantized.

    A step uses the ranges of the steps before it: what is observed counts from the next step on, so
    that a pass that is computed again on the way back is the same again. The very first step uses
    the range of each input itself.
    """

    def __init__(self, form: Integer, momentum: float):
        self.form = form
        self.range = RunningRange(form, momentum=momentum)
        self._seen: RunningRange | None = None

    def begin(self) -> None:
        """Look at the inputs from here on."""
        self._seen = RunningRange(self.form)

    def end(self) -> None:
        """Take what was seen since `begin` into account."""
        assert self._seen is not None
        seen, self._seen = self._seen, None
        if seen.low is not None and seen.high is not None:
            self.range.merge(seen.low, seen.high)

    def __call__(self, x: Tensor) -> Tensor:
        low, high = MinMax().ranges(self.form.grain.blocks(x.data), self.form)
        # a batch that is not finite leaves no trace: the step is skipped, and the next one is not
        if self._seen is not None and np.isfinite(low).all() and np.isfinite(high).all():
            self._seen.merge(low, high)
        if self.range.low is not None and self.range.high is not None:
            low, high = self.range.low.astype(x.dtype), self.range.high.astype(x.dtype)
        scale, zero = self.form.parameters(low, high)
        return ops.fake_quantize(x, Tensor(scale), zero, form=self.form)
