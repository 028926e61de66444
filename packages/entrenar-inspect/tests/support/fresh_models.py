"""Models of every family that transformers has, with fresh weights, at a size of some thousands."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

SMALL: dict[str, Any] = {
    **dict.fromkeys(("vocab_size",), 128),
    **dict.fromkeys(
        ("hidden_size", "n_embd", "d_model", "dim", "embed_dim", "embedding_size", "image_size"), 32
    ),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers",
         "decoder_layers", "num_decoder_layers"), 5,
    ),
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads",
         "decoder_attention_heads", "num_local_experts", "num_experts", "n_routed_experts"), 4,
    ),
    **dict.fromkeys(
        ("intermediate_size", "ffn_dim", "d_ff", "n_inner", "hidden_dim", "encoder_ffn_dim",
         "decoder_ffn_dim", "ffn_hidden_size"), 48,
    ),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 64),
    **dict.fromkeys(
        ("head_dim", "d_kv", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "patch_size"), 8
    ),
    **dict.fromkeys(("moe_intermediate_size", "q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("num_key_value_heads", "num_experts_per_tok", "type_vocab_size"), 2),
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace"), 1),
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}  # fmt: skip
"""Values for the keys that a config has of these; ids of tokens are within the vocabulary."""
MOST = 12_000_000
"""Parameters beyond which a model is left out: its size follows from other keys than these."""
_PARTS = ("text_config", "vision_config", "audio_config")


def classes() -> Iterator[Any]:
    """The class of every model behind transformers' AutoModels."""
    from transformers.models.auto import modeling_auto as auto

    seen: set[str] = set()
    for mapping in (
        auto.MODEL_FOR_CAUSAL_LM_MAPPING, auto.MODEL_FOR_MASKED_LM_MAPPING,
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
        auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING, auto.MODEL_FOR_CTC_MAPPING,
        auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, auto.MODEL_MAPPING,
    ):  # fmt: skip
        for config in mapping:
            try:
                found = mapping[config]
            except ValueError:  # a name in the mapping that transformers does not have
                continue
            for kind in found if isinstance(found, tuple) else (found,):
                if kind.__name__ not in seen:
                    seen.add(kind.__name__)
                    yield kind


def small_config(config: Any) -> Any:
    """A config of the class `config` with the values of SMALL."""
    default = config()
    small = config(**{key: SMALL[key] for key in _settable(default)}, **_kinds(default))
    for name in _PARTS:
        part = getattr(small, name, None)
        for key in _settable(part):
            setattr(part, key, SMALL[key])
    return small


def _settable(config: Any) -> list[str]:
    """The keys that a config has, and has for a single number that no other key decides."""
    decided = {"num_layers", "num_hidden_layers"} if hasattr(config, "depths") else set()
    return [
        key
        for key in SMALL.keys() - decided
        if hasattr(config, key)
        and (type(getattr(config, key)) in (int, type(None)) or key.endswith("_token_id"))
        and not isinstance(getattr(type(config), key, None), property)
    ]


def _kinds(config: Any) -> dict[str, Any]:
    """Kinds of blocks for the fewer ones that there are."""
    kinds = getattr(config, "layer_types", None)
    computed = isinstance(getattr(type(config), "layer_types", None), property)
    return {"layer_types": (kinds * 5)[:5]} if kinds and not computed else {}


def write_fresh(folder: Path, kind: Any, **saving: Any) -> bool:
    """Write a fresh model into `folder`; whether it is one of at most MOST parameters."""
    import torch

    small = small_config(kind.config_class)
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in kind(small).parameters())
    if count > MOST:
        return False
    torch.manual_seed(0)
    model = kind(small)
    if "dtype" in saving:
        model = model.to(getattr(torch, saving.pop("dtype")))
    model.save_pretrained(folder, **saving)
    return True
