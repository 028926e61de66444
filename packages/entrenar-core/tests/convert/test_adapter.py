"""LoRA adapters of PEFT as GGUF files."""

import json

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, FormatError, UnsupportedError
from entrenar_core import models
from entrenar_core.convert.adapter import Adapter, write_adapter
from entrenar_core.io.gguf import GGUFFile
from entrenar_core.io.safetensors import write_file
from entrenar_core.models.gguf_layout import halved
from model_files import CONFIGS, SMALL, write_model

Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 6.0, "bias": "none"}


@pytest.fixture
def adapter(tmp_path):
    """A function that writes an adapter for two modules and reads it."""

    def make(tensors=None, **config):
        rng = np.random.default_rng(0)
        folder = tmp_path / "adapter"
        folder.mkdir(exist_ok=True)
        shapes = {Q: (64, 64), DOWN: (64, 96)}
        made = {}
        for module, (outputs, inputs) in shapes.items():
            made[f"base_model.model.{module}.lora_A.weight"] = rng.standard_normal((4, inputs))
            made[f"base_model.model.{module}.lora_B.weight"] = rng.standard_normal((outputs, 4))
        made = {name: array.astype(np.float32) for name, array in made.items()} | (tensors or {})
        made = {name: array for name, array in made.items() if array is not None}
        write_file(folder / "adapter_model.safetensors", made)
        (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config))
        return Adapter.read(folder), made

    return make


@pytest.mark.parametrize(
    ("config", "scales"),
    [
        ({}, (6 / 4, 6 / 4)),
        ({"use_rslora": True}, (6 / 2, 6 / 2)),
        ({"rank_pattern": {"q_proj": 9}, "use_rslora": True}, (6 / 3, 6 / 2)),
        ({"alpha_pattern": {"layers.1.mlp.down_proj": 8}}, (6 / 4, 8 / 4)),
        ({"alpha_pattern": {"proj": 8}}, (6 / 4, 6 / 4)),  # a part of a name is not the name
    ],
)
def test_the_scale_is_pefts(adapter, config, scales):
    found, _ = adapter(**config)
    assert (found.scale(Q), found.scale(DOWN)) == pytest.approx(scales)


def test_what_is_written_adds_to_the_weight_what_peft_adds(adapter, tmp_path):
    """llama.cpp adds alpha/rank·B·A, with its order of the rows of queries."""
    found, made = adapter(use_rslora=True, alpha_pattern={"down_proj": 3.0})
    write_adapter(found, write_model(tmp_path / "base", SMALL), tmp_path / "a.gguf")
    with GGUFFile(tmp_path / "a.gguf") as file:
        alpha = file.metadata.number("adapter.lora.alpha")
        arrays = {name: file.read(name).dequantize() for name in file.names()}
    for module, name in ((Q, "blk.0.attn_q"), (DOWN, "blk.1.ffn_down")):
        a, b = arrays[f"{name}.weight.lora_a"], arrays[f"{name}.weight.lora_b"]
        delta = alpha / len(a) * (b @ a)
        delta = halved(delta, 4) if module == Q else delta
        peft = [made[f"base_model.model.{module}.lora_{half}.weight"] for half in "BA"]
        assert np.allclose(delta, found.scale(module) * (peft[0] @ peft[1]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "error", "word"),
    [
        ({"peft_type": "IA3"}, UnsupportedError, "IA3"),
        ({"use_dora": True}, UnsupportedError, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, UnsupportedError, "modules_to_save"),
        ({"r": 0}, ConfigError, "r is 0"),
        ({"lora_alpha": "much"}, ConfigError, "much"),
        ({"rank_pattern": {"(a+)+$": 2}}, UnsupportedError, r"\(a\+\)"),
        ({"alpha_pattern": {"q_proj": -1}}, ConfigError, "alpha_pattern"),
    ],
)
def test_settings_that_cannot_be_applied_are_refused(adapter, config, error, word):
    with pytest.raises(error, match=word):
        adapter(**config)


def test_half_a_pair_is_refused(adapter):
    with pytest.raises(FormatError, match=r"q_proj has only one"):
        adapter({f"base_model.model.{Q}.lora_A.weight": None})


def test_a_tensor_that_is_more_than_a_pair_is_named(adapter):
    extra = {f"base_model.model.{Q}.lora_magnitude_vector": np.ones(64, np.float32)}
    with pytest.raises(UnsupportedError, match="lora_magnitude_vector"):
        adapter(extra)


def test_shapes_that_are_no_pair_are_named(adapter, tmp_path):
    found, _ = adapter({f"base_model.model.{Q}.lora_A.weight": np.ones((3, 64), np.float32)})
    with pytest.raises(FormatError, match=r"\[3, 64\].*\[64, 4\]"):
        write_adapter(found, write_model(tmp_path / "base", SMALL), tmp_path / "a.gguf")


def test_a_module_of_another_model_is_named(adapter, tmp_path):
    found, _ = adapter()
    base = tmp_path / "gpt2"
    models.save(models.from_config(CONFIGS["gpt2"], seed=0), base)
    with pytest.raises(UnsupportedError, match=r"model\.layers\.0\.self_attn\.q_proj"):
        write_adapter(found, base, tmp_path / "a.gguf")
