"""LLaMA, Mistral, Qwen and GPT-2 as GGUF files describe them: keys from a config, and back.

llama.cpp computes what the keys say and nothing else, so a config that needs more is refused, or
its context is cut to where nothing more is needed. Keys: https://github.com/ggml-org/llama.cpp,
`src/llama-arch.cpp`, read in `src/llama-model.cpp`.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_core.io.gguf import GGUFFiles, Value, f32, text, u32
from entrenar_core.kernels import Held
from entrenar_core.models.decoder_config import DecoderConfig
from entrenar_core.models.gguf_family import Described, Family, decimal, register, shortest
from entrenar_core.models.gguf_layout import Heads, halved, is_conv1d, paired, rotated
from entrenar_core.models.gguf_names import DECODER, GPT2, Names
from entrenar_core.models.gpt2 import GPT2Config
from entrenar_core.nn import Rotary
from entrenar_core.quant import BlockArray

ROPE_FACTORS = "rope_freqs.weight"
TRAINED_LENGTHS = [2**k for k in range(10, 22)]
"""Lengths that models were trained on before Llama 3.1's stretching was applied."""


class RotaryDecoder(Family):
    """What llama.cpp calls `llama`, `qwen2` and `qwen3`."""

    names = Names(DECODER)
    head = "causal-lm"

    def describe(self, model: Any) -> Described:
        config: DecoderConfig = model.config
        self._check_biases(config)
        here = self.architecture
        context, notes = _context(config)
        keys: dict[str, Value] = {
            f"{here}.context_length": u32(context),
            f"{here}.embedding_length": u32(config.hidden_size),
            f"{here}.block_count": u32(config.num_hidden_layers),
            f"{here}.feed_forward_length": u32(config.intermediate_size),
            f"{here}.attention.head_count": u32(config.num_attention_heads),
            f"{here}.attention.head_count_kv": u32(config.num_key_value_heads),
            f"{here}.attention.key_length": u32(config.head_dim),
            f"{here}.attention.value_length": u32(config.head_dim),
            f"{here}.attention.layer_norm_rms_epsilon": f32(config.rms_norm_eps),
            f"{here}.rope.dimension_count": u32(config.head_dim),
            f"{here}.rope.freq_base": f32(config.rope_parameters["rope_theta"]),
            f"{here}.vocab_size": u32(config.vocab_size),
        }
        scaling, extra = self._scaling(config)
        return Described(keys | scaling, extra, tuple(notes))

    def _check_biases(self, config: DecoderConfig) -> None:
        """Of the biases that a config can have, llama.cpp reads those of its own architectures."""
        if self.architecture != "llama" and config.biases.output:
            raise UnsupportedError(
                f"llama.cpp's {self.architecture} has no biases on the output of attention",
                hint="this model cannot be written as GGUF; use safetensors",
            )

    def _scaling(self, config: DecoderConfig) -> tuple[dict[str, Value], dict[str, np.ndarray]]:
        rope = config.rope_parameters
        kind = rope.get("rope_type", "default")
        here = f"{self.architecture}.rope.scaling"
        if kind in ("default", "dynamic"):  # dynamic scaling begins beyond the context
            return {}, {}
        if kind == "linear":
            return {f"{here}.type": text("linear"), f"{here}.factor": f32(rope["factor"])}, {}
        if kind == "yarn":
            return _yarn(here, config), {}
        assert kind == "llama3"  # Rotary knows no other kind
        if self.architecture != "llama":
            raise UnsupportedError(
                f"llama.cpp's {self.architecture} has no rope scaling of type 'llama3'",
                hint="this model cannot be written as GGUF; use safetensors",
            )
        rotary = Rotary(config.head_dim, rope, config.max_position_embeddings)
        return {}, {ROPE_FACTORS: _factors(rotary)}

    def raw(self, file: GGUFFiles) -> dict[str, Any]:
        here, config = self.architecture, {}
        for ours, key in (
            ("hidden_size", "embedding_length"),
            ("intermediate_size", "feed_forward_length"),
            ("num_hidden_layers", "block_count"),
            ("num_attention_heads", "attention.head_count"),
            ("max_position_embeddings", "context_length"),
        ):
            config[ours] = file.metadata.integer(f"{here}.{key}")
        heads = config["num_attention_heads"]
        if heads < 1:
            raise ConfigError(
                f"{file.path}: {here}.attention.head_count is {heads}", hint="fetch the file again"
            )
        width = file.metadata.integer(
            f"{here}.attention.key_length", config["hidden_size"] // heads
        )
        values = file.metadata.integer(f"{here}.attention.value_length", width)
        turned = file.metadata.integer(f"{here}.rope.dimension_count", width)
        if not width == values == turned:
            raise UnsupportedError(
                f"{file.path}: heads of {width} elements with values of {values}, of which "
                f"{turned} are rotated",
                hint="models whose heads have one width and are rotated whole are supported",
            )
        return config | {
            "model_type": here,
            "num_key_value_heads": file.metadata.integer(f"{here}.attention.head_count_kv", heads),
            "head_dim": width,
            "rms_norm_eps": decimal(file, f"{here}.attention.layer_norm_rms_epsilon"),
            "rope_parameters": _rope_parameters(file, here, width),
            "tie_word_embeddings": "output.weight" not in file.tensors,
            **self._bias_flags(file),
        }

    def _bias_flags(self, file: GGUFFiles) -> dict[str, bool]:
        if self.architecture == "qwen2":  # it always has them on queries, keys and values
            return {}
        flags = {"attention_bias": "blk.0.attn_q.bias" in file.tensors}
        if self.architecture == "llama":
            flags["mlp_bias"] = "blk.0.ffn_up.bias" in file.tensors
        return flags

    def to_gguf(self, name: str, array: np.ndarray, config: Any) -> np.ndarray:
        return self.outputs_to_gguf(name, array, config)

    def outputs_to_gguf(self, name: str, array: np.ndarray, config: Any) -> np.ndarray:
        heads = self._rotated(name, Heads(config.num_attention_heads, config.num_key_value_heads))
        return array if heads is None else paired(array, heads)

    def from_gguf(self, name: str, array: np.ndarray, heads: Heads) -> np.ndarray:
        found = self._rotated(name, heads)
        return array if found is None else halved(array, found)

    def _rotated(self, name: str, heads: Heads) -> int | None:
        return rotated(name, heads) if self.architecture == "llama" else None

    def left_out(self, names: Iterable[str]) -> set[str]:
        return {ROPE_FACTORS} & set(names)


def _context(config: DecoderConfig) -> tuple[int, list[str]]:
    """How many positions llama.cpp computes as this model does, and why not all."""
    context, notes = config.max_position_embeddings, []
    windows = [window for window in config.windows if window is not None]
    if windows and min(windows) < context:
        context = min(windows)
        notes.append(
            f"llama.cpp has no sliding window for this architecture: the context ends at the "
            f"window, {context} positions, within which both compute the same"
        )
    if config.rope_parameters.get("rope_type") == "dynamic":
        notes.append(
            f"llama.cpp has no dynamic rope scaling: it begins beyond {context} positions, where "
            "the context ends"
        )
    return context, notes


def _yarn(here: str, config: DecoderConfig) -> dict[str, Value]:
    rope = config.rope_parameters
    defaults = {"beta_fast": 32, "beta_slow": 1, "truncate": True}
    for key, default in defaults.items():
        if rope.get(key, default) not in (default, None):
            raise UnsupportedError(
                f"llama.cpp reads no {key} of yarn: it is {default} there and {rope[key]} here",
                hint="this model cannot be written as GGUF; use safetensors",
            )
    rotary = Rotary(config.head_dim, rope, config.max_position_embeddings)
    keys: dict[str, Value] = {
        f"{here}.type": text("yarn"),
        f"{here}.factor": f32(rope["factor"]),
        f"{here}.original_context_length": u32(int(rotary.trained_positions())),
    }
    # llama.cpp multiplies cos and sin by 1 + ln(factor)/10 and by this key
    built_in = 1 + 0.1 * math.log(rope["factor"]) if rope["factor"] > 1 else 1.0
    wanted = rotary.magnitude()
    if not math.isclose(wanted, built_in, rel_tol=1e-9):
        keys[f"{here}.attn_factor"] = f32(wanted / built_in)
    return keys


def _factors(rotary: Rotary) -> np.ndarray:
    """What each frequency is divided by: (D/2,) float32."""
    return (rotary.base() / rotary.inverse_frequencies()).astype(np.float32)


def _rope_parameters(file: GGUFFiles, here: str, width: int) -> dict[str, Any]:
    theta = decimal(file, f"{here}.rope.freq_base", 10000.0)
    kind = file.metadata.text(f"{here}.rope.scaling.type", "none")
    if ROPE_FACTORS in file.tensors:
        return _llama3_parameters(file, theta, width)
    if kind == "none" or f"{here}.rope.scaling.factor" not in file.metadata:
        return {"rope_type": "default", "rope_theta": theta}
    found: dict[str, Any] = {
        "rope_type": kind,
        "rope_theta": theta,
        "factor": decimal(file, f"{here}.rope.scaling.factor"),
    }
    if kind == "yarn":
        trained = file.metadata.integer(f"{here}.context_length")
        found["original_max_position_embeddings"] = file.metadata.integer(
            f"{here}.rope.scaling.original_context_length", trained
        )
        extra = decimal(file, f"{here}.rope.scaling.attn_factor", 1.0)
        if extra != 1.0:
            total = extra * (1 + 0.1 * math.log(found["factor"]))
            found["attention_factor"] = shortest(total)
    return found


def _llama3_parameters(file: GGUFFiles, theta: float, width: int) -> dict[str, Any]:
    """The parameters of Llama 3.1's rule that give the factors in the file.

    They are looked for among the lengths that models were trained on, with the other parameters of
    all published models.
    """
    factors = file.read(ROPE_FACTORS).dequantize()
    for trained in TRAINED_LENGTHS:
        parameters = {
            "rope_type": "llama3",
            "rope_theta": theta,
            "factor": float(factors.max(initial=1.0)),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": trained,
        }
        found = _factors(Rotary(width, parameters, trained))
        if found.shape == factors.shape and np.allclose(found, factors, rtol=1e-5, atol=0):
            return parameters
    raise UnsupportedError(
        f"{file.path}: {ROPE_FACTORS} has factors that no known rule gives",
        hint="convert the model's Hugging Face folder instead",
    )


class GPT2Family(Family):
    """GPT-2."""

    names = Names(GPT2)
    head = "causal-lm"

    def describe(self, model: Any) -> Described:
        config: GPT2Config = model.config
        wrong = {
            "activation_function": config.activation_function
            not in ("gelu_new", "gelu_pytorch_tanh"),
            "scale_attn_weights": not config.scale_attn_weights,
            "scale_attn_by_inverse_layer_idx": config.scale_attn_by_inverse_layer_idx,
        }
        for key, differs in wrong.items():
            if differs:
                raise UnsupportedError(
                    f"llama.cpp's gpt2 has no {key} of {getattr(config, key)!r}",
                    hint="this model cannot be written as GGUF; use safetensors",
                )
        here = self.architecture
        return Described(
            {
                f"{here}.context_length": u32(config.max_position_embeddings),
                f"{here}.embedding_length": u32(config.hidden_size),
                f"{here}.block_count": u32(config.num_hidden_layers),
                f"{here}.feed_forward_length": u32(config.intermediate_size),
                f"{here}.attention.head_count": u32(config.num_attention_heads),
                f"{here}.attention.layer_norm_epsilon": f32(config.layer_norm_epsilon),
            }
        )

    def raw(self, file: GGUFFiles) -> dict[str, Any]:
        here = self.architecture
        return {
            "model_type": "gpt2",
            "n_positions": file.metadata.integer(f"{here}.context_length"),
            "n_embd": file.metadata.integer(f"{here}.embedding_length"),
            "n_layer": file.metadata.integer(f"{here}.block_count"),
            "n_inner": file.metadata.integer(f"{here}.feed_forward_length"),
            "n_head": file.metadata.integer(f"{here}.attention.head_count"),
            "layer_norm_epsilon": decimal(file, f"{here}.attention.layer_norm_epsilon"),
            "activation_function": "gelu_new",
            "tie_word_embeddings": "output.weight" not in file.tensors,
        }

    def to_gguf(self, name: str, array: np.ndarray, config: Any) -> np.ndarray:
        del config
        return array.T if is_conv1d(name) else array

    def from_gguf(self, name: str, array: np.ndarray, heads: Heads) -> np.ndarray:
        return self.to_gguf(name, array, heads)

    def held_from_gguf(self, name: str, blocks: BlockArray, heads: Heads) -> Held:
        del heads
        return Held(blocks, transposed=is_conv1d(name))

    def gguf_shape(self, name: str, shape: tuple[int, ...], config: Any) -> tuple[int, ...]:
        del config
        return self.hf_shape(name, shape)

    def hf_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[::-1] if is_conv1d(name) else shape


LLAMA = register(RotaryDecoder("llama", ("llama", "mistral")))
QWEN2 = register(RotaryDecoder("qwen2", ("qwen2",)))
QWEN3 = register(RotaryDecoder("qwen3", ("qwen3",)))
GPT2_FAMILY = register(GPT2Family("gpt2", ("gpt2",)))
