"""Models whose folder says that their weights are quantized."""

import json

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_core import models
from entrenar_core.quant import dequantize, quantize
from entrenar_core.testing import tiny_config, tiny_llama

NF4 = {
    "quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True, "llm_int8_skip_modules": None, "load_in_8bit": False,
}  # fmt: skip


def folder_with(tmp_path, settings):
    models.save(tiny_llama(), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": settings}))
    return tmp_path


def test_weights_that_are_not_quantized_are_read_as_they_are(tmp_path):
    # transformers keeps embeddings, head and norms so
    model = models.load(folder_with(tmp_path, NF4))
    for name, parameter in tiny_llama().named_parameters().items():
        assert np.array_equal(model.named_parameters()[name].data, parameter.data)


def test_the_config_of_a_quantized_model_is_that_of_the_model(tmp_path):
    assert models.read_config(folder_with(tmp_path, NF4)) == tiny_llama().config


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"quant_method": "gptq"}, "quant_method 'gptq'"),
        ({"bnb_4bit_quant_type": "fp4"}, "bnb_4bit_quant_type 'fp4'"),
        ({"load_in_8bit": True}, "load_in_8bit True"),
        ({"load_in_4bit": False}, "load_in_4bit False"),
    ],
)
def test_other_formats_are_refused(tmp_path, changes, what):
    with pytest.raises(UnsupportedError, match=f"quantization_config with {what}"):
        models.load(folder_with(tmp_path, NF4 | changes))


@pytest.mark.parametrize("missing", ["quant_method", "load_in_4bit", "bnb_4bit_quant_type"])
def test_what_is_not_said_is_not_assumed(tmp_path, missing):
    # without a type, bitsandbytes means fp4
    settings = {key: value for key, value in NF4.items() if key != missing}
    with pytest.raises(UnsupportedError, match=f"with {missing}"):
        models.load(folder_with(tmp_path, settings))


def test_an_unknown_key_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="unknown key bnb_5bit in quantization_config"):
        models.load(folder_with(tmp_path, {**NF4, "bnb_5bit": True}))


def test_a_quantization_that_is_no_mapping_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="quantization_config must be a mapping, found 'nf4'"):
        models.load(folder_with(tmp_path, "nf4"))


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("double", [True, False])
def test_what_transformers_and_bitsandbytes_save_is_read(tmp_path, double, dtype):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("bitsandbytes")
    # rows of whole blocks: with AVX-512, bitsandbytes 0.50.2 misreads others
    config = tiny_config(hidden_size=64, intermediate_size=128)
    plain, quantized = tmp_path / "plain", tmp_path / "quantized"
    models.save(models.from_config(config, seed=0), plain)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        plain,
        dtype=getattr(torch, dtype),
        quantization_config=transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double,
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        ),
    )  # fmt: skip
    loaded.save_pretrained(quantized)
    names = models.load(quantized).named_parameters()
    count = 0
    for name, module in loaded.named_modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is None:
            continue
        import bitsandbytes

        module.support_avx512bf16_for_cpu = False  # it would multiply in bfloat16
        theirs = bitsandbytes.functional.dequantize_4bit(module.weight.data, state).float()
        assert np.array_equal(names[f"{name}.weight"].data, theirs.numpy()), name
        count += 1
    assert count == 14  # 7 in each layer
    if dtype == "float32":
        ids = np.array([[1, 7, 30, 2]])
        with torch.no_grad():
            wanted = loaded(torch.tensor(ids)).logits.numpy()
        found = models.load(quantized)(ids).data
        assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
        q = names["model.layers.0.self_attn.q_proj.weight"].data
        original = models.load(plain).named_parameters()
        single = quantize(original["model.layers.0.self_attn.q_proj.weight"].data, "nf4-single")
        assert double or np.array_equal(q, dequantize(single))
