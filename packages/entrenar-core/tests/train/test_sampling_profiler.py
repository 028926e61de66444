"""A profile by samples: whose time it is, how the file reads, and that the thread ends."""

import re
import threading
import time
from collections import Counter

import numpy as np
import pytest

from entrenar_core.autograd import ops
from entrenar_core.data.array_batches import ArrayBatches
from entrenar_core.nn import Linear
from entrenar_core.nn.init import initialise
from entrenar_core.optim import SGD
from entrenar_core.train import sampling_profiler
from entrenar_core.train.callbacks import Callback
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.sampling_profiler import BETWEEN, ProfileSection, SamplingProfiler
from entrenar_core.train.trace import Span
from entrenar_core.train.trainer import Trainer

pytestmark = pytest.mark.tier2

X, Y = np.ones((16, 2), np.float32), np.ones((16, 1), np.float32)


class Rows(ArrayBatches):
    def batch(self, position):
        self.fetch()
        return super().batch(position)

    def fetch(self):
        time.sleep(0.03)


def slow_loss(found, wanted):
    time.sleep(0.01)
    return ops.mse(found, wanted)


class Seconds(Callback):
    """Of the spans, by name, with those inside them."""

    def __init__(self):
        self.by_name = Counter()

    def span(self, span):
        self.by_name[span.name] += span.seconds


def train(*callbacks, steps=40):
    model = Linear(2, 1, bias=True, dtype="float32")
    initialise(model, 1, std=0.5)
    config = TrainingConfig(max_steps=steps, learning_rate=0.01)
    Trainer(
        model, SGD(model.named_parameters()), slow_loss, config=config, callbacks=callbacks
    ).fit(Rows(X, Y, batch_size=4))  # fmt: skip


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    folder, seconds = tmp_path_factory.mktemp("profile"), Seconds()
    profiler = SamplingProfiler(ProfileSection(every_ms=2.0), folder=folder / "new")
    train(profiler, seconds)
    return profiler, seconds.by_name, folder / "new" / "profile-training.collapsed"


def test_spans_have_the_share_of_samples_that_they_have_of_the_time(profiled):
    profiler, seconds, _ = profiled
    by_span = Counter()
    for (span, _), count in profiler.counts.items():
        by_span[span] += count
    for name in ("data", "forward"):
        share = by_span[name] / profiler.samples
        assert share == pytest.approx(seconds[name] / seconds["run"], abs=0.1)


def test_the_table_names_the_functions_that_take_the_time(profiled):
    profiler, _, _ = profiled
    first = profiler.table()[0]
    assert (first.span, first.function.rpartition(".")[2]) == ("data", "fetch")
    assert first.total >= first.own > 0.5 * profiler.seconds * first.share
    forward = next(row for row in profiler.table() if row.function.endswith("slow_loss"))
    assert forward.span == "forward"
    assert len(profiler.table(1)) == 1


def test_the_file_is_a_line_for_each_stack_from_the_outermost_in(profiled):
    profiler, _, path = profiled
    lines = path.read_text().splitlines()
    parsed = [re.fullmatch(r"([^;]+(?:;[^;]+)*) ([1-9]\d*)", line) for line in lines]
    assert all(parsed)
    assert sum(int(match[2]) for match in parsed) == profiler.samples
    (fetching,) = [m[1].split(";") for m in parsed if m[1].endswith("Rows.fetch")]
    assert fetching[0] == "data"
    assert fetching[1] == "entrenar_core.train.loop.TrainingLoop.fit"
    assert fetching[-2].endswith("Rows.batch")


def at(name, started, ended):
    return Span(name, 1, None, started, ended, 0, {})


def test_a_sample_is_that_of_the_innermost_span():
    profiler = SamplingProfiler()
    spans = [at("data", 10, 20), at("op", 24, 26), at("forward", 30, 40), at("step", 9, 50)]
    for now in range(51):
        if now % 10 == 5:
            profiler._seen.append((now, (f"at {now}",)))
        for span in spans:
            if span.ended == now:
                profiler.span(span)
    assert dict(profiler.counts) == {
        ("data", ("at 15",)): 1,
        ("forward", ("at 35",)): 1,
        ("step", ("at 25",)): 1,
        ("step", ("at 45",)): 1,
        (BETWEEN, ("at 5",)): 1,
    }


def test_stacks_beyond_those_that_are_kept_are_counted_together(monkeypatch):
    monkeypatch.setattr(sampling_profiler, "_MOST", 2)
    profiler = SamplingProfiler()
    profiler._seen.extend((5, (name,)) for name in "abcda")
    profiler.span(at("step", 0, 9))
    assert profiler.samples == 5
    assert sorted(profiler.counts.values()) == [1, 2, 2]


def test_an_error_ends_the_thread_and_leaves_a_file(tmp_path):
    class Broken(Callback):
        def step(self, record):
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        train(SamplingProfiler(ProfileSection(every_ms=1.0), folder=tmp_path), Broken())
    assert (tmp_path / "profile-training.collapsed").stat().st_size
    assert "profiler" not in {thread.name for thread in threading.enumerate()}


def test_profiling_changes_no_bit():
    def weights(*callbacks):
        model = Linear(2, 1, bias=True, dtype="float32")
        initialise(model, 1, std=0.5)
        config = TrainingConfig(max_steps=5, learning_rate=0.1)
        trainer = Trainer(
            model, SGD(model.named_parameters()), ops.mse, config=config, callbacks=callbacks
        )
        trainer.fit(ArrayBatches(X, Y, batch_size=4))
        return model.weight.data

    np.testing.assert_array_equal(weights(), weights(SamplingProfiler(ProfileSection(every_ms=1))))
