"""LoRA adapters of PEFT as GGUF files."""

import numpy as np
import pytest

from adapter_files import DOWN, PREFIX, K, Q, dense, factors, write_peft
from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_core import models
from entrenar_core.convert.adapter import write_gguf_adapter
from entrenar_core.io.gguf import GGUFFile
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.models.gguf_layout import halved
from model_files import CONFIGS, SMALL, write_model


def written(tmp_path, config=SMALL, tensors=None, **settings):
    """The arrays of the file that an adapter becomes, and its alpha."""
    adapter = write_peft(tmp_path / "adapter", tensors, **settings)
    base = write_model(tmp_path / "base", config)
    with StoredAdapter(adapter) as found:
        write_gguf_adapter(found, base, tmp_path / "a.gguf")
    with GGUFFile(tmp_path / "a.gguf") as file:
        alpha = file.metadata.number("adapter.lora.alpha")
        return {name: file.read(name).dequantize() for name in file.names()}, alpha


@pytest.mark.parametrize(
    ("settings", "scales"),
    [
        ({}, (6 / 4, 6 / 4, 6 / 4)),
        ({"use_rslora": True, "alpha_pattern": {"down_proj": 3.0}}, (6 / 2, 6 / 2, 3 / 2)),
    ],
)
def test_what_is_written_adds_to_the_weight_what_peft_adds(tmp_path, settings, scales):
    """llama.cpp adds alpha/rank·B·A, with its order of the rows of queries and keys."""
    arrays, alpha = written(tmp_path, **settings)
    places = {Q: ("blk.0.attn_q", 4), K: ("blk.1.attn_k", 2), DOWN: ("blk.1.ffn_down", 0)}
    for (module, (name, heads)), scale in zip(places.items(), scales, strict=True):
        a, b = arrays[f"{name}.weight.lora_a"], arrays[f"{name}.weight.lora_b"]
        delta = alpha / len(a) * (b @ a)
        delta = halved(delta, heads) if heads else delta
        wanted = dense(factors(), module, scale)
        assert np.allclose(delta, wanted, rtol=1e-5, atol=1e-5)


def test_of_the_table_of_tokens_a_goes_by_token(tmp_path):
    tensors = {
        f"{PREFIX}model.embed_tokens.lora_embedding_A": np.ones((4, 300), np.float32),
        f"{PREFIX}model.embed_tokens.lora_embedding_B": np.ones((64, 4), np.float32),
    }
    arrays, _ = written(tmp_path, tensors=tensors, target_modules=["embed_tokens"])
    shapes = {name: array.shape for name, array in arrays.items()}
    assert shapes == {
        "token_embd.weight.lora_a": (300, 4), "token_embd.weight.lora_b": (64, 4)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "extra", "word"),
    [
        ({"use_dora": True}, "lora_magnitude_vector", "DoRA"),
        ({"lora_bias": True}, "lora_B.bias", "lora_bias"),
        ({"modules_to_save": ["norm"]}, None, r"model\.norm\.weight"),
        ({"init_lora_weights": "pissa"}, "", "pissa"),
    ],
)
def test_what_is_more_than_a_product_is_refused(tmp_path, settings, extra, word):
    tensors = factors({Q: (64, 64)})
    if extra:
        tensors[f"{PREFIX}{Q}.{extra}"] = np.ones(64, np.float32)
    if extra is None:
        tensors[f"{PREFIX}model.norm.weight"] = np.ones(64, np.float32)
    with pytest.raises(UnsupportedError, match=word) as caught:
        written(tmp_path, tensors=tensors, target_modules=["q_proj"], **settings)
    assert "merge" in str(caught.value.hint)
    assert not (tmp_path / "a.gguf").exists()


def test_a_module_of_another_model_is_named(tmp_path):
    base = tmp_path / "gpt2"
    models.save(models.from_config(CONFIGS["gpt2"], seed=0), base)
    with (
        StoredAdapter(write_peft(tmp_path / "adapter")) as found,
        pytest.raises(ConfigError) as caught,
    ):
        write_gguf_adapter(found, base, tmp_path / "a.gguf")
    assert f"{Q}: not a module of the model" in caught.value.report()


def test_a_weight_of_another_shape_is_named(tmp_path):
    with pytest.raises(ConfigError) as caught:
        written(tmp_path, tensors=factors({Q: (48, 64)}), target_modules=["q_proj"])
    assert "for a weight [48, 64], found [64, 64]" in caught.value.report()
