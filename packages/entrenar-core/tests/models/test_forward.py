"""What a pass can be asked for, and that asking does not change it."""

import numpy as np
import pytest

from entrenar_common.errors import ShapeError
from entrenar_core import nn
from entrenar_core.autograd import ops
from entrenar_core.testing import difference, tiny_model

KINDS = ["llama", "mistral", "qwen2", "qwen3", "gpt2"]
DROPPED = {
    "gpt2": {"attn_pdrop": 0.2, "resid_pdrop": 0.1, "embd_pdrop": 0.3},
    "llama": {"attention_dropout": 0.2},
}
IDS = np.random.default_rng(0).integers(0, 61, (3, 11))
MASK = np.arange(11) < np.array([[11], [6], [1]])


def gradients(model, ids=IDS, mask=None):
    for parameter in model.parameters():
        parameter.grad = None
    labels = np.roll(ids, -1, axis=1)
    loss = ops.linear_cross_entropy(
        model.hidden(ids, mask=mask), model.output_weight, labels, normalizer=labels.size
    )
    loss.backward()
    return {"loss": loss.data, **{n: p.grad for n, p in model.named_parameters().items()}}


def same(a, b):
    return [name for name in a if not np.array_equal(a[name], b[name])] == []


def furthest(a, b):
    """(Sums of a gradient's parts are rounded in another order where blocks are walked alone.)"""
    return max(difference(a[name], b[name]) for name in b)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_the_pass_and_have_their_shapes(kind):
    model = tiny_model(kind)
    features = model.features(IDS, MASK)
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    assert [x.shape for x in features.hidden_states] == [(3, 11, 24)] * (layers + 1)
    assert [x.shape for x in features.attentions] == [(3, heads, 11, 11)] * layers
    wanted = model.hidden(IDS, mask=MASK).numpy()
    assert np.array_equal(features.hidden_states[-1].numpy(), wanted)


def test_attention_maps_are_kept_only_when_asked_for():
    features = tiny_model("llama").features(IDS, attentions=False)
    assert features.attentions == []
    assert len(features.hidden_states) == 3


def test_gradients_pass_through_features():
    model = tiny_model("qwen3", dtype="float64")
    features = model.features(IDS)
    loss = (features.hidden_states[1] * features.hidden_states[1]).sum()
    loss = loss + (features.attentions[1] * features.attentions[1]).sum()
    loss.backward()
    assert model.model.layers[1].self_attn.q_proj.weight.grad.any()
    assert model.model.layers[0].mlp.up_proj.weight.grad.any()
    assert model.model.norm.weight.grad is None


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_mask_leaves_out_changes_nothing(kind):
    model, changed = tiny_model(kind, dtype="float64"), np.where(MASK, IDS, 7)
    first, second = model(IDS, mask=MASK).numpy(), model(changed, mask=MASK).numpy()
    assert np.array_equal(first[MASK], second[MASK])
    assert not np.array_equal(model(IDS).numpy()[~MASK], first[~MASK])


@pytest.mark.parametrize("kind", KINDS)
def test_padding_on_either_side_gives_what_the_sequence_gives_alone(kind):
    model = tiny_model(kind, dtype="float64")
    alone = model(IDS[1:2, :6]).numpy()[0]
    right = model(IDS, mask=MASK).numpy()[1, :6]
    left_ids = np.concatenate([np.zeros((3, 5), int), IDS[:, :6]], axis=1)
    mask, positions = np.ones((3, 11), bool), np.maximum(np.arange(11) - 5, 0)
    mask[1, :5] = False
    left = model(left_ids, mask=mask, positions=np.tile(positions, (3, 1))).numpy()[1, 5:]
    assert difference(right, alone) <= 1e-14
    assert difference(left, alone) <= 1e-13


@pytest.mark.parametrize("kind", ["mistral", "qwen2"])
def test_a_query_sees_its_window_and_no_more(kind):
    model = tiny_model(kind, dtype="float64")  # both windows are 5, qwen2's in its second layer
    maps = [x.numpy() for x in model.features(IDS).attentions]
    seen = np.arange(11)[:, None] - np.arange(11)[None, :]
    for window, weights in zip(model.config.windows, maps, strict=True):
        inside = (seen >= 0) & (seen < (window or 11))
        assert np.all((weights > 0) == inside)
        assert np.allclose(weights.sum(axis=-1), 1, rtol=1e-14, atol=0)


@pytest.mark.parametrize("shape", [(3, 10), (2, 11), (11,), (3, 11, 1)])
def test_a_mask_of_another_shape_is_refused(shape):
    with pytest.raises(ShapeError, match="a mask of shape"):
        tiny_model("llama").hidden(IDS, mask=np.zeros(shape))


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("kind", KINDS)
def test_recomputed_activations_give_the_same_gradients(kind, mask):
    model = tiny_model(kind, **DROPPED.get(kind, {}))
    wanted = gradients(model, mask=mask)
    model.recompute = True
    assert furthest(gradients(model, mask=mask), wanted) <= 2e-6


@pytest.mark.parametrize("kind", DROPPED)
def test_dropout_acts_only_inside_its_context_and_is_a_function_of_seed_and_step(kind):
    model = tiny_model(kind, **DROPPED[kind])
    plain = gradients(model)

    def dropped(seed, step):
        with nn.dropout(seed, step):
            return gradients(model)

    first = dropped(0, 0)
    assert same(first, dropped(0, 0))
    assert not same(first, plain)
    assert not same(first, dropped(0, 1))
    model.recompute = True
    assert furthest(dropped(0, 0), first) <= 2e-6
    assert same(gradients(tiny_model(kind)), plain)


@pytest.mark.parametrize("key", ["attn_pdrop", "resid_pdrop", "embd_pdrop"])
def test_every_dropout_of_gpt2_drops(key):
    off = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
    plain = tiny_model("gpt2", **off)(IDS).numpy()
    model = tiny_model("gpt2", **off | {key: 0.5})
    with nn.dropout(0, 0):
        assert not np.array_equal(model(IDS).numpy(), plain)
    assert np.array_equal(model(IDS).numpy(), plain)
