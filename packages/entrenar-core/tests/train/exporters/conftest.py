"""A training of a second's fraction, with a log to compare what is exported with."""

import json

import numpy as np
import pytest

from entrenar_core.autograd import ops
from entrenar_core.data.array_batches import ArrayBatches
from entrenar_core.nn import Linear
from entrenar_core.nn.init import initialise
from entrenar_core.optim import AdamW
from entrenar_core.train.callbacks import Callback
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.trainer import Trainer

X = np.random.default_rng(0).normal(size=(40, 3)).astype("f4")
Y = X @ np.array([[1.0], [-2.0], [0.5]], "f4")
TRAIN = ArrayBatches(X[:32], Y[:32], batch_size=8)
VAL = ArrayBatches(X[32:], Y[32:], batch_size=8)


class Crash(Callback):
    def __init__(self, at):
        self.at = at

    def step(self, record):
        if record["step"] == self.at:
            raise RuntimeError("crash")


class Training:
    """Six steps of one model in `folder`, evaluated every third and saved every second; `log` is
    what metrics.jsonl says of them."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, *callbacks, resume=False, **config):
        """Returns the bytes of the weights."""
        model = Linear(3, 1, bias=True, dtype="float32")
        initialise(model, 1, std=0.5)
        settings = {"learning_rate": 0.1, "max_steps": 6, "evaluate_every": 3, **config}
        trainer = Trainer(
            model, AdamW(model.named_parameters()), ops.mse, folder=self.folder,
            config=TrainingConfig.model_validate(settings), checkpoint_every=2, callbacks=callbacks,
        )  # fmt: skip
        trainer.fit(TRAIN, VAL, resume=resume)
        return {name: p.data.tobytes() for name, p in model.named_parameters().items()}

    def crash(self, at, *callbacks, **config):
        """Train until an error after step `at`, which is logged, as a crash leaves it."""
        with pytest.raises(RuntimeError, match="crash"):
            self.run(*callbacks, Crash(at), **config)

    @property
    def log(self):
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def training(tmp_path):
    return Training(tmp_path / "run")
