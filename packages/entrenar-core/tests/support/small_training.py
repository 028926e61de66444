"""A training of four numbers, for what is told of a training."""

import numpy as np

from entrenar_core.autograd import ops
from entrenar_core.data.array_batches import ArrayBatches
from entrenar_core.nn import Linear
from entrenar_core.nn.init import initialise
from entrenar_core.optim import AdamW
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.trainer import Trainer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype(np.float32)
Y = X @ np.array([[1.0], [-2.0], [0.5]], np.float32)
TRAIN, VAL = ArrayBatches(X[:32], Y[:32], batch_size=8), ArrayBatches(X[32:], Y[32:], batch_size=8)


def trainer(*callbacks, folder=None, every=500, **config):
    model = Linear(3, 1, bias=True, dtype="float32")
    initialise(model, 1, std=0.5)
    settings = TrainingConfig.model_validate({"learning_rate": 0.1, "max_steps": 4, **config})
    return Trainer(
        model, AdamW(model.named_parameters()), ops.mse, config=settings, callbacks=callbacks,
        folder=folder, checkpoint_every=every,
    )  # fmt: skip


def weights(of):
    """What was trained, as bytes."""
    return {name: p.data.tobytes() for name, p in of.model.named_parameters().items()}
