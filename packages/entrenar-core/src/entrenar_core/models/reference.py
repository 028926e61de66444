"""Published configurations by name, for planning and for training from scratch."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from entrenar_common.errors import UnsupportedError
from entrenar_common.text import escape_controls, nearest

_LLAMA_2 = {
    "model_type": "llama",
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
_TINY_LLAMA = {**_LLAMA_2, "max_position_embeddings": 2048}
_LLAMA_3 = {
    **_LLAMA_2,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
}
_LLAMA_3_1 = {
    **_LLAMA_3,
    "max_position_embeddings": 131072,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}
_LLAMA_3_2 = {
    **_LLAMA_3_1,
    "rope_scaling": {**_LLAMA_3_1["rope_scaling"], "factor": 32.0},
    "tie_word_embeddings": True,
}
_SMOLLM_2 = {
    **_LLAMA_2,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "rope_theta": 100000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_MISTRAL = {
    "model_type": "mistral",
    "vocab_size": 32000,
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}
_QWEN_2_5 = {
    "model_type": "qwen2",
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
}
_QWEN_2_5_LARGE = {**_QWEN_2_5, "vocab_size": 152064, "tie_word_embeddings": False}
_QWEN_3 = {
    **_QWEN_2_5,
    "model_type": "qwen3",
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "eos_token_id": 151645,
}
_QWEN_3_LARGE = {**_QWEN_3, "tie_word_embeddings": False}
# LLaMA's blocks in the depth, width, heads and vocabulary of GPT-2 small. A gated layer of 8/3 of
# the width (2,048) has as many parameters as one of 4 times the width without a gate, so that this
# has 123.6 million where GPT-2 small has 124.4
_LLAMA_AS_GPT_2 = {
    **_LLAMA_2,
    "vocab_size": 50257,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
    "bos_token_id": 50256,
    "eos_token_id": 50256,
}


class _Sizes(NamedTuple):
    """What makes one model of a family: widths, layers, heads, heads of keys and values."""

    hidden: int
    inner: int
    layers: int
    heads: int
    groups: int

    def keys(self) -> dict[str, int]:
        return {
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.groups,
        }


_DECODERS: Mapping[str, tuple[Mapping[str, Any], _Sizes]] = {
    "llama-124m": (_LLAMA_AS_GPT_2, _Sizes(768, 2048, 12, 12, 12)),
    "tinyllama-1.1b": (_TINY_LLAMA, _Sizes(2048, 5632, 22, 32, 4)),
    "llama-2-7b": (_LLAMA_2, _Sizes(4096, 11008, 32, 32, 32)),
    "llama-2-13b": (_LLAMA_2, _Sizes(5120, 13824, 40, 40, 40)),
    "llama-2-70b": (_LLAMA_2, _Sizes(8192, 28672, 80, 64, 8)),
    "llama-3-8b": (_LLAMA_3, _Sizes(4096, 14336, 32, 32, 8)),
    "llama-3-70b": (_LLAMA_3, _Sizes(8192, 28672, 80, 64, 8)),
    "llama-3.1-8b": (_LLAMA_3_1, _Sizes(4096, 14336, 32, 32, 8)),
    "llama-3.1-70b": (_LLAMA_3_1, _Sizes(8192, 28672, 80, 64, 8)),
    "llama-3.2-1b": (_LLAMA_3_2, _Sizes(2048, 8192, 16, 32, 8)),
    "llama-3.2-3b": (_LLAMA_3_2, _Sizes(3072, 8192, 28, 24, 8)),
    "smollm2-135m": (_SMOLLM_2, _Sizes(576, 1536, 30, 9, 3)),
    "smollm2-360m": (_SMOLLM_2, _Sizes(960, 2560, 32, 15, 5)),
    "smollm2-1.7b": ({**_SMOLLM_2, "rope_theta": 130000.0}, _Sizes(2048, 8192, 24, 32, 32)),
    "mistral-7b": (_MISTRAL, _Sizes(4096, 14336, 32, 32, 8)),
    "qwen2.5-0.5b": (_QWEN_2_5, _Sizes(896, 4864, 24, 14, 2)),
    "qwen2.5-1.5b": (_QWEN_2_5, _Sizes(1536, 8960, 28, 12, 2)),
    "qwen2.5-3b": (_QWEN_2_5, _Sizes(2048, 11008, 36, 16, 2)),
    "qwen2.5-7b": (_QWEN_2_5_LARGE, _Sizes(3584, 18944, 28, 28, 4)),
    "qwen2.5-14b": (_QWEN_2_5_LARGE, _Sizes(5120, 13824, 48, 40, 8)),
    "qwen2.5-32b": (_QWEN_2_5_LARGE, _Sizes(5120, 27648, 64, 40, 8)),
    "qwen2.5-72b": (_QWEN_2_5_LARGE, _Sizes(8192, 29568, 80, 64, 8)),
    "qwen3-0.6b": (_QWEN_3, _Sizes(1024, 3072, 28, 16, 8)),
    "qwen3-1.7b": (_QWEN_3, _Sizes(2048, 6144, 28, 16, 8)),
    "qwen3-4b": (_QWEN_3, _Sizes(2560, 9728, 36, 32, 8)),
    "qwen3-8b": (_QWEN_3_LARGE, _Sizes(4096, 12288, 36, 32, 8)),
    "qwen3-14b": (_QWEN_3_LARGE, _Sizes(5120, 17408, 40, 40, 8)),
    "qwen3-32b": (_QWEN_3_LARGE, _Sizes(5120, 25600, 64, 64, 8)),
}

_GPT_2 = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
_BERT = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}
_ROBERTA = {
    "model_type": "roberta",
    "architectures": ["RobertaForMaskedLM"],
    "vocab_size": 50265,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
}

_OTHERS: Mapping[str, Mapping[str, Any]] = {
    "gpt2": _GPT_2,
    "gpt2-medium": {**_GPT_2, "n_embd": 1024, "n_layer": 24, "n_head": 16},
    "gpt2-large": {**_GPT_2, "n_embd": 1280, "n_layer": 36, "n_head": 20},
    "gpt2-xl": {**_GPT_2, "n_embd": 1600, "n_layer": 48, "n_head": 25},
    "bert-base": _BERT,
    "bert-large": {
        **_BERT, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
        "num_attention_heads": 16,
    },
    "distilbert-base": {"model_type": "distilbert", "architectures": ["DistilBertForMaskedLM"]},
    "roberta-base": _ROBERTA,
    "roberta-large": {
        **_ROBERTA, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
        "num_attention_heads": 16,
    },
}  # fmt: skip

_ALIASES: Mapping[str, str] = {
    "1.1b": "tinyllama-1.1b",
    "7b": "llama-2-7b",
    "8b": "llama-3-8b",
    "13b": "llama-2-13b",
    "70b": "llama-2-70b",
    "llama-7b": "llama-2-7b",
    "llama-13b": "llama-2-13b",
    "llama-70b": "llama-2-70b",
    "tinyllama": "tinyllama-1.1b",
    "gpt2-small": "gpt2",
}
"""Further names. A size alone is the model that most people mean by it."""


def reference_names() -> list[str]:
    """The names that `reference_config` knows, without the further ones."""
    return [*_DECODERS, *_OTHERS]


def reference_name(name: str) -> str | None:
    """The name in `reference_names` that `name` stands for, whatever its letter case; None for
    none.

    >>> reference_name("7B"), reference_name("Llama-2-7b"), reference_name("6B")
    ('llama-2-7b', 'llama-2-7b', None)
    """
    plain = name.strip().casefold()
    plain = _ALIASES.get(plain, plain)
    return plain if plain in _DECODERS or plain in _OTHERS else None


def reference_config(name: str) -> dict[str, Any]:
    """The `config.json` of a published model, such as llama-2-7b, qwen2.5-0.5b or gpt2, or of a
    size alone (7B, 8B, 13B, 70B).

    The numbers are those of the models' own pages. llama-124m is ours: LLaMA's blocks in GPT-2
    small's depth, width, heads and tied head. Raises UnsupportedError for another name, with the
    nearest ones.

    >>> reference_config("70B")["num_key_value_heads"]
    8
    """
    known = reference_name(name)
    if known is None:
        raise UnsupportedError(
            f"no reference configuration is called {escape_controls(name)}", hint=_others(name)
        )
    if known in _OTHERS:
        return dict(_OTHERS[known])
    family, sizes = _DECODERS[known]
    return {**family, **sizes.keys()}


def _others(name: str) -> str:
    """Which names there are: those of the same family first."""
    names = reference_names()
    plain = name.strip().casefold()
    like = next((each for each in names if each.startswith(plain)), None)
    like = like or nearest(name, [*names, *_ALIASES])
    family = re.split(r"[-.\d]", plain, maxsplit=1)[0]
    same = [each for each in names if family and each.startswith(family)]
    guess = f"did you mean {like}? " if like else ""
    sizes = ", ".join(alias.upper() for alias in _ALIASES if alias[0].isdigit())
    return f"{guess}there are {', '.join(same or names)}, and the sizes {sizes}"
