"""`adapter_config.json`, in which PEFT says what an adapter is.

Source: https://huggingface.co/docs/peft, `LoraConfig`. Keys that change what the tensors mean are
understood or refused; a key that nobody knows may be there with an empty value, as newer versions
of PEFT write it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core.lora.config import BIASES, INITS, LoraConfig

CONFIG = "adapter_config.json"

OTHER_KINDS = (
    "ADALORA", "IA3", "PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "LOHA", "LOKR", "OFT", "BOFT",
    "VERA", "FOURIERFT", "XLORA", "LN_TUNING", "HRA", "BONE", "POLY", "TRAINABLE_TOKENS",
)  # fmt: skip
"""What else `peft_type` may be, for the message."""

_HARMLESS = {
    "auto_mapping", "base_model_name_or_path", "inference_mode",
    "megatron_config", "megatron_core", "peft_type", "peft_version", "qalora_group_size",
    "revision", "runtime_config", "task_type", "loftq_config", "layers_pattern",
}  # fmt: skip
"""Keys that say nothing of what the tensors mean."""

_PLAIN = re.compile(r"\^?[\w.\\-]+", re.ASCII)

_INITS = {True: "default", False: "default", "gaussian": "gaussian"}
"""`init_lora_weights` of adapters that left their base as it was."""


@dataclass(frozen=True)
class PeftConfig:
    """lora: the settings; base_model: the name or path of what was adapted; task_type: what PEFT
    calls the model's use, such as CAUSAL_LM; both may be None. fan_in_fan_out: whether weights are
    stored (in, out). ensure_weight_tying: whether what is tied to a target is one too.
    """

    lora: LoraConfig
    base_model: str | None = None
    task_type: str | None = None
    fan_in_fan_out: bool = False
    ensure_weight_tying: bool = False

    @classmethod
    def parse(cls, found: Any, where: str) -> "PeftConfig":
        """What the JSON value `found`, read from `where`, says.

        Raises UnsupportedError for another kind of adapter and for what is not understood,
        ConfigError for values of the wrong type.
        """
        _check_kind(found, where)
        read = _Reader(found, where)
        known = {*_HARMLESS, *_KEYS}
        for key, value in found.items():
            if key not in known and value not in (None, False, {}, [], "", 0):
                raise UnsupportedError(
                    f"{where}: {escape_controls(str(key))} is {escape_controls(repr(value)[:60])}, "
                    "which is not supported",
                    hint="a key that is passed over could change what the tensors mean",
                )
        try:
            lora = LoraConfig(
                rank=read.count("r", 8),
                alpha=read.number("lora_alpha", 8),
                target_modules=read.names("target_modules"),
                exclude_modules=read.names("exclude_modules"),
                layers_to_transform=read.layers(),
                dropout=read.number("lora_dropout", 0.0),
                use_rslora=read.flag("use_rslora"),
                use_dora=read.flag("use_dora"),
                lora_bias=read.flag("lora_bias"),
                bias=read.text("bias", "none"),
                modules_to_save=_as_tuple(read.names("modules_to_save")),
                rank_pattern=read.pattern("rank_pattern"),
                alpha_pattern=read.pattern("alpha_pattern"),
                init=read.init(),
            )
        except ConfigError as problem:
            raise ConfigError(f"{where}: {problem.message}", hint=problem.hint) from problem
        return cls(
            lora,
            read.optional("base_model_name_or_path"),
            read.optional("task_type"),
            read.flag("fan_in_fan_out"),
            read.flag("ensure_weight_tying"),
        )

    def with_targets_or(self, modules: tuple[str, ...]) -> "PeftConfig":
        """These settings; where they name no target, `modules` are the targets."""
        if self.lora.target_modules:
            return self
        return replace(self, lora=replace(self.lora, target_modules=modules))

    def to_json(self) -> dict[str, Any]:
        """The keys that every version of PEFT knows."""
        lora = self.lora
        chosen = lora.target_modules
        return {
            "alpha_pattern": dict(lora.alpha_pattern),
            "base_model_name_or_path": self.base_model,
            "bias": lora.bias,
            "fan_in_fan_out": self.fan_in_fan_out,
            "inference_mode": True,
            "init_lora_weights": "gaussian" if lora.init == "gaussian" else True,
            "lora_alpha": lora.alpha,
            "lora_dropout": lora.dropout,
            "modules_to_save": list(lora.modules_to_save) or None,
            "peft_type": "LORA",
            "r": lora.rank,
            "rank_pattern": dict(lora.rank_pattern),
            "target_modules": chosen if isinstance(chosen, str) else list(chosen),
            "task_type": self.task_type,
            "use_dora": lora.use_dora,
            "use_rslora": lora.use_rslora,
            # newer than the others: older versions of PEFT refuse keys that they do not know
            **({"lora_bias": True} if lora.lora_bias else {}),
            **({"ensure_weight_tying": True} if self.ensure_weight_tying else {}),
            **({"exclude_modules": _listed(lora.exclude_modules)} if lora.exclude_modules else {}),
            **(
                {"layers_to_transform": list(lora.layers_to_transform)}
                if lora.layers_to_transform is not None
                else {}
            ),
        }


_KEYS = {
    "r", "lora_alpha", "target_modules", "exclude_modules", "layers_to_transform", "lora_dropout",
    "use_rslora", "use_dora", "lora_bias", "bias", "modules_to_save", "rank_pattern",
    "alpha_pattern", "init_lora_weights", "fan_in_fan_out", "ensure_weight_tying",
}  # fmt: skip


def _check_kind(found: Any, where: str) -> None:
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: not a JSON object", hint="give an adapter's folder")
    kind = found.get("peft_type")
    if kind == "LORA":
        return
    shown = escape_controls(str(kind)[:40])
    if kind in OTHER_KINDS:
        raise UnsupportedError(
            f"{where}: peft_type {shown} is another kind of adapter",
            hint="LoRA adapters are supported; PEFT can merge others into their model",
        )
    raise ConfigError(f"{where}: peft_type is {shown}", hint="an adapter of LoRA says LORA")


class _Reader:
    """Values of the right type from a JSON object; ConfigError names the key otherwise."""

    def __init__(self, found: Mapping[str, Any], where: str):
        self._found, self._where = found, where

    def _value(self, key: str, default: Any, right: Callable[[Any], bool], what: str) -> Any:
        value = self._found.get(key)
        if value is None:
            return default
        if not right(value):
            raise ConfigError(
                f"{key} is {escape_controls(repr(value)[:60])}", hint=f"it has to be {what}"
            )
        return value

    def count(self, key: str, default: int) -> int:
        return self._value(key, default, lambda v: type(v) is int, "a whole number")

    def number(self, key: str, default: float) -> float:
        return self._value(key, default, lambda v: type(v) in (int, float), "a number")

    def flag(self, key: str) -> bool:
        return self._value(key, False, lambda v: type(v) is bool, "true or false")

    def text(self, key: str, default: str) -> str:
        return self._value(key, default, lambda v: v in BIASES, " or ".join(BIASES))

    def optional(self, key: str) -> str | None:
        return self._value(key, None, lambda v: isinstance(v, str), "a string")

    def names(self, key: str) -> str | tuple[str, ...]:
        found = self._value(
            key, (), lambda v: isinstance(v, str) or _are_strings(v), "names of modules"
        )
        return found if isinstance(found, str) else tuple(sorted(found))

    def layers(self) -> tuple[int, ...] | None:
        key = "layers_to_transform"
        found = self._value(
            key, None, lambda v: type(v) is int or _are_numbers(v), "numbers of blocks"
        )
        if found is None:
            return None
        return (found,) if isinstance(found, int) else tuple(found) or None

    def pattern(self, key: str) -> Mapping[str, Any]:
        found = self._value(key, {}, lambda v: isinstance(v, dict), "a map of modules to numbers")
        for name in found:
            if not _PLAIN.fullmatch(name):  # a regular expression from a file can take for ever
                raise UnsupportedError(
                    f"{self._where}: {key} has the expression '{escape_controls(name[:60])}'",
                    hint="names of modules are supported",
                )
        return found

    def init(self) -> str:
        value = self._found.get("init_lora_weights", True)
        if isinstance(value, str) and value.partition("_niter_")[0] == "pissa":
            return "pissa"
        if value in INITS and value != "loftq":
            return str(value)
        if value is None or isinstance(value, bool) or value == "loftq":
            return "default"
        raise UnsupportedError(
            f"{self._where}: init_lora_weights is {escape_controls(repr(value)[:40])}",
            hint="in PEFT, save the adapter as a plain one: see "
            "path_initial_model_for_weight_conversion there",
        )


def _as_tuple(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _listed(names: str | tuple[str, ...]) -> str | list[str]:
    return names if isinstance(names, str) else list(names)


def _are_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def config_path(path: Path) -> Path:
    """Where the settings of the adapter at `path`, a folder or a file of tensors, are."""
    return (path if path.is_dir() else path.parent) / CONFIG
