"""llama.cpp runs the files that are written here, and they say the same in both."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest

from entrenar_core import models
from entrenar_core.autograd import no_grad
from entrenar_core.convert.adapter import write_gguf_adapter
from entrenar_core.convert.gguf import GGUFPlan
from entrenar_core.convert.recipe import RECIPES, recipe_named
from entrenar_core.data.load_tokenizer import load_tokenizer
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.io.gguf import GGUFFile
from entrenar_core.io.safetensors import write_file
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.testing import difference
from llama_run import LlamaModel, agrees, nats, quantized_by_llama
from tokenizer_cases import CASES as TOKENIZERS
from varied_strings import STRINGS

pytestmark = pytest.mark.conformance

ROWS = 900
SMALL = {
    "vocab_size": ROWS, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip
WIDE = SMALL | {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 9}
LLAMA3_ROPE = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 2048,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}

MODELS = {
    "llama, multi-head": ("gpt-2", SMALL | {"num_key_value_heads": 4}),
    "llama, grouped queries": ("llama 3", SMALL),
    "llama, tied": ("smollm", SMALL | {"tie_word_embeddings": True}),
    "llama, llama3 rope": ("llama 3", SMALL | {"rope_scaling": LLAMA3_ROPE, "head_dim": 32}),
    "llama, yarn": ("llama 3", SMALL | {"rope_scaling": YARN}),
    "llama, linear rope": (
        "llama 3", SMALL | {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    ),
    "llama, biases, wide heads": (
        "gpt-2", SMALL | {"attention_bias": True, "mlp_bias": True, "head_dim": 32}
    ),
    "llama, byte fallback": ("llama 2", SMALL),
    "llama, multiples of 256": ("llama 3", WIDE),
    "mistral": ("tekken", SMALL | {"model_type": "mistral", "sliding_window": 128}),
    "qwen2": ("qwen 2", SMALL | {"model_type": "qwen2"}),
    "qwen3": ("qwen 2", SMALL | {"model_type": "qwen3", "head_dim": 32}),
    "gpt2": (
        "gpt-2",
        {"model_type": "gpt2", "vocab_size": ROWS, "n_embd": 64, "n_layer": 3, "n_head": 4,
         "n_positions": 256},
    ),
}  # fmt: skip
"""Name → the kind of tokenizer, and the keys of the config."""

SEQUENCE = np.random.default_rng(0).integers(3, 500, 96)
TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_k_m")
PROMPTS, NEW = 20, 64


@pytest.fixture(scope="module", autouse=True)
def _llama_cpp():
    pytest.importorskip("llama_cpp")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A function from the name of a model to its folder, made once."""
    root = tmp_path_factory.mktemp("models")

    @functools.cache
    def folder(name):
        kind, config = MODELS[name]
        path = root / name.replace(", ", "-").replace(" ", "_")
        model = models.from_config(config, seed=1)
        rng = np.random.default_rng(2)
        for parameter in model.parameters():
            shape = parameter.shape
            scale = 0.3 if len(shape) == 1 else shape[-1] ** -0.5
            noise = rng.standard_normal(shape, np.float32) * np.float32(scale)
            parameter.data = parameter.data + noise if len(shape) == 1 else noise
        models.save(model, path)
        Tokenizer.from_json(*TOKENIZERS[kind](600)).save(path)
        return path

    return folder


@pytest.fixture(scope="module")
def written(folders):
    """A function from a model and a recipe to the GGUF file, written once."""

    @functools.cache
    def write(name, recipe):
        path = folders(name) / f"{recipe}.gguf"
        with GGUFPlan(folders(name), recipe_named(recipe)) as plan:
            plan.write(path)
        return path

    return write


def text_ids(folder, rows=8, length=128):
    """Source text of the standard library as ids (rows, length)."""
    text = Path(json.decoder.__file__).read_text()
    return Tokenizer.load(folder).encode(text)[: rows * length].reshape(rows, length)


def ours(path, ids):
    """Our logits (…, T, V) of ids (…, T)."""
    with no_grad():
        found = models.load(path)(ids.reshape(-1, ids.shape[-1])).numpy().astype(np.float64)
    return found.reshape(*ids.shape, -1)


@pytest.mark.parametrize("recipe", TYPES)
@pytest.mark.parametrize("name", MODELS)
def test_a_file_loads_without_a_warning_and_has_our_perplexity(written, name, recipe):
    path = written(name, recipe)
    with LlamaModel(path) as model:
        assert model.warnings == []
        ids = text_ids(path.parent)
        theirs = sum(nats(model.logits(row).astype(np.float64), row) for row in ids)
    own = sum(nats(logits, row) for logits, row in zip(ours(path, ids), ids, strict=True))
    count = ids.size - len(ids)
    assert np.exp(theirs / count) == pytest.approx(np.exp(own / count), rel=0.01)


@pytest.mark.parametrize("name", MODELS)
def test_float32_logits_are_ours(written, name):
    path = written(name, "f32")
    with LlamaModel(path) as model:
        found = model.logits(SEQUENCE)
    # llama.cpp looks GELU up in a table of float16
    assert difference(found, ours(path, SEQUENCE)) < (2e-3 if name == "gpt2" else 5e-5)


@pytest.mark.parametrize("name", MODELS)
def test_greedy_continuations_are_ours(written, name):
    path = written(name, "f32")
    model, rng, counted = models.load(path), np.random.default_rng(3), 0
    with LlamaModel(path) as theirs:
        for _ in range(PROMPTS):
            prompt = rng.integers(3, 500, rng.integers(2, 24))
            found = np.array(theirs.continued(prompt, NEW))
            counted += agrees(model, prompt, found)
    assert counted == PROMPTS


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_reads_the_ids_that_the_tokenizer_of_the_file_gives(written, name):
    path = written(name, "f32")
    original, rebuilt = Tokenizer.load(path.parent), load_tokenizer(path)
    plain = [text for text in STRINGS if text.isascii()]
    for text in plain:
        assert original.encode(text).tolist() == rebuilt.encode(text).tolist()


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name not in ("f32", "f16", "bf16")])
@pytest.mark.parametrize("name", ["llama, multiples of 256", "llama, tied", "gpt2"])
def test_a_recipe_is_llama_cpps_own(written, tmp_path, name, recipe):
    theirs = quantized_by_llama(
        written(name, "f32"), tmp_path / "q.gguf", recipe_named(recipe).file_type
    )
    same = total = 0
    with GGUFFile(theirs) as wanted, GGUFFile(written(name, recipe)) as found:
        assert found.metadata["general.file_type"] == wanted.metadata["general.file_type"]
        types = {n: info.form.name for n, info in wanted.tensors.items()}
        assert {n: info.form.name for n, info in found.tensors.items()} == types
        for tensor, info in wanted.tensors.items():
            pair = (
                file.read(tensor).data.reshape(-1, info.form.block_bytes)
                for file in (wanted, found)
            )
            equal = np.equal(*pair).all(axis=1)
            same, total = same + equal.sum(), total + equal.size
    assert same >= 0.999 * total


def test_a_file_of_llama_cpps_quantizer_is_read(written, tmp_path):
    gguf = pytest.importorskip("gguf")
    path = quantized_by_llama(
        written("llama, multiples of 256", "f32"), tmp_path / "q.gguf", RECIPES["q4_k_m"].file_type
    )
    wanted = {t.name: t for t in gguf.GGUFReader(path).tensors}
    with GGUFFile(path) as file:
        assert file.tensors.keys() == wanted.keys()
        for name, tensor in wanted.items():
            floats = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            assert np.array_equal(
                file.read(name).dequantize(), floats.reshape(file.info(name).shape)
            )
    with LlamaModel(path) as model:
        theirs = nats(model.logits(SEQUENCE).astype(np.float64), SEQUENCE)
    assert theirs == pytest.approx(nats(ours(path, SEQUENCE), SEQUENCE), rel=0.01)


ENCODER = {
    "vocab_size": 2000, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "max_position_embeddings": 128,
}  # fmt: skip
ENCODERS = {
    "bert": ("bert uncased", ENCODER | {"model_type": "bert", "architectures": ["BertModel"]}),
    "roberta": (
        "roberta", ENCODER | {"model_type": "roberta", "architectures": ["RobertaModel"]}
    ),
    "distilbert": (
        "bert cased",
        {"model_type": "distilbert", "vocab_size": 2000, "dim": 64, "hidden_dim": 96,
         "n_layers": 3, "n_heads": 4, "max_position_embeddings": 128,
         "architectures": ["DistilBertModel"]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("recipe", TYPES)
@pytest.mark.parametrize("name", ENCODERS)
def test_embeddings_of_encoders_are_ours(tmp_path, name, recipe):
    kind, config = ENCODERS[name]
    model = models.from_config(config, seed=1)
    models.save(model, tmp_path / "model")
    Tokenizer.from_json(*TOKENIZERS[kind](600)).save(tmp_path / "model")
    path = tmp_path / "model.gguf"
    with GGUFPlan(tmp_path / "model", recipe_named(recipe)) as plan:
        plan.write(path)
    ids = SEQUENCE[:40]
    with LlamaModel(path, embeds=True) as theirs:
        assert theirs.warnings == []
        found = theirs.embedding(ids)
    wanted = models.load(path, head="embedding")(ids[None]).numpy()[0]
    cosine = found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted)
    assert cosine > 1 - (1e-5 if recipe == "f32" else 1e-3)


PEFT_CONFIG = {
    "peft_type": "LORA", "r": 4, "lora_alpha": 6, "use_rslora": True, "bias": "none",
    "rank_pattern": {"layers.1.self_attn.q_proj": 2}, "alpha_pattern": {"down_proj": 3.0},
}  # fmt: skip


@pytest.mark.parametrize("name", ["llama, grouped queries", "qwen3", "gpt2"])
def test_an_adapter_does_what_merging_it_does(folders, written, tmp_path, name):
    """Merged by its formula, W + s·B·A, with rsLoRA's s and different ranks."""
    model = models.load(folders(name))
    rng, tensors = np.random.default_rng(5), {}
    for parameter_name, parameter in model.named_parameters().items():
        module = parameter_name.removesuffix(".weight")
        if (
            len(parameter.shape) != 2
            or "embed" in module
            or "wte" in module
            or "wpe" in module
            or "lm_head" in module
        ):
            continue
        conv = name == "gpt2"
        outputs, inputs = parameter.shape[::-1] if conv else parameter.shape
        rank = 2 if module.endswith("layers.1.self_attn.q_proj") else 4
        alpha = 3.0 if module.endswith("down_proj") else 6.0
        a, b = rng.standard_normal((rank, inputs)), rng.standard_normal((outputs, rank))
        a, b = (x.astype(np.float32) * np.float32(0.1) for x in (a, b))
        tensors[f"base_model.model.{module}.lora_A.weight"] = a
        tensors[f"base_model.model.{module}.lora_B.weight"] = b
        delta = np.float32(alpha / rank**0.5) * (b @ a)
        parameter.data = parameter.data + (delta.T if conv else delta)
    (tmp_path / "adapter").mkdir()
    write_file(tmp_path / "adapter" / "adapter_model.safetensors", tensors)
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(PEFT_CONFIG))
    with StoredAdapter(tmp_path / "adapter") as adapter:
        write_gguf_adapter(adapter, folders(name), tmp_path / "lora.gguf")
    with LlamaModel(written(name, "f32"), adapter=tmp_path / "lora.gguf") as theirs:
        found = theirs.logits(SEQUENCE)
    merged = model(SEQUENCE[None]).numpy()[0]
    assert difference(found, merged) < (2e-3 if name == "gpt2" else 1e-4)
