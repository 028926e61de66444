"""The LLaMA architecture: its config is read strictly, its files come back as they were."""

import dataclasses
import json

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, FormatError, NotFoundError, UnsupportedError
from entrenar_core import models
from entrenar_core.io.safetensors import write_folder
from entrenar_core.models.llama import LlamaConfig
from entrenar_core.testing import difference, tiny_config, tiny_llama

IDS = np.random.default_rng(0).integers(0, 61, (2, 9))


def read(**overrides):
    return LlamaConfig.from_hf(tiny_config(**overrides))


@pytest.fixture
def folder(tmp_path):
    models.save(tiny_llama(), tmp_path)
    return tmp_path


@pytest.fixture
def rewrite(folder):
    """Change the tensors or the config of the saved model."""

    def call(change_tensors=None, **config):
        if change_tensors is not None:
            tensors = {n: p.data for n, p in tiny_llama().named_parameters().items()}
            change_tensors(tensors)
            write_folder(folder, tensors)
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
        return folder

    return call


# --- the config ----------------------------------------------------------------------------------


def test_unknown_keys_are_named():
    with pytest.raises(ConfigError, match="unknown keys for a llama model: also_this, sliding"):
        read(sliding_window=5, also_this=1)


def test_keys_that_say_nothing_about_the_computation_are_accepted():
    assert read(transformers_version="5", use_cache=False, torch_dtype="float16") == read()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "gelu"),
        ("pretraining_tp", 2),
    ],
)
def test_what_is_not_computed_is_refused(key, value):
    with pytest.raises(UnsupportedError, match=key) as caught:
        read(**{key: value})
    assert caught.value.hint


def test_a_quantized_checkpoint_is_refused():
    with pytest.raises(ConfigError, match="quantization_config"):
        read(quantization_config={"quant_method": "gptq"})


def test_an_unknown_rope_parameter_is_refused_by_name():
    with pytest.raises(UnsupportedError, match="long_factor"):
        read(rope_scaling={"rope_type": "linear", "factor": 2.0, "long_factor": [1.0]})


@pytest.mark.parametrize("spelling", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("kind", ["type", "rope_type"])
def test_an_unknown_rope_type_is_refused_by_name(spelling, kind):
    with pytest.raises(UnsupportedError, match="'longrope'"):
        read(**{spelling: {kind: "longrope", "factor": 2.0}})


@pytest.mark.parametrize(
    ("scaling", "missing"),
    [
        ({"rope_type": "linear"}, "factor"),
        ({"rope_type": "dynamic"}, "factor"),
        ({"rope_type": "yarn"}, "factor"),
        ({"rope_type": "llama3", "factor": 8.0}, "low_freq_factor"),
        ({"rope_type": "linear", "factor": "2"}, "factor"),
        ({"rope_type": "linear", "factor": -1.0}, "factor"),
        ({"rope_type": "linear", "factor": True}, "factor"),
    ],
)
def test_a_missing_or_wrong_rope_parameter_is_refused_by_name(scaling, missing):
    with pytest.raises(ConfigError, match=missing):
        read(rope_scaling=scaling)


def test_rope_of_part_of_a_head_is_refused():
    with pytest.raises(UnsupportedError, match="partial_rotary_factor"):
        read(rope_parameters={"rope_theta": 10000.0, "partial_rotary_factor": 0.5})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", 0),
        ("hidden_size", -24),
        ("hidden_size", 24.0),
        ("hidden_size", "24"),
        ("num_hidden_layers", True),
        ("rms_norm_eps", 0),
        ("rms_norm_eps", float("nan")),
        ("attention_dropout", 1.0),
        ("attention_dropout", -0.1),
        ("eos_token_id", "</s>"),
        ("eos_token_id", []),
        ("pad_token_id", -1),
        ("pad_token_id", 61),
        ("tie_word_embeddings", "yes"),
        ("tie_word_embeddings", 1),
        ("rope_scaling", "linear"),
        ("num_key_value_heads", 3),
        ("head_dim", 5),
    ],
)
def test_wrong_values_are_refused_by_name(key, value):
    with pytest.raises(ConfigError, match=key) as caught:
        read(**{key: value})
    assert caught.value.hint


def test_a_missing_key_has_the_default_of_hugging_face():
    config = LlamaConfig.from_hf({"model_type": "llama"})
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (4096, 32, 32000)
    assert (config.num_key_value_heads, config.head_dim) == (32, 128)


def test_the_old_and_the_new_spelling_of_rope_are_one():
    new = read(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0})
    old = read(rope_theta=500.0, rope_scaling={"type": "linear", "factor": 2.0})
    assert new == old


@pytest.mark.parametrize("overrides", [{}, {"head_dim": 10}, {"tie_word_embeddings": True}])
def test_a_config_that_is_written_reads_as_itself(overrides):
    config = read(**overrides)
    assert LlamaConfig.from_hf(json.loads(json.dumps(config.to_hf()))) == config


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides",
    [{}, {"tie_word_embeddings": True}, {"attention_bias": True, "mlp_bias": True}],
)
@pytest.mark.parametrize("shard", [10_000, 5 * 10**9])
def test_a_saved_model_comes_back_bit_for_bit(tmp_path, overrides, shard):
    model = tiny_llama(**overrides)
    models.save(model, tmp_path, max_shard_bytes=shard)
    again = models.load(tmp_path)
    assert again.config == model.config
    wanted = model.named_parameters()
    assert again.named_parameters().keys() == wanted.keys()
    for name, parameter in again.named_parameters().items():
        assert np.array_equal(parameter.data, wanted[name].data), name


def test_a_tied_head_is_written_once(tmp_path):
    models.save(tiny_llama(tie_word_embeddings=True), tmp_path)
    assert b"lm_head" not in (tmp_path / "model.safetensors").read_bytes()


def test_loading_in_float64_computes_in_float64(folder):
    wide, narrow = models.load(folder, dtype="float64"), models.load(folder)
    assert wide(IDS).dtype == np.float64
    # float32 rounding through two layers
    assert difference(narrow(IDS).numpy(), wide(IDS).numpy()) <= 5e-6


def test_a_type_that_is_not_computed_in_is_refused(folder):
    with pytest.raises(UnsupportedError, match="int32"):
        models.load(folder, dtype="int32")


def test_a_tensor_of_another_shape_is_listed(rewrite):
    folder = rewrite(intermediate_size=41)
    with pytest.raises(ConfigError, match="in 6 tensors") as caught:
        models.load(folder)
    assert "model.layers.0.mlp.gate_proj.weight: wanted (41, 24), found (40, 24)" in (
        caught.value.details
    )


def test_a_missing_tensor_is_listed(rewrite):
    folder = rewrite(lambda tensors: tensors.pop("model.norm.weight"))
    with pytest.raises(ConfigError) as caught:
        models.load(folder)
    assert list(caught.value.details) == ["model.norm.weight: missing, wanted (24,)"]


def test_a_tensor_too_many_is_listed(rewrite):
    def change(tensors):
        tensors["model.layers.0.self_attn.q_norm.weight"] = np.ones(6, np.float32)

    with pytest.raises(ConfigError) as caught:
        models.load(rewrite(change))
    assert "q_norm.weight: not part of this architecture" in caught.value.details[0]


def test_many_problems_are_counted_but_not_all_listed(rewrite):
    with pytest.raises(ConfigError, match="in 21 tensors") as caught:
        models.load(rewrite(hidden_size=28, head_dim=6))
    assert len(caught.value.details) == 11
    assert caught.value.details[-1] == "and 11 more"


def test_a_layer_too_few_in_the_config_is_an_error(rewrite):
    with pytest.raises(ConfigError, match="in 9 tensors"):
        models.load(rewrite(num_hidden_layers=1))


def test_a_tied_head_that_is_written_once_more_is_accepted(rewrite):
    def change(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]

    model = models.load(rewrite(change, tie_word_embeddings=True))
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_head_that_is_called_tied_but_differs_is_refused(rewrite):
    with pytest.raises(ConfigError) as caught:
        models.load(rewrite(tie_word_embeddings=True))
    assert "lm_head.weight: not part of this architecture" in caught.value.details


def test_frequencies_in_an_old_checkpoint_are_left_out(rewrite):
    def change(tensors):
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(3, np.float32)

    assert np.array_equal(models.load(rewrite(change))(IDS).numpy(), tiny_llama()(IDS).numpy())


def test_integer_weights_are_refused(rewrite):
    def change(tensors):
        tensors["model.norm.weight"] = np.ones(24, np.int32)

    with pytest.raises(UnsupportedError, match="int32"):
        models.load(rewrite(change))


def test_a_folder_without_a_config_is_reported(tmp_path):
    with pytest.raises(NotFoundError, match=r"config\.json"):
        models.load(tmp_path)


def test_a_config_that_is_no_json_is_reported(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(FormatError, match=r"config\.json"):
        models.load(folder)


@pytest.mark.parametrize("text", ["[]", "3"])
def test_a_config_that_is_no_object_is_reported(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises((ConfigError, FormatError), match="object"):
        models.load(folder)


@pytest.mark.parametrize("kind", ["mamba", None, 3, ["llama"], "os"])
def test_an_unknown_architecture_is_refused(folder, rewrite, kind):
    with pytest.raises(UnsupportedError, match="architecture"):
        models.load(rewrite(model_type=kind))


# --- models --------------------------------------------------------------------------------------


def test_fresh_weights_are_a_function_of_the_seed():
    first, again, other = (models.from_config(tiny_config(), seed=s) for s in (1, 1, 2))
    for name, parameter in first.named_parameters().items():
        assert np.array_equal(parameter.data, again.named_parameters()[name].data)
    differ = other.lm_head.weight.data != first.lm_head.weight.data
    assert differ.all()


def test_the_vector_of_padding_starts_as_zeros_and_is_not_trained():
    model = models.from_config(tiny_config(pad_token_id=5), seed=0)
    assert not model.model.embed_tokens.weight.data[5].any()
    ids = np.array([[5, 6, 5, 7]])
    (model(ids) * model(ids)).sum().backward()
    gradient = model.model.embed_tokens.weight.grad
    assert np.flatnonzero(gradient.any(axis=1)).tolist() == [6, 7]


def test_fresh_weights_of_a_tensor_do_not_depend_on_the_other_tensors():
    small, large = (
        models.from_config(tiny_config(num_hidden_layers=n), seed=1).named_parameters()
        for n in (1, 3)
    )
    assert all(np.array_equal(p.data, large[name].data) for name, p in small.items())


def test_chosen_layers_are_copied_in_their_order():
    model = tiny_llama(num_hidden_layers=4)
    part = models.with_layers(model, [3, 0])
    assert part.config == dataclasses.replace(model.config, num_hidden_layers=2)
    source, copy = model.named_parameters(), part.named_parameters()
    for name, parameter in copy.items():
        origin = name.replace("layers.0.", "layers.3.").replace("layers.1.", "layers.0.")
        assert np.array_equal(parameter.data, source[origin].data), name
        assert not np.shares_memory(parameter.data, source[origin].data), name


def test_all_layers_in_order_compute_the_same():
    model = tiny_llama(num_hidden_layers=3)
    assert np.array_equal(models.with_layers(model, range(3))(IDS).numpy(), model(IDS).numpy())


def test_chosen_layers_of_a_tied_model_keep_the_tie():
    part = models.with_layers(tiny_llama(tie_word_embeddings=True), [1])
    assert part.lm_head.weight is part.model.embed_tokens.weight


@pytest.mark.parametrize("layers", [[2], [-1], [0, 5], []])
def test_layers_that_are_not_there_are_refused(layers):
    with pytest.raises(ConfigError, match="layer"):
        models.with_layers(tiny_llama(), layers)


@pytest.mark.parametrize("ids", [np.array([1, 2]), np.array([[1.0, 2.0]])])
def test_ids_that_are_no_integer_matrix_are_refused(ids):
    with pytest.raises(ConfigError, match="ids must be integers"):
        tiny_llama()(ids)


def test_a_later_token_does_not_change_an_earlier_prediction():
    model, changed = tiny_llama(dtype="float64"), IDS.copy()
    changed[:, 5:] = 7
    assert np.array_equal(model(IDS).numpy()[:, :5], model(changed).numpy()[:, :5])
    assert not np.array_equal(model(IDS).numpy()[:, 5:], model(changed).numpy()[:, 5:])


def test_a_sequence_does_not_see_its_neighbours():
    model = tiny_llama(dtype="float64")
    together = model(IDS).numpy()
    for row in range(len(IDS)):
        assert difference(model(IDS[row : row + 1]).numpy()[0], together[row]) <= 1e-14


def test_a_frozen_model_has_no_gradients():
    model = tiny_llama()
    model.freeze()
    assert not model(IDS).requires_grad
