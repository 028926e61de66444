"""A loss of one's own, and a callback that looks at it: python custom_loss.py

Quantile regression: the loss is tilted, so that the model learns where 10, 50 and 90 % of what
comes lie, and not only the middle.
"""

import numpy as np

from entrenar_core import Tensor
from entrenar_core.autograd import ops
from entrenar_core.data.array_batches import ArrayBatches
from entrenar_core.nn import Linear
from entrenar_core.nn.init import initialise
from entrenar_core.optim import AdamW
from entrenar_core.train import Callback, Trainer, TrainingConfig

QUANTILES = np.array([0.1, 0.5, 0.9], np.float32)


def pinball(said: Tensor, wanted: np.ndarray) -> Tensor:
    """The mean of max(q·r, (q − 1)·r) over r = wanted − said (B, 3)."""
    residual = wanted - said
    return ops.maximum(residual * QUANTILES, residual * (QUANTILES - 1)).mean()


class Report(Callback):
    """Prints the loss of every 200th step."""

    def step(self, record):
        if record["step"] % 200 == 0:
            print(f"step {record['step']:4}: loss {record['loss']:.4f}")


rng = np.random.default_rng(0)
x = rng.uniform(0, 1, (4000, 1)).astype(np.float32)
y = (2 * x + (0.2 + x) * rng.normal(size=x.shape)).astype(np.float32)
model = Linear(1, 3, bias=True, dtype="float32")
initialise(model, seed=0, std=0.1)
trainer = Trainer(
    model,
    AdamW(model.named_parameters(), weight_decay=0.0),
    pinball,
    config=TrainingConfig(max_steps=1000, learning_rate=2e-2),
    callbacks=[Report()],
)
trainer.fit(ArrayBatches(x, y, batch_size=200))
below = (y <= x @ model.weight.data.T + model.bias.data).mean(axis=0)
for quantile, share in zip(QUANTILES, below, strict=True):
    print(f"below the line for {quantile:.0%}: {share:.1%} of the points")
