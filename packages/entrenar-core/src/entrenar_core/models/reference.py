"""Configurations of LLaMA by name, for planning and for training from scratch."""

from collections.abc import Mapping
from typing import Any

from entrenar_common.errors import UnsupportedError
from entrenar_common.text import escape_controls

_LLAMA_2 = {
    "model_type": "llama",
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}

_REFERENCE: Mapping[str, Mapping[str, Any]] = {
    # LLaMA's blocks in the depth, width, heads and vocabulary of GPT-2 small. A gated layer of 8/3
    # of the width (2,048) has as many parameters as one of 4 times the width without a gate, so
    # that this has 123.6 million where GPT-2 small has 124.4
    "llama-124m": {
        **_LLAMA_2,
        "vocab_size": 50257,
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
        "bos_token_id": 50256,
        "eos_token_id": 50256,
    },
    "llama-7b": {
        **_LLAMA_2,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    "llama-13b": {
        **_LLAMA_2,
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
    },
    "llama-70b": {
        **_LLAMA_2,
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
    },
}


def reference_config(name: str) -> dict[str, Any]:
    """The `config.json` of a reference model: llama-124m, llama-7b, llama-13b or llama-70b.

    7b to 70b are LLaMA 2 (Touvron et al. 2023, arXiv:2307.09288). 124m has GPT-2 small's
    depth, width, heads, vocabulary and tied head. Raises UnsupportedError for another name.

    >>> reference_config("llama-70b")["num_key_value_heads"]
    8
    """
    if name not in _REFERENCE:
        raise UnsupportedError(
            f"no reference configuration is called {escape_controls(name)}",
            hint=f"there are {', '.join(_REFERENCE)}",
        )
    return dict(_REFERENCE[name])
