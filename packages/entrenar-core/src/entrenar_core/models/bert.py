"""BERT: Devlin et al. 2018, arXiv:1810.04805."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.models.encoder import Encoder, check_positions, check_types
from entrenar_core.models.encoder_config import EncoderConfig, EncoderKeys
from entrenar_core.models.encoder_heads import (
    MaskedLM,
    SequenceClassification,
    output_projection,
)
from entrenar_core.models.encoder_parts import ACTIVATIONS, self_attention
from entrenar_core.models.forward import Forward, add_dropped
from entrenar_core.models.sentence import SentenceSettings
from entrenar_core.nn import Dropout, Embedding, LayerNorm, Linear, Module


@dataclass(frozen=True, kw_only=True)
class BertConfig(EncoderConfig):
    """The shape of a model, in the names of a Hugging Face `config.json`."""

    hidden_act: str
    hidden_dropout_prob: float
    attention_probs_dropout_prob: float
    classifier_dropout: float | None
    type_vocab_size: int
    layer_norm_eps: float

    model_type: ClassVar[str] = "bert"
    SPELLING: ClassVar = {
        "vocab_size": ("vocab_size", 30522),
        "hidden_size": ("hidden_size", 768),
        "intermediate_size": ("intermediate_size", 3072),
        "num_hidden_layers": ("num_hidden_layers", 12),
        "num_attention_heads": ("num_attention_heads", 12),
        "max_position_embeddings": ("max_position_embeddings", 512),
    }
    SPECIAL: ClassVar = {"pad": 0, "bos": None, "eos": None}

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any]) -> Self:
        """The config in a `config.json`. Every key is used, known to be harmless, or an error."""
        keys = EncoderKeys(raw, cls.model_type)
        own_dropout = keys.optional("classifier_dropout", None) is not None
        config = cls(
            **cls.common(keys),
            hidden_act=keys.choice("hidden_act", "gelu", ACTIVATIONS),
            hidden_dropout_prob=keys.probability("hidden_dropout_prob", 0.1),
            attention_probs_dropout_prob=keys.probability("attention_probs_dropout_prob", 0.1),
            classifier_dropout=keys.probability("classifier_dropout", 0) if own_dropout else None,
            type_vocab_size=keys.count("type_vocab_size", 2),
            layer_norm_eps=keys.number("layer_norm_eps", 1e-12),
        )
        keys.only("directionality", "bidi")
        keys.only("pooler_type", "first_token_transform")
        # sizes of a pooler with more layers, in published configs of models that have none
        keys.harmless(
            "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
            "pooler_size_per_head",
        )  # fmt: skip
        keys.finish()
        return config

    def to_hf(self) -> dict[str, Any]:
        """A `config.json` that transformers reads."""
        return self.common_to_hf() | {
            "hidden_act": self.hidden_act,
            "hidden_dropout_prob": self.hidden_dropout_prob,
            "attention_probs_dropout_prob": self.attention_probs_dropout_prob,
            "classifier_dropout": self.classifier_dropout,
            "type_vocab_size": self.type_vocab_size,
            "layer_norm_eps": self.layer_norm_eps,
            "position_embedding_type": "absolute",
        }

    @property
    def head_dropout(self) -> float:
        """The dropout before a classifier."""
        given = self.classifier_dropout
        return self.hidden_dropout_prob if given is None else given


class BertEmbeddings(Module):
    """The sum of a word's, a position's and a segment's vector, normalised."""

    def __init__(self, config: BertConfig, dtype: str):
        width = config.hidden_size
        self.word_embeddings = Embedding(config.vocab_size, width, dtype=dtype)
        self.position_embeddings = Embedding(config.max_position_embeddings, width, dtype=dtype)
        self.token_type_embeddings = Embedding(config.type_vocab_size, width, dtype=dtype)
        self.LayerNorm = LayerNorm(width, eps=config.layer_norm_eps, dtype=dtype)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.config = config

    def __call__(self, ids: np.ndarray, token_type_ids: np.ndarray | None) -> Tensor:
        words = ops.embedding(
            self.word_embeddings.weight, ids, padding_idx=self.config.pad_token_id
        )  # (B, T, D)
        if token_type_ids is None:
            types = self.token_type_embeddings(np.zeros(1, np.intp))  # (1, D)
        else:
            check_types(ids, token_type_ids)
            types = self.token_type_embeddings(token_type_ids)  # (B, T, D)
        # the small summands first: they are (T, D) where positions and types are plain
        return self.dropout(self.LayerNorm(words + (self.positions(ids) + types)))

    def positions(self, ids: np.ndarray) -> Tensor:
        """The vectors of the positions 0, 1, …: (T, D)."""
        check_positions(ids, ids.shape[1], self.config.positions)
        return self.position_embeddings(np.arange(ids.shape[1]))


class BertSelfAttention(Module):
    def __init__(self, config: BertConfig, layer: int, dtype: str):
        width = config.hidden_size
        self.query = Linear(width, width, bias=True, dtype=dtype)
        self.key = Linear(width, width, bias=True, dtype=dtype)
        self.value = Linear(width, width, bias=True, dtype=dtype)
        self.dropout = Dropout(config.attention_probs_dropout_prob)
        self.heads, self.layer = config.num_attention_heads, layer

    def __call__(self, x: Tensor, forward: Forward) -> Tensor:
        projections = (self.query, self.key, self.value)
        return self_attention(x, projections, self.heads, self.layer, forward, self.dropout)


class BertOutput(Module):
    """The projection, the sum and the norm that end the attention and the inner layer."""

    def __init__(self, inner: int, config: BertConfig, dtype: str):
        self.dense = Linear(inner, config.hidden_size, bias=True, dtype=dtype)
        self.LayerNorm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps, dtype=dtype)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def __call__(self, project: Callable[[Tensor | None], Tensor], x: Tensor) -> Tensor:
        return self.LayerNorm(add_dropped(project, x, self.dropout))


class BertAttention(Module):
    def __init__(self, config: BertConfig, layer: int, dtype: str):
        self.self = BertSelfAttention(config, layer, dtype)
        self.output = BertOutput(config.hidden_size, config, dtype)

    def __call__(self, x: Tensor, forward: Forward) -> Tensor:
        mixed = self.self(x, forward)  # (B, T, D)
        return self.output(partial(self.output.dense, mixed), x)


class BertIntermediate(Module):
    def __init__(self, config: BertConfig, dtype: str):
        self.dense = Linear(config.hidden_size, config.intermediate_size, bias=True, dtype=dtype)


class BertLayer(Module):
    def __init__(self, config: BertConfig, layer: int, dtype: str):
        self.attention = BertAttention(config, layer, dtype)
        self.intermediate = BertIntermediate(config, dtype)
        self.output = BertOutput(config.intermediate_size, config, dtype)
        self.activation = ACTIVATIONS[config.hidden_act]

    def __call__(self, x: Tensor, forward: Forward) -> Tensor:
        x = self.attention(x, forward)
        inner = self.intermediate.dense(x)  # (B, T, inner)
        return self.output(partial(self.activation.project, inner, self.output.dense), x)


class BertEncoder(Module):
    def __init__(self, config: BertConfig, dtype: str):
        self.layer = [BertLayer(config, i, dtype) for i in range(config.num_hidden_layers)]


class BertPooler(Module):
    """tanh of an affine map of the first position: (B, T, D) → (B, D)."""

    def __init__(self, config: BertConfig, dtype: str):
        self.dense = Linear(config.hidden_size, config.hidden_size, bias=True, dtype=dtype)

    def __call__(self, hidden: Tensor) -> Tensor:
        return ops.tanh(self.dense(hidden[:, 0]))


class BertModel(Encoder):
    """The encoder: ids (B, T) → sentence embeddings (B, D), by default the mean of `hidden`.

    `pooler` is what the classifiers of BERT take, or None in a checkpoint without one.
    """

    Config = BertConfig
    hf_class = "BertModel"
    blocks = "encoder.layer"
    prefix = "bert."
    parts = ("embeddings.", "encoder.", "pooler.")
    foreign = ("cls.", "classifier.", "qa_outputs.")
    embeddings_class: ClassVar[type[BertEmbeddings]] = BertEmbeddings

    def __init__(self, config: BertConfig, *, dtype: str = "float32", pooler: bool = True):
        self.config = config
        self.embeddings = self.embeddings_class(config, dtype)
        self.encoder = BertEncoder(config, dtype)
        self.pooler = BertPooler(config, dtype) if pooler else None
        self.sentence = SentenceSettings()

    def embed(self, ids: np.ndarray, token_type_ids: np.ndarray | None) -> Tensor:
        return self.embeddings(ids, token_type_ids)

    def layers(self) -> list[BertLayer]:
        return self.encoder.layer

    def prepare(self, folder: Path, names: dict[str, str]) -> None:
        """Besides, do without a pooler where the checkpoint has none."""
        super().prepare(folder, names)
        if not any(name.startswith("pooler.") for name in names):
            self.pooler = None

    def follow(self, other: Any) -> None:
        """Besides, have a pooler only if `other` has one."""
        super().follow(other)
        if other.pooler is None:
            self.pooler = None


class BertPredictionHeadTransform(Module):
    def __init__(self, config: BertConfig, dtype: str):
        width = config.hidden_size
        self.dense = Linear(width, width, bias=True, dtype=dtype)
        self.LayerNorm = LayerNorm(width, eps=config.layer_norm_eps, dtype=dtype)
        self.activation = ACTIVATIONS[config.hidden_act]

    def __call__(self, x: Tensor) -> Tensor:
        return self.LayerNorm(self.activation.apply(self.dense(x)))


class BertLMPredictionHead(Module):
    def __init__(self, config: BertConfig, words: Parameter, dtype: str):
        self.transform = BertPredictionHeadTransform(config, dtype)
        self.bias, self.decoder = output_projection(words, config.tie_word_embeddings)


class BertOnlyMLMHead(Module):
    def __init__(self, config: BertConfig, words: Parameter, dtype: str):
        self.predictions = BertLMPredictionHead(config, words, dtype)


class BertForMaskedLM(MaskedLM):
    """BERT with the head of its pretraining on masks: ids (B, T) → logits (B, T, V)."""

    Config = BertConfig
    hf_class = "BertForMaskedLM"
    blocks = "bert.encoder.layer"
    encoder_class = BertModel
    foreign = ("bert.pooler.", "cls.seq_relationship.", "classifier.", "qa_outputs.")
    head_parameters = ("cls.predictions.",)
    lone_bias = "cls.predictions.bias"

    def __init__(self, config: BertConfig, *, dtype: str = "float32"):
        self.config = config
        self.bert = BertModel(config, dtype=dtype, pooler=False)
        self.cls = BertOnlyMLMHead(config, self.bert.embeddings.word_embeddings.weight, dtype)

    @property
    def decoder(self) -> Linear:
        return self.cls.predictions.decoder

    def transform(self, states: Tensor) -> Tensor:
        return self.cls.predictions.transform(states)


class BertForSequenceClassification(SequenceClassification):
    """BERT with a classifier on the pooler: ids (B, T) → logits (B, labels)."""

    Config = BertConfig
    hf_class = "BertForSequenceClassification"
    blocks = "bert.encoder.layer"
    encoder_class = BertModel
    foreign = ("cls.", "qa_outputs.")
    head_parameters = ("classifier.", "bert.pooler.")  # trained on masks alone, there is no pooler

    def __init__(self, config: BertConfig, *, dtype: str = "float32"):
        self.config = config
        self.bert = BertModel(config, dtype=dtype)
        self.dropout = Dropout(config.head_dropout)
        self.classifier = Linear(config.hidden_size, config.label_count, bias=True, dtype=dtype)

    def classify(self, states: Tensor) -> Tensor:
        assert self.bert.pooler is not None
        return self.classifier(self.dropout(self.bert.pooler(states)))


HEADS = {
    "masked-lm": BertForMaskedLM,
    "sequence-classification": BertForSequenceClassification,
    "embedding": BertModel,
}
