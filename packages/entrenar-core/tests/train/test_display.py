"""A training that is shown: what a display is told, as plain data."""

import numpy as np
import pytest

from entrenar_core.autograd import ops
from entrenar_core.data.array_batches import ArrayBatches
from entrenar_core.nn import Linear
from entrenar_core.nn.init import initialise
from entrenar_core.optim import SGD
from entrenar_core.train.callbacks import Callback, Notice
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.display import shown
from entrenar_core.train.trainer import Trainer

pytestmark = pytest.mark.tier2


class Told:
    def __init__(self):
        self.calls = []

    def begin(self, phase, *, first_step, total_steps, steps_per_epoch):
        self.calls.append(("begin", phase, first_step, total_steps, steps_per_epoch))

    def step(self, record):
        self.calls.append(("step", record["step"]))

    def saved(self, step):
        self.calls.append(("saved", step))

    def notice(self, step, text, *, severity):
        self.calls.append(("notice", step, text, severity))

    def end(self, outcome):
        self.calls.append(("end", outcome))


class Noticing(Callback):
    def started(self, run):
        run.notify(Notice("odd", 1, "very", "serious"))


def test_display_is_told_of_a_training_in_order(tmp_path):
    told = Told()
    model = Linear(3, 1, bias=True, dtype="float32")
    initialise(model, 1, std=0.5)
    x = np.ones((32, 3), np.float32)
    data = ArrayBatches(x, x[:, :1], batch_size=8)
    config = TrainingConfig.model_validate({"max_steps": 2, "gradient_accumulation": 2})
    Trainer(
        model,
        SGD(model.named_parameters()),
        ops.mse,
        config=config,
        callbacks=[*shown(told), Noticing()],
        folder=tmp_path,
    ).fit(data)
    assert told.calls == [
        ("begin", "training", 0, 2, 2.0),
        ("notice", 1, "odd: very", "serious"),
        ("step", 1),
        ("step", 2),
        ("saved", 2),
        ("end", "finished"),
    ]


def test_without_a_display_there_are_no_callbacks():
    assert shown(None) == ()
