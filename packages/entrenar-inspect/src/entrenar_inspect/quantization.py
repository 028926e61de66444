"""How the weights of a model were quantized, in words."""

from collections.abc import Mapping
from typing import Any

from entrenar_inspect.artifact import GGUF, Artifact
from entrenar_inspect.metadata import whole

_FILE_TYPES = {
    2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS",
    20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S",
    27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 36: "TQ1_0", 37: "TQ2_0",
    38: "MXFP4",
}  # fmt: skip
"""general.file_type → the recipe of a file. Source: llama.cpp, `llama_ftype`."""


def quantization_of(artifact: Artifact) -> str | None:
    """The method with its settings; None where nothing says that there is one."""
    if artifact.kind == GGUF:
        number = whole(artifact.metadata, "general.file_type")
        return None if number is None else _FILE_TYPES.get(number)
    stated = artifact.config.get("quantization_config")
    return _in_words(stated) if isinstance(stated, dict) else None


def _in_words(stated: Mapping[str, Any]) -> str:
    bits = {"load_in_4bit": 4, "load_in_8bit": 8}
    loaded = next((n for key, n in bits.items() if stated.get(key) is True), None)
    width = stated.get("bits", stated.get("w_bit", loaded))
    four = loaded == 4
    double = four and stated.get("bnb_4bit_use_double_quant") is True
    group = stated.get("group_size", stated.get("q_group_size"))
    parts = [
        str(stated.get("quant_method", "method not said")),
        None if width is None else f"{width} bit",
        str(stated["bnb_4bit_quant_type"]) if four and "bnb_4bit_quant_type" in stated else None,
        "double quantization" if double else None,
        f"groups of {group}" if type(group) is int and group > 0 else None,
        str(stated["fmt"]) if "fmt" in stated else None,
        str(stated["format"]) if "format" in stated else None,
    ]
    return ", ".join(part for part in parts if part)
