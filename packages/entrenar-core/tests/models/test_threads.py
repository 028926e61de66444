"""A whole training step does not depend on the number of threads, to the last bit."""

import numba
import numpy as np
import pytest

from entrenar_core.autograd import no_grad, ops
from entrenar_core.optim import AdamW
from entrenar_core.testing import tiny_model

pytestmark = [
    pytest.mark.tier2,
    pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads"),
]

WIDE = {
    "hidden_size": 96, "intermediate_size": 200, "vocab_size": 509, "num_attention_heads": 6,
    "num_key_value_heads": 3, "max_position_embeddings": 160,
}  # fmt: skip
MODELS = {
    "tiny": ("llama", {}),
    "wider than the products are split": ("llama", WIDE),
    "with windows": ("mistral", {**WIDE, "sliding_window": 17}),
    "with norms of heads": ("qwen3", {**WIDE, "head_dim": 24}),
    "gpt2": (
        "gpt2",
        {"n_embd": 96, "n_inner": 200, "vocab_size": 509, "n_head": 6, "n_positions": 160},
    ),
}


@pytest.fixture
def threads():
    before = numba.get_num_threads()
    yield numba.set_num_threads
    numba.set_num_threads(before)


def step(kind, overrides, rows, time):
    """Loss, gradients and the weights after two optimizer steps."""
    model = tiny_model(kind, **overrides)
    vocabulary = model.config.vocab_size
    ids = np.random.default_rng(0).integers(0, vocabulary, (rows, time))
    labels = np.where(ids % 5 == 0, -100, np.roll(ids, -1, axis=1))
    optimizer = AdamW(model.named_parameters())
    found = {}
    for number in range(2):
        optimizer.zero_grad()
        loss = ops.linear_cross_entropy(
            model.hidden(ids), model.output_weight, labels, normalizer=int((labels >= 0).sum())
        )
        loss.backward()
        found[f"loss {number}"] = loss.data.copy()
        for name, parameter in model.named_parameters().items():
            found[f"gradient {number} {name}"] = parameter.grad.copy()
        found[f"norm {number}"] = np.array(optimizer.step(1e-2, max_norm=1.0))
    with no_grad():
        found["logits"] = model(ids).numpy()
    return found | {n: p.data for n, p in model.named_parameters().items()}


@pytest.mark.parametrize(("rows", "time"), [(1, 7), (2, 33), (3, 129)])
@pytest.mark.parametrize("name", MODELS)
def test_one_and_two_threads_train_the_same_bits(name, rows, time, threads):
    threads(1)
    one = step(*MODELS[name], rows, time)
    threads(2)
    two = step(*MODELS[name], rows, time)
    assert [name for name in one if not np.array_equal(one[name], two[name])] == []
