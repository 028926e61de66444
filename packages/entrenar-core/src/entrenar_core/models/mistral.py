"""Mistral: Jiang et al. 2023, arXiv:2310.06825. LLaMA's blocks with a window on attention."""

from dataclasses import dataclass
from typing import Any, ClassVar

from entrenar_common.errors import ConfigError
from entrenar_core.models.config_keys import ConfigKeys
from entrenar_core.models.decoder_config import DecoderConfig, shared_fields
from entrenar_core.models.llama import LlamaForCausalLM, LlamaForSequenceClassification


@dataclass(frozen=True, kw_only=True)
class MistralConfig(DecoderConfig):
    """`sliding_window`: how many positions a query sees, its own included; None for all."""

    sliding_window: int | None

    model_type: ClassVar[str] = "mistral"

    @classmethod
    def _fields(cls, keys: ConfigKeys) -> dict[str, Any]:
        return {
            **shared_fields(
                keys, vocabulary=32000, inner=14336, positions=131072, bos=1, eos=2, groups=8
            ),
            "sliding_window": keys.optional("sliding_window", 4096),
        }

    @property
    def windows(self) -> list[int | None]:
        return [self.sliding_window] * self.num_hidden_layers

    def _check(self) -> None:
        super()._check()
        check_window(self.sliding_window)


def check_window(window: Any) -> None:
    """Raise ConfigError unless `window` is None or a positive integer."""
    if window is not None and (type(window) is not int or window <= 0):
        raise ConfigError(
            f"config.json: sliding_window must be a positive integer or null, found {window!r}",
            hint="correct config.json",
        )


class MistralForCausalLM(LlamaForCausalLM):
    Config = MistralConfig
    hf_class = "MistralForCausalLM"


class MistralForSequenceClassification(LlamaForSequenceClassification):
    Config = MistralConfig
    hf_class = "MistralForSequenceClassification"


HEADS = {
    "causal-lm": MistralForCausalLM,
    "sequence-classification": MistralForSequenceClassification,
}
