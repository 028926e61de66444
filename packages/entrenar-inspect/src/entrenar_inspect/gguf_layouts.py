"""What llama.cpp calls tensors, the same for all families. Source: its `llama-arch.cpp`."""

from entrenar_inspect.layout import Layout, Size

_SIZES = {
    "vocabulary": Size("token_embd.weight"),
    "hidden": Size("token_embd.weight", 1),
    "inner": Size("blk.{}.ffn_down.weight", 1),
    "positions": Size("position_embd.weight"),
    "head_size": Size("blk.{}.attn_q_norm.weight"),
    "queries": Size("blk.{}.attn_q.weight"),
    "keys": Size("blk.{}.attn_k.weight"),
}
_ENCODER = "enc.blk.{}"

GGUF_LAYOUTS = (
    Layout(
        ("blk.{}",),
        ("blk.{}.ffn_gate_inp.weight", "blk.{}.ffn_down_exps.weight"),
        sizes={
            **_SIZES,
            "inner": Size("blk.{}.ffn_down_exps.weight", 2),
            "experts": Size("blk.{}.ffn_gate_inp.weight"),
        },
    ),
    Layout(
        ("blk.{}",), ("token_embd.weight",), forbidden=("enc.output_norm.weight",), sizes=_SIZES
    ),
    Layout(
        (_ENCODER, "dec.blk.{}"),
        (f"{_ENCODER}.attn_q.weight", "token_embd.weight"),
        sizes={
            "vocabulary": Size("token_embd.weight"),
            "hidden": Size("token_embd.weight", 1),
            "inner": Size(f"{_ENCODER}.ffn_down.weight", 1),
            "heads": Size(f"{_ENCODER}.attn_rel_b.weight", 1),
            "queries": Size(f"{_ENCODER}.attn_q.weight"),
            "keys": Size(f"{_ENCODER}.attn_k.weight"),
        },
    ),
)
