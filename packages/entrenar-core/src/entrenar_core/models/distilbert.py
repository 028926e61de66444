"""DistilBERT: Sanh et al. 2019, arXiv:1910.01108."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Tensor, ops
from entrenar_core.models.encoder import Encoder, check_positions
from entrenar_core.models.encoder_config import EncoderConfig, EncoderKeys
from entrenar_core.models.encoder_heads import MaskedLM, SequenceClassification
from entrenar_core.models.encoder_parts import ACTIVATIONS, self_attention
from entrenar_core.models.forward import Forward, add_dropped
from entrenar_core.models.sentence import SentenceSettings
from entrenar_core.nn import Dropout, Embedding, LayerNorm, Linear, Module

EPS = 1e-12
"""Of every norm; the config has no key for it."""


@dataclass(frozen=True, kw_only=True)
class DistilBertConfig(EncoderConfig):
    """The shape of a model, in the names of a Hugging Face `config.json`."""

    activation: str
    dropout: float
    attention_dropout: float
    seq_classif_dropout: float
    qa_dropout: float
    sinusoidal_pos_embds: bool

    model_type: ClassVar[str] = "distilbert"
    SPELLING: ClassVar = {
        "vocab_size": ("vocab_size", 30522),
        "hidden_size": ("dim", 768),
        "intermediate_size": ("hidden_dim", 3072),
        "num_hidden_layers": ("n_layers", 6),
        "num_attention_heads": ("n_heads", 12),
        "max_position_embeddings": ("max_position_embeddings", 512),
    }
    SPECIAL: ClassVar = {"pad": 0, "bos": None, "eos": None}

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any]) -> Self:
        """The config in a `config.json`. Every key is used, known to be harmless, or an error."""
        keys = EncoderKeys(raw, cls.model_type)
        config = cls(
            **cls.common(keys),
            activation=keys.choice("activation", "gelu", ACTIVATIONS),
            dropout=keys.probability("dropout", 0.1),
            attention_dropout=keys.probability("attention_dropout", 0.1),
            seq_classif_dropout=keys.probability("seq_classif_dropout", 0.2),
            qa_dropout=keys.probability("qa_dropout", 0.1),
            sinusoidal_pos_embds=keys.flag("sinusoidal_pos_embds", False),
        )
        keys.only("tie_weights_", True)
        keys.finish()
        return config

    def to_hf(self) -> dict[str, Any]:
        """A `config.json` that transformers reads."""
        return self.common_to_hf() | {
            "activation": self.activation,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "seq_classif_dropout": self.seq_classif_dropout,
            "qa_dropout": self.qa_dropout,
            "sinusoidal_pos_embds": self.sinusoidal_pos_embds,
        }


class DistilBertEmbeddings(Module):
    """The sum of a word's and a position's vector, normalised."""

    def __init__(self, config: DistilBertConfig, dtype: str):
        positions = config.max_position_embeddings
        self.word_embeddings = Embedding(config.vocab_size, config.hidden_size, dtype=dtype)
        self.position_embeddings = Embedding(positions, config.hidden_size, dtype=dtype)
        self.LayerNorm = LayerNorm(config.hidden_size, eps=EPS, dtype=dtype)
        self.dropout = Dropout(config.dropout)
        self.config = config

    def __call__(self, ids: np.ndarray) -> Tensor:
        time = ids.shape[1]
        check_positions(ids, time, self.config.positions)
        words = ops.embedding(
            self.word_embeddings.weight, ids, padding_idx=self.config.pad_token_id
        )  # (B, T, D)
        return self.dropout(self.LayerNorm(words + self.position_embeddings(np.arange(time))))


def sinusoids(positions: int, width: int) -> np.ndarray:
    """Column 2j is sin(p · 10000^(−2j/D)), column 2j + 1 its cosine: (positions, D).

    Source: Vaswani et al. 2017, arXiv:1706.03762, §3.5.
    """
    pair = np.arange(width) // 2
    angles = np.arange(positions)[:, None] / 10000.0 ** (2 * pair / width)
    return np.where(np.arange(width) % 2 == 0, np.sin(angles), np.cos(angles))


class DistilBertSelfAttention(Module):
    def __init__(self, config: DistilBertConfig, layer: int, dtype: str):
        width = config.hidden_size
        self.q_lin = Linear(width, width, bias=True, dtype=dtype)
        self.k_lin = Linear(width, width, bias=True, dtype=dtype)
        self.v_lin = Linear(width, width, bias=True, dtype=dtype)
        self.out_lin = Linear(width, width, bias=True, dtype=dtype)
        self.dropout = Dropout(config.attention_dropout)
        self.heads, self.layer = config.num_attention_heads, layer

    def __call__(self, x: Tensor, forward: Forward) -> Tensor:
        """x (B, T, D) → what the norm is applied to, x included."""
        projections = (self.q_lin, self.k_lin, self.v_lin)
        mixed = self_attention(x, projections, self.heads, self.layer, forward, self.dropout)
        return self.out_lin(mixed, x)


class DistilBertFFN(Module):
    def __init__(self, config: DistilBertConfig, dtype: str):
        self.lin1 = Linear(config.hidden_size, config.intermediate_size, bias=True, dtype=dtype)
        self.lin2 = Linear(config.intermediate_size, config.hidden_size, bias=True, dtype=dtype)
        self.dropout = Dropout(config.dropout)


class DistilBertBlock(Module):
    def __init__(self, config: DistilBertConfig, layer: int, dtype: str):
        self.attention = DistilBertSelfAttention(config, layer, dtype)
        self.sa_layer_norm = LayerNorm(config.hidden_size, eps=EPS, dtype=dtype)
        self.ffn = DistilBertFFN(config, dtype)
        self.output_layer_norm = LayerNorm(config.hidden_size, eps=EPS, dtype=dtype)
        self.activation = ACTIVATIONS[config.activation]

    def __call__(self, x: Tensor, forward: Forward) -> Tensor:
        x = self.sa_layer_norm(self.attention(x, forward))
        ffn = self.ffn
        inner = ffn.lin1(x)  # (B, T, inner)
        project = partial(self.activation.project, inner, ffn.lin2)
        return self.output_layer_norm(add_dropped(project, x, ffn.dropout))


class DistilBertTransformer(Module):
    def __init__(self, config: DistilBertConfig, dtype: str):
        self.layer = [DistilBertBlock(config, i, dtype) for i in range(config.num_hidden_layers)]


class DistilBertModel(Encoder):
    """The encoder: ids (B, T) → sentence embeddings (B, D), by default the mean of `hidden`."""

    Config = DistilBertConfig
    hf_class = "DistilBertModel"
    blocks = "transformer.layer"
    prefix = "distilbert."
    parts = ("embeddings.", "transformer.")
    foreign = ("vocab_", "pre_classifier.", "classifier.", "qa_outputs.")

    def __init__(self, config: DistilBertConfig, *, dtype: str = "float32"):
        self.config = config
        self.embeddings = DistilBertEmbeddings(config, dtype)
        self.transformer = DistilBertTransformer(config, dtype)
        self.sentence = SentenceSettings()

    def embed(self, ids: np.ndarray, token_type_ids: np.ndarray | None) -> Tensor:
        if token_type_ids is not None:
            raise ConfigError(
                "token_type_ids given to a distilbert model", hint="it knows no segments"
            )
        return self.embeddings(ids)

    def layers(self) -> list[DistilBertBlock]:
        return self.transformer.layer

    def first_weights(self) -> None:
        """Besides, positions start as sinusoids where the config says so."""
        super().first_weights()
        if self.config.sinusoidal_pos_embds:
            weight = self.embeddings.position_embeddings.weight
            weight.data[...] = sinusoids(*weight.shape)


class DistilBertForMaskedLM(MaskedLM):
    """DistilBERT with the head of its pretraining: ids (B, T) → logits (B, T, V)."""

    Config = DistilBertConfig
    hf_class = "DistilBertForMaskedLM"
    blocks = "distilbert.transformer.layer"
    encoder_class = DistilBertModel
    foreign = ("pre_classifier.", "classifier.", "qa_outputs.")
    head_parameters = ("vocab_",)

    def __init__(self, config: DistilBertConfig, *, dtype: str = "float32"):
        self.config = config
        self.distilbert = DistilBertModel(config, dtype=dtype)
        self.vocab_transform = Linear(
            config.hidden_size, config.hidden_size, bias=True, dtype=dtype
        )
        self.vocab_layer_norm = LayerNorm(config.hidden_size, eps=EPS, dtype=dtype)
        self.vocab_projector = Linear(config.hidden_size, config.vocab_size, bias=True, dtype=dtype)
        if config.tie_word_embeddings:
            self.vocab_projector.weight = self.distilbert.embeddings.word_embeddings.weight

    @property
    def decoder(self) -> Linear:
        return self.vocab_projector

    def transform(self, states: Tensor) -> Tensor:
        activation = ACTIVATIONS[self.config.activation]
        return self.vocab_layer_norm(activation.apply(self.vocab_transform(states)))


class DistilBertForSequenceClassification(SequenceClassification):
    """DistilBERT with a classifier on the first position: ids (B, T) → logits (B, labels)."""

    Config = DistilBertConfig
    hf_class = "DistilBertForSequenceClassification"
    blocks = "distilbert.transformer.layer"
    encoder_class = DistilBertModel
    foreign = ("vocab_", "qa_outputs.")
    head_parameters = ("pre_classifier.", "classifier.")

    def __init__(self, config: DistilBertConfig, *, dtype: str = "float32"):
        self.config = config
        self.distilbert = DistilBertModel(config, dtype=dtype)
        self.pre_classifier = Linear(config.hidden_size, config.hidden_size, bias=True, dtype=dtype)
        self.classifier = Linear(config.hidden_size, config.label_count, bias=True, dtype=dtype)
        self.dropout = Dropout(config.seq_classif_dropout)

    def classify(self, states: Tensor) -> Tensor:
        x = ops.relu(self.pre_classifier(states[:, 0]))
        return self.classifier(self.dropout(x))


HEADS = {
    "masked-lm": DistilBertForMaskedLM,
    "sequence-classification": DistilBertForSequenceClassification,
    "embedding": DistilBertModel,
}
