"""The causal architectures beside LLaMA: strict configs, files, windows, heads."""

import json

import numpy as np
import pytest

from decoder_cases import CASES, PARAMETERS, config_of
from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_core import models
from entrenar_core.io.safetensors import write_folder
from entrenar_core.models.gpt2 import GPT2Config
from entrenar_core.models.mistral import MistralConfig
from entrenar_core.models.network import renamed
from entrenar_core.models.qwen2 import Qwen2Config
from entrenar_core.models.qwen3 import Qwen3Config
from entrenar_core.testing import difference, tiny_config, tiny_model

IDS = np.random.default_rng(0).integers(0, 61, (2, 12))
CONFIGS = {
    "mistral": MistralConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config, "gpt2": GPT2Config,
}  # fmt: skip


def read(kind, **overrides):
    return CONFIGS[kind].from_hf(tiny_config(kind, **overrides))


def tensors_of(model):
    return {name: parameter.data for name, parameter in model.named_parameters().items()}


# --- the config ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONFIGS)
def test_unknown_keys_are_named(kind):
    with pytest.raises(ConfigError, match=f"unknown keys for a {kind} model: also_this, that_too"):
        read(kind, that_too=5, also_this=1)


@pytest.mark.parametrize(
    ("kind", "key", "value", "error"),
    [
        ("mistral", "sliding_window", 0, ConfigError),
        ("mistral", "sliding_window", 2.5, ConfigError),
        ("mistral", "sliding_window", True, ConfigError),
        ("mistral", "layer_types", ["full_attention"] * 2, ConfigError),
        ("mistral", "attention_bias", False, ConfigError),
        ("mistral", "hidden_act", "gelu", UnsupportedError),
        ("mistral", "attention_dropout", 1.0, ConfigError),
        ("qwen2", "use_mrope", True, UnsupportedError),
        ("qwen2", "sliding_window", -1, ConfigError),
        ("qwen2", "use_sliding_window", 1, ConfigError),
        ("qwen2", "max_window_layers", -1, ConfigError),
        ("qwen2", "layer_types", "full_attention", ConfigError),
        ("qwen2", "layer_types", ["full_attention"], ConfigError),
        ("qwen2", "layer_types", ["full_attention", "linear_attention"], ConfigError),
        ("qwen3", "attention_bias", "yes", ConfigError),
        ("qwen3", "num_key_value_heads", 3, ConfigError),
        ("gpt2", "activation_function", "quick_gelu", UnsupportedError),
        ("gpt2", "attn_pdrop", 1.0, ConfigError),
        ("gpt2", "n_head", 5, ConfigError),
        ("gpt2", "n_embd", 0, ConfigError),
        ("gpt2", "hidden_size", 24, ConfigError),
        ("gpt2", "scale_attn_weights", "no", ConfigError),
        ("gpt2", "layer_norm_epsilon", 0, ConfigError),
        ("gpt2", "id2label", {"1": "yes"}, ConfigError),
        ("gpt2", "num_labels", 0, ConfigError),
    ],
)
def test_wrong_values_are_refused_by_name(kind, key, value, error):
    with pytest.raises(error, match=key) as caught:
        read(kind, **{key: value})
    assert caught.value.hint


def test_a_sliding_layer_without_a_window_is_refused():
    with pytest.raises(ConfigError, match="there is no window"):
        read("qwen2", use_sliding_window=False, layer_types=["sliding_attention"] * 2)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("mistral", (32000, 14336, 8, 128, 131072, [4096] * 32)),
        ("qwen2", (151936, 22016, 32, 128, 32768, [None] * 32)),
        ("qwen3", (151936, 22016, 32, 128, 32768, [None] * 32)),
    ],
)
def test_a_missing_key_has_the_default_of_hugging_face(kind, wanted):
    config = CONFIGS[kind].from_hf({"model_type": kind})
    found = (
        config.vocab_size, config.intermediate_size, config.num_key_value_heads, config.head_dim,
        config.max_position_embeddings, config.windows,
    )  # fmt: skip
    assert found == wanted


def test_a_missing_key_of_gpt2_has_the_default_of_hugging_face():
    config = GPT2Config.from_hf({"model_type": "gpt2"})
    assert (config.vocab_size, config.hidden_size, config.intermediate_size) == (50257, 768, 3072)
    assert (config.num_hidden_layers, config.num_attention_heads) == (12, 12)
    assert (config.attn_pdrop, config.eos_token_id, config.tie_word_embeddings) == (
        0.1,
        50256,
        True,
    )


@pytest.mark.parametrize("kind", ["mistral", "qwen2", "qwen3"])
def test_key_value_heads_that_are_null_are_as_many_as_the_queries(kind):
    assert read(kind, num_key_value_heads=None).num_key_value_heads == 4


def test_the_window_begins_at_max_window_layers_and_layer_types_come_first():
    options = {"use_sliding_window": True, "sliding_window": 5, "num_hidden_layers": 3}
    assert read("qwen2", **options, max_window_layers=2).windows == [None, None, 5]
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    chosen = read("qwen2", **options, max_window_layers=2, layer_types=kinds)
    assert chosen.windows == [5, None, 5]


def test_an_end_of_text_that_is_null_is_none():
    assert read("mistral", eos_token_id=None).eos_token_id is None
    assert read("mistral").eos_token_id == 2


@pytest.mark.parametrize(("kind", "name"), PARAMETERS)
def test_a_config_that_is_written_reads_as_itself(kind, name):
    config = models.from_config(config_of(kind, name, num_labels=3), seed=0).config
    assert config.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert type(config).from_hf(json.loads(json.dumps(config.to_hf()))) == config


def test_the_config_of_the_first_gpt2_is_read():
    config = GPT2Config.from_hf(
        {
            "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"],
            "attn_pdrop": 0.1, "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256,
            "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "gpt2",
            "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024,
            "resid_pdrop": 0.1, "summary_activation": None, "summary_first_dropout": 0.1,
            "summary_proj_to_labels": True, "summary_type": "cls_index", "summary_use_proj": True,
            "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
            "vocab_size": 50257,
        }
    )  # fmt: skip
    assert config == GPT2Config.from_hf({"model_type": "gpt2"})


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), PARAMETERS)
def test_a_saved_model_comes_back_bit_for_bit(kind, name, tmp_path):
    model = models.from_config(config_of(kind, name), seed=1)
    models.save(model, tmp_path, max_shard_bytes=6000)
    again = models.load(tmp_path)
    assert (type(again), again.config) == (type(model), model.config)
    wanted, found = tensors_of(model), tensors_of(again)
    assert found.keys() == wanted.keys()
    assert [n for n in wanted if not np.array_equal(found[n], wanted[n])] == []
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [model.hf_class]


def test_a_config_is_read_without_the_weights(tmp_path):
    model = tiny_model("qwen2")
    models.save(model, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert models.read_config(tmp_path) == model.config


@pytest.fixture
def gpt2(tmp_path):
    """Write a GPT-2 with its tensors changed, and load it."""

    def call(change, **options):
        model = tiny_model("gpt2")
        models.save(model, tmp_path)
        write_folder(tmp_path, change(tensors_of(model)))
        return model, models.load(tmp_path, **options)

    return call


def test_the_names_of_old_gpt2_checkpoints_are_read(gpt2):
    def change(tensors):
        old = {name.removeprefix("transformer."): array for name, array in tensors.items()}
        old["h.0.attn.bias"] = np.ones((1, 1, 64, 64), np.float32)
        old["h.1.attn.masked_bias"] = np.float32(-1e4)
        return old

    model, again = gpt2(change)
    assert np.array_equal(again(IDS).numpy(), model(IDS).numpy())


def test_a_tied_head_is_read_under_either_name(gpt2):
    def renamed(tensors):
        tensors["lm_head.weight"] = tensors.pop("transformer.wte.weight")
        return tensors

    model, again = gpt2(renamed)
    assert again.lm_head.weight is again.transformer.wte.weight
    assert np.array_equal(again(IDS).numpy(), model(IDS).numpy())


def test_a_tied_head_that_is_there_twice_must_be_equal(gpt2):
    def doubled(tensors):
        return {**tensors, "lm_head.weight": tensors["transformer.wte.weight"]}

    model, again = gpt2(doubled)
    assert np.array_equal(again(IDS).numpy(), model(IDS).numpy())
    with pytest.raises(ConfigError) as caught:
        gpt2(lambda tensors: {**tensors, "lm_head.weight": np.zeros((61, 24), np.float32)})
    assert list(caught.value.details) == ["lm_head.weight: not part of this architecture"]


def test_tensors_of_another_model_are_refused(gpt2):
    def doubled(tensors):
        more = {f"model.{name}": array for name, array in tensors.items()}
        return {**tensors, **more}

    with pytest.raises(ConfigError, match="in 28 tensors") as caught:
        gpt2(doubled)
    assert "model.transformer.h.0.ln_1.bias: not part of this architecture" in caught.value.details


def test_two_tensors_for_one_parameter_are_refused_by_name():
    assert renamed(["a.gamma", "b"], lambda name: None if name == "b" else "a.weight") == {
        "a.weight": "a.gamma"
    }
    with pytest.raises(
        ConfigError, match=r"a\.gamma and a\.weight are both the parameter a\.weight"
    ):
        renamed(["a.gamma", "a.weight"], lambda name: "a.weight")


# --- heads ---------------------------------------------------------------------------------------


def test_a_head_is_chosen_by_the_folder_or_by_name(tmp_path):
    classifier = tiny_model("qwen3", head="sequence-classification", pad_token_id=0)
    models.save(classifier, tmp_path)
    assert type(models.load(tmp_path)) is type(classifier)
    assert type(models.load(tmp_path, head="sequence-classification")) is type(classifier)


@pytest.mark.parametrize("kind", CASES)
def test_a_new_head_is_drawn_when_asked_for_and_said_to_be(kind, tmp_path):
    model = tiny_model(kind, pad_token_id=0, num_labels=3)
    models.save(model, tmp_path)
    first, again, other = (
        models.load(tmp_path, head="sequence-classification", initialise_head_seed=seed)
        for seed in (1, 1, 2)
    )
    assert first.initialised == ("score.weight",)
    assert first.score.weight.shape == (3, 24)
    assert np.array_equal(first.score.weight.data, again.score.weight.data)
    assert not np.array_equal(first.score.weight.data, other.score.weight.data)
    assert 0.1 < first.score.weight.data.std() < 0.3
    assert np.array_equal(first.hidden(IDS).numpy(), model.hidden(IDS).numpy())


def test_a_head_that_is_not_there_is_an_error_unless_its_seed_is_given(tmp_path):
    models.save(tiny_model("llama"), tmp_path)
    with pytest.raises(ConfigError) as caught:
        models.load(tmp_path, head="sequence-classification")
    assert list(caught.value.details) == ["score.weight: missing, wanted (2, 24)"]
    assert models.load(tmp_path, initialise_head_seed=1).initialised == ()


def test_a_part_of_the_body_that_is_missing_is_never_drawn(tmp_path):
    model = tiny_model("llama")
    models.save(model, tmp_path)
    tensors = tensors_of(model)
    del tensors["model.norm.weight"]
    write_folder(tmp_path, tensors)
    with pytest.raises(ConfigError) as caught:
        models.load(tmp_path, head="sequence-classification", initialise_head_seed=1)
    assert list(caught.value.details) == ["model.norm.weight: missing, wanted (24,)"]


def test_a_head_that_was_there_is_read_and_not_drawn(tmp_path):
    model = tiny_model("gpt2", head="sequence-classification", pad_token_id=0)
    models.save(model, tmp_path)
    again = models.load(tmp_path, head="sequence-classification", initialise_head_seed=1)
    assert again.initialised == ()
    assert np.array_equal(again.score.weight.data, model.score.weight.data)


@pytest.mark.parametrize("head", ["masked-lm", "Embedding", ""])
def test_a_head_that_an_architecture_has_not_is_refused(head):
    with pytest.raises(UnsupportedError, match="gpt2 has no head") as caught:
        models.from_config(tiny_config("gpt2"), seed=0, head=head)
    assert "causal-lm, sequence-classification" in caught.value.hint


@pytest.mark.parametrize("named", [["GPT2DoubleHeadsModel"], "GPT2LMHeadModel", 3])
def test_architectures_that_are_not_known_are_refused(named):
    with pytest.raises(UnsupportedError, match="architectures") as caught:
        models.from_config(tiny_config("gpt2", architectures=named), seed=0)
    assert "causal-lm" in caught.value.hint


def test_a_classifier_reads_the_last_token_that_is_not_padding():
    model = tiny_model("mistral", head="sequence-classification", pad_token_id=0, dtype="float64")
    ids = np.where(IDS == 0, 1, IDS)
    whole = model(ids[:1, :7]).numpy()
    padded = ids[:1].copy()
    padded[:, 7:] = 0
    assert difference(model(padded).numpy(), whole) <= 1e-14
    left = np.concatenate([np.zeros((1, 3), int), ids[:1, :7]], axis=1)
    # rotary positions: only distances count, up to the float32 that angles are rounded to
    assert difference(model(left, left != 0).numpy(), whole) <= 1e-7
    # a sequence of nothing but padding has no last token; the first stands for it
    assert model(np.zeros((1, 4), int)).shape == (1, 2)


def test_a_classifier_without_a_padding_id_reads_the_last_token_of_the_mask():
    model = tiny_model("gpt2", head="sequence-classification", dtype="float64")
    mask = np.arange(12) < np.array([[12], [7]])
    found = model(IDS, mask).numpy()
    assert difference(found[:1], model(IDS[:1]).numpy()) <= 1e-14
    assert difference(found[1:], model(IDS[1:, :7]).numpy()) <= 1e-14


@pytest.mark.parametrize("kind", ["qwen2", "gpt2"])
def test_chosen_layers_are_copied_with_what_belongs_to_them(kind):
    kinds = ["full_attention", "full_attention", "sliding_attention"]
    more = {"num_hidden_layers": 3, "layer_types": kinds} if kind == "qwen2" else {"n_layer": 3}
    model = tiny_model(kind, **more)
    part = models.with_layers(model, [2, 0])
    assert part.config.num_hidden_layers == 2
    if kind == "qwen2":
        assert part.config.windows == [5, None]
    source = tensors_of(model)
    for name, array in tensors_of(part).items():
        origin = name
        for ours, theirs in ((".0.", ".2."), (".1.", ".0.")):
            if name.startswith(f"{model.blocks}{ours}"):
                origin = name.replace(ours, theirs, 1)
        assert np.array_equal(array, source[origin]), name
        assert not np.shares_memory(array, source[origin]), name
