"""What the losses of features see of a model, in every family of architectures."""

import numpy as np
import pytest

from entrenar_core import models
from entrenar_core.autograd import ops
from entrenar_core.distill.features import Counts, hidden_cosine, relation_divergence, score_mse
from entrenar_core.models.features import Wanted
from entrenar_core.testing import difference, spread, tiny_config

SIZES = {
    "vocab_size": 61, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 40, "max_position_embeddings": 20, "initializer_range": 0.2,
}  # fmt: skip
DISTILBERT = {
    "vocab_size": 61, "dim": 24, "n_layers": 2, "n_heads": 4, "hidden_dim": 40,
    "max_position_embeddings": 20, "initializer_range": 0.2,
}  # fmt: skip
CONFIGS = {
    "llama": tiny_config("llama"),
    "gpt2": tiny_config("gpt2"),
    "bert": {"model_type": "bert", **SIZES},
    "roberta": {"model_type": "roberta", **SIZES},
    "distilbert": {"model_type": "distilbert", **DISTILBERT},
}
ENCODERS = ["bert", "roberta", "distilbert"]
IDS = np.random.default_rng(0).integers(5, 61, (2, 9))
MASK = np.arange(9) < [[9], [6]]
LAYER = 1
WANTED = Wanted(frozenset([LAYER, 2]), frozenset([LAYER]))


def model_of(kind, head=None, seed=0):
    return spread(models.from_config(CONFIGS[kind], seed=seed, head=head, dtype="float64"), seed)


def all_losses(student, teacher, ids=IDS, mask=MASK):
    ours, theirs = (m.select_features(ids, WANTED, mask) for m in (student, teacher))
    counts = Counts((MASK,))
    causal = ours.heads[LAYER].causal
    per_pair = counts.pairs(causal=causal, window=None)
    heads = ours.heads[LAYER], theirs.heads[LAYER]
    states = ours.hidden_states[2], theirs.hidden_states[2]
    return [
        hidden_cosine(*states, mask, normalizer=counts.tokens),
        relation_divergence(*heads, mask, normalizer=counts.sequences, heads=3),
        score_mse(*heads, mask, normalizer=per_pair),
    ]


def projected(kind, model, state):
    """Queries (where positions do not turn them), keys and values of block LAYER, from its input
    and its weights."""
    weights = {name: p.data for name, p in model.named_parameters().items()}
    at = {name.partition(f".{LAYER}.")[2]: w for name, w in weights.items() if f".{LAYER}." in name}
    if kind == "llama":  # values have no positions
        scale = np.sqrt((state**2).mean(axis=-1, keepdims=True) + 1e-6)
        normed = state / scale * at["input_layernorm.weight"]
        return [normed @ at["self_attn.v_proj.weight"].T]
    if kind == "gpt2":
        normed = ops.layer_norm(state, at["ln_1.weight"], at["ln_1.bias"], eps=1e-5).numpy()
        return np.split(normed @ at["attn.c_attn.weight"] + at["attn.c_attn.bias"], 3, axis=-1)
    names = ["attention.self.query", "attention.self.key", "attention.self.value"]
    if kind == "distilbert":
        names = ["attention.q_lin", "attention.k_lin", "attention.v_lin"]
    return [state @ at[f"{name}.weight"].T + at[f"{name}.bias"] for name in names]


@pytest.mark.parametrize("kind", CONFIGS)
def test_heads_are_projections_of_what_enters_the_block(kind):
    model = model_of(kind)
    found = model.select_features(IDS, WANTED, MASK)
    heads = found.heads[LAYER]
    wanted = projected(kind, model, found.hidden_states[LAYER].numpy())
    for kept, expected in zip([heads.q, heads.k, heads.v][-len(wanted) :], wanted, strict=True):
        assert difference(kept.numpy().reshape(expected.shape), expected) <= 1e-12


@pytest.mark.parametrize("kind", CONFIGS)
def test_other_tokens_in_the_place_of_padding_change_no_loss(kind):
    student, teacher = model_of(kind), model_of(kind, seed=1)
    changed = np.where(MASK, IDS, 7)
    first, second = all_losses(student, teacher), all_losses(student, teacher, changed)
    assert [x.item() for x in first] == [x.item() for x in second]
    assert all(x.item() > 0 for x in first)


@pytest.mark.parametrize("kind", CONFIGS)
def test_gradients_reach_the_weights_that_make_the_features(kind):
    student, teacher = model_of(kind), model_of(kind, seed=1)
    teacher.freeze()
    cosine, relations, scores = all_losses(student, teacher)
    (cosine + relations + scores).backward()
    reached = {name for name, p in student.named_parameters().items() if p.grad is not None}
    first = {name for name in student.named_parameters() if ".0." in name}
    assert first
    assert first <= reached
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_head_on_an_encoder_gives_the_features_of_the_encoder(kind):
    model = model_of(kind, head="masked-lm")
    found = model.select_features(IDS, WANTED, MASK)
    wanted = model.encoder.select_features(IDS, WANTED, MASK)
    assert not found.heads[LAYER].causal
    assert np.array_equal(found.heads[LAYER].v.numpy(), wanted.heads[LAYER].v.numpy())
    assert np.array_equal(found.hidden_states[2].numpy(), wanted.hidden_states[2].numpy())
