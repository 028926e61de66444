"""LLaMA: Touvron et al. 2023, arXiv:2302.13971, with grouped queries (arXiv:2307.09288).

Mistral and Qwen are configurations of the same blocks; what they change is a property of the
config: biases, windows, and norms of the heads.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from entrenar_core.autograd import Tensor, ops
from entrenar_core.models.config_keys import DEFAULT_LABELS, ConfigKeys
from entrenar_core.models.decoder_config import Biases, DecoderConfig, shared_fields
from entrenar_core.models.forward import Forward, attend, run_blocks
from entrenar_core.models.network import Decoder, LanguageModel, SequenceClassifier, renamed
from entrenar_core.nn import Dropout, Embedding, Linear, Module, RMSNorm, Rotary


@dataclass(frozen=True, kw_only=True)
class LlamaConfig(DecoderConfig):
    """LLaMA 2 and 3, TinyLlama. `attention_bias` is for all four projections of attention."""

    attention_bias: bool
    mlp_bias: bool

    model_type: ClassVar[str] = "llama"

    @property
    def biases(self) -> Biases:
        return Biases(self.attention_bias, self.attention_bias, self.mlp_bias)

    @classmethod
    def _fields(cls, keys: ConfigKeys) -> dict[str, Any]:
        keys.only("pretraining_tp", 1)
        return {
            **shared_fields(
                keys, vocabulary=32000, inner=11008, positions=2048, bos=1, eos=2, groups=None
            ),
            "attention_bias": keys.flag("attention_bias", False),
            "mlp_bias": keys.flag("mlp_bias", False),
        }


class LlamaAttention(Module):
    def __init__(self, config: DecoderConfig, layer: int, dtype: str):
        hidden, width = config.hidden_size, config.head_dim
        queries, keys = config.num_attention_heads * width, config.num_key_value_heads * width
        self.q_proj = Linear(hidden, queries, bias=config.biases.qkv, dtype=dtype)
        self.k_proj = Linear(hidden, keys, bias=config.biases.qkv, dtype=dtype)
        self.v_proj = Linear(hidden, keys, bias=config.biases.qkv, dtype=dtype)
        self.o_proj = Linear(queries, hidden, bias=config.biases.output, dtype=dtype)
        self.q_norm, self.k_norm = (
            RMSNorm(width, eps=config.rms_norm_eps, dtype=dtype) if config.head_norm else None
            for _ in range(2)
        )
        self.dropout = Dropout(config.attention_dropout)
        self.layer, self.window = layer, config.windows[layer]
        self.head_dim, self.scale = width, width**-0.5

    def __call__(self, x: Tensor, residual: Tensor, forward: Forward) -> Tensor:
        batch, time = x.shape[:2]
        q, k, v = (
            ops.reshape(projection(x), (batch, time, -1, self.head_dim))
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )  # (B, T, H, D), (B, T, G, D), (B, T, G, D)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = ops.rope(q, *forward.tables), ops.rope(k, *forward.tables)
        o = attend(
            q, k, v, self.layer, forward,
            scale=self.scale, causal=True, window=self.window, dropout=self.dropout,
        )  # fmt: skip
        return self.o_proj(ops.reshape(o, (batch, time, -1)), residual)


class LlamaMLP(Module):
    def __init__(self, config: DecoderConfig, dtype: str):
        hidden, inner, bias = config.hidden_size, config.intermediate_size, config.biases.inner
        self.gate_proj = Linear(hidden, inner, bias=bias, dtype=dtype)
        self.up_proj = Linear(hidden, inner, bias=bias, dtype=dtype)
        self.down_proj = Linear(inner, hidden, bias=bias, dtype=dtype)

    def __call__(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.down_proj.after_swiglu(self.gate_proj(x), self.up_proj(x), residual)


class LlamaBlock(Module):
    def __init__(self, config: DecoderConfig, layer: int, dtype: str):
        eps = config.rms_norm_eps
        self.self_attn = LlamaAttention(config, layer, dtype)
        self.mlp = LlamaMLP(config, dtype)
        self.input_layernorm = RMSNorm(config.hidden_size, eps=eps, dtype=dtype)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, eps=eps, dtype=dtype)

    def __call__(self, x: Tensor, forward: Forward) -> Tensor:
        x = self.self_attn(self.input_layernorm(x), x, forward)
        return self.mlp(self.post_attention_layernorm(x), x)


class LlamaModel(Module):
    def __init__(self, config: DecoderConfig, dtype: str):
        # transformers does not train the vector of padding either
        self.embed_tokens = Embedding(
            config.vocab_size, config.hidden_size, dtype=dtype, padding=config.pad_token_id
        )
        self.layers = [LlamaBlock(config, i, dtype) for i in range(config.num_hidden_layers)]
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps, dtype=dtype)
        self.rotary = Rotary(
            config.head_dim, config.rope_parameters, config.max_position_embeddings
        )

    def __call__(
        self, ids: np.ndarray, positions: np.ndarray | None, forward: Forward, recompute: bool
    ) -> Tensor:
        x = self.embed_tokens(ids)  # (B, T, hidden)
        if positions is None:
            start = 0 if forward.cache is None else forward.cache.length
            forward.tables = self.rotary.tables(start, start + ids.shape[1], x.dtype)
        else:
            forward.tables = self.rotary.at(positions, x.dtype)
        return run_blocks(self.layers, x, forward, recompute=recompute, last=self.norm)


class LlamaDecoder(Decoder):
    """What the heads below share."""

    Config = LlamaConfig
    blocks = "model.layers"

    def __init__(self, config: DecoderConfig, *, dtype: str = "float32"):
        self.config = config
        self.model = LlamaModel(config, dtype)

    def backbone(self, ids: np.ndarray, positions: np.ndarray | None, forward: Forward) -> Tensor:
        return self.model(ids, positions, forward, self.recompute)

    def first_weights(self) -> None:
        """The vector of padding starts as zeros."""
        if self.config.pad_token_id is not None:
            self.model.embed_tokens.weight.data[self.config.pad_token_id] = 0

    def config_with_layers(self, layers: tuple[int, ...]) -> DecoderConfig:
        return self.config.with_layers(layers)

    @classmethod
    def sanitize(cls, names: Iterable[str]) -> dict[str, str]:
        """Names without the frequencies that old checkpoints carry; those of a model without a
        head get the prefix that they have under one."""
        names = [name for name in names if not name.startswith(cls.foreign)]
        bare = not any(name.startswith("model.") for name in names)

        def rule(name: str) -> str | None:
            if name.endswith("rotary_emb.inv_freq"):
                return None
            prefixed = bare and not name.startswith(cls.head_parameters)
            return f"model.{name}" if prefixed else name

        return renamed(names, rule)


class LlamaForCausalLM(LlamaDecoder, LanguageModel):
    hf_class = "LlamaForCausalLM"
    head_parameters, foreign = ("lm_head.",), ("score.",)

    def __init__(self, config: DecoderConfig, *, dtype: str = "float32"):
        super().__init__(config, dtype=dtype)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False, dtype=dtype)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    @property
    def input_embedding(self) -> Embedding:
        return self.model.embed_tokens

    @property
    def output_weight(self) -> Tensor:
        return self.lm_head.effective_weight


class LlamaForSequenceClassification(LlamaDecoder, SequenceClassifier):
    hf_class = "LlamaForSequenceClassification"
    head_parameters, foreign = ("score.",), ("lm_head.",)

    def __init__(self, config: DecoderConfig, *, dtype: str = "float32"):
        super().__init__(config, dtype=dtype)
        labels = config.labels or DEFAULT_LABELS
        self.score = Linear(config.hidden_size, len(labels), bias=False, dtype=dtype)


HEADS = {"causal-lm": LlamaForCausalLM, "sequence-classification": LlamaForSequenceClassification}
