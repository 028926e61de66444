"""The learning-rate finder, on losses whose course is known in closed form."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError
from entrenar_core import lora, models
from entrenar_core.autograd import Parameter, ops
from entrenar_core.data.array_batches import ArrayBatches
from entrenar_core.data.batches import Batches
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.lora import LoraConfig
from entrenar_core.nn import Module
from entrenar_core.optim import SGD, AdamW
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.find_rate import RateCurve, find_learning_rate, smoothed
from entrenar_core.train.loop import TrainingLoop
from entrenar_core.train.objective import LanguageModelling, Supervised

STEEP = 1e9
"""A limit of the gradients' norm that none reaches."""


class Point(Module):
    """Its parameters alone, whatever the input."""

    def __init__(self, start):
        self.w = Parameter(np.array(start, np.float64))

    def __call__(self, _inputs):
        return self.w


def bowl(curvatures, start, *, optimizer=SGD, **config):
    """A loop whose loss is ½ Σ λᵢ wᵢ²."""
    model, half = Point(start), np.array(curvatures) / 2
    rows = ArrayBatches(np.zeros((2, 1)), np.zeros((2, 1)), batch_size=2)
    objective = Supervised(model, lambda w, _: ops.sum(w * w * half))
    settings = {"max_steps": 5, "max_grad_norm": STEEP, **config}
    return TrainingLoop(
        model, objective, rows, TrainingConfig.model_validate(settings), phase="p", metrics=None,
        store=None, checkpoint_every=1, optimizer=optimizer,
    )  # fmt: skip


def course(curvatures, start, rates):
    """The losses of gradient descent, which multiplies wᵢ by 1 − ηλᵢ."""
    w, found = np.array(start, np.float64), []
    for rate in rates:
        found.append(np.sum(np.array(curvatures) * w**2) / 2)
        w = w * (1 - rate * np.array(curvatures))
    return np.array(found)


@pytest.mark.parametrize("curvature", [0.7, 5.0, 40.0])
@pytest.mark.parametrize("steps", [30, 100])
def test_a_bowl_diverges_from_two_over_its_curvature_on(curvature, steps):
    loop = bowl([curvature], [3.0])
    curve = find_learning_rate(loop, lowest=1e-3, highest=30.0, steps=steps, smoothing=0)
    ratio = 30000 ** (1 / (steps - 1))
    assert curve.diverged
    assert 2 / curvature <= curve.diverges_at < 2 / curvature * ratio
    wanted = course([curvature], [3.0], curve.rates)
    np.testing.assert_allclose(curve.losses, wanted, rtol=1e-6)
    assert curve.smooth.tolist() == curve.losses.tolist()
    assert len(curve.rates) < steps
    assert curve.losses[-1] >= 4 * curve.losses.min() > curve.losses[-2]


def test_the_steepest_curvature_decides_and_the_suggestion_is_the_steepest_descent():
    curvatures, start = [1.0, 8.0, 20.0], [2.0, 1.0, 0.05]
    loop = bowl(curvatures, start)
    curve = find_learning_rate(loop, lowest=1e-4, highest=10.0, steps=200, smoothing=0)
    wanted = course(curvatures, start, curve.rates)
    slopes = np.gradient(wanted, np.log(curve.rates))
    falling = np.argmin(slopes[: np.argmin(wanted) + 1])
    assert curve.suggestion == curve.rates[falling]
    assert curve.suggestion < 2 / 20 < curve.diverges_at
    assert curve.why_none == ""


def test_rates_rise_in_equal_ratios_to_the_highest():
    curve = find_learning_rate(bowl([1e-6], [1.0]), lowest=1e-5, highest=1e-1, steps=5)
    np.testing.assert_allclose(curve.rates, [1e-5, 1e-4, 1e-3, 1e-2, 1e-1], rtol=1e-12)
    assert not curve.diverged
    assert curve.diverges_at is None
    assert curve.ended == "the highest rate, 0.1, was reached"


def test_the_average_weighs_the_past_by_powers():
    losses = np.array([3.0, 1.0, 4.0, 1.0, 5.0])
    weights = [0.9 ** np.arange(k, -1, -1) for k in range(5)]
    wanted = [np.average(losses[: k + 1], weights=w) for k, w in enumerate(weights)]
    np.testing.assert_allclose(smoothed(losses, 0.9), wanted, rtol=1e-12)


def test_where_nothing_is_learned_there_is_no_suggestion():
    curve = find_learning_rate(bowl([2.0], [1.0]), lowest=1.5, highest=20.0, steps=10)
    assert curve.diverges_at == curve.rates[0]
    assert curve.suggestion is None
    assert "never fell below that of the first step, 1" in curve.why_none


def test_after_few_steps_there_is_no_suggestion():
    curve = RateCurve(np.ones(2), np.ones(2), np.ones(2), True, "")
    assert curve.suggestion is None
    assert "only 2 steps" in curve.why_none


def test_a_loss_that_is_not_finite_ends_it():
    loop = bowl([1.0], [1e5])
    curve = find_learning_rate(loop, lowest=1e160, highest=1e161, steps=9, smoothing=0)
    assert curve.diverged
    assert "was inf" in curve.ended
    assert np.isfinite(curve.losses).all()


def held(loop):
    tensors = loop.state.tensors()
    return {(stem, n): a.copy() for stem, each in tensors.items() for n, a in each.items()}


@pytest.mark.parametrize("optimizer", [SGD, AdamW])
def test_weights_moments_and_counters_are_as_before(optimizer):
    loop = bowl([3.0, 1.0], [1.0, -2.0], optimizer=optimizer, average_decay=0.9)
    for _ in range(2):
        loop._advance()
    before, counters = held(loop), (loop.step, loop.optimizer.steps, loop.average.updates)
    find_learning_rate(loop, lowest=1e-3, highest=10.0, steps=20)
    assert {n: a.tobytes() for n, a in held(loop).items()} == {
        n: a.tobytes() for n, a in before.items()
    }
    assert (loop.step, loop.optimizer.steps, loop.average.updates) == counters


def test_an_error_in_a_step_takes_everything_back_too(monkeypatch):
    loop = bowl([3.0], [1.0], optimizer=AdamW)
    loss, calls = loop.objective.loss, []

    def failing(batch, normalizer):
        calls.append(1)
        if len(calls) == 3:
            raise KeyError
        return loss(batch, normalizer)

    monkeypatch.setattr(loop.objective, "loss", failing)
    before = held(loop)
    with pytest.raises(KeyError):
        find_learning_rate(loop)
    assert all(a.tobytes() == before[n].tobytes() for n, a in held(loop).items())
    assert loop.optimizer.steps == 0


SHAPE = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 16, "eos_token_id": 0,
}  # fmt: skip


def language_loop():
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, 40, size=50).astype(np.int32) for _ in range(8)]
    documents = TokenizedDocuments.from_arrays([f"{i}" for i in range(8)], ids, [50] * 8)
    model = models.from_config(SHAPE, seed=0)
    lora.adapt(model, LoraConfig(rank=2))
    quantization = {"weights": "int4", "gradient": "learnable", "activations": 8}
    return TrainingLoop(
        model, LanguageModelling(model),
        Batches(documents, seq_len=16, batch_size=4, seed=0, eos_id=0),
        TrainingConfig.model_validate({"max_steps": 6, "quantization": quantization}), phase="p",
        metrics=None, store=None, checkpoint_every=9,
    )  # fmt: skip


@pytest.mark.tier2
@pytest.mark.parametrize("first", [0, 2])
def test_a_training_goes_on_to_the_bit_as_if_no_rate_had_been_looked_for(first):
    straight, looked = language_loop(), language_loop()
    for _ in range(first):
        straight._advance()
        looked._advance()
    curve = find_learning_rate(looked, lowest=1e-4, highest=1.0, steps=5)
    assert len(curve.losses) >= 3
    straight.fit()
    looked.fit()
    wanted, found = held(straight), held(looked)
    assert found.keys() == wanted.keys()
    assert all(found[n].tobytes() == a.tobytes() for n, a in wanted.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest": 0.0}, "learning rates from 0 to 1"),
        ({"lowest": 1.0}, "learning rates from 1 to 1"),
        ({"highest": np.inf}, "learning rates from 1e-07 to inf"),
        ({"steps": 2}, "a curve of 2 steps"),
        ({"smoothing": 1.0}, "a smoothing of 1"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        find_learning_rate(bowl([1.0], [1.0]), **options)
