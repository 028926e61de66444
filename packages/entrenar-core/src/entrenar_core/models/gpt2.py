"""GPT-2: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".

Learned positions, norms before each part, and weights stored (in, out), which Hugging Face's
checkpoints call Conv1D.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Tensor, ops
from entrenar_core.models.config_keys import DEFAULT_LABELS, ConfigKeys, label_keys
from entrenar_core.models.forward import Forward, add_dropped, attend, run_blocks
from entrenar_core.models.network import Decoder, LanguageModel, SequenceClassifier, renamed
from entrenar_core.nn import (
    Dropout,
    Embedding,
    LayerNorm,
    Linear,
    Module,
    Projection,
    new_parameter,
)


@dataclass(frozen=True, kw_only=True)
class GPT2Config:
    """The shape of a model; sizes have the names that the other architectures have."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    activation_function: str
    resid_pdrop: float
    embd_pdrop: float
    attn_pdrop: float
    layer_norm_epsilon: float
    initializer_range: float
    scale_attn_weights: bool
    scale_attn_by_inverse_layer_idx: bool
    tie_word_embeddings: bool
    bos_token_id: int | None
    eos_token_id: int | list[int] | None
    pad_token_id: int | None
    labels: tuple[str, ...] | None

    model_type: ClassVar[str] = "gpt2"

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any]) -> Self:
        """The config in a `config.json`. Every key is used, known to be harmless, or an error."""
        keys = ConfigKeys(raw, cls.model_type)
        hidden, heads = keys.count("n_embd", 768), keys.count("n_head", 12)
        if hidden % heads:
            raise ConfigError(
                f"config.json: n_embd {hidden} is no multiple of n_head {heads}",
                hint="the heads divide the width between them",
            )
        config = cls(
            vocab_size=keys.count("vocab_size", 50257),
            hidden_size=hidden,
            intermediate_size=keys.count("n_inner", 4 * hidden),
            num_hidden_layers=keys.count("n_layer", 12),
            num_attention_heads=heads,
            max_position_embeddings=keys.count("n_positions", 1024),
            activation_function=keys.choice("activation_function", "gelu_new", ACTIVATIONS),
            resid_pdrop=keys.probability("resid_pdrop", 0.1),
            embd_pdrop=keys.probability("embd_pdrop", 0.1),
            attn_pdrop=keys.probability("attn_pdrop", 0.1),
            layer_norm_epsilon=keys.number("layer_norm_epsilon", 1e-5),
            initializer_range=keys.number("initializer_range", 0.02),
            scale_attn_weights=keys.flag("scale_attn_weights", True),
            scale_attn_by_inverse_layer_idx=keys.flag("scale_attn_by_inverse_layer_idx", False),
            tie_word_embeddings=keys.flag("tie_word_embeddings", True),
            bos_token_id=keys.token("bos_token_id", 50256),
            eos_token_id=keys.tokens("eos_token_id", 50256),
            pad_token_id=keys.token("pad_token_id", None),
            labels=keys.labels(),
        )
        # the size of a mask that is made as needed; the order of operations in half precision;
        # and a head for multiple choice, which the heads below are not
        keys.harmless(
            "n_ctx", "reorder_and_upcast_attn", "summary_activation", "summary_first_dropout",
            "summary_proj_to_labels", "summary_type", "summary_use_proj",
        )  # fmt: skip
        keys.finish()
        return config

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def num_key_value_heads(self) -> int:
        return self.num_attention_heads

    def to_hf(self) -> dict[str, Any]:
        """A `config.json` that transformers reads."""
        return {
            "model_type": self.model_type,
            "vocab_size": self.vocab_size,
            "n_embd": self.hidden_size,
            "n_inner": self.intermediate_size,
            "n_layer": self.num_hidden_layers,
            "n_head": self.num_attention_heads,
            "n_positions": self.max_position_embeddings,
            "activation_function": self.activation_function,
            "resid_pdrop": self.resid_pdrop,
            "embd_pdrop": self.embd_pdrop,
            "attn_pdrop": self.attn_pdrop,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "initializer_range": self.initializer_range,
            "scale_attn_weights": self.scale_attn_weights,
            "scale_attn_by_inverse_layer_idx": self.scale_attn_by_inverse_layer_idx,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id,
            "pad_token_id": self.pad_token_id,
            **label_keys(self.labels),
            "use_cache": True,
            "dtype": "float32",
        }


class Conv1D(Projection):
    """y = x W + b with `weight` (in_features, out_features)."""

    output_axis = 1

    def __init__(self, in_features: int, out_features: int, *, dtype: str):
        self.weight = new_parameter((in_features, out_features), dtype)
        self.bias = new_parameter((out_features,), dtype)

    def affine(self, x: Tensor, residual: Tensor | None) -> Tensor:
        return ops.conv1d(x, self.weight, self.bias, residual)


def _gelu(x: Tensor, layer: Conv1D, residual: Tensor | None, *, approximate: bool) -> Tensor:
    if not layer.fusible:
        return layer(ops.gelu(x, approximate=approximate), residual)
    return ops.gelu_conv1d(x, layer.weight, layer.bias, residual, approximate=approximate)


def _plain(activation: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda x, layer, residual: layer(activation(x), residual)


ACTIVATIONS: Mapping[str, Callable[[Tensor, Conv1D, Tensor | None], Tensor]] = {
    "gelu": partial(_gelu, approximate=False),
    "gelu_new": partial(_gelu, approximate=True),
    "gelu_pytorch_tanh": partial(_gelu, approximate=True),
    "relu": _plain(ops.relu),
    "silu": _plain(ops.silu),
    "swish": _plain(ops.silu),
    "tanh": _plain(ops.tanh),
}
"""What `activation_function` may be: the activation with the projection that follows it."""


class GPT2Attention(Module):
    def __init__(self, config: GPT2Config, layer: int, dtype: str):
        hidden = config.hidden_size
        self.c_attn = Conv1D(hidden, 3 * hidden, dtype=dtype)
        self.c_proj = Conv1D(hidden, hidden, dtype=dtype)
        self.attn_dropout = Dropout(config.attn_pdrop)
        self.resid_dropout = Dropout(config.resid_pdrop)
        self.layer, self.heads = layer, config.num_attention_heads
        self.scale = config.head_dim**-0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= layer + 1

    def __call__(self, x: Tensor, residual: Tensor, forward: Forward) -> Tensor:
        packed = self.c_attn(x)  # (B, T, 3·hidden)
        q, k, v = (
            ops.split_heads(packed, part=i, parts=3, heads=self.heads) for i in range(3)
        )  # (B, T, H, D)
        o = attend(
            q, k, v, self.layer, forward,
            scale=self.scale, causal=True, dropout=self.attn_dropout,
        )  # fmt: skip
        o = ops.reshape(o, x.shape)
        return add_dropped(partial(self.c_proj, o), residual, self.resid_dropout)


class GPT2MLP(Module):
    def __init__(self, config: GPT2Config, dtype: str):
        hidden, inner = config.hidden_size, config.intermediate_size
        self.c_fc = Conv1D(hidden, inner, dtype=dtype)
        self.c_proj = Conv1D(inner, hidden, dtype=dtype)
        self.dropout = Dropout(config.resid_pdrop)
        self.activation = ACTIVATIONS[config.activation_function]

    def __call__(self, x: Tensor, residual: Tensor) -> Tensor:
        project = partial(self.activation, self.c_fc(x), self.c_proj)
        return add_dropped(project, residual, self.dropout)


class GPT2Block(Module):
    def __init__(self, config: GPT2Config, layer: int, dtype: str):
        hidden, eps = config.hidden_size, config.layer_norm_epsilon
        self.ln_1 = LayerNorm(hidden, eps=eps, dtype=dtype)
        self.attn = GPT2Attention(config, layer, dtype)
        self.ln_2 = LayerNorm(hidden, eps=eps, dtype=dtype)
        self.mlp = GPT2MLP(config, dtype)

    def __call__(self, x: Tensor, forward: Forward) -> Tensor:
        x = self.attn(self.ln_1(x), x, forward)
        return self.mlp(self.ln_2(x), x)


class GPT2Model(Module):
    def __init__(self, config: GPT2Config, dtype: str):
        hidden = config.hidden_size
        self.wte = Embedding(config.vocab_size, hidden, dtype=dtype)
        self.wpe = Embedding(config.max_position_embeddings, hidden, dtype=dtype)
        self.drop = Dropout(config.embd_pdrop)
        self.h = [GPT2Block(config, i, dtype) for i in range(config.num_hidden_layers)]
        self.ln_f = LayerNorm(hidden, eps=config.layer_norm_epsilon, dtype=dtype)

    def __call__(
        self, ids: np.ndarray, positions: np.ndarray | None, forward: Forward, recompute: bool
    ) -> Tensor:
        start = 0 if forward.cache is None else forward.cache.length
        following = np.arange(start, start + ids.shape[1])
        places = following if positions is None else positions  # (T,) or (B, T)
        limit = self.wpe.weight.shape[0]
        if places.max(initial=0) >= limit:
            raise ConfigError(
                f"position {places.max()} of a model that has learned {limit}",
                hint="give shorter sequences",
            )
        x = self.drop(self.wte(ids) + self.wpe(places))  # (B, T, hidden)
        return run_blocks(self.h, x, forward, recompute=recompute, last=self.ln_f)


class GPT2Decoder(Decoder):
    """What the heads below share."""

    Config = GPT2Config
    blocks = "transformer.h"

    def __init__(self, config: GPT2Config, *, dtype: str = "float32"):
        self.config = config
        self.transformer = GPT2Model(config, dtype)

    def backbone(self, ids: np.ndarray, positions: np.ndarray | None, forward: Forward) -> Tensor:
        return self.transformer(ids, positions, forward, self.recompute)

    def initial_std(self, name: str) -> float:
        """Projections back into the residual start smaller, by the root of how many there are."""
        std = self.config.initializer_range
        if name.endswith("c_proj.weight"):
            return std / (2 * self.config.num_hidden_layers) ** 0.5
        return std

    @classmethod
    def sanitize(cls, names: Iterable[str]) -> dict[str, str]:
        """Names without the causal masks that old checkpoints carry; those of a model that was
        saved without a head get the prefix that they have under one."""
        names = [name for name in names if not name.startswith(cls.foreign)]
        bare = not any(name.startswith("transformer.") for name in names)

        def rule(name: str) -> str | None:
            if name.endswith((".attn.bias", ".attn.masked_bias")):
                return None
            prefixed = bare and not name.startswith(cls.head_parameters)
            return f"transformer.{name}" if prefixed else name

        return renamed(names, rule)


class GPT2LMHeadModel(GPT2Decoder, LanguageModel):
    hf_class = "GPT2LMHeadModel"
    head_parameters, foreign = ("lm_head.",), ("score.",)

    def __init__(self, config: GPT2Config, *, dtype: str = "float32"):
        super().__init__(config, dtype=dtype)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False, dtype=dtype)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.transformer.wte.weight

    @property
    def position_limit(self) -> int:
        return self.config.max_position_embeddings

    @property
    def input_embedding(self) -> Embedding:
        return self.transformer.wte

    @property
    def output_weight(self) -> Tensor:
        return self.lm_head.effective_weight


class GPT2ForSequenceClassification(GPT2Decoder, SequenceClassifier):
    hf_class = "GPT2ForSequenceClassification"
    head_parameters, foreign = ("score.",), ("lm_head.",)

    def __init__(self, config: GPT2Config, *, dtype: str = "float32"):
        super().__init__(config, dtype=dtype)
        labels = config.labels or DEFAULT_LABELS
        self.score = Linear(config.hidden_size, len(labels), bias=False, dtype=dtype)


HEADS = {"causal-lm": GPT2LMHeadModel, "sequence-classification": GPT2ForSequenceClassification}
