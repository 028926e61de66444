"""Trainings in which something goes wrong at a step that is known: it is noticed, and named."""

import mmap
import time

import numpy as np
import pytest

from entrenar_core.autograd import ops
from entrenar_core.data.array_batches import ArrayBatches
from entrenar_core.nn import Linear
from entrenar_core.nn.init import initialise
from entrenar_core.optim import SGD
from entrenar_core.train.anomalies import AnomalyDetector, Watcher
from entrenar_core.train.anomalies.figures import private_bytes
from entrenar_core.train.callbacks import Callback
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.trainer import Trainer

pytestmark = pytest.mark.tier2

RNG = np.random.default_rng(0)
X = RNG.normal(size=(512, 16)).astype(np.float32)
Y = (X @ RNG.normal(size=(16, 1)) + 0.1 * RNG.normal(size=(512, 1))).astype(np.float32)
START, STEPS, WITHIN = 80, 120, 20


class Noticed(Callback):
    def __init__(self):
        self.notices = []

    def noticed(self, notice):
        self.notices.append(notice)


class SlowRows(ArrayBatches):
    """Rows for which something has to be waited for from a step on."""

    def batch(self, position):
        if position >= START:
            time.sleep(0.04)
        return super().batch(position)


class Spiking(SGD):
    """A rate that is a thousand times as high from a step on."""

    taken = 0

    def step(self, lr, *, max_norm=np.inf, max_value=np.inf):
        self.taken += 1
        factor = 1000 if self.taken > START else 1
        return super().step(lr * factor, max_norm=max_norm, max_value=max_value)


class Leaking(Callback):
    """Keeps 4 MB more after every step from a step on, that no allocator had before."""

    def __init__(self):
        self.kept = []

    def step(self, record):
        if record["step"] >= START:
            self.kept.append(mmap.mmap(-1, 4_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_ANON))
            self.kept[-1].write(b"x" * 4_000_000)


def noticed(*others, rows=ArrayBatches, optimizer=SGD, folder=None, steps=STEPS, **config):
    model = Linear(16, 1, bias=True, dtype="float32")
    initialise(model, 1, std=0.5)
    told = Noticed()
    settings = TrainingConfig.model_validate(
        {"max_steps": steps, "learning_rate": 0.01, "schedule": "constant", **config}
    )
    trainer = Trainer(
        model, optimizer(model.named_parameters()), ops.mse, config=settings, folder=folder,
        callbacks=[*others, AnomalyDetector(), told], checkpoint_every=50,
    )  # fmt: skip
    held_out = ArrayBatches(X[448:], Y[448:], batch_size=32)
    trainer.fit(rows(X[:448], Y[:448], batch_size=32), held_out)
    return told.notices


def soon(notice):
    return START <= notice.step <= START + WITHIN


def test_a_loader_that_has_to_wait_is_a_data_stall():
    (notice,) = noticed(rows=SlowRows)
    assert notice.kind == "data-stall"
    assert soon(notice)


def test_a_rate_that_is_far_too_high_is_divergence():
    (notice,) = noticed(optimizer=Spiking)
    assert notice.kind == "divergence"
    assert soon(notice)


def test_a_leak_is_growth_of_memory():
    (notice,) = noticed(Leaking())
    assert notice.kind == "memory-growth"
    assert soon(notice)


def test_a_training_with_evaluations_and_checkpoints_is_quiet(tmp_path):
    assert noticed(folder=tmp_path, steps=400, evaluate_every=20) == []


def test_a_step_after_an_evaluation_or_a_checkpoint_is_known_as_disturbed(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Watcher, "take", lambda self, figures: seen.append(figures) or [])
    noticed(folder=tmp_path, steps=60, evaluate_every=20)  # and a checkpoint at 50
    assert [each.step for each in seen if each.disturbed] == [21, 41, 51]


def test_figures_of_a_step_are_those_of_its_spans(monkeypatch):
    seen = []
    monkeypatch.setattr(Watcher, "take", lambda self, figures: seen.append(figures) or [])
    noticed(rows=SlowRows, steps=START + 5)
    for each in seen[START:]:
        assert 0.04 <= each.data_seconds < each.step_seconds
        # what is slept is no processor time
        assert 0 < each.cpu_seconds < each.compute_seconds + 0.001


def test_private_memory_is_what_the_system_calls_anonymous():
    with open("/proc/self/status") as file:
        held = next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))
    assert abs(private_bytes() - held) < 5_000_000
