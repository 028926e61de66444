"""BERT and RoBERTa: strict configs, what a pass takes, heads, and files."""

import json

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, ShapeError, UnsupportedError
from entrenar_core import models, nn
from entrenar_core.autograd import Tensor, no_grad, ops
from entrenar_core.io.safetensors import write_folder
from entrenar_core.models.bert import BertConfig
from entrenar_core.models.roberta import RobertaConfig
from entrenar_core.testing import check_grads, difference

CONFIGS = {"bert": BertConfig, "roberta": RobertaConfig}
HEADS = ("masked-lm", "sequence-classification", "embedding")
RNG = np.random.default_rng(0)
IDS = RNG.integers(5, 61, (2, 9))
MASK = np.array([[1] * 9, [1] * 6 + [0] * 3])


def raw(kind="bert", **overrides):
    return {
        "model_type": kind,
        "vocab_size": 61,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "max_position_embeddings": 20,
        "type_vocab_size": 2,
        "initializer_range": 0.2,
        **overrides,
    }


def tiny(head="masked-lm", kind="bert", dtype="float32", **overrides):
    """A model in which every parameter matters."""
    model = models.from_config(raw(kind, **overrides), seed=0, head=head, dtype=dtype)
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        if parameter.data.ndim == 1:
            parameter.data += rng.uniform(-0.4, 0.4, parameter.shape)
    return model


def read(kind="bert", **overrides):
    return CONFIGS[kind].from_hf(raw(kind, **overrides))


# --- the config ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONFIGS)
def test_unknown_keys_are_named(kind):
    with pytest.raises(ConfigError, match=f"unknown keys for a {kind} model: also, sliding"):
        read(kind, sliding=5, also=1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "silu"),
        ("hidden_act", "gelu_fast"),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("is_encoder_decoder", True),
        ("pruned_heads", {"1": [0]}),
        ("pooler_type", "mean"),
        ("directionality", "left"),
    ],
)
@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_not_computed_is_refused(kind, key, value):
    with pytest.raises(UnsupportedError, match=key) as caught:
        read(kind, **{key: value})
    assert caught.value.hint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", 0),
        ("hidden_size", 26),
        ("num_attention_heads", 5),
        ("num_hidden_layers", True),
        ("type_vocab_size", -1),
        ("layer_norm_eps", 0),
        ("layer_norm_eps", float("nan")),
        ("hidden_dropout_prob", 1.0),
        ("attention_probs_dropout_prob", -0.1),
        ("classifier_dropout", "0.1"),
        ("tie_word_embeddings", 1),
        ("pad_token_id", 61),
        ("pad_token_id", -1),
        ("problem_type", "ranking"),
        ("id2label", {"0": "no", "2": "yes"}),
        ("id2label", ["no", "yes"]),
    ],
)
@pytest.mark.parametrize("kind", CONFIGS)
def test_wrong_values_are_refused_by_name(kind, key, value):
    with pytest.raises(ConfigError, match=key) as caught:
        read(kind, **{key: value})
    assert caught.value.hint


def test_keys_of_published_configs_that_change_nothing_are_accepted():
    old = {
        "gradient_checkpointing": False, "position_embedding_type": "absolute", "use_cache": True,
        "directionality": "bidi", "pooler_fc_size": 768, "pooler_num_attention_heads": 12,
        "pooler_num_fc_layers": 3, "pooler_size_per_head": 128,
        "pooler_type": "first_token_transform", "output_past": True, "transformers_version": "4",
    }  # fmt: skip
    assert read(**old) == read()


@pytest.mark.parametrize(
    ("kind", "words", "special"), [("bert", 30522, (0, None, None)), ("roberta", 50265, (1, 0, 2))]
)
def test_a_missing_key_has_the_default_of_hugging_face(kind, words, special):
    config = CONFIGS[kind].from_hf({"model_type": kind})
    assert (config.vocab_size, config.hidden_size, config.intermediate_size) == (words, 768, 3072)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == special
    assert (config.hidden_dropout_prob, config.classifier_dropout) == (0.1, None)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"pad_token_id": 3, "eos_token_id": [4, 5], "classifier_dropout": 0.0},
        {"num_labels": 4, "problem_type": "regression", "tie_word_embeddings": False},
        {"id2label": {"0": "bad", "1": "fair", "2": "good"}, "hidden_act": "relu"},
    ],
)
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_that_is_written_reads_as_itself(kind, overrides):
    config = read(kind, **overrides)
    assert CONFIGS[kind].from_hf(json.loads(json.dumps(config.to_hf()))) == config


def test_bert_without_a_padding_token_reads_as_itself():
    config = read(pad_token_id=None)
    assert config.pad_token_id is None
    assert BertConfig.from_hf(config.to_hf()) == config


def test_roberta_without_a_padding_token_is_refused():
    with pytest.raises(ConfigError, match="pad_token_id None"):
        read("roberta", pad_token_id=None)


def test_roberta_with_no_position_behind_padding_is_refused():
    with pytest.raises(ConfigError, match="pad_token_id 19 with max_position_embeddings 20"):
        read("roberta", pad_token_id=19)


# --- a pass --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "shape"),
    [("masked-lm", (2, 9, 61)), ("sequence-classification", (2, 3)), ("embedding", (2, 24))],
)
@pytest.mark.parametrize("kind", CONFIGS)
def test_each_head_gives_its_shape(kind, head, shape):
    model = tiny(head, kind, num_labels=3)
    assert model(IDS, MASK).shape == shape
    assert model.hidden(IDS, MASK).shape == (2, 9, 24)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", CONFIGS)
def test_padding_changes_nothing(kind, head):
    model = tiny(head, kind)
    padding = model.config.pad_token_id
    padded = np.where(MASK > 0, IDS, padding)
    wanted = model(IDS[1:, :6]).numpy()[0]
    found = model(padded, MASK).numpy()[1]
    assert difference(found[:6] if head == "masked-lm" else found, wanted) <= 1e-5


def test_every_position_sees_every_other():
    model = tiny()
    changed = IDS.copy()
    changed[:, -1] = 3
    assert (np.abs(model(changed).numpy() - model(IDS).numpy()).max(axis=-1) > 1e-4).all()


def test_token_types_are_0_unless_they_are_given():
    model = tiny()
    zeros = np.zeros_like(IDS)
    assert difference(model(IDS, None, zeros).numpy(), model(IDS).numpy()) <= 1e-6
    assert difference(model(IDS, None, zeros + 1).numpy(), model(IDS).numpy()) > 1e-3


@pytest.mark.parametrize("types", [np.zeros((2, 8), int), np.zeros((2, 9))])
def test_token_types_that_do_not_fit_the_ids_are_refused(types):
    with pytest.raises(ShapeError, match="token_type_ids"):
        tiny()(IDS, None, types)


@pytest.mark.parametrize(("kind", "limit"), [("bert", 20), ("roberta", 18)])
def test_too_many_positions_are_refused_with_the_numbers(kind, limit):
    model = tiny(kind=kind)
    model(np.full((1, limit), 7))
    with pytest.raises(ConfigError, match=f"take {limit + 1} positions, the model has {limit}"):
        model(np.full((1, limit + 1), 7))


def test_padding_takes_no_position_in_roberta():
    model = tiny(kind="roberta", max_position_embeddings=6)
    model(np.array([[1, 1, 7, 8, 1, 9, 10, 1]]))
    weight = model.roberta.embeddings.position_embeddings.weight.data
    found = model.roberta.embeddings.positions(np.array([[1, 7, 8, 1, 9]])).numpy()
    assert np.array_equal(found[0], weight[[1, 2, 3, 1, 4]])


def test_ids_beyond_the_vocabulary_are_refused():
    with pytest.raises(ShapeError, match=r"from 61 to 61 .* 61 rows"):
        tiny()(np.full((1, 2), 61))


@pytest.mark.parametrize("ids", [np.zeros((2, 3)), np.zeros(3, int)])
def test_ids_of_another_kind_are_refused(ids):
    with pytest.raises(ConfigError, match="ids must be integers"):
        tiny()(ids)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match=r"mask of shape \(2, 8\)"):
        tiny()(IDS, np.ones((2, 8)))


@pytest.mark.parametrize("head", HEADS)
def test_features_end_with_the_hidden_states_of_the_encoder(head):
    model = tiny(head)
    features = model.features(IDS, MASK)
    encoder = model if head == "embedding" else model.bert
    assert len(features.hidden_states) == 3
    assert np.array_equal(features.hidden_states[-1].numpy(), encoder.hidden(IDS, MASK).numpy())
    assert [weights.shape for weights in features.attentions] == [(2, 4, 9, 9)] * 2
    assert not model.features(IDS, MASK, attentions=False).attentions


def test_attention_maps_are_distributions_over_the_keys_that_count():
    for weights in tiny().features(IDS, MASK).attentions:
        assert np.allclose(weights.numpy().sum(axis=-1), 1, rtol=1e-6)
        assert not weights.numpy()[1, :, :, 6:].any()


def test_the_row_of_padding_gets_no_gradient():
    ids = np.array([[0, 3], [3, 5]])
    weight = Tensor(RNG.standard_normal((6, 2)), requires_grad=True)
    ops.embedding(weight, ids, padding_idx=0).backward(np.ones((2, 2, 2)))
    wanted = np.zeros((6, 2))
    wanted[3], wanted[5] = 2, 1
    assert np.array_equal(weight.grad, wanted)


@pytest.mark.tier2
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", CONFIGS)
def test_gradients_of_the_whole_model_are_right(kind, head):
    model = tiny(head, kind, dtype="float64", num_hidden_layers=1, hidden_size=8, vocab_size=11,
                 intermediate_size=6, pad_token_id=1)  # fmt: skip
    for name, parameter in list(model.named_parameters().items())[::3]:
        if head == "embedding" and name.startswith("pooler."):
            continue
        owner, attribute = _owner(model, name)

        def output(values, owner=owner, attribute=attribute):
            setattr(owner, attribute, values)
            return model(IDS % 9 + 2, MASK)

        check_grads(output, parameter.data, rtol=1e-5)
        setattr(owner, attribute, parameter)


def _owner(model, name):
    *path, attribute = name.split(".")
    for part in path:
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    return model, attribute


# --- losses --------------------------------------------------------------------------------------


def log_softmax(z):
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_masked_loss_is_the_mean_over_the_labelled_positions(kind):
    model = tiny(kind=kind, dtype="float64")
    labels = np.where(RNG.random(IDS.shape) < 0.4, IDS, -100)
    rows, columns = np.nonzero(labels >= 0)
    log_p = log_softmax(model(IDS, MASK).numpy())
    wanted = -log_p[rows, columns, labels[rows, columns]].mean()
    assert model.loss(IDS, labels, MASK).item() == pytest.approx(wanted, rel=1e-12)
    half = model.loss(IDS, labels, MASK, normalizer=2 * len(rows)).item()
    assert half == pytest.approx(wanted / 2, rel=1e-12)


def test_the_masked_loss_of_all_positions_has_the_gradients_of_the_one_over_hidden():
    labels = RNG.integers(0, 61, IDS.shape)
    found, wanted = tiny(dtype="float64"), tiny(dtype="float64")
    found.loss(IDS, labels).backward()
    ops.linear_cross_entropy(
        wanted.hidden(IDS), wanted.output_weight, labels, wanted.output_bias, normalizer=labels.size
    ).backward()
    for name, parameter in wanted.named_parameters().items():
        assert difference(found.named_parameters()[name].grad, parameter.grad) <= 1e-10, name


def test_without_a_label_the_masked_loss_is_0_and_moves_nothing():
    model = tiny()
    loss = model.loss(IDS, np.full(IDS.shape, -100))
    loss.backward()
    assert loss.item() == 0
    assert not any(p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("labels", [IDS[:, 1:], IDS.astype(float), IDS.astype(np.uint8)])
def test_masked_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(ShapeError, match="labels"):
        tiny().loss(IDS, labels)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_loss_of_classes_is_the_mean_cross_entropy(kind):
    model = tiny("sequence-classification", kind, num_labels=3, dtype="float64")
    log_p = log_softmax(model(IDS, MASK).numpy())
    wanted = -(log_p[0, 2] + log_p[1, 0]) / 2
    assert model.loss(IDS, np.array([2, 0]), MASK).item() == pytest.approx(wanted, rel=1e-12)


def test_the_loss_of_several_labels_is_the_mean_binary_cross_entropy():
    model = tiny("sequence-classification", num_labels=3, dtype="float64")
    labels = np.array([[1.0, 0, 1], [0, 0, 1]])
    p = 1 / (1 + np.exp(-model(IDS).numpy()))
    wanted = -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean()
    assert model.loss(IDS, labels).item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_the_loss_of_one_number_is_the_squared_error(shape):
    model = tiny("sequence-classification", num_labels=1, dtype="float64")
    labels = np.array([0.5, -2.0])
    wanted = ((model(IDS).numpy()[:, 0] - labels) ** 2).mean()
    assert model.loss(IDS, labels.reshape(shape)).item() == pytest.approx(wanted, rel=1e-12)


def test_the_problem_type_of_the_config_decides_the_loss():
    model = tiny(
        "sequence-classification", num_labels=2, problem_type="regression", dtype="float64"
    )
    labels = np.array([[1, 0], [0, 3]])
    wanted = ((model(IDS).numpy() - labels) ** 2).mean()
    assert model.loss(IDS, labels).item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (np.array([0, 1, 1]), "single_label_classification"),
        (np.array([0.0, 1.0]), "single_label_classification"),
        (np.array([0, 2]), "single_label_classification"),
        (np.array([0.0, 1.0]), "multi_label_classification"),
        (np.zeros((2, 3)), "regression"),
    ],
)
def test_labels_that_do_not_fit_the_problem_are_refused(labels, problem):
    model = tiny("sequence-classification", num_labels=2, problem_type=problem)
    with pytest.raises(ConfigError, match="label"):
        model.loss(IDS, labels)


# --- dropout and recomputing ---------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", CONFIGS)
def test_dropout_acts_only_inside_its_context(kind, head):
    model = tiny(head, kind, hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.2)
    plain = model(IDS, MASK).numpy()
    with nn.dropout(seed=0, step=0):
        dropped = model(IDS, MASK).numpy()
    with nn.dropout(seed=0, step=0):
        again = model(IDS, MASK).numpy()
    assert np.array_equal(model(IDS, MASK).numpy(), plain)
    assert np.array_equal(dropped, again)
    assert difference(dropped, plain) > 1e-2


@pytest.mark.parametrize(
    ("kind", "key", "places"),
    [
        ("bert", "hidden_dropout_prob", 1 + 2 * 2 + 1),
        ("bert", "attention_probs_dropout_prob", 2),
        ("bert", "classifier_dropout", 1),
        ("roberta", "hidden_dropout_prob", 1 + 2 * 2 + 2),
        ("roberta", "attention_probs_dropout_prob", 2),
        ("roberta", "classifier_dropout", 2),
    ],
)
def test_every_dropout_of_the_config_has_its_places(kind, key, places, monkeypatch):
    drawn = []
    monkeypatch.setattr(nn.Dropout, "next_key", lambda self: drawn.append(self.p))
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = tiny("sequence-classification", kind, **{**none, key: 0.25})
    model(IDS)
    assert drawn.count(0.25) == places


@pytest.mark.parametrize("kind", CONFIGS)
def test_recomputing_gives_the_same_gradients_with_dropout_too(kind):
    labels = np.where(MASK > 0, IDS, -100)
    gradients = []
    for recompute in (False, True):
        model = tiny(kind=kind)
        model.recompute = recompute
        assert model.recompute is model.encoder.recompute is recompute
        with nn.dropout(seed=3, step=1):
            model.loss(IDS, labels, MASK).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters().items()})
    for name, wanted in gradients[0].items():
        assert difference(gradients[1][name], wanted) <= 1e-6, name


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_model_comes_back(kind, head, tied, tmp_path):
    model = tiny(head, kind, tie_word_embeddings=tied)
    models.save(model, tmp_path)
    again = models.load(tmp_path)
    assert type(again) is type(model)
    assert again.config == model.config
    assert np.array_equal(again(IDS, MASK).numpy(), model(IDS, MASK).numpy())
    assert not (tmp_path / "generation_config.json").exists()


def test_an_encoder_without_pooler_comes_back_without_one(tmp_path):
    models.save(tiny("masked-lm"), tmp_path)
    model = models.load(tmp_path, head="embedding")
    assert model.pooler is None
    models.save(model, tmp_path / "bare")
    again = models.load(tmp_path / "bare")
    assert again.pooler is None
    assert models.with_layers(again, [1]).pooler is None
    assert np.array_equal(again(IDS).numpy(), model(IDS).numpy())


def test_a_head_that_is_missing_is_an_error_that_names_its_tensors(tmp_path):
    models.save(tiny("embedding"), tmp_path)
    with pytest.raises(ConfigError, match="contradict") as caught:
        models.load(tmp_path, head="sequence-classification")
    assert "classifier.weight: missing" in " ".join(caught.value.details)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_missing_head_is_drawn_by_a_seed_and_named(kind, tmp_path):
    models.save(tiny("masked-lm", kind), tmp_path)
    first, second, other = (
        models.load(tmp_path, head="sequence-classification", initialise_head_seed=seed)
        for seed in (0, 0, 1)
    )
    dense = "bert.pooler.dense" if kind == "bert" else "classifier.dense"
    assert f"{dense}.weight" in first.initialised
    assert np.array_equal(first(IDS).numpy(), second(IDS).numpy())
    assert not np.array_equal(first(IDS).numpy(), other(IDS).numpy())


def test_a_part_of_the_encoder_that_is_missing_is_an_error_with_a_seed_too(tmp_path):
    model = tiny("embedding")
    models.save(model, tmp_path)
    tensors = {n: p.data for n, p in model.named_parameters().items()}
    del tensors["encoder.layer.1.output.dense.bias"]
    write_folder(tmp_path, tensors)
    for head in ("sequence-classification", "embedding"):
        with pytest.raises(ConfigError, match="contradict") as caught:
            models.load(tmp_path, head=head, initialise_head_seed=0)
        assert "output.dense.bias: missing" in " ".join(caught.value.details)


def test_a_tensor_of_no_part_is_an_error(tmp_path):
    model = tiny("embedding")
    models.save(model, tmp_path)
    tensors = {n: p.data for n, p in model.named_parameters().items()}
    write_folder(tmp_path, {**tensors, "encoder.extra": np.zeros(3, np.float32)})
    with pytest.raises(ConfigError, match="contradict") as caught:
        models.load(tmp_path)
    assert "encoder.extra: not part" in " ".join(caught.value.details)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_tied_projection_written_out_once_more_is_read(kind, tmp_path):
    model = tiny(kind=kind)
    models.save(model, tmp_path)
    tensors = {n: p.data for n, p in model.named_parameters().items()}
    for further, first in model.tied_names().items():
        tensors[further] = tensors[first].copy()
    write_folder(tmp_path, tensors)
    assert np.array_equal(models.load(tmp_path)(IDS).numpy(), model(IDS).numpy())


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_lone_bias_of_an_untied_projection_is_used_where_it_is_the_only_one(kind, tmp_path):
    model = tiny(kind=kind, tie_word_embeddings=False)
    models.save(model, tmp_path)
    tensors = {n: p.data for n, p in model.named_parameters().items()}
    name = next(n for n in tensors if n.endswith("decoder.bias"))
    tensors[name.replace("decoder.", "")] = tensors.pop(name)
    write_folder(tmp_path, tensors)
    with no_grad():
        assert np.array_equal(models.load(tmp_path)(IDS).numpy(), model(IDS).numpy())


def test_an_architecture_that_is_not_here_is_refused_with_those_that_are(tmp_path):
    models.save(tiny(), tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "architectures": ["BertForQuestionAnswering"]}))
    with pytest.raises(UnsupportedError, match="BertForQuestionAnswering"):
        models.load(tmp_path)
    assert models.load(tmp_path, head="embedding")(IDS).shape == (2, 24)
