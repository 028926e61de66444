"""A network with one hidden layer that tells two spirals apart: python mlp.py"""

import numpy as np

from entrenar_core import Tensor, no_grad
from entrenar_core.autograd import ops
from entrenar_core.data.array_batches import ArrayBatches
from entrenar_core.nn import Linear, Module
from entrenar_core.nn.init import initialise
from entrenar_core.optim import AdamW
from entrenar_core.train import Trainer, TrainingConfig


class MLP(Module):
    """Logits of two classes for points of a plane."""

    def __init__(self, hidden: int):
        self.up = Linear(2, hidden, bias=True, dtype="float32")
        self.middle = Linear(hidden, hidden, bias=True, dtype="float32")
        self.down = Linear(hidden, 2, bias=True, dtype="float32")

    def __call__(self, points) -> Tensor:
        return self.down(ops.gelu(self.middle(ops.gelu(self.up(Tensor(points))))))  # (B, 2)


def spirals(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points of both, and which one each is of."""
    which = rng.integers(0, 2, count)
    radius = rng.uniform(0.1, 1, count)
    angle = 6 * radius + np.pi * which
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return (points + rng.normal(0, 0.02, points.shape)).astype(np.float32), which


rng = np.random.default_rng(0)
train, held_out = spirals(1000, rng), spirals(500, rng)
model = MLP(32)
initialise(model, seed=0, std=0.3)
trainer = Trainer(
    model,
    AdamW(model.named_parameters()),
    ops.cross_entropy,
    config=TrainingConfig(epochs=60, learning_rate=1e-2, warmup_steps=20),
)
result = trainer.fit(ArrayBatches(*train, batch_size=50))
with no_grad():
    said = model(held_out[0]).data.argmax(axis=1)
print(f"{result.steps} steps in {result.seconds:.1f} s")
print(f"held-out accuracy {np.mean(said == held_out[1]):.1%}")
