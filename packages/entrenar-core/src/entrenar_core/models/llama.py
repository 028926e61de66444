"""LLaMA: Touvron et al. 2023, arXiv:2302.13971, with grouped queries (arXiv:2307.09288)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Tensor, ops
from entrenar_core.models.cache import KVCache, LayerCache
from entrenar_core.models.config_keys import ConfigKeys
from entrenar_core.nn import Embedding, Linear, Module, RMSNorm, Rotary


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """The shape of a model, in the names of a Hugging Face `config.json`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_parameters: Mapping[str, Any]
    tie_word_embeddings: bool
    attention_bias: bool
    mlp_bias: bool
    initializer_range: float
    bos_token_id: int | None
    eos_token_id: int | list[int] | None
    pad_token_id: int | None

    model_type = "llama"

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any]) -> "LlamaConfig":
        """The config in a `config.json`. Every key is used, known to be harmless, or an error."""
        keys = ConfigKeys(raw, "llama")
        hidden = keys.count("hidden_size", 4096)
        heads = keys.count("num_attention_heads", 32)
        config = cls(
            vocab_size=keys.count("vocab_size", 32000),
            hidden_size=hidden,
            intermediate_size=keys.count("intermediate_size", 11008),
            num_hidden_layers=keys.count("num_hidden_layers", 32),
            num_attention_heads=heads,
            num_key_value_heads=keys.count("num_key_value_heads", heads),
            head_dim=keys.count("head_dim", hidden // heads),
            max_position_embeddings=keys.count("max_position_embeddings", 2048),
            rms_norm_eps=keys.number("rms_norm_eps", 1e-6),
            rope_parameters=keys.rope(default_theta=10000.0),
            tie_word_embeddings=keys.flag("tie_word_embeddings", False),
            attention_bias=keys.flag("attention_bias", False),
            mlp_bias=keys.flag("mlp_bias", False),
            initializer_range=keys.number("initializer_range", 0.02),
            bos_token_id=keys.take("bos_token_id", 1),
            eos_token_id=keys.take("eos_token_id", 2),
            pad_token_id=keys.take("pad_token_id", None),
        )
        keys.only("hidden_act", "silu")
        keys.only("attention_dropout", 0.0)
        keys.only("pretraining_tp", 1)
        keys.finish()
        config._check()
        return config

    def _check(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"num_attention_heads {self.num_attention_heads} is no multiple of "
                f"num_key_value_heads {self.num_key_value_heads}",
                hint="each key-value head serves the same number of query heads",
            )
        Rotary(self.head_dim, self.rope_parameters, self.max_position_embeddings)

    def to_hf(self) -> dict[str, Any]:
        """A `config.json` that transformers reads, with the old and the new spelling of rope."""
        rope = dict(self.rope_parameters)
        scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": self.model_type,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": rope["rope_theta"],
            "rope_scaling": None if rope.get("rope_type") == "default" else scaling,
            "rope_parameters": rope,
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_bias": self.attention_bias,
            "attention_dropout": 0.0,
            "mlp_bias": self.mlp_bias,
            "initializer_range": self.initializer_range,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id,
            "pad_token_id": self.pad_token_id,
            "use_cache": True,
            "dtype": "float32",
        }


class LlamaAttention(Module):
    def __init__(self, config: LlamaConfig, dtype: str):
        hidden, width, bias = config.hidden_size, config.head_dim, config.attention_bias
        queries, keys = config.num_attention_heads * width, config.num_key_value_heads * width
        self.q_proj = Linear(hidden, queries, bias=bias, dtype=dtype)
        self.k_proj = Linear(hidden, keys, bias=bias, dtype=dtype)
        self.v_proj = Linear(hidden, keys, bias=bias, dtype=dtype)
        self.o_proj = Linear(queries, hidden, bias=bias, dtype=dtype)
        self.head_dim, self.scale = width, width**-0.5

    def __call__(
        self, x: Tensor, residual: Tensor, tables: Any, cache: LayerCache | None
    ) -> Tensor:
        batch, time = x.shape[:2]
        q, k, v = (
            ops.reshape(projection(x), (batch, time, -1, self.head_dim))
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )  # (B, T, H, D), (B, T, G, D), (B, T, G, D)
        q, k = ops.rope(q, *tables), ops.rope(k, *tables)
        if cache is not None:
            k, v = cache.append(k, v)  # (B, S, G, D)
        o = ops.attention(q, k, v, scale=self.scale)
        return self.o_proj(ops.reshape(o, (batch, time, -1)), residual)


class LlamaMLP(Module):
    def __init__(self, config: LlamaConfig, dtype: str):
        hidden, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = Linear(hidden, inner, bias=bias, dtype=dtype)
        self.up_proj = Linear(hidden, inner, bias=bias, dtype=dtype)
        self.down_proj = Linear(inner, hidden, bias=bias, dtype=dtype)

    def __call__(self, x: Tensor, residual: Tensor) -> Tensor:
        down = self.down_proj
        gate, up = self.gate_proj(x), self.up_proj(x)
        return ops.swiglu_linear(gate, up, down.weight, down.bias, residual)


class LlamaBlock(Module):
    def __init__(self, config: LlamaConfig, dtype: str):
        eps = config.rms_norm_eps
        self.self_attn = LlamaAttention(config, dtype)
        self.mlp = LlamaMLP(config, dtype)
        self.input_layernorm = RMSNorm(config.hidden_size, eps=eps, dtype=dtype)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=eps, dtype=dtype)

    def __call__(self, x: Tensor, tables: Any, cache: LayerCache | None) -> Tensor:
        x = self.self_attn(self.input_layernorm(x), x, tables, cache)
        return self.mlp(self.post_attention_layernorm(x), x)


class LlamaModel(Module):
    def __init__(self, config: LlamaConfig, dtype: str):
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size, dtype=dtype)
        self.layers = [LlamaBlock(config, dtype) for _ in range(config.num_hidden_layers)]
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps, dtype=dtype)
        self.rotary = Rotary(
            config.head_dim, config.rope_parameters, config.max_position_embeddings
        )

    def __call__(self, ids: np.ndarray, cache: KVCache | None) -> Tensor:
        start = 0 if cache is None else cache.length
        x = self.embed_tokens(ids)  # (B, T, hidden)
        tables = self.rotary.tables(start, start + ids.shape[1], x.dtype)
        for i, layer in enumerate(self.layers):
            x = layer(x, tables, None if cache is None else cache.layers[i])
        return self.norm(x)


class LlamaForCausalLM(Module):
    """A language model: ids (B, T) → logits (B, T, V).

    Its weights are uninitialised until they are loaded or drawn (`models.load`, `from_config`).
    """

    Config = LlamaConfig

    def __init__(self, config: LlamaConfig, *, dtype: str = "float32"):
        self.config = config
        self.model = LlamaModel(config, dtype)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False, dtype=dtype)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def __call__(self, ids: np.ndarray, cache: KVCache | None = None) -> Tensor:
        return self.lm_head(self.hidden(ids, cache))

    def hidden(self, ids: np.ndarray, cache: KVCache | None = None) -> Tensor:
        """The normalised last hidden states (B, T, hidden_size), of which `lm_head` makes logits.

        The losses over a large vocabulary start here. With a `cache`, ids continue what it holds.
        """
        if ids.ndim != 2 or ids.dtype.kind not in "iu":
            raise ConfigError(
                f"ids must be integers of shape (batch, time), found {ids.dtype} {ids.shape}",
                hint="for one sequence use ids[None, :]",
            )
        return self.model(ids, cache)

    @staticmethod
    def sanitize(weights: dict[str, Any]) -> dict[str, Any]:
        """Drop tensors that old checkpoints carry but that are computed from the config."""
        return {k: v for k, v in weights.items() if not k.endswith("rotary_emb.inv_freq")}


Model = LlamaForCausalLM
