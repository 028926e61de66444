"""Training from Python: what callbacks are told, early stopping, averages, resuming."""

import json

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, InterruptedRun
from entrenar_core.autograd import ops
from entrenar_core.data.array_batches import ArrayBatches
from entrenar_core.nn import Linear
from entrenar_core.nn.init import initialise
from entrenar_core.optim import SGD, AdamW
from entrenar_core.train.callbacks import Callback, Notice, StopTraining
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.process import StopRequest
from entrenar_core.train.trainer import Trainer

pytestmark = pytest.mark.tier2

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype(np.float32)
Y = X @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 0.1 * RNG.normal(size=(40, 1)).astype("f4")
TRAIN, VAL = ArrayBatches(X[:32], Y[:32], batch_size=8), ArrayBatches(X[32:], Y[32:], batch_size=8)


class Told(Callback):
    def __init__(self):
        self.events, self.spans, self.records = [], [], []

    def started(self, run):
        self.run = run
        self.events.append("started")

    def span(self, span):
        self.spans.append(span)

    def step(self, record):
        self.records.append(record)
        self.events.append("step")

    def saved(self, path, step):
        assert (path / "manifest.json").exists()
        self.events.append(f"saved {step}")

    def noticed(self, notice):
        self.events.append(notice.message)

    def ended(self, outcome):
        self.events.append(outcome)


def line():
    model = Linear(3, 1, bias=True, dtype="float32")
    initialise(model, 1, std=0.5)
    return model


def trainer(*callbacks, folder=None, optimizer=AdamW, every=500, **config):
    model = line()
    settings = TrainingConfig.model_validate({"learning_rate": 0.1, "max_steps": 4, **config})
    return Trainer(
        model, optimizer(model.named_parameters()), ops.mse, config=settings, callbacks=callbacks,
        folder=folder, checkpoint_every=every,
    )  # fmt: skip


def weights(of):
    return {n: p.data.copy() for n, p in of.model.named_parameters().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_sgd_follows_the_gradient_of_the_mean_over_rows():
    """One whole-batch step of least squares in closed form."""
    model = line()
    w, b = model.weight.data.astype("f8"), model.bias.data.astype("f8")
    x, y = X.astype("f8"), Y.astype("f8")
    off = x @ w.T + b - y
    config = TrainingConfig(max_steps=1, learning_rate=0.1, schedule="constant", max_grad_norm=1e9)
    found = Trainer(model, SGD(model.named_parameters()), ops.mse, config=config)
    found.fit(ArrayBatches(X, Y, batch_size=40))
    np.testing.assert_allclose(model.weight.data, w - 0.1 * 2 * (off.T @ x) / 40, rtol=1e-5)
    np.testing.assert_allclose(model.bias.data, b - 0.1 * 2 * off.mean(0), rtol=1e-5)


def test_accumulation_changes_nothing_but_how_often_gradients_are_added():
    whole, parts = trainer(), trainer(gradient_accumulation=2)
    whole.fit(TRAIN)
    parts.fit(ArrayBatches(X[:32], Y[:32], batch_size=4))
    for name, value in weights(whole).items():
        np.testing.assert_allclose(weights(parts)[name], value, rtol=1e-5)


def test_callbacks_are_told_of_everything_in_order(tmp_path):
    told = Told()
    trainer(told, folder=tmp_path, every=2, evaluate_every=4).fit(TRAIN, VAL)
    assert told.events == [
        "started", "step", "step", "saved 2", "step", "step", "saved 4", "finished",
    ]  # fmt: skip
    assert (told.run.first_step, told.run.total_steps, told.run.parameters) == (0, 4, 4)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [dict(record) for record in told.records]
    assert told.records[-1]["held_out_loss"] > 0


def test_spans_nest_as_a_training_does(tmp_path):
    told = Told()
    trainer(told, folder=tmp_path, evaluate_every=4, gradient_accumulation=2).fit(TRAIN, VAL)
    names = {span.number: span.name for span in told.spans}
    nested = {(span.name, names.get(span.parent, "")) for span in told.spans}
    assert nested == {
        ("run", ""), ("epoch", "run"), ("step", "epoch"), ("data", "step"), ("forward", "step"),
        ("backward", "step"), ("optimizer", "step"), ("evaluation", "epoch"),
        ("checkpoint", "epoch"),
    }  # fmt: skip
    counts = [sum(s.name == name for s in told.spans) for name in ("epoch", "step", "forward")]
    assert counts == [2, 4, 8]  # 4 steps of 2 batches of the 4 in an epoch


def test_listening_changes_no_bit():
    silent, told = trainer(), trainer(Told())
    silent.fit(TRAIN)
    told.fit(TRAIN)
    assert_same(weights(silent), weights(told))


def test_a_callback_ends_a_training_well(tmp_path):
    class Enough(Callback):
        def step(self, record):
            if record["step"] == 2:
                raise StopTraining("that is enough")

    told = Told()
    result = trainer(Enough(), told, folder=tmp_path).fit(TRAIN)
    assert (result.steps, result.stopped) == (2, "that is enough")
    assert told.events == ["started", "step", "step", "saved 2", "stopped"]


def test_an_error_ends_all_spans_and_is_told_as_a_failure():
    class Broken(Callback):
        def step(self, record):
            raise RuntimeError("mine")

    told = Told()
    with pytest.raises(RuntimeError, match="mine"):
        trainer(told, Broken()).fit(TRAIN)
    assert told.events[-1] == "failed"
    assert told.spans[-1].name == "run"


class BrokenAtTheEnd(Callback):
    def ended(self, outcome):
        raise RuntimeError("at the end")


def test_an_error_at_the_end_is_raised_when_all_have_been_told(tmp_path):
    told = Told()
    with pytest.raises(RuntimeError, match="at the end"):
        trainer(BrokenAtTheEnd(), told, folder=tmp_path).fit(TRAIN)
    assert told.events[-2:] == ["saved 4", "finished"]
    assert trainer(folder=tmp_path).fit(TRAIN, resume=True).steps == 4


def test_an_error_at_the_end_does_not_hide_how_the_training_ended(tmp_path):
    told, stop = Told(), StopRequest()
    stop.signal = 15
    with pytest.raises(InterruptedRun) as caught:
        trainer(BrokenAtTheEnd(), told, folder=tmp_path).fit(TRAIN, stop=stop)
    assert told.events[-1] == "interrupted"
    assert str(caught.value.__context__) == "at the end"


@pytest.mark.parametrize("method", ["started", "span", "step", "saved"])
def test_a_training_that_a_callback_ends_with_an_error_goes_on_without_it(tmp_path, method):
    """Whatever it is told of when it raises."""

    def broken(self, *_args):
        raise RuntimeError("mine")

    straight = trainer(folder=tmp_path / "a", every=1)
    straight.fit(TRAIN)
    callback = type("Broken", (Callback,), {method: broken})()
    with pytest.raises(RuntimeError, match="mine"):
        trainer(callback, folder=tmp_path / "b", every=1).fit(TRAIN)
    resumed = trainer(folder=tmp_path / "b", every=1)
    resumed.fit(TRAIN, resume=True)
    assert_same(weights(straight), weights(resumed))
    assert_same(straight.optimizer.state(), resumed.optimizer.state())
    steps = [
        json.loads(line)["step"] for line in (tmp_path / "b/metrics.jsonl").read_text().splitlines()
    ]
    assert steps == [1, 2, 3, 4]


def test_a_notice_reaches_every_callback():
    class Notices(Callback):
        def started(self, run):
            run.notify(Notice("data-stall", 1, "slow", "info"))

    told = Told()
    trainer(told, Notices()).fit(TRAIN)
    assert "slow" in told.events


def test_training_stops_when_evaluations_get_no_better_and_keeps_the_best(tmp_path):
    """A rate that is too high from the first step: the weights before it are the best."""
    stopping = {"patience": 2, "min_delta": 0.0}
    found = trainer(
        folder=tmp_path, learning_rate=30.0, schedule="constant", optimizer=SGD, max_steps=50,
        evaluate_every=1, early_stopping=stopping, max_grad_norm=1e9,
    )  # fmt: skip
    result = found.fit(TRAIN, VAL)
    assert result.steps == 3  # one that is the best, for want of others, and two that are worse
    assert result.stopped.startswith("2 evaluations without a better held_out_loss than")
    best = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])["held_out_loss"]
    assert found.loss_on(VAL) == pytest.approx(best)


def test_checkpoints_between_evaluations_are_not_taken_for_the_best(tmp_path):
    """Saved after every step, and measured after every third: what was measured is kept."""
    found = trainer(
        folder=tmp_path, learning_rate=30.0, schedule="constant", optimizer=SGD, max_steps=50,
        evaluate_every=3, early_stopping={"patience": 2}, max_grad_norm=1e9, every=1,
    )  # fmt: skip
    assert found.fit(TRAIN, VAL).steps == 9
    third = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[2])["held_out_loss"]
    assert found.loss_on(VAL) == pytest.approx(third)


def test_a_stopped_training_stays_stopped_when_it_is_resumed(tmp_path):
    settings = {
        "folder": tmp_path, "learning_rate": 30.0, "optimizer": SGD, "max_steps": 50,
        "evaluate_every": 1, "early_stopping": {"patience": 2}, "max_grad_norm": 1e9,
    }  # fmt: skip
    first = trainer(**settings)
    stopped = first.fit(TRAIN, VAL)
    second = trainer(**settings)
    assert second.fit(TRAIN, VAL, resume=True).steps == stopped.steps
    assert_same(weights(first), weights(second))


def test_averages_of_weights_are_what_the_definition_says(tmp_path):
    plain, seen = trainer(), []

    class Weights(Callback):
        def step(self, record):
            seen.append(weights(plain)["weight"].astype("f8"))

    plain.callbacks = (Weights(),)
    before = weights(plain)["weight"].astype("f8")
    plain.fit(TRAIN)
    wanted = before
    for n, value in enumerate(seen, 1):
        d = min(0.5, (1 + n) / (10 + n))
        wanted = d * wanted + (1 - d) * value
    averaged = trainer(average_decay=0.5)
    averaged.fit(TRAIN)
    np.testing.assert_allclose(weights(averaged)["weight"], wanted, rtol=1e-5)


@pytest.mark.parametrize("stops", [(1,), (1, 2, 3)])
def test_an_interrupted_training_ends_in_the_same_bits(tmp_path, stops):
    settings = {"average_decay": 0.9, "evaluate_every": 2, "early_stopping": {"patience": 9}}
    straight = trainer(folder=tmp_path / "a", **settings)
    straight.fit(TRAIN, VAL)

    class Stop(Callback):
        def __init__(self, at, request):
            self.at, self.request = at, request

        def step(self, record):
            if record["step"] == self.at:
                self.request.signal = 15

    for at in stops:
        request = StopRequest()
        told = Told()
        with pytest.raises(InterruptedRun):
            trainer(Stop(at, request), told, folder=tmp_path / "b", **settings).fit(
                TRAIN, VAL, resume=True, stop=request
            )
        assert told.events[-1] == "interrupted"
    resumed = trainer(folder=tmp_path / "b", **settings)
    resumed.fit(TRAIN, VAL, resume=True)
    assert_same(weights(straight), weights(resumed))
    assert_same(straight.optimizer.state(), resumed.optimizer.state())


def test_an_optimizer_of_another_model_is_refused():
    found = trainer()
    found.optimizer = SGD(line().named_parameters())
    with pytest.raises(ConfigError, match="the optimizer has not been given weight"):
        found.fit(TRAIN)


def test_early_stopping_without_a_folder_is_refused():
    with pytest.raises(ConfigError, match="early_stopping goes back"):
        trainer(evaluate_every=1, early_stopping={"patience": 1})


def test_a_metric_that_no_evaluation_has_is_an_error_that_lists_them():
    with pytest.raises(ConfigError, match=r"'accuracy' is not among") as caught:
        trainer(evaluate_every=1, metric="accuracy").fit(TRAIN, VAL)
    assert caught.value.hint == "they are held_out_loss"


def test_a_model_without_blocks_has_nothing_to_compute_again():
    with pytest.raises(ConfigError, match="Linear has no blocks to compute again"):
        trainer(checkpointing=True).fit(TRAIN)
