"""A line through points, by gradient descent and in closed form: python linear_regression.py"""

import numpy as np

from entrenar_core.autograd import ops
from entrenar_core.data.array_batches import ArrayBatches
from entrenar_core.nn import Linear
from entrenar_core.nn.init import initialise
from entrenar_core.optim import SGD
from entrenar_core.train import Trainer, TrainingConfig

rng = np.random.default_rng(0)
x = rng.normal(size=(200, 3)).astype(np.float32)
y = x @ np.array([[2.0], [-1.0], [0.5]], np.float32) + 3 + 0.1 * rng.normal(size=(200, 1))
y = y.astype(np.float32)

model = Linear(3, 1, bias=True, dtype="float32")
initialise(model, seed=0, std=0.1)
trainer = Trainer(
    model,
    SGD(model.named_parameters()),
    ops.mse,
    config=TrainingConfig(epochs=100, learning_rate=0.3, schedule="constant"),
)
trainer.fit(ArrayBatches(x, y, batch_size=200))

columns = np.hstack([x, np.ones_like(y)])
exact = np.linalg.lstsq(columns, y, rcond=None)[0].ravel()
found = np.append(model.weight.data, model.bias.data)
print("trained      ", np.round(found, 4))
print("least squares", np.round(exact, 4))
print("differ by    ", np.abs(found - exact).max())
