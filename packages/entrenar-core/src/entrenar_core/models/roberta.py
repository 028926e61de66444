"""RoBERTa: Liu et al. 2019, arXiv:1907.11692. The encoder is BERT's but for the positions."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Parameter, Tensor, ops
from entrenar_core.models.bert import BertConfig, BertEmbeddings, BertModel
from entrenar_core.models.encoder import check_positions
from entrenar_core.models.encoder_heads import (
    MaskedLM,
    SequenceClassification,
    output_projection,
)
from entrenar_core.nn import Dropout, LayerNorm, Linear, Module


@dataclass(frozen=True, kw_only=True)
class RobertaConfig(BertConfig):
    """The shape of a model, in the names of a Hugging Face `config.json`."""

    model_type: ClassVar[str] = "roberta"
    SPELLING: ClassVar = BertConfig.SPELLING | {"vocab_size": ("vocab_size", 50265)}
    SPECIAL: ClassVar = {"pad": 1, "bos": 0, "eos": 2}

    def __post_init__(self) -> None:
        pad, rows = self.pad_token_id, self.max_position_embeddings
        if pad is None or pad + 1 >= rows:
            raise ConfigError(
                f"config.json: pad_token_id {pad} with max_position_embeddings {rows} leaves no "
                "position",
                hint="positions are counted from pad_token_id + 1 on",
            )

    @property
    def positions(self) -> int:
        """How many tokens a sequence can have, padding apart."""
        return self.max_position_embeddings - (self.pad_token_id or 0) - 1


class RobertaEmbeddings(BertEmbeddings):
    """Positions are numbered from padding_idx + 1 on, over the ids that are not padding."""

    def positions(self, ids: np.ndarray) -> Tensor:
        """The vectors of the positions: (B, T, D). Padding has that of row padding_idx."""
        padding = self.config.pad_token_id
        tokens = ids != padding
        count = np.cumsum(tokens, axis=1) * tokens  # (B, T)
        check_positions(ids, int(count.max(initial=0)), self.config.positions)
        weight = self.position_embeddings.weight
        return ops.embedding(weight, count + padding, padding_idx=padding)


class RobertaModel(BertModel):
    """The encoder: ids (B, T) → sentence embeddings (B, D), by default the mean of `hidden`."""

    Config = RobertaConfig
    hf_class = "RobertaModel"
    prefix = "roberta."
    foreign = ("lm_head.", "classifier.", "qa_outputs.")
    embeddings_class = RobertaEmbeddings

    def first_weights(self) -> None:
        """The position of padding starts as zeros too."""
        super().first_weights()
        self.embeddings.position_embeddings.weight.data[self.config.pad_token_id] = 0


class RobertaLMHead(Module):
    def __init__(self, config: RobertaConfig, words: Parameter, dtype: str):
        width = config.hidden_size
        self.dense = Linear(width, width, bias=True, dtype=dtype)
        self.layer_norm = LayerNorm(width, eps=config.layer_norm_eps, dtype=dtype)
        self.bias, self.decoder = output_projection(words, config.tie_word_embeddings)

    def transform(self, x: Tensor) -> Tensor:
        """The activation here is the exact gelu, whatever `hidden_act` says."""
        return self.layer_norm(ops.gelu(self.dense(x)))


class RobertaForMaskedLM(MaskedLM):
    """RoBERTa with the head of its pretraining: ids (B, T) → logits (B, T, V)."""

    Config = RobertaConfig
    hf_class = "RobertaForMaskedLM"
    blocks = "roberta.encoder.layer"
    encoder_class = RobertaModel
    foreign = ("roberta.pooler.", "classifier.", "qa_outputs.")
    head_parameters = ("lm_head.",)
    lone_bias = "lm_head.bias"

    def __init__(self, config: RobertaConfig, *, dtype: str = "float32"):
        self.config = config
        self.roberta = RobertaModel(config, dtype=dtype, pooler=False)
        self.lm_head = RobertaLMHead(config, self.roberta.embeddings.word_embeddings.weight, dtype)

    @property
    def decoder(self) -> Linear:
        return self.lm_head.decoder

    def transform(self, states: Tensor) -> Tensor:
        return self.lm_head.transform(states)


class RobertaClassificationHead(Module):
    """An affine map of tanh of an affine map of the first position: (B, T, D) → (B, labels)."""

    def __init__(self, config: RobertaConfig, dtype: str):
        width = config.hidden_size
        self.dense = Linear(width, width, bias=True, dtype=dtype)
        self.dropout = Dropout(config.head_dropout)
        self.out_proj = Linear(width, config.label_count, bias=True, dtype=dtype)

    def __call__(self, hidden: Tensor) -> Tensor:
        x = ops.tanh(self.dense(self.dropout(hidden[:, 0])))
        return self.out_proj(self.dropout(x))


class RobertaForSequenceClassification(SequenceClassification):
    """RoBERTa with a classifier on the first position: ids (B, T) → logits (B, labels)."""

    Config = RobertaConfig
    hf_class = "RobertaForSequenceClassification"
    blocks = "roberta.encoder.layer"
    encoder_class = RobertaModel
    foreign = ("roberta.pooler.", "lm_head.", "qa_outputs.")
    head_parameters = ("classifier.",)

    def __init__(self, config: RobertaConfig, *, dtype: str = "float32"):
        self.config = config
        self.roberta = RobertaModel(config, dtype=dtype, pooler=False)
        self.classifier = RobertaClassificationHead(config, dtype)

    def classify(self, states: Tensor) -> Tensor:
        return self.classifier(states)


HEADS = {
    "masked-lm": RobertaForMaskedLM,
    "sequence-classification": RobertaForSequenceClassification,
    "embedding": RobertaModel,
}
