"""Names of tensors in GGUF files, and Hugging Face's names of the same.

The two differ by a name for each part of a block and by nothing else, so one table serves both
directions; `{}` stands for the number of the block. The suffixes `.weight` and `.bias` are kept.
Names: https://github.com/ggml-org/llama.cpp, `gguf-py/gguf/constants.py`.
"""

import re
from collections.abc import Mapping

DECODER = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.{}.input_layernorm": "blk.{}.attn_norm",
    "model.layers.{}.self_attn.q_proj": "blk.{}.attn_q",
    "model.layers.{}.self_attn.k_proj": "blk.{}.attn_k",
    "model.layers.{}.self_attn.v_proj": "blk.{}.attn_v",
    "model.layers.{}.self_attn.o_proj": "blk.{}.attn_output",
    "model.layers.{}.self_attn.q_norm": "blk.{}.attn_q_norm",
    "model.layers.{}.self_attn.k_norm": "blk.{}.attn_k_norm",
    "model.layers.{}.post_attention_layernorm": "blk.{}.ffn_norm",
    "model.layers.{}.mlp.gate_proj": "blk.{}.ffn_gate",
    "model.layers.{}.mlp.up_proj": "blk.{}.ffn_up",
    "model.layers.{}.mlp.down_proj": "blk.{}.ffn_down",
}

GPT2 = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "lm_head": "output",
    "transformer.h.{}.ln_1": "blk.{}.attn_norm",
    "transformer.h.{}.attn.c_attn": "blk.{}.attn_qkv",
    "transformer.h.{}.attn.c_proj": "blk.{}.attn_output",
    "transformer.h.{}.ln_2": "blk.{}.ffn_norm",
    "transformer.h.{}.mlp.c_fc": "blk.{}.ffn_up",
    "transformer.h.{}.mlp.c_proj": "blk.{}.ffn_down",
}

BERT = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.LayerNorm": "token_embd_norm",
    "encoder.layer.{}.attention.self.query": "blk.{}.attn_q",
    "encoder.layer.{}.attention.self.key": "blk.{}.attn_k",
    "encoder.layer.{}.attention.self.value": "blk.{}.attn_v",
    "encoder.layer.{}.attention.output.dense": "blk.{}.attn_output",
    "encoder.layer.{}.attention.output.LayerNorm": "blk.{}.attn_output_norm",
    "encoder.layer.{}.intermediate.dense": "blk.{}.ffn_up",
    "encoder.layer.{}.output.dense": "blk.{}.ffn_down",
    "encoder.layer.{}.output.LayerNorm": "blk.{}.layer_output_norm",
}

DISTILBERT = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.LayerNorm": "token_embd_norm",
    "transformer.layer.{}.attention.q_lin": "blk.{}.attn_q",
    "transformer.layer.{}.attention.k_lin": "blk.{}.attn_k",
    "transformer.layer.{}.attention.v_lin": "blk.{}.attn_v",
    "transformer.layer.{}.attention.out_lin": "blk.{}.attn_output",
    "transformer.layer.{}.sa_layer_norm": "blk.{}.attn_output_norm",
    "transformer.layer.{}.ffn.lin1": "blk.{}.ffn_up",
    "transformer.layer.{}.ffn.lin2": "blk.{}.ffn_down",
    "transformer.layer.{}.output_layer_norm": "blk.{}.layer_output_norm",
}

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_SUFFIXES = (".weight", ".bias")


class Names:
    """One table, in both directions; None for a name that is not in it."""

    def __init__(self, table: Mapping[str, str]) -> None:
        self._to_gguf = dict(table)
        self._to_hf = {gguf: hf for hf, gguf in table.items()}

    def to_gguf(self, name: str) -> str | None:
        """The name in a GGUF file of the tensor that Hugging Face calls `name`.

        >>> Names(DECODER).to_gguf("model.layers.3.mlp.up_proj.weight")
        'blk.3.ffn_up.weight'
        """
        return _renamed(name, self._to_gguf)

    def to_hf(self, name: str) -> str | None:
        """Hugging Face's name of the tensor that a GGUF file calls `name`."""
        return _renamed(name, self._to_hf)


def _renamed(name: str, table: Mapping[str, str]) -> str | None:
    stem, dot, suffix = name.rpartition(".")
    if dot + suffix not in _SUFFIXES:
        return None
    number = _NUMBER.search(stem + dot)
    template = _NUMBER.sub("{}", stem + dot, count=1).removesuffix(dot)
    found = table.get(template)
    if found is None:
        return None
    return found.format(number.group() if number else "") + dot + suffix
