"""What training on the stored numbers is for: a lower loss at few bits."""

from dataclasses import replace

import numpy as np
import pytest

from entrenar_core import lora, models
from entrenar_core.autograd import no_grad, ops
from entrenar_core.lora import LoraConfig
from entrenar_core.optim import AdamW
from entrenar_core.qat import QatConfig, prepare
from entrenar_core.quant import Percentile
from entrenar_core.rng import stream
from entrenar_core.testing import tiny_config

pytestmark = pytest.mark.tier3

VOCABULARY = 32
CONFIG = tiny_config(
    vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, initializer_range=0.05
)


def batch(number, rows=4, length=24):
    """Sequences in which each id is one of four that depend on the two before it."""
    rng = stream(0, "sequences", number)
    table = stream(0, "table").integers(0, VOCABULARY, (VOCABULARY, VOCABULARY, 4))
    ids = rng.integers(0, VOCABULARY, (rows, length + 1))
    for t in range(2, length + 1):
        ids[:, t] = table[ids[:, t - 2] % 4, ids[:, t - 1], rng.integers(0, 4, rows)]
    return ids


def loss_of(model, ids):
    return ops.linear_cross_entropy(
        model.hidden(ids[:, :-1]), model.output_weight, ids[:, 1:], normalizer=ids[:, 1:].size
    )


def train(model, steps, rate, quantized=None):
    extra = {} if quantized is None else quantized.parameters()
    optimizer = AdamW({**model.named_parameters(), **extra})
    for step in steps:
        optimizer.zero_grad()
        if quantized is None:
            loss_of(model, batch(step)).backward()
        else:
            with quantized.active(step):
                loss_of(model, batch(step)).backward()
        optimizer.step(rate, max_norm=1.0)
    return model


def held_out(model):
    with no_grad():
        return float(np.mean([loss_of(model, batch(10**6 + i)).item() for i in range(8)]))


ALL = {"weights": "int2", "embedding": True, "head": True}
FIRST, FURTHER = range(150), range(150, 240)


@pytest.fixture(scope="module")
def trained():
    return train(models.from_config(CONFIG, seed=0), FIRST, 3e-3)


@pytest.fixture(scope="module")
def plainly(trained):
    """Trained as long as the others, without knowing of the quantization."""
    return train(models.with_layers(trained, range(2)), FURTHER, 2e-3)


@pytest.mark.parametrize(
    "config",
    [
        QatConfig(**ALL),
        QatConfig(**ALL, gradient="learnable", observer="mse"),
        QatConfig(**ALL, gradient="soft", observer=Percentile(95)),
    ],
    ids=lambda config: config.gradient,
)
def test_training_on_stored_weights_beats_quantizing_afterwards(trained, plainly, config):
    whole = held_out(plainly)
    with prepare(plainly, replace(config, gradient="clipped")).exported():
        afterwards = held_out(plainly)
    model = models.with_layers(trained, range(2))
    quantized = prepare(model, config)
    train(model, FURTHER, 2e-3, quantized)
    with quantized.exported():
        aware = held_out(model)
    # two bits cost something, and a part of it is won back
    assert afterwards > whole + 0.1
    assert aware < afterwards - 0.2 * (afterwards - whole)


@pytest.mark.parametrize("seed", [1, 2])
def test_an_adapter_trained_on_stored_weights_beats_one_that_is_quantized_afterwards(trained, seed):
    """Both from the same start on the same batches, at two bits; at three bits such a short
    training wins nothing that could be told from chance."""
    losses = []
    for aware in (False, True):
        model = models.with_layers(trained, range(2))
        lora.adapt(model, LoraConfig(rank=8, alpha=16), seed=seed)
        quantized = prepare(model, QatConfig(weights="int2"))
        steps = range(1000 * seed, 1000 * seed + 40)
        train(model, steps, 3e-3, quantized if aware else None)
        with quantized.exported():
            losses.append(held_out(model))
    afterwards, trained_so = losses
    assert trained_so < afterwards - 0.03
