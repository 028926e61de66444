"""Qwen2 and Qwen2.5: Yang et al. 2024, arXiv:2407.10671. LLaMA's blocks with biases on queries,
keys and values, and a window on the attention of chosen layers."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from entrenar_common.errors import ConfigError
from entrenar_core.models.config_keys import ConfigKeys
from entrenar_core.models.decoder_config import Biases, DecoderConfig, shared_fields
from entrenar_core.models.llama import LlamaForCausalLM, LlamaForSequenceClassification
from entrenar_core.models.mistral import check_window

FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True, kw_only=True)
class Qwen2Config(DecoderConfig):
    """`layer_types` says for each layer whether its queries see all positions or the last
    `sliding_window`; `max_window_layers`, where the file has no `layer_types`, from which layer on
    they see the window."""

    sliding_window: int | None
    max_window_layers: int
    layer_types: tuple[str, ...]

    model_type: ClassVar[str] = "qwen2"

    @classmethod
    def _fields(cls, keys: ConfigKeys) -> dict[str, Any]:
        keys.only("use_mrope", False)
        return windowed_fields(keys)

    @property
    def biases(self) -> Biases:
        return Biases(qkv=True)

    @property
    def windows(self) -> list[int | None]:
        return [self.sliding_window if kind == SLIDING else None for kind in self.layer_types]

    def with_layers(self, layers: tuple[int, ...]) -> Self:
        kinds = tuple(self.layer_types[index] for index in layers)
        return dataclasses.replace(self, num_hidden_layers=len(layers), layer_types=kinds)

    def _check(self) -> None:
        super()._check()
        check_window(self.sliding_window)
        kinds, count = self.layer_types, self.num_hidden_layers
        if len(kinds) != count or not set(kinds) <= {FULL, SLIDING}:
            raise ConfigError(
                f"config.json: layer_types must name {count} layers, found {list(kinds)}",
                hint=f"each of them is {FULL} or {SLIDING}",
            )
        if SLIDING in kinds and self.sliding_window is None:
            raise ConfigError(
                f"config.json: layer_types has {SLIDING}, but there is no window",
                hint="set use_sliding_window to true and give sliding_window",
            )

    def to_hf(self) -> dict[str, Any]:
        return {
            **super().to_hf(),
            "use_sliding_window": self.sliding_window is not None,
            "layer_types": list(self.layer_types),
        }


def windowed_fields(keys: ConfigKeys, *, width: int | None = None) -> dict[str, Any]:
    """The fields of `Qwen2Config`; `width` is the elements of a head where the key is missing."""
    fields = shared_fields(
        keys, vocabulary=151936, inner=22016, positions=32768, bos=None, eos=None, groups=32,
        width=width,
    )  # fmt: skip
    window, first = keys.optional("sliding_window", 4096), keys.take("max_window_layers", 28)
    window = window if keys.flag("use_sliding_window", False) else None
    if type(first) is not int or first < 0:
        raise ConfigError(
            f"config.json: max_window_layers must be an integer of at least 0, found {first!r}",
            hint="correct config.json",
        )
    count = fields["num_hidden_layers"]
    kinds = [SLIDING if window is not None and i >= first else FULL for i in range(count)]
    return {
        **fields,
        "sliding_window": window,
        "max_window_layers": first,
        "layer_types": _as_tuple(keys.take("layer_types", kinds)),
    }


def _as_tuple(kinds: Any) -> tuple[str, ...]:
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise ConfigError(
            f"config.json: layer_types must be a list of names, found {kinds!r}",
            hint="correct config.json",
        )
    return tuple(kinds)


class Qwen2ForCausalLM(LlamaForCausalLM):
    Config = Qwen2Config
    hf_class = "Qwen2ForCausalLM"


class Qwen2ForSequenceClassification(LlamaForSequenceClassification):
    Config = Qwen2Config
    hf_class = "Qwen2ForSequenceClassification"


HEADS = {"causal-lm": Qwen2ForCausalLM, "sequence-classification": Qwen2ForSequenceClassification}
