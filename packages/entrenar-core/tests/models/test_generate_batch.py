"""Several texts at once: each is what it is alone. Stop strings: looked for in the text."""

import numpy as np
import pytest

from decoder_cases import CASES, config_of
from entrenar_common.errors import ConfigError
from entrenar_core import models
from entrenar_core.autograd import no_grad
from entrenar_core.models.cache import KVCache
from entrenar_core.testing import difference, spread, tiny_llama, tiny_model

RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(0, 61, n) for n in (7, 2, 11, 1)]


def made(kind, name, **more):
    config = config_of(kind, name, **more)
    return spread(models.from_config(config, seed=0, dtype="float64"))


def alone(model, prompts=PROMPTS, **options):
    return [models.generate(model, prompt, **options).tolist() for prompt in prompts]


@pytest.mark.tier2
@pytest.mark.parametrize("kind", CASES)
def test_each_row_of_a_batch_is_what_it_is_alone(kind):
    model = made(kind, next(iter(CASES[kind])))
    found = models.generate(model, PROMPTS, max_new_tokens=30)
    assert [row.tolist() for row in found] == alone(model, max_new_tokens=30)


@pytest.mark.tier2
@pytest.mark.parametrize("positions", [8, 64])
def test_rows_beyond_the_trained_length_are_scaled_each_by_its_own_length(positions):
    scaling = {"rope_type": "dynamic", "factor": 2.0}
    model = made("llama", "multi-head", rope_scaling=scaling, max_position_embeddings=positions)
    found = models.generate(model, PROMPTS, max_new_tokens=20)
    assert [row.tolist() for row in found] == alone(model, max_new_tokens=20)


@pytest.mark.parametrize("kind", ["mistral", "gpt2"])
def test_a_row_that_ends_does_not_disturb_the_others(kind):
    model = made(kind, next(iter(CASES[kind])))
    free = alone(model, max_new_tokens=20)
    ends = [free[0][10], free[3][12]]
    found = models.generate(model, PROMPTS, max_new_tokens=20, eos_ids=ends)
    assert [row.tolist() for row in found] == alone(model, max_new_tokens=20, eos_ids=ends)
    assert len({len(row) - len(prompt) for row, prompt in zip(found, PROMPTS, strict=True)}) > 2


def test_a_row_that_has_ended_is_not_computed_any_more(monkeypatch):
    model = tiny_llama()
    prompts = [PROMPTS[0], PROMPTS[0][::-1].copy()]
    free = [row.tolist() for row in models.generate(model, prompts, max_new_tokens=9, eos_ids=())]
    end = next(t for t in free[0][8:] if t not in free[1][7:] and t not in free[0][7:8])
    rows, hidden = [], model.hidden
    monkeypatch.setattr(
        type(model),
        "hidden",
        lambda _, ids, mask, **more: rows.append(len(ids)) or hidden(ids, mask, **more),
    )
    models.generate(model, prompts, max_new_tokens=9, eos_ids=[end])
    steps = free[0][7:].index(end) + 1
    assert rows == [2] * steps + [1] * (9 - steps)


def test_rows_of_one_length_need_no_mask(monkeypatch):
    model, masks = tiny_llama(), []
    hidden = model.hidden
    monkeypatch.setattr(
        type(model),
        "hidden",
        lambda _, ids, mask, **more: masks.append(mask) or hidden(ids, mask, **more),
    )
    models.generate(model, RNG.integers(0, 61, (3, 5)), max_new_tokens=4)
    assert masks == [None] * len(masks)


def test_one_prompt_gives_an_array_and_a_list_of_one_a_list():
    model = tiny_llama()
    single = models.generate(model, PROMPTS[0], max_new_tokens=3)
    assert isinstance(single, np.ndarray)
    (row,) = models.generate(model, PROMPTS[:1], max_new_tokens=3)
    assert row.tolist() == single.tolist()
    assert models.generate(model, PROMPTS[0].tolist(), max_new_tokens=3).tolist() == row.tolist()


def test_the_draws_of_a_row_depend_on_seed_and_row_alone():
    model = made("llama", "multi-head")
    options = {"max_new_tokens": 12, "temperature": 1.5, "seed": 3}
    first = models.generate(model, PROMPTS, **options)
    assert first[0].tolist() == models.generate(model, PROMPTS[0], **options).tolist()
    assert [row.tolist() for row in models.generate(model, PROMPTS[:2], **options)] == [
        row.tolist() for row in first[:2]
    ]
    twice = models.generate(model, [PROMPTS[0], PROMPTS[0]], **options)
    assert twice[0].tolist() != twice[1].tolist()


@pytest.mark.parametrize("window", [1, 4])
def test_a_window_holds_beyond_it_with_a_cache_as_without(window):
    model = tiny_model("mistral", sliding_window=window, dtype="float64")
    ids = RNG.integers(0, 61, (2, 15))
    cache = KVCache(model.config, 2, 15, np.dtype("float64"))
    with no_grad():
        whole = model(ids).numpy()
        parts = [model(ids[:, a:b], cache=cache).numpy() for a, b in ((0, 6), (6, 7), (7, 15))]
    assert difference(np.concatenate(parts, axis=1), whole) <= 1e-14


def test_learned_positions_have_an_end():
    model = tiny_model("gpt2", n_positions=12)
    assert len(models.generate(model, PROMPTS[0], max_new_tokens=6, eos_ids=())) == 13
    with pytest.raises(ConfigError, match="learned 12 positions") as caught:
        models.generate(model, PROMPTS[0], max_new_tokens=7)
    assert "at most 6 new tokens" in caught.value.hint


def test_more_ids_than_learned_positions_are_refused():
    with pytest.raises(ConfigError, match="position 12 of a model that has learned 12"):
        tiny_model("gpt2", n_positions=12)(RNG.integers(0, 61, (1, 13)))


# --- stop strings --------------------------------------------------------------------------------


class Letters:
    """A tokenizer of two letters to a token, so that a string can begin and end inside of one."""

    vocab_size = 60

    def decode(self, ids):
        return "".join(chr(65 + i % 8) + chr(97 + i // 8) for i in ids)


@pytest.fixture(scope="module")
def written():
    """The tokens that a model goes on with, and their text."""
    model = tiny_llama()
    ids = models.generate(model, PROMPTS[0], max_new_tokens=20, eos_ids=())
    new = [i for i in ids[7:].tolist() if i < 60]
    return model, ids, Letters().decode(new)


@pytest.mark.parametrize("span", [(2, 4), (3, 5), (6, 7), (5, 12)])
def test_a_row_ends_with_the_token_that_completes_a_stop_string(written, span):
    model, ids, text = written
    stop = text[slice(*span)]
    tokens = (text.find(stop) + len(stop) + 1) // 2
    found = models.generate(
        model, PROMPTS[0], max_new_tokens=20, stop=stop, tokenizer=Letters(), eos_ids=()
    )
    assert found.tolist() == ids[: 7 + tokens].tolist()


def test_the_text_ends_before_the_first_stop_string_or_after_it(written):
    _, ids, text = written
    stops = [text[9:12], text[5:8], "not there"]
    at = min(text.find(stop) for stop in stops[:2])
    cut = models.new_text(Letters(), ids, 7, stop=stops)
    kept = models.new_text(Letters(), ids, 7, stop=stops, include_stop=True)
    assert cut == text[:at]
    assert kept == text[: at + 3]
    assert models.new_text(Letters(), ids, 7, stop="not there") == text


def test_a_stop_string_in_the_prompt_does_not_end_a_text(written):
    model, ids, _ = written
    stop = Letters().decode(PROMPTS[0][:2])
    assert stop not in Letters().decode(i for i in ids[7:] if i < 60)
    found = models.generate(
        model, PROMPTS[0], max_new_tokens=20, stop=[stop], tokenizer=Letters(), eos_ids=()
    )
    assert found.tolist() == ids.tolist()


def test_rows_end_each_at_its_own_stop_string(written):
    model, _, text = written
    options = {"max_new_tokens": 20, "stop": (text[4:6],), "tokenizer": Letters(), "eos_ids": ()}
    found = models.generate(model, PROMPTS, **options)
    assert [row.tolist() for row in found] == alone(model, **options)


def test_a_token_that_ends_a_text_is_not_in_it():
    ids = np.array([3, 4, 5, 6])
    assert models.new_text(Letters(), ids, 2, eos_ids=6) == Letters().decode([5])
    assert models.new_text(Letters(), ids, 2) == Letters().decode([5, 6])
    assert models.new_text(Letters(), ids[:2], 2, eos_ids=[4]) == ""


class Spaces:
    """A tokenizer that writes a space before a token unless the text begins with it."""

    vocab_size = 61

    def decode(self, ids):
        return " ".join(str(i) for i in ids)


def test_new_text_is_written_as_what_follows_its_prompt():
    assert models.new_text(Spaces(), np.array([1, 2, 3, 4]), 2) == " 3 4"
    assert models.new_text(Spaces(), np.array([3, 4]), 0) == "3 4"
