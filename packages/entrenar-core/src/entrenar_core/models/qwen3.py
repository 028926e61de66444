"""Qwen3: Yang et al. 2025, arXiv:2505.09388. Qwen2 without its biases, and with a norm on the
queries and keys of every head."""

from dataclasses import dataclass
from typing import Any, ClassVar

from entrenar_core.models.config_keys import ConfigKeys
from entrenar_core.models.decoder_config import Biases
from entrenar_core.models.llama import LlamaForCausalLM, LlamaForSequenceClassification
from entrenar_core.models.qwen2 import Qwen2Config, windowed_fields


@dataclass(frozen=True, kw_only=True)
class Qwen3Config(Qwen2Config):
    """Qwen2's fields; `attention_bias` is for all four projections of attention."""

    attention_bias: bool

    model_type: ClassVar[str] = "qwen3"
    head_norm: ClassVar[bool] = True

    @classmethod
    def _fields(cls, keys: ConfigKeys) -> dict[str, Any]:
        return {
            **windowed_fields(keys, width=128),
            "attention_bias": keys.flag("attention_bias", False),
        }

    @property
    def biases(self) -> Biases:
        return Biases(qkv=self.attention_bias, output=self.attention_bias)


class Qwen3ForCausalLM(LlamaForCausalLM):
    Config = Qwen3Config
    hf_class = "Qwen3ForCausalLM"


class Qwen3ForSequenceClassification(LlamaForSequenceClassification):
    Config = Qwen3Config
    hf_class = "Qwen3ForSequenceClassification"


HEADS = {"causal-lm": Qwen3ForCausalLM, "sequence-classification": Qwen3ForSequenceClassification}
