"""DistilBERT: a strict config, what a pass takes, and files. What heads share is in test_bert."""

import json

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_core import models, nn
from entrenar_core.models.distilbert import DistilBertConfig, sinusoids
from entrenar_core.testing import difference

HEADS = ("masked-lm", "sequence-classification", "embedding")
IDS = np.random.default_rng(0).integers(5, 61, (2, 9))
MASK = np.array([[1] * 9, [1] * 6 + [0] * 3])


def raw(**overrides):
    return {
        "model_type": "distilbert",
        "vocab_size": 61,
        "dim": 24,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 40,
        "max_position_embeddings": 20,
        "initializer_range": 0.2,
        **overrides,
    }


def tiny(head="masked-lm", **overrides):
    """A model in which every parameter matters."""
    model = models.from_config(raw(**overrides), seed=0, head=head)
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        if parameter.data.ndim == 1:
            parameter.data += rng.uniform(-0.4, 0.4, parameter.shape).astype(np.float32)
    return model


def read(**overrides):
    return DistilBertConfig.from_hf(raw(**overrides))


def test_unknown_keys_are_named():
    with pytest.raises(ConfigError, match="unknown keys for a distilbert model: hidden_size"):
        read(hidden_size=24)


@pytest.mark.parametrize(
    ("key", "value"),
    [("activation", "silu"), ("tie_weights_", False), ("is_decoder", True), ("pruned_heads", [1])],
)
def test_what_is_not_computed_is_refused(key, value):
    with pytest.raises(UnsupportedError, match=key) as caught:
        read(**{key: value})
    assert caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dim", 26),
        ("n_heads", 5),
        ("n_layers", 0),
        ("hidden_dim", 4.0),
        ("dropout", 1),
        ("attention_dropout", -1),
        ("seq_classif_dropout", "0"),
        ("sinusoidal_pos_embds", 1),
        ("pad_token_id", 99),
    ],
)
def test_wrong_values_are_refused_by_name(key, value):
    with pytest.raises(ConfigError, match=key) as caught:
        read(**{key: value})
    assert caught.value.hint


def test_a_missing_key_has_the_default_of_hugging_face():
    config = DistilBertConfig.from_hf({"model_type": "distilbert"})
    assert (config.hidden_size, config.intermediate_size, config.num_hidden_layers) == (
        768, 3072, 6,
    )  # fmt: skip
    assert (config.dropout, config.attention_dropout, config.seq_classif_dropout) == (0.1, 0.1, 0.2)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"pad_token_id": None, "sinusoidal_pos_embds": True, "activation": "relu"},
        {"num_labels": 3, "tie_word_embeddings": False, "qa_dropout": 0.0},
    ],
)
def test_a_config_that_is_written_reads_as_itself(overrides):
    config = read(**overrides)
    assert DistilBertConfig.from_hf(json.loads(json.dumps(config.to_hf()))) == config


@pytest.mark.parametrize(
    ("head", "shape"),
    [("masked-lm", (2, 9, 61)), ("sequence-classification", (2, 3)), ("embedding", (2, 24))],
)
def test_each_head_gives_its_shape(head, shape):
    model = tiny(head, num_labels=3)
    assert model(IDS, MASK).shape == shape
    assert model.hidden(IDS, MASK).shape == (2, 9, 24)


@pytest.mark.parametrize("head", HEADS)
def test_padding_changes_nothing(head):
    model = tiny(head)
    wanted = model(IDS[1:, :6]).numpy()[0]
    found = model(np.where(MASK > 0, IDS, 0), MASK).numpy()[1]
    assert difference(found[:6] if head == "masked-lm" else found, wanted) <= 1e-5


def test_token_types_are_refused():
    with pytest.raises(ConfigError, match="token_type_ids given to a distilbert"):
        tiny()(IDS, None, np.zeros_like(IDS))


def test_too_many_positions_are_refused_with_the_numbers():
    model = tiny()
    model(np.full((1, 20), 7))
    with pytest.raises(ConfigError, match="take 21 positions, the model has 20"):
        model(np.full((1, 21), 7))


def test_sinusoids_are_sines_and_cosines_of_falling_frequencies():
    table = sinusoids(7, 6)
    for position in (0, 1, 5):
        for j in range(3):
            angle = position / 10000 ** (2 * j / 6)
            assert table[position, 2 * j] == pytest.approx(np.sin(angle), abs=1e-15)
            assert table[position, 2 * j + 1] == pytest.approx(np.cos(angle), abs=1e-15)


def test_positions_start_as_sinusoids_only_where_the_config_says_so():
    table = sinusoids(20, 24)
    for flag in (False, True):
        model = tiny(sinusoidal_pos_embds=flag)
        weight = model.distilbert.embeddings.position_embeddings.weight.data
        assert (difference(weight, table) <= 1e-6) is flag


@pytest.mark.parametrize(
    ("key", "places"),
    [("dropout", 1 + 2), ("attention_dropout", 2), ("seq_classif_dropout", 1), ("qa_dropout", 0)],
)
def test_every_dropout_of_the_config_has_its_places(key, places, monkeypatch):
    drawn = []
    monkeypatch.setattr(nn.Dropout, "next_key", lambda self: drawn.append(self.p))
    none = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0}
    tiny("sequence-classification", **{**none, key: 0.25})(IDS)
    assert drawn.count(0.25) == places


def test_recomputing_gives_the_same_gradients_with_dropout_too():
    labels = np.where(MASK > 0, IDS, -100)
    gradients = []
    for recompute in (False, True):
        model = tiny()
        model.recompute = recompute
        with nn.dropout(seed=3, step=1):
            model.loss(IDS, labels, MASK).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters().items()})
    for name, wanted in gradients[0].items():
        assert difference(gradients[1][name], wanted) <= 1e-6, name


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_model_comes_back(head, tied, tmp_path):
    model = tiny(head, tie_word_embeddings=tied)
    models.save(model, tmp_path)
    again = models.load(tmp_path)
    assert type(again) is type(model)
    assert again.config == model.config
    assert np.array_equal(again(IDS, MASK).numpy(), model(IDS, MASK).numpy())


def test_a_missing_head_is_drawn_by_a_seed_and_named(tmp_path):
    models.save(tiny("masked-lm"), tmp_path)
    with pytest.raises(ConfigError, match="contradict"):
        models.load(tmp_path, head="sequence-classification")
    model = models.load(tmp_path, head="sequence-classification", initialise_head_seed=0)
    assert set(model.initialised) == {
        "pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias",
    }  # fmt: skip


def test_fewer_layers_are_the_ones_that_were_named():
    model = tiny("embedding", n_layers=3)
    short = models.with_layers(model, [2, 0])
    assert short.config.num_hidden_layers == 2
    for new, old in ((0, 2), (1, 0)):
        found = short.transformer.layer[new].ffn.lin1.weight.data
        assert np.array_equal(found, model.transformer.layer[old].ffn.lin1.weight.data)
