"""Strict reading of a `config.json`: no key that changes the mathematics is passed over."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from entrenar_common.errors import ConfigError, UnsupportedError

HARMLESS = {
    "_attn_implementation_autoset", "_name_or_path", "_num_labels", "add_cross_attention",
    "architectures", "chunk_size_feed_forward", "cross_attention_hidden_size", "do_sample", "dtype",
    "finetuning_task", "gradient_checkpointing", "id2label", "is_decoder", "is_encoder_decoder",
    "label2id", "max_length", "min_length", "model_type", "num_labels", "output_attentions",
    "output_hidden_states", "output_past", "problem_type", "return_dict",
    "return_dict_in_generate", "sep_token_id", "task_specific_params", "temperature",
    "tie_encoder_decoder", "tokenizer_class", "top_k", "top_p", "torch_dtype", "torchscript",
    "transformers_version", "use_bfloat16", "use_cache",
}  # fmt: skip
"""Keys that say nothing about what a model computes."""

DEFAULT_LABELS = ("LABEL_0", "LABEL_1")
"""The labels of a classifier whose config names none."""


class ConfigKeys:
    """The keys of one config, each of which must be taken, pinned or harmless."""

    def __init__(self, raw: Mapping[str, Any], model_type: str):
        self._raw, self._model_type = raw, model_type
        self._known = set(HARMLESS)

    def __contains__(self, key: str) -> bool:
        return key in self._raw

    def take(self, key: str, default: Any) -> Any:
        """The value as it is, or `default` where it is missing or null."""
        self._known.add(key)
        value = self._raw.get(key)
        return default if value is None else value

    def count(self, key: str, default: int) -> int:
        """A positive integer."""
        value = self.take(key, default)
        if type(value) is not int or value <= 0:
            raise self._wrong(key, value, "a positive integer")
        return value

    def number(self, key: str, default: float) -> float:
        """A positive finite number."""
        value = self.take(key, default)
        if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
            raise self._wrong(key, value, "a positive number")
        return float(value)

    def probability(self, key: str, default: float) -> float:
        """A number of at least 0, below 1."""
        value = self.take(key, default)
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise self._wrong(key, value, "a probability of at least 0, below 1")
        return float(value)

    def optional(self, key: str, default: Any) -> Any:
        """The value as it is; `default` where it is missing, None where it is null."""
        self._known.add(key)
        return self._raw.get(key, default)

    def token(self, key: str, default: int | None) -> int | None:
        """A token's id, or None where it is null."""
        value = self.optional(key, default)
        if value is not None and (type(value) is not int or value < 0):
            raise self._wrong(key, value, "a token's id or null")
        return value

    def tokens(self, key: str, default: int | None) -> int | list[int] | None:
        """A token's id, a list of them, or None where it is null."""
        value = self.optional(key, default)
        if not isinstance(value, list):
            return self.token(key, default)
        if not value or not all(type(each) is int and each >= 0 for each in value):
            raise self._wrong(key, value, "a token's id, a list of them, or null")
        return value

    def choice(self, key: str, default: str, choices: Iterable[str]) -> str:
        """One of some names; another one is an UnsupportedError."""
        value, choices = self.take(key, default), sorted(choices)
        if value not in choices:
            raise UnsupportedError(
                f"config.json: {key} {value!r} is not supported for {self._model_type}",
                hint=f"supported: {', '.join(choices)}",
            )
        return value

    def labels(self) -> tuple[str, ...] | None:
        """The names of a classifier's labels, by `id2label` or `num_labels`; None without both."""
        names = self.take("id2label", None)
        if names is None:
            count = None if self.take("num_labels", None) is None else self.count("num_labels", 1)
            return None if count is None else tuple(f"LABEL_{i}" for i in range(count))
        wanted = {str(i) for i in range(len(names))} if isinstance(names, Mapping) else None
        if not wanted or {str(key) for key in names} != wanted:
            raise self._wrong("id2label", names, "a mapping of 0, 1, … to names")
        ordered = {int(key): str(name) for key, name in names.items()}
        return tuple(ordered[i] for i in range(len(ordered)))

    def flag(self, key: str, default: bool) -> bool:
        value = self.take(key, default)
        if type(value) is not bool:
            raise self._wrong(key, value, "true or false")
        return value

    def only(self, key: str, value: Any) -> None:
        """`key` may be missing or have exactly `value`."""
        found = self.take(key, value)
        if found != value:
            raise UnsupportedError(
                f"config.json: {key} {found!r} is not supported for {self._model_type}",
                hint=f"only {value!r} is",
            )

    def rope(self, *, default_theta: float) -> dict[str, Any]:
        """The rotary parameters in one dict with `rope_type` and `rope_theta`.

        Reads the new spelling (`rope_parameters`) and the old one (`rope_theta` beside
        `rope_scaling`, whose kind may be called `type`).
        """
        found: dict[str, Any] = {}
        for key in ("rope_scaling", "rope_parameters"):
            part = self.take(key, {})
            if not isinstance(part, Mapping):
                raise self._wrong(key, part, "a mapping")
            found.update(part)
        theta = self.take("rope_theta", None)
        kind = found.pop("type", None)
        found.setdefault("rope_type", kind or "default")
        if found.get("rope_theta") is None:
            found["rope_theta"] = default_theta if theta is None else theta
        if found.get("partial_rotary_factor", 1.0) != 1.0:
            raise UnsupportedError(
                f"partial_rotary_factor {found['partial_rotary_factor']} is not supported",
                hint="only models that rotate whole heads are",
            )
        return found

    def harmless(self, *keys: str) -> None:
        """Keys that may be there and say nothing."""
        self._known.update(keys)

    def finish(self) -> None:
        """Raise ConfigError for keys that nobody has asked for."""
        unknown = sorted(set(self._raw) - self._known)
        if unknown:
            raise ConfigError(
                f"config.json: unknown keys for a {self._model_type} model: {', '.join(unknown)}",
                hint="a key that is passed over could change what the model computes; remove the "
                "ones that do not matter",
            )

    def _wrong(self, key: str, value: Any, wanted: str) -> ConfigError:
        return ConfigError(
            f"config.json: {key} must be {wanted}, found {value!r}", hint="correct config.json"
        )


def label_keys(labels: tuple[str, ...] | None) -> dict[str, Any]:
    """`id2label` and `label2id` of a `config.json`."""
    if labels is None:
        return {}
    return {
        "id2label": {str(i): name for i, name in enumerate(labels)},
        "label2id": {name: i for i, name in enumerate(labels)},
    }
