"""What `quantization_config` of a `config.json` says, and which of it is understood here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_core.io.bitsandbytes import FourBitFolder
from entrenar_core.io.tensor_folder import TensorFolder
from entrenar_core.io.weights import open_weights

KEY = "quantization_config"

_ONLY: Mapping[str, tuple[Any, ...]] = {
    "quant_method": ("bitsandbytes",),
    "load_in_4bit": (True,),
    "_load_in_4bit": (True,),
    "load_in_8bit": (False,),
    "_load_in_8bit": (False,),
    "bnb_4bit_quant_type": ("nf4",),
}
"""Keys of bitsandbytes that say what the tensors are, with the values that are read."""

_HARMLESS = {
    "bnb_4bit_compute_dtype", "bnb_4bit_quant_storage", "bnb_4bit_use_double_quant",
    "llm_int8_enable_fp32_cpu_offload", "llm_int8_has_fp16_weight", "llm_int8_skip_modules",
    "llm_int8_threshold",
}  # fmt: skip
"""Keys that say what the tensors say themselves, or how another library computes."""


OPENERS: Mapping[str | None, Callable[[Path], TensorFolder]] = {
    None: open_weights,
    "bitsandbytes": FourBitFolder,
}
"""What reads the weights of a folder, by the method that quantized them."""


def without_quantization(raw: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
    """The keys of a `config.json` without its `quantization_config`, and the method that this
    names, None where there is none.

    Raises UnsupportedError for weights in another format than NF4 of bitsandbytes, ConfigError for
    a key that nobody knows.
    """
    settings = raw.get(KEY)
    rest = {key: value for key, value in raw.items() if key != KEY}
    if settings is None:
        return rest, None
    if not isinstance(settings, Mapping):
        raise ConfigError(
            f"config.json: {KEY} must be a mapping, found {settings!r}", hint="correct config.json"
        )
    required = {"quant_method": None, "load_in_4bit": False, "bnb_4bit_quant_type": "fp4"}
    for key, value in {**required, **settings}.items():
        if key in _HARMLESS:
            continue
        if key not in _ONLY:
            raise ConfigError(
                f"config.json: unknown key {key} in {KEY}",
                hint="a key that is passed over could change what the weights mean",
            )
        if value not in _ONLY[key]:
            raise UnsupportedError(
                f"config.json: {KEY} with {key} {value!r} is not supported",
                hint="of quantized models, those of bitsandbytes in 4 bits of type nf4 are read",
            )
    return rest, settings["quant_method"]
