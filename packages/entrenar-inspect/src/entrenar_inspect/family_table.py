"""The table of families. Names: transformers' `modeling_*.py` of each; GGUF: `llama-arch.cpp`."""

from entrenar_inspect.families import Family, Layout, Rule, Size

_ATTENTION = tuple(f"layers.{{}}.self_attn.{part}_proj.weight" for part in "qkvo")
_NORMS = ("layers.{}.input_layernorm.weight", "layers.{}.post_attention_layernorm.weight")
_GATED = tuple(f"layers.{{}}.mlp.{part}_proj.weight" for part in ("gate", "up", "down"))
_HEAD_NORMS = ("layers.{}.self_attn.q_norm.weight", "layers.{}.self_attn.k_norm.weight")
_QUERY_BIAS, _OUTPUT_BIAS = (f"layers.{{}}.self_attn.{part}_proj.bias" for part in "qo")
_NORM_BIAS = "layers.{}.input_layernorm.bias"
_SANDWICH = "layers.{}.pre_feedforward_layernorm.weight"
_PLAIN = (_HEAD_NORMS[0], _NORM_BIAS, _SANDWICH)
"""What sets others apart from LLaMA."""

_DECODER_SIZES = {
    "vocabulary": Size("embed_tokens.weight"),
    "hidden": Size(_NORMS[0]),
    "inner": Size(_GATED[0]),
    "queries": Size(_ATTENTION[0]),
    "keys": Size(_ATTENTION[1]),
}
_NORMED_SIZES = {**_DECODER_SIZES, "head_size": Size(_HEAD_NORMS[0])}


def _decoder(
    *more: str, forbidden: tuple[str, ...] = _PLAIN, sizes: dict[str, Size] = _DECODER_SIZES
) -> Layout:
    """A decoder as LLaMA's, with `more` tensors."""
    return Layout(
        ("layers.{}",), (*_ATTENTION, *_NORMS, *_GATED, *more), forbidden=forbidden, sizes=sizes
    )


_AS_LLAMA = _decoder(forbidden=(*_PLAIN, _QUERY_BIAS))
_SPARSE, _STACKED = "layers.{}.block_sparse_moe", "layers.{}.mlp.experts.gate_up_proj"
_MIXTRAL_FORBIDDEN = (*_PLAIN, _QUERY_BIAS, "layers.{}.mlp.shared_expert.gate_proj.weight")
_WIDE, _NARROW = "mlp.dense_h_to_4h.weight", "mlp.dense_4h_to_h.weight"
_FUSED = "self_attention.query_key_value.weight"
_H_REQUIRED = tuple(f"h.{{}}.{part}" for part in (_FUSED, _WIDE, _NARROW))
_WORDS, _EMBEDDING_NORM = "word_embeddings.weight", "word_embeddings_layernorm.weight"
_H_SIZES = {
    "vocabulary": Size(_WORDS),
    "hidden": Size("ln_f.weight"),
    "inner": Size(f"h.{{}}.{_WIDE}"),
}
_T5_SELF = "encoder.block.{}.layer.{}.SelfAttention."
_T5_RELATIVE = f"{_T5_SELF}relative_attention_bias.weight"


def _t5(inner: str) -> Layout:
    return Layout(
        ("encoder.block.{}", "decoder.block.{}"),
        (f"{_T5_SELF}q.weight", _T5_RELATIVE, f"encoder.block.{{}}.layer.{{}}.{inner}.weight"),
        sizes={
            "vocabulary": Size("shared.weight"),
            "hidden": Size("encoder.final_layer_norm.weight"),
            "inner": Size(f"encoder.block.{{}}.layer.{{}}.{inner}.weight"),
            "heads": Size(_T5_RELATIVE, 1),
            "queries": Size(f"{_T5_SELF}q.weight"),
            "keys": Size(f"{_T5_SELF}k.weight"),
        },
    )


_BERT_BLOCK = "encoder.layer.{}."
_BERT_REQUIRED = (
    f"{_BERT_BLOCK}attention.self.query.weight", f"{_BERT_BLOCK}attention.output.LayerNorm.weight",
    f"{_BERT_BLOCK}intermediate.dense.weight", "embeddings.word_embeddings.weight",
    "embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight",
)  # fmt: skip
_BERT_SIZES = {
    "vocabulary": Size("embeddings.word_embeddings.weight"),
    "hidden": Size("embeddings.LayerNorm.weight"),
    "inner": Size(f"{_BERT_BLOCK}intermediate.dense.weight"),
    "positions": Size("embeddings.position_embeddings.weight"),
    "queries": Size(f"{_BERT_BLOCK}attention.self.query.weight"),
    "keys": Size(f"{_BERT_BLOCK}attention.self.key.weight"),
}
_TYPES, _POSITIONS = (f"embeddings.{what}_embeddings.weight" for what in ("token_type", "position"))
_DISTIL = "transformer.layer.{}"
_ROBERTAS = "2 more than a multiple of 8: RoBERTa's positions begin at 2"
_NOT_ROBERTAS = "not 2 more than a multiple of 8, as RoBERTa's"
_BARE = ("", "model.", "auto_model.", "encoder.")
"""Prefixes that tell nothing."""


def _bert(*prefixes: str, rule: Rule | None = None) -> Layout:
    """The names are the same for both families but for the prefix."""
    return Layout(
        ("encoder.layer.{}",), _BERT_REQUIRED, sizes=_BERT_SIZES, prefixes=prefixes,
        rules=() if rule is None else (rule,),
    )  # fmt: skip


def _vit(block: str, query: str, inner: str) -> Layout:
    return Layout(
        (block,),
        (
            f"{block}.{query}.weight", f"{block}.{inner}.weight",
            "embeddings.patch_embeddings.projection.weight", "embeddings.cls_token",
        ),
        forbidden=("embeddings.distillation_token", "embeddings.mask_token"),
        sizes={
            "hidden": Size("embeddings.patch_embeddings.projection.weight"),
            "inner": Size(f"{block}.{inner}.weight"),
            "queries": Size(f"{block}.{query}.weight"),
        },
    )  # fmt: skip


def _clip(tower: str, required: tuple[str, ...], **sizes: Size) -> Layout:
    block = f"{tower}.encoder.layers.{{}}"
    return Layout(
        (block,),
        (f"{block}.mlp.fc1.weight", f"{block}.layer_norm1.weight", *required),
        forbidden=("text_model.head.weight", "vision_model.head.attention.in_proj_weight"),
        sizes={
            "hidden": Size(f"{block}.layer_norm1.weight"),
            "inner": Size(f"{block}.mlp.fc1.weight"),
            "queries": Size(f"{block}.self_attn.q_proj.weight"),
            "keys": Size(f"{block}.self_attn.k_proj.weight"),
            **sizes,
        },
    )


_CLIP_TEXT = _clip(
    "text_model", ("text_model.embeddings.token_embedding.weight",),
    vocabulary=Size("text_model.embeddings.token_embedding.weight"),
    positions=Size("text_model.embeddings.position_embedding.weight"),
)  # fmt: skip
_CLIP_VISION = _clip("vision_model", ("vision_model.pre_layrnorm.weight",))

FAMILIES: tuple[Family, ...] = (
    Family(
        "LLaMA", ("llama",), "Llama", (_AS_LLAMA, _decoder(_QUERY_BIAS, _OUTPUT_BIAS)),
        gguf=("llama",),
    ),
    Family("Mistral", ("mistral",), "Mistral", (_AS_LLAMA,), gguf=("mistral",)),
    Family(
        "Mixtral", ("mixtral",), "Mixtral",
        (
            Layout(
                ("layers.{}",),
                (*_ATTENTION, *_NORMS, f"{_SPARSE}.gate.weight", f"{_SPARSE}.experts.{{}}.w1.weight"),
                forbidden=_MIXTRAL_FORBIDDEN,
                sizes={
                    **_DECODER_SIZES,
                    "inner": Size(f"{_SPARSE}.experts.{{}}.w1.weight"),
                    "experts": Size(f"{_SPARSE}.gate.weight"),
                },
            ),
            Layout(
                ("layers.{}",),
                (*_ATTENTION, *_NORMS, "layers.{}.mlp.gate.weight", _STACKED),
                forbidden=_MIXTRAL_FORBIDDEN,
                sizes={
                    **_DECODER_SIZES,
                    "inner": Size(_STACKED, 1, over=2),
                    "experts": Size("layers.{}.mlp.gate.weight"),
                },
            ),
        ),
    ),
    Family(
        "Qwen2", ("qwen2",), "Qwen2", (_decoder(_QUERY_BIAS, forbidden=(*_PLAIN, _OUTPUT_BIAS)),),
        gguf=("qwen2",),
    ),
    Family(
        "Qwen3", ("qwen3",), "Qwen3",
        (_decoder(*_HEAD_NORMS, forbidden=(_SANDWICH,), sizes=_NORMED_SIZES),), gguf=("qwen3",),
    ),
    Family("Gemma", ("gemma",), "Gemma", (_AS_LLAMA,), gguf=("gemma",), tied=True),
    Family(
        "Gemma 2", ("gemma2",), "Gemma2", (_decoder(_SANDWICH, forbidden=_HEAD_NORMS),),
        gguf=("gemma2",), tied=True,
    ),
    Family(
        "Gemma 3", ("gemma3", "gemma3_text"), "Gemma3",
        (_decoder(_SANDWICH, *_HEAD_NORMS, forbidden=(), sizes=_NORMED_SIZES),),
        gguf=("gemma3",), tied=True,
    ),
    Family(
        "Phi", ("phi",), "Phi",
        (
            Layout(
                ("layers.{}",),
                (*_ATTENTION[:3], "layers.{}.self_attn.dense.weight", "layers.{}.mlp.fc1.weight"),
                sizes={**_DECODER_SIZES, "inner": Size("layers.{}.mlp.fc1.weight")},
            ),
        ),
        gguf=("phi2",),
    ),
    Family(
        "Phi-3", ("phi3",), "Phi3",
        (
            Layout(
                ("layers.{}",),
                (*_NORMS, "layers.{}.self_attn.qkv_proj.weight", "layers.{}.mlp.gate_up_proj.weight"),
                sizes={
                    "vocabulary": Size("embed_tokens.weight"),
                    "hidden": Size(_NORMS[0]),
                    "inner": Size("layers.{}.mlp.gate_up_proj.weight", over=2),
                },
            ),
        ),
        gguf=("phi3",),
    ),
    Family(
        "Falcon", ("falcon", "RefinedWeb", "RefinedWebModel"), "Falcon",
        (
            Layout(
                ("h.{}",), (*_H_REQUIRED, _WORDS), forbidden=(_EMBEDDING_NORM,),
                sizes=_H_SIZES,
            ),
        ),
        gguf=("falcon",), tied=True, inner_factor=4,
    ),
    Family(
        "GPT-2", ("gpt2",), "GPT2",
        (
            Layout(
                ("h.{}",),
                ("h.{}.attn.c_attn.weight", "h.{}.mlp.c_fc.weight", "wte.weight", "wpe.weight"),
                rules=(
                    Rule(
                        "h.{}.attn.c_attn.weight", lambda shape: shape[1] == 3 * shape[0],
                        "three times as wide as high",
                    ),
                ),
                sizes={
                    "vocabulary": Size("wte.weight"),
                    "hidden": Size("wte.weight", 1),
                    "inner": Size("h.{}.mlp.c_fc.weight", 1),
                    "positions": Size("wpe.weight"),
                },
            ),
        ),
        gguf=("gpt2",), tied=True, inner_factor=4,
    ),
    Family(
        "GPT-NeoX", ("gpt_neox",), "GPTNeoX",
        (
            Layout(
                ("layers.{}",),
                (
                    "layers.{}.attention.query_key_value.weight", f"layers.{{}}.{_WIDE}",
                    "embed_in.weight",
                ),
                sizes={
                    "vocabulary": Size("embed_in.weight"),
                    "hidden": Size("embed_in.weight", 1),
                    "inner": Size(f"layers.{{}}.{_WIDE}"),
                },
            ),
        ),
        gguf=("gptneox",),
    ),
    Family(
        "OPT", ("opt",), "OPT",
        (
            Layout(
                ("decoder.layers.{}",),
                (
                    "decoder.layers.{}.self_attn.q_proj.weight", "decoder.layers.{}.fc1.weight",
                    "decoder.embed_positions.weight",
                ),
                forbidden=("decoder.layers.{}.encoder_attn.q_proj.weight",),
                sizes={
                    "vocabulary": Size("decoder.embed_tokens.weight"),
                    "hidden": Size("decoder.layers.{}.fc1.weight", 1),
                    "inner": Size("decoder.layers.{}.fc1.weight"),
                    "positions": Size("decoder.embed_positions.weight"),
                    "queries": Size("decoder.layers.{}.self_attn.q_proj.weight"),
                    "keys": Size("decoder.layers.{}.self_attn.k_proj.weight"),
                },
            ),
        ),
        gguf=("opt",), tied=True, reserved=2,
    ),
    Family(
        "BLOOM", ("bloom",), "Bloom",
        (Layout(("h.{}",), (*_H_REQUIRED, _WORDS, _EMBEDDING_NORM), sizes=_H_SIZES),),
        gguf=("bloom",), tied=True, inner_factor=4,
    ),
    Family(
        "T5", ("t5", "mt5"), "T5", (_t5("DenseReluDense.wi"), _t5("DenseReluDense.wi_0")),
        gguf=("t5", "t5encoder"), tied=True,
    ),
    Family(
        "BERT", ("bert",), "Bert",
        (
            _bert("bert."),
            _bert(*_BARE, rule=Rule(_TYPES, lambda shape: shape[0] != 1, "not 1 as RoBERTa's")),
            _bert(*_BARE, rule=Rule(_POSITIONS, lambda shape: shape[0] % 8 != 2, _NOT_ROBERTAS)),
        ),
        gguf=("bert",), tied=True,
    ),
    Family(
        "RoBERTa", ("roberta", "xlm-roberta", "camembert"), "Roberta",
        (
            _bert("roberta."),
            _bert(*_BARE, rule=Rule(_TYPES, lambda shape: shape[0] == 1, "BERT has 2")),
            _bert(*_BARE, rule=Rule(_POSITIONS, lambda shape: shape[0] % 8 == 2, _ROBERTAS)),
        ),
        tied=True, reserved=2, stated_reserved=True,
    ),
    Family(
        "DistilBERT", ("distilbert",), "DistilBert",
        (
            Layout(
                (_DISTIL,),
                (f"{_DISTIL}.attention.q_lin.weight", f"{_DISTIL}.ffn.lin1.weight"),
                sizes={
                    "vocabulary": Size("embeddings.word_embeddings.weight"),
                    "hidden": Size("embeddings.LayerNorm.weight"),
                    "inner": Size(f"{_DISTIL}.ffn.lin1.weight"),
                    "positions": Size("embeddings.position_embeddings.weight"),
                    "queries": Size(f"{_DISTIL}.attention.q_lin.weight"),
                    "keys": Size(f"{_DISTIL}.attention.k_lin.weight"),
                },
            ),
        ),
        tied=True,
    ),
    Family(
        "ViT", ("vit",), "ViT",
        (
            _vit("encoder.layer.{}", "attention.attention.query", "intermediate.dense"),
            _vit("layers.{}", "attention.q_proj", "mlp.fc1"),
        ),
    ),
    Family(
        "CLIP", ("clip", "clip_text_model", "clip_vision_model"), "CLIP",
        (_CLIP_TEXT, _CLIP_VISION), vision=_CLIP_VISION,
    ),
    Family(
        "Whisper", ("whisper",), "Whisper",
        (
            Layout(
                ("encoder.layers.{}", "decoder.layers.{}"),
                (
                    "encoder.conv1.weight", "decoder.layers.{}.encoder_attn.q_proj.weight",
                    "decoder.layers.{}.fc1.weight",
                ),
                sizes={
                    "vocabulary": Size("decoder.embed_tokens.weight"),
                    "hidden": Size("decoder.layer_norm.weight"),
                    "inner": Size("decoder.layers.{}.fc1.weight"),
                    "positions": Size("decoder.embed_positions.weight"),
                    "queries": Size("decoder.layers.{}.self_attn.q_proj.weight"),
                    "keys": Size("decoder.layers.{}.self_attn.k_proj.weight"),
                },
            ),
        ),
        tied=True,
    ),
)  # fmt: skip

_GGUF_SIZES = {
    "vocabulary": Size("token_embd.weight"),
    "hidden": Size("token_embd.weight", 1),
    "inner": Size("blk.{}.ffn_down.weight", 1),
    "positions": Size("position_embd.weight"),
    "head_size": Size("blk.{}.attn_q_norm.weight"),
    "queries": Size("blk.{}.attn_q.weight"),
    "keys": Size("blk.{}.attn_k.weight"),
}
GGUF_LAYOUTS = (
    Layout(
        ("blk.{}",), ("blk.{}.ffn_gate_inp.weight", "blk.{}.ffn_down_exps.weight"),
        sizes={
            **_GGUF_SIZES,
            "inner": Size("blk.{}.ffn_down_exps.weight", 2),
            "experts": Size("blk.{}.ffn_gate_inp.weight"),
        },
    ),
    Layout(
        ("blk.{}",), ("token_embd.weight",), forbidden=("enc.output_norm.weight",),
        sizes=_GGUF_SIZES,
    ),
    Layout(
        ("enc.blk.{}", "dec.blk.{}"), ("enc.blk.{}.attn_q.weight", "token_embd.weight"),
        sizes={
            "vocabulary": Size("token_embd.weight"),
            "hidden": Size("token_embd.weight", 1),
            "inner": Size("enc.blk.{}.ffn_down.weight", 1),
            "heads": Size("enc.blk.{}.attn_rel_b.weight", 1),
            "queries": Size("enc.blk.{}.attn_q.weight"),
            "keys": Size("enc.blk.{}.attn_k.weight"),
        },
    ),
)  # fmt: skip
"""How llama.cpp calls tensors, the same for all families."""
