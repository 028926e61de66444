"""Models to GGUF files and back."""

import json

import numpy as np
import pytest

from entrenar_common.errors import (
    ConfigError,
    FormatError,
    NotFoundError,
    NumericsError,
    StorageError,
    UnsupportedError,
)
from entrenar_core import models
from entrenar_core.convert.gguf import GGUFPlan
from entrenar_core.convert.recipe import recipe_named
from entrenar_core.io.faults import inject
from entrenar_core.io.gguf import GGUFFile
from entrenar_core.io.safetensors import SafetensorsFile, write_file
from entrenar_core.models.gguf_layout import halved, paired
from entrenar_core.models.gguf_names import BERT, DECODER, DISTILBERT, GPT2, Names
from model_files import CONFIGS, ENCODERS, SMALL, bpe, write_model

IDS = np.random.default_rng(0).integers(0, 290, (2, 17))


def to_gguf(folder, recipe="f32", **options):
    path = folder / f"{recipe}.gguf"
    with GGUFPlan(folder, recipe_named(recipe), **options) as plan:
        plan.write(path)
        return path, plan.notes


@pytest.mark.tier2
@pytest.mark.parametrize("name", CONFIGS)
def test_float32_comes_back_to_the_bit(tmp_path, name):
    folder = write_model(tmp_path, CONFIGS[name])
    path, notes = to_gguf(folder)
    assert notes == ()
    before, after = models.load(folder), models.load(path)
    assert np.array_equal(after(IDS).numpy(), before(IDS).numpy())
    config = before.config.to_hf() | {"model_type": after.config.model_type}
    kept = {k: v for k, v in after.config.to_hf().items() if "token_id" not in k}
    assert {k: kept[k] for k in kept if k in config and "rope" not in k} == {
        k: config[k] for k in kept if k in config and "rope" not in k
    }


@pytest.mark.tier2
@pytest.mark.parametrize("name", ENCODERS)
def test_sentence_embeddings_come_back_to_the_bit(tmp_path, name):
    # which tokenizer they have makes no difference here
    folder = write_model(tmp_path, ENCODERS[name])
    path, notes = to_gguf(folder)
    assert "GELU" in notes[0]
    ids = IDS[:, :9] + 3  # no padding
    found = models.load(path, head="embedding")(ids).numpy()
    assert np.array_equal(found, models.load(folder)(ids).numpy())


def test_rows_of_a_rotated_head_alternate():
    halves = np.arange(8).reshape(8, 1)  # two heads of four: halves 0 1 | 2 3, and 4 5 | 6 7
    assert paired(halves, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert np.array_equal(halved(paired(halves, 2), 2), halves)


def test_names_go_both_ways():
    names = Names(DECODER)
    assert names.to_gguf("model.layers.12.self_attn.q_proj.bias") == "blk.12.attn_q.bias"
    assert names.to_hf("blk.12.attn_q.bias") == "model.layers.12.self_attn.q_proj.bias"
    assert names.to_gguf("model.layers.12.mlp.unknown.weight") is None
    assert names.to_hf("blk.x.attn_q.weight") is None


@pytest.mark.parity
@pytest.mark.parametrize(
    ("table", "architecture"),
    [(DECODER, "LLAMA"), (DECODER, "QWEN3"), (GPT2, "GPT2"), (BERT, "BERT"), (DISTILBERT, "BERT")],
)
def test_names_are_those_of_the_gguf_package(table, architecture):
    gguf = pytest.importorskip("gguf")
    known = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, architecture), 3)
    for ours, theirs in table.items():
        if architecture == "LLAMA" and ("q_norm" in ours or "k_norm" in ours):
            continue
        found = known.get_name(ours.format(2) + ".weight", try_suffixes=(".weight",))
        assert found == theirs.format(2) + ".weight"


# transformers reads from GGUF no widths of heads, no biases of LLaMA and few sizes of GPT-2
READ_BY_TRANSFORMERS = {
    "llama": CONFIGS["llama"],
    "llama, tied": CONFIGS["llama, tied"],
    "mistral": CONFIGS["mistral"],
    "qwen2": CONFIGS["qwen2"],
    "qwen3": CONFIGS["qwen3"] | {"head_dim": 128},
    "gpt2": CONFIGS["gpt2"] | {"n_positions": 1024, "n_inner": None},
}


@pytest.mark.parity
@pytest.mark.parametrize("name", READ_BY_TRANSFORMERS)
def test_transformers_reads_the_file(tmp_path, name):
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    path, _ = to_gguf(write_model(tmp_path, READ_BY_TRANSFORMERS[name]))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=path.name, dtype=torch.float32
    )
    found = theirs(torch.from_numpy(IDS)).logits.detach().numpy()
    wanted = models.load(tmp_path)(IDS).numpy()
    assert np.abs(found - wanted).max() <= 2e-5 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (CONFIGS["gpt2"] | {"activation_function": "relu"}, "activation_function"),
        (CONFIGS["gpt2"] | {"scale_attn_weights": False}, "scale_attn_weights"),
        (CONFIGS["qwen2"] | {"rope_scaling": CONFIGS["llama, llama3 rope"]["rope_scaling"]},
         "llama3"),
        (CONFIGS["qwen3"] | {"attention_bias": True}, "biases"),
        (SMALL | {"rope_scaling": {**CONFIGS["llama, yarn"]["rope_scaling"], "beta_fast": 16}},
         "beta_fast"),
        (ENCODERS["bert"] | {"hidden_act": "relu"}, "hidden_act"),
    ],
)  # fmt: skip
def test_what_llama_cpp_does_not_compute_is_refused(tmp_path, config, word):
    folder = write_model(tmp_path, config)
    with pytest.raises(UnsupportedError, match=word):
        to_gguf(folder)
    assert not list(tmp_path.glob("*.gguf*"))


@pytest.mark.parametrize(
    ("more", "context"),
    [
        ({"model_type": "mistral", "sliding_window": 48}, 48),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, 128),
    ],
)
def test_the_context_ends_where_llama_cpp_would_compute_something_else(tmp_path, more, context):
    path, notes = to_gguf(write_model(tmp_path, SMALL | more))
    assert len(notes) == 1
    assert str(context) in notes[0]
    with GGUFFile(path) as file:
        assert file.metadata["llama.context_length"] == context


def test_a_model_without_a_tokenizer_is_refused(tmp_path):
    folder = write_model(tmp_path, SMALL)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(NotFoundError, match=r"tokenizer\.json"):
        to_gguf(folder)


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path):
    folder = write_model(tmp_path, SMALL)
    with SafetensorsFile(folder / "model.safetensors") as file:
        tensors = {name: file.read(name).copy() for name in file.names()}
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = np.nan
    write_file(folder / "model.safetensors", tensors, {"format": "pt"})
    with pytest.raises(NumericsError, match=r"blk\.1\.ffn_up\.weight.*nan"):
        to_gguf(folder, "q8_0")
    assert not list(folder.glob("*.gguf*"))


@pytest.mark.parametrize("operation", range(1, 6))
def test_a_failing_disk_leaves_the_old_file(tmp_path, operation):
    folder = write_model(tmp_path, SMALL)
    path, _ = to_gguf(folder)
    before = path.read_bytes()
    with pytest.raises(StorageError), inject(at=operation, errno=28):
        to_gguf(folder)
    assert path.read_bytes() == before
    assert len(list(folder.glob("*.gguf*"))) == 1


def test_a_tensor_that_is_no_part_of_the_model_is_named(tmp_path):
    path, _ = to_gguf(write_model(tmp_path, SMALL))
    raw = path.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_oh.weight")
    path.write_bytes(raw)
    with pytest.raises(FormatError, match=r"blk\.1\.ffn_oh\.weight"):
        models.load(path)


def test_an_architecture_that_is_not_known_is_named(tmp_path):
    path, _ = to_gguf(write_model(tmp_path, SMALL))
    path.write_bytes(path.read_bytes().replace(b"llama", b"lhama"))
    with pytest.raises(UnsupportedError, match="lhama"):
        models.load(path)


def test_a_missing_tensor_is_named(tmp_path):
    path, _ = to_gguf(write_model(tmp_path, SMALL))
    raw = path.read_bytes().replace(b"blk.1.ffn_norm", b"blk.7.ffn_norm")
    path.write_bytes(raw)
    with pytest.raises(ConfigError) as error:
        models.load(path)
    assert any("model.layers.1.post_attention_layernorm" in line for line in error.value.details)


def test_padded_rows_of_the_embedding_get_tokens_of_their_own(tmp_path):
    path, _ = to_gguf(write_model(tmp_path, SMALL))
    with GGUFFile(path) as file:
        tokens = file.metadata.strings("tokenizer.ggml.tokens")
    assert len(tokens) == SMALL["vocab_size"] > bpe().vocab_size
    assert len(set(tokens)) == len(tokens)


def test_a_config_with_the_other_spelling_of_rope_gives_the_same_file(tmp_path):
    folder = write_model(tmp_path / "new", SMALL | {"rope_theta": 500.0})
    one, _ = to_gguf(folder)
    config = json.loads((folder / "config.json").read_text())
    del config["rope_parameters"]
    (folder / "config.json").write_text(json.dumps(config))
    before = one.read_bytes()
    other, _ = to_gguf(folder)
    assert other.read_bytes() == before
