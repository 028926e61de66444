"""What the tensors of decoders are called. Source: transformers' `modeling_*.py` of each family."""

from entrenar_inspect.layout import Layout, Rule, Size

_LAYERS = ("layers.{}",)
_ATTENTION = tuple(f"layers.{{}}.self_attn.{part}_proj.weight" for part in "qkvo")
_NORMS = ("layers.{}.input_layernorm.weight", "layers.{}.post_attention_layernorm.weight")
_GATED = tuple(f"layers.{{}}.mlp.{part}_proj.weight" for part in ("gate", "up", "down"))
_HEAD_NORMS = ("layers.{}.self_attn.q_norm.weight", "layers.{}.self_attn.k_norm.weight")
_QUERY_BIAS, _OUTPUT_BIAS = (f"layers.{{}}.self_attn.{part}_proj.bias" for part in "qo")
_SANDWICH = "layers.{}.pre_feedforward_layernorm.weight"
_OTHERS = (_HEAD_NORMS[0], "layers.{}.input_layernorm.bias", _SANDWICH)
"""What is not in LLaMA's blocks, but in those of models that are otherwise like it."""

_SIZES = {
    "vocabulary": Size("embed_tokens.weight"),
    "hidden": Size(_NORMS[0]),
    "inner": Size(_GATED[0]),
    "queries": Size(_ATTENTION[0]),
    "keys": Size(_ATTENTION[1]),
}
_NORMED_SIZES = {**_SIZES, "head_size": Size(_HEAD_NORMS[0])}


def _decoder(
    *more: str, forbidden: tuple[str, ...] = _OTHERS, sizes: dict[str, Size] = _SIZES
) -> Layout:
    """A decoder as LLaMA's, with `more` tensors."""
    return Layout(_LAYERS, (*_ATTENTION, *_NORMS, *_GATED, *more), forbidden=forbidden, sizes=sizes)


def _experts(gate: str, inner: str, size: Size) -> Layout:
    """LLaMA's attention, and experts instead of one feed-forward layer."""
    return Layout(
        _LAYERS,
        (*_ATTENTION, *_NORMS, gate, inner),
        forbidden=(*_OTHERS, _QUERY_BIAS, "layers.{}.mlp.shared_expert.gate_proj.weight"),
        sizes={**_SIZES, "inner": size, "experts": Size(gate)},
    )


LLAMA = _decoder(forbidden=(*_OTHERS, _QUERY_BIAS))
LLAMA_BIASED = _decoder(_QUERY_BIAS, _OUTPUT_BIAS)
QWEN2 = _decoder(_QUERY_BIAS, forbidden=(*_OTHERS, _OUTPUT_BIAS))
QWEN3 = _decoder(*_HEAD_NORMS, forbidden=(_SANDWICH,), sizes=_NORMED_SIZES)
GEMMA2 = _decoder(_SANDWICH, forbidden=_HEAD_NORMS)
GEMMA3 = _decoder(_SANDWICH, *_HEAD_NORMS, forbidden=(), sizes=_NORMED_SIZES)

_W1 = "layers.{}.block_sparse_moe.experts.{}.w1.weight"
_STACKED = "layers.{}.mlp.experts.gate_up_proj"
MIXTRAL = _experts("layers.{}.block_sparse_moe.gate.weight", _W1, Size(_W1))
MIXTRAL_STACKED = _experts("layers.{}.mlp.gate.weight", _STACKED, Size(_STACKED, 1, over=2))

PHI = Layout(
    _LAYERS,
    (*_ATTENTION[:3], "layers.{}.self_attn.dense.weight", "layers.{}.mlp.fc1.weight"),
    sizes={**_SIZES, "inner": Size("layers.{}.mlp.fc1.weight")},
)
PHI3 = Layout(
    _LAYERS,
    (*_NORMS, "layers.{}.self_attn.qkv_proj.weight", "layers.{}.mlp.gate_up_proj.weight"),
    sizes={
        "vocabulary": Size("embed_tokens.weight"),
        "hidden": Size(_NORMS[0]),
        "inner": Size("layers.{}.mlp.gate_up_proj.weight", over=2),
    },
)
GPT2 = Layout(
    ("h.{}",),
    ("h.{}.attn.c_attn.weight", "h.{}.mlp.c_fc.weight", "wte.weight", "wpe.weight"),
    rules=(
        Rule(
            "h.{}.attn.c_attn.weight",
            lambda shape: shape[1] == 3 * shape[0],
            "inputs × outputs, three for each",
        ),
    ),
    sizes={
        "vocabulary": Size("wte.weight"),
        "hidden": Size("wte.weight", 1),
        "inner": Size("h.{}.mlp.c_fc.weight", 1),
        "positions": Size("wpe.weight"),
    },
)
GPT_NEOX = Layout(
    _LAYERS,
    (
        "layers.{}.mlp.dense_h_to_4h.weight", "layers.{}.attention.query_key_value.weight",
        "embed_in.weight",
    ),
    sizes={
        "vocabulary": Size("embed_in.weight"),
        "hidden": Size("embed_in.weight", 1),
        "inner": Size("layers.{}.mlp.dense_h_to_4h.weight"),
    },
)  # fmt: skip

_WORDS, _EMBEDDING_NORM = "word_embeddings.weight", "word_embeddings_layernorm.weight"
_FUSED = ("h.{}.self_attention.query_key_value.weight", "h.{}.mlp.dense_h_to_4h.weight", _WORDS)
_FUSED_SIZES = {
    "vocabulary": Size(_WORDS),
    "hidden": Size("ln_f.weight"),
    "inner": Size("h.{}.mlp.dense_h_to_4h.weight"),
}
FALCON = Layout(("h.{}",), _FUSED, forbidden=(_EMBEDDING_NORM,), sizes=_FUSED_SIZES)
BLOOM = Layout(("h.{}",), (*_FUSED, _EMBEDDING_NORM), sizes=_FUSED_SIZES)

_OPT = "decoder.layers.{}"
OPT = Layout(
    (_OPT,),
    (f"{_OPT}.self_attn.q_proj.weight", f"{_OPT}.fc1.weight", "decoder.embed_positions.weight"),
    forbidden=(f"{_OPT}.encoder_attn.q_proj.weight",),
    sizes={
        "vocabulary": Size("decoder.embed_tokens.weight"),
        "hidden": Size(f"{_OPT}.fc1.weight", 1),
        "inner": Size(f"{_OPT}.fc1.weight"),
        "positions": Size("decoder.embed_positions.weight"),
        "queries": Size(f"{_OPT}.self_attn.q_proj.weight"),
        "keys": Size(f"{_OPT}.self_attn.k_proj.weight"),
    },
)
