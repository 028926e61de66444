"""Continuing a text: with the cache as without it, and sampling as its definition says."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, NumericsError, ShapeError, UnsupportedError
from entrenar_core import models
from entrenar_core.autograd import no_grad
from entrenar_core.models.cache import KVCache
from entrenar_core.rng import stream
from entrenar_core.testing import difference, tiny_llama

PROMPT = np.array([5, 17, 2, 40])
SCALINGS = {
    "default": None,
    "linear": {"rope_type": "linear", "factor": 2.0},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
}  # fmt: skip


def last_logits(model, sequence):
    with no_grad():
        return model(np.asarray(sequence)[None, :]).numpy()[0, -1]


def greedy(model, ids, count):
    """The definition: the whole sequence through the model for each new token."""
    ids = list(ids)
    for _ in range(count):
        ids.append(int(last_logits(model, ids).argmax()))
    return ids


@pytest.fixture(scope="module")
def model():
    return tiny_llama()


@pytest.mark.tier2
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_greedy_generation_is_what_full_forward_passes_give(scaling, dtype):
    model = tiny_llama(rope_scaling=SCALINGS[scaling], dtype=dtype)
    found = models.generate(model, PROMPT, max_new_tokens=30, eos_ids=())
    assert found.tolist() == greedy(model, PROMPT, 30)


@pytest.mark.tier2
@pytest.mark.parametrize("overrides", [{"num_key_value_heads": 1}, {"tie_word_embeddings": True}])
def test_greedy_generation_of_other_shapes_is_too(overrides):
    model = tiny_llama(**overrides)
    found = models.generate(model, PROMPT, max_new_tokens=20, eos_ids=())
    assert found.tolist() == greedy(model, PROMPT, 20)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_cache_gives_the_logits_of_the_whole_sequence(dtype, batch):
    model = tiny_llama(dtype=dtype)
    ids = np.random.default_rng(0).integers(0, 61, (batch, 12))
    cache = KVCache(model.config, batch, 15, np.dtype(dtype))
    with no_grad():
        whole = model(ids).numpy()
        parts = [model(ids[:, a:b], cache=cache).numpy() for a, b in ((0, 5), (5, 6), (6, 12))]
    bound = {"float32": 2e-6, "float64": 1e-14}[dtype]
    assert difference(np.concatenate(parts, axis=1), whole) <= bound


def test_a_cache_refuses_what_does_not_fit(model):
    cache = KVCache(model.config, 1, 5, np.dtype("float32"))
    with no_grad():
        model(PROMPT[None, :], cache=cache)
        with pytest.raises(ShapeError, match="for 5 positions is asked to hold 6"):
            model(PROMPT[None, :2], cache=cache)


def test_a_cache_refuses_to_cut_gradients_off(model):
    cache = KVCache(model.config, 1, 5, np.dtype("float32"))
    with pytest.raises(UnsupportedError, match="no gradients pass") as caught:
        model(PROMPT[None, :], cache=cache)
    assert "no_grad()" in caught.value.hint


def test_generation_stops_at_the_ends_of_the_config():
    free = models.generate(tiny_llama(), PROMPT, max_new_tokens=20, eos_ids=())
    first, second = int(free[11]), int(free[8])
    model = tiny_llama(eos_token_id=[first, second])
    length = min(free[4:].tolist().index(end) for end in (first, second)) + 5
    found = models.generate(model, PROMPT, max_new_tokens=20)
    assert found.tolist() == free[:length].tolist()


def test_generation_stops_after_the_end_of_text(model):
    whole = models.generate(model, PROMPT, max_new_tokens=20, eos_ids=())
    eos = int(whole[7])
    first = len(PROMPT) + whole[len(PROMPT) :].tolist().index(eos)
    found = models.generate(model, PROMPT, max_new_tokens=20, eos_ids=eos)
    assert found.tolist() == whole[: first + 1].tolist()


def test_no_new_tokens_is_the_prompt(model):
    assert models.generate(model, PROMPT, max_new_tokens=0).tolist() == PROMPT.tolist()


def test_equal_seeds_draw_equal_texts_and_others_do_not(model):
    def draw(seed):
        return models.generate(
            model, PROMPT, max_new_tokens=12, temperature=1.0, seed=seed
        ).tolist()

    assert draw(1) == draw(1)
    assert len({tuple(draw(seed)) for seed in range(5)}) > 1


def allowed(logits, temperature, top_k, top_p):
    """The distribution after both cuts, by their definitions."""
    z = logits.astype(np.float64) / temperature
    p = np.exp(z - z.max())
    order = np.argsort(-p, kind="stable")
    p[order[top_k or len(p) :]] = 0
    p /= p.sum()
    mass = 0.0
    for i in order:
        if mass >= top_p:
            p[i] = 0
        mass += p[i]
    return p / p.sum()


@pytest.mark.tier2
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, None, 1.0), (0.7, 5, 1.0), (1.5, None, 0.6), (2.0, 20, 0.8), (1.0, 1, 1.0)],
)
def test_sampling_inverts_the_cumulative_probability(model, temperature, top_k, top_p):
    sequence = list(PROMPT)
    found = models.generate(
        model, PROMPT, max_new_tokens=15, temperature=temperature, top_k=top_k, top_p=top_p,
        seed=4, eos_ids=(),
    )  # fmt: skip
    for position, token in enumerate(found[len(PROMPT) :].tolist()):
        p = allowed(last_logits(model, sequence), temperature, top_k, top_p)
        uniform = stream(4, "sample", 0, position).random()
        assert token == int(np.searchsorted(np.cumsum(p), uniform, side="right"))
        assert p[token] > 0
        sequence.append(token)


def test_rows_are_drawn_alike_in_one_call_and_in_several(model):
    prompts = [PROMPT, PROMPT[:2], PROMPT[1:]]
    options = {"max_new_tokens": 6, "temperature": 1.0, "seed": 3, "eos_ids": ()}
    whole = models.generate(model, prompts, **options)
    parts = [models.generate(model, prompts[:1], **options)]
    parts.append(models.generate(model, prompts[1:], first_row=1, **options))
    assert [ids.tolist() for ids in whole] == [ids.tolist() for part in parts for ids in part]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_choose_nothing(temperature):
    model = tiny_llama()
    model.named_parameters()["model.norm.weight"].data[1] = np.nan
    with pytest.raises(NumericsError, match="after 4 tokens of row 7"):
        models.generate(model, PROMPT, max_new_tokens=2, temperature=temperature, first_row=7)


def test_top_k_of_one_is_greedy(model):
    sampled = models.generate(model, PROMPT, max_new_tokens=9, temperature=3.0, top_k=1)
    assert sampled.tolist() == models.generate(model, PROMPT, max_new_tokens=9).tolist()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperature": -1.0}, "temperature -1.0 is not a finite number of at least 0"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"top_k": 0}, "top_k 0 is not an integer of at least 1"),
        ({"top_k": 2.5}, "top_k 2.5"),
        ({"top_p": 0.0}, "top_p 0.0 is not above 0 and at most 1"),
        ({"top_p": 1.1}, "top_p 1.1"),
        ({"min_p": -0.1}, "min_p -0.1 is not from 0 to 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty 0.0 is not a positive"),
        ({"temperature": -1.0, "top_p": 3}, "temperature -1.0 .*; top_p 3"),
        ({"max_new_tokens": -1}, "max_new_tokens -1"),
        ({"stop": "x"}, "without a tokenizer"),
        ({"stop": ["x", ""]}, "empty"),
        ({"prompts": np.array([], int)}, "prompt 0"),
        ({"prompts": [PROMPT, []]}, "prompt 1"),
        ({"prompts": np.array([0.5])}, "prompt 0 is float64"),
        ({"prompts": []}, "prompt 0"),
    ],
)
def test_impossible_settings_are_refused_with_their_range(model, options, named):
    call = {"prompts": PROMPT, "max_new_tokens": 1, **options}
    with pytest.raises(ConfigError, match=f"generate: .*{named}") as caught:
        models.generate(model, call.pop("prompts"), **call)
    assert caught.value.hint
