"""Dimensions as a config.json or the metadata of a GGUF file states them, under many names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from entrenar_inspect.families import FALCON, Family
from entrenar_inspect.metadata import length, text, whole

_KEYS: dict[str, tuple[str, ...]] = {
    "hidden": ("hidden_size", "n_embd", "d_model", "dim", "model_dim"),
    "heads": (
        "num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads",
        "encoder_attention_heads",
    ),
    "key_value_heads": ("num_key_value_heads", "n_head_kv"),
    "head_size": ("head_dim", "d_kv", "kv_channels", "attention_head_size"),
    "inner": (
        "intermediate_size", "ffn_dim", "d_ff", "n_inner", "ffn_hidden_size", "hidden_dim",
        "decoder_ffn_dim", "encoder_ffn_dim",
    ),
    "vocabulary": ("vocab_size", "n_vocab"),
    "context": (
        "max_position_embeddings", "n_positions", "seq_length", "n_ctx", "max_seq_len",
        "max_sequence_length", "max_target_positions",
    ),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
}  # fmt: skip
"""A dimension → what configs call it, the first of which counts."""
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_STACKS = (("encoder_layers", "decoder_layers"), ("num_layers", "num_decoder_layers"))
_GGUF_KEYS = {
    "hidden": "embedding_length",
    "heads": "attention.head_count",
    "key_value_heads": "attention.head_count_kv",
    "head_size": "attention.key_length",
    "inner": "feed_forward_length",
    "vocabulary": "vocab_size",
    "context": "context_length",
    "experts": "expert_count",
}
_INNER_CONFIGS = ("text_config", "llm_config", "language_config")


@dataclass(frozen=True)
class Stated:
    """What is stated: values and the key of each, by dimension; the blocks of each stack.

    inner_factor: the inner width in hidden sizes, where the family has a default.
    """

    values: Mapping[str, int] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    layers: tuple[int, ...] = ()
    layer_keys: tuple[str, ...] = ()
    inner_factor: int | None = None


def stated_by_config(config: Mapping[str, Any], family: Family | None) -> Stated:
    """The dimensions in a config.json; those of its text part where it has parts."""
    for name in _INNER_CONFIGS:
        inner = config.get(name)
        if isinstance(inner, dict):
            config = inner
    values: dict[str, int] = {}
    keys: dict[str, str] = {}
    for what, names in _KEYS.items():
        key = _first(config, names)
        if key is not None:
            values[what], keys[what] = config[key], key
    _falcon(config, family, values, keys)
    if family is not None and family.stated_reserved and "context" in values:
        values["context"] -= family.reserved
        keys["context"] += f" less {family.reserved} reserved"
    layer_keys = next((pair for pair in _STACKS if _all(config, pair)), None)
    if layer_keys is None:
        key = _first(config, _LAYERS)
        layer_keys = () if key is None else (key,)
    return Stated(
        values, keys, tuple(config[key] for key in layer_keys), layer_keys,
        None if family is None or not config else family.inner_factor,
    )  # fmt: skip


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if _all(config, (name,))), None)


def _all(config: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    return all(type(config.get(name)) is int and config[name] > 0 for name in names)


def _falcon(
    config: Mapping[str, Any],
    family: Family | None,
    values: dict[str, int],
    keys: dict[str, str],
) -> None:
    """Falcon states heads of keys in three ways, of which one counts."""
    if not config or family is None or family.name != FALCON:
        return
    stated = _first(config, ("num_kv_heads", "n_head_kv"))
    if config.get("new_decoder_architecture") is True:
        if stated is not None:
            values["key_value_heads"], keys["key_value_heads"] = config[stated], stated
    elif config.get("multi_query", True) is True:
        values["key_value_heads"], keys["key_value_heads"] = 1, "multi_query"
    else:
        values.pop("key_value_heads", None)


def stated_by_gguf(metadata: Mapping[str, Any]) -> Stated:
    """The dimensions in a GGUF file's metadata, none of whose arrays are decoded."""
    architecture = text(metadata, "general.architecture")
    if architecture is None:
        return Stated()
    values: dict[str, int] = {}
    keys: dict[str, str] = {}
    for what, end in _GGUF_KEYS.items():
        key = f"{architecture}.{end}"
        value = whole(metadata, key)
        if value:
            values[what], keys[what] = value, key
    if "vocabulary" not in values:
        key = "tokenizer.ggml.tokens"
        count = length(metadata, key)
        if count:
            values["vocabulary"], keys["vocabulary"] = count, f"the length of {key}"
    pair = (f"{architecture}.block_count", f"{architecture}.decoder_block_count")
    layers = tuple((whole(metadata, key), key) for key in pair)
    known = [(count, key) for count, key in layers if count]
    return Stated(values, keys, tuple(count for count, _ in known), tuple(key for _, key in known))
