"""Strict reading of a `config.json`: no key that changes the mathematics is passed over."""

import math
from collections.abc import Mapping
from typing import Any

from entrenar_common.errors import ConfigError, UnsupportedError

HARMLESS = {
    "_attn_implementation_autoset", "_name_or_path", "add_cross_attention", "architectures",
    "chunk_size_feed_forward", "dtype", "id2label", "is_decoder", "is_encoder_decoder", "label2id",
    "model_type", "output_attentions", "output_hidden_states", "problem_type", "return_dict",
    "torch_dtype", "transformers_version", "use_cache",
}  # fmt: skip
"""Keys that say nothing about what a decoder computes."""


class ConfigKeys:
    """The keys of one config, each of which must be taken, pinned or harmless."""

    def __init__(self, raw: Mapping[str, Any], model_type: str):
        self._raw, self._model_type = raw, model_type
        self._known = set(HARMLESS)

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
