"""What the tensors of encoders, and of encoders with decoders, are called.

Source: transformers' `modeling_*.py` of each family.
"""

from entrenar_inspect.layout import Layout, Rule, Size


def _t5(inner: str) -> Layout:
    attention = "encoder.block.{}.layer.{}.SelfAttention."
    feed_forward = f"encoder.block.{{}}.layer.{{}}.DenseReluDense.{inner}.weight"
    return Layout(
        ("encoder.block.{}", "decoder.block.{}"),
        (f"{attention}q.weight", f"{attention}relative_attention_bias.weight", feed_forward),
        sizes={
            "vocabulary": Size("shared.weight"),
            "hidden": Size("encoder.final_layer_norm.weight"),
            "inner": Size(feed_forward),
            "heads": Size(f"{attention}relative_attention_bias.weight", 1),
            "queries": Size(f"{attention}q.weight"),
            "keys": Size(f"{attention}k.weight"),
        },
    )


T5, T5_GATED = _t5("wi"), _t5("wi_0")

_BERT = "encoder.layer.{}"
_WORDS, _POSITIONS, _TYPES = (
    f"embeddings.{what}_embeddings.weight" for what in ("word", "position", "token_type")
)
_BARE = ("", "model.", "auto_model.", "encoder.")
"""Prefixes that tell nothing."""


def _bert(*prefixes: str, rule: Rule | None = None) -> Layout:
    """BERT and RoBERTa differ in the prefix, and in the shapes of embeddings."""
    return Layout(
        (_BERT,),
        (
            f"{_BERT}.attention.self.query.weight", f"{_BERT}.attention.output.LayerNorm.weight",
            f"{_BERT}.intermediate.dense.weight", _WORDS, _POSITIONS, _TYPES,
        ),
        rules=() if rule is None else (rule,),
        prefixes=prefixes,
        sizes={
            "vocabulary": Size(_WORDS),
            "hidden": Size("embeddings.LayerNorm.weight"),
            "inner": Size(f"{_BERT}.intermediate.dense.weight"),
            "positions": Size(_POSITIONS),
            "queries": Size(f"{_BERT}.attention.self.query.weight"),
            "keys": Size(f"{_BERT}.attention.self.key.weight"),
        },
    )  # fmt: skip


BERT = (
    _bert("bert."),
    _bert(*_BARE, rule=Rule(_TYPES, lambda shape: shape[0] > 1, "RoBERTa has 1 row")),
    _bert(
        *_BARE,
        rule=Rule(_POSITIONS, lambda shape: shape[0] % 8 != 2, "RoBERTa has 2 rows more than 8·n"),
    ),
)
ROBERTA = (
    _bert("roberta."),
    _bert(*_BARE, rule=Rule(_TYPES, lambda shape: shape[0] == 1, "BERT has 2 rows")),
    _bert(
        *_BARE,
        rule=Rule(_POSITIONS, lambda shape: shape[0] % 8 == 2, "2 rows more than 8·n, unused"),
    ),
)

_DISTIL = "transformer.layer.{}"
DISTILBERT = Layout(
    (_DISTIL,),
    (f"{_DISTIL}.attention.q_lin.weight", f"{_DISTIL}.ffn.lin1.weight"),
    sizes={
        "vocabulary": Size(_WORDS),
        "hidden": Size("embeddings.LayerNorm.weight"),
        "inner": Size(f"{_DISTIL}.ffn.lin1.weight"),
        "positions": Size(_POSITIONS),
        "queries": Size(f"{_DISTIL}.attention.q_lin.weight"),
        "keys": Size(f"{_DISTIL}.attention.k_lin.weight"),
    },
)


def _vit(block: str, query: str, inner: str) -> Layout:
    patches = "embeddings.patch_embeddings.projection.weight"
    return Layout(
        (block,),
        (f"{block}.{query}.weight", f"{block}.{inner}.weight", patches, "embeddings.cls_token"),
        forbidden=("embeddings.distillation_token", "embeddings.mask_token"),
        sizes={
            "hidden": Size(patches),
            "inner": Size(f"{block}.{inner}.weight"),
            "queries": Size(f"{block}.{query}.weight"),
        },
    )


VIT = _vit("encoder.layer.{}", "attention.attention.query", "intermediate.dense")
VIT_RENAMED = _vit("layers.{}", "attention.q_proj", "mlp.fc1")


def _clip(tower: str, required: str, sizes: dict[str, Size]) -> Layout:
    block = f"{tower}.encoder.layers.{{}}"
    return Layout(
        (block,),
        (f"{block}.mlp.fc1.weight", f"{block}.layer_norm1.weight", required),
        # SigLIP's
        forbidden=("text_model.head.weight", "vision_model.head.attention.in_proj_weight"),
        sizes={
            "hidden": Size(f"{block}.layer_norm1.weight"),
            "inner": Size(f"{block}.mlp.fc1.weight"),
            "queries": Size(f"{block}.self_attn.q_proj.weight"),
            "keys": Size(f"{block}.self_attn.k_proj.weight"),
            **sizes,
        },
    )


CLIP_TEXT = _clip(
    "text_model",
    "text_model.embeddings.token_embedding.weight",
    {
        "vocabulary": Size("text_model.embeddings.token_embedding.weight"),
        "positions": Size("text_model.embeddings.position_embedding.weight"),
    },
)
CLIP_VISION = _clip("vision_model", "vision_model.pre_layrnorm.weight", {})

_WHISPER = "decoder.layers.{}"
WHISPER = Layout(
    ("encoder.layers.{}", _WHISPER),
    (f"{_WHISPER}.encoder_attn.q_proj.weight", f"{_WHISPER}.fc1.weight", "encoder.conv1.weight"),
    sizes={
        "vocabulary": Size("decoder.embed_tokens.weight"),
        "hidden": Size("decoder.layer_norm.weight"),
        "inner": Size(f"{_WHISPER}.fc1.weight"),
        "positions": Size("decoder.embed_positions.weight"),
        "queries": Size(f"{_WHISPER}.self_attn.q_proj.weight"),
        "keys": Size(f"{_WHISPER}.self_attn.k_proj.weight"),
    },
)
