"""Dimensions from configs, from shapes, and where the two disagree."""

import pytest

from entrenar_core.io.gguf import ValueType, array, i32, text, texts, u32
from entrenar_inspect.dimensions import dimensions
from entrenar_inspect.opening import open_artifact
from entrenar_inspect.recognise import recognise

WIDE, INNER, VOCABULARY, QUERIES, KEYS = 16, 24, 40, 32, 8
CONFIG = {
    "model_type": "qwen3",
    "num_hidden_layers": 3,
    "hidden_size": WIDE,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "intermediate_size": INNER,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 100,
}


def qwen3(layers=3):
    shapes = {"model.embed_tokens.weight": (VOCABULARY, WIDE)}
    for i in range(layers):
        block = f"model.layers.{i}."
        rows = {"q": QUERIES, "k": KEYS, "v": KEYS}
        shapes |= {f"{block}self_attn.{p}_proj.weight": (n, WIDE) for p, n in rows.items()}
        shapes |= {f"{block}self_attn.{part}_norm.weight": (4,) for part in "qk"}
        shapes[f"{block}self_attn.o_proj.weight"] = (WIDE, QUERIES)
        shapes |= {f"{block}mlp.{part}_proj.weight": (INNER, WIDE) for part in ("gate", "up")}
        shapes[f"{block}mlp.down_proj.weight"] = (WIDE, INNER)
        shapes[f"{block}input_layernorm.weight"] = (WIDE,)
        shapes[f"{block}post_attention_layernorm.weight"] = (WIDE,)
    return shapes


def llama(layers=3):
    return {name: shape for name, shape in qwen3(layers).items() if "_norm." not in name}


def measured(spec):
    with open_artifact(spec) as artifact:
        return dimensions(artifact, recognise(artifact))


def values(found):
    return (
        found.layers, found.hidden, found.heads, found.key_value_heads, found.head_size,
        found.inner, found.vocabulary, found.context,
    )  # fmt: skip


ALL = (3, WIDE, 8, 2, 4, INNER, VOCABULARY, 100)


def test_a_config_says_all(write):
    found = measured(write(qwen3(), CONFIG))
    assert values(found) == ALL
    assert set(found.origins.values()) == {"config"}
    assert found.disagreements == ()


def test_shapes_say_all_but_the_context_where_heads_have_norms(write):
    found = measured(write(qwen3()))
    assert values(found) == (*ALL[:-1], None)
    assert set(found.origins.values()) == {"tensors"}


def test_heads_are_unknown_without_a_config_where_nothing_tells_their_size(write):
    found = measured(write(llama()))
    assert values(found) == (3, WIDE, None, None, None, INNER, VOCABULARY, None)


def test_what_a_config_leaves_out_is_taken_from_shapes(write):
    config = {"model_type": "llama", "num_attention_heads": 8}
    found = measured(write(llama(), config))
    assert values(found) == (*ALL[:-1], None)
    assert found.origins["heads"] == "config"
    assert found.origins["head_size"] == found.origins["key_value_heads"] == "tensors"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": 4}, "num_hidden_layers is 4, the tensors have blocks 0 to 2"),
        ({"vocab_size": 41}, "vocab_size is 41, model.embed_tokens.weight has 40"),
        ({"head_dim": 5}, "head_dim is 5, model.layers.0.self_attn.q_norm.weight has 4"),
        (
            {"num_attention_heads": 7},
            "num_attention_heads is 7, of 4 each: 28; "
            "model.layers.0.self_attn.q_proj.weight has 32",
        ),
        (
            {"num_key_value_heads": 4},
            "num_key_value_heads is 4, of 4 each: 16; model.layers.0.self_attn.k_proj.weight has 8",
        ),
        (
            {"intermediate_size": 23},
            "intermediate_size is 23, model.layers.0.mlp.gate_proj.weight has 24",
        ),
    ],
)
def test_a_disagreement_gives_both_values(write, change, words):
    assert words in measured(write(qwen3(), CONFIG | change)).disagreements


def test_a_block_that_is_missing_is_a_disagreement(write):
    tensors = {name: shape for name, shape in qwen3().items() if ".1." not in name}
    found = measured(write(tensors, CONFIG))
    assert found.disagreements == (
        "num_hidden_layers is 3, the tensors have 2 of the blocks 0 to 2",
    )


def test_a_shard_alone_has_not_all_blocks_and_that_is_no_disagreement(write, tmp_path):
    name = "model-00001-of-00002.safetensors"
    tensors = {key: shape for key, shape in qwen3().items() if ".2." not in key}
    write(tensors, CONFIG, name=name)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    found = measured(str(tmp_path / name))
    assert (found.layers, found.disagreements) == (3, ())


@pytest.mark.parametrize(
    "config",
    [
        {"n_embd": 16, "n_layer": 3, "n_head": 8, "n_inner": 24, "n_positions": 100, "n_vocab": 40},
        {"d_model": 16, "n_layers": 3, "n_heads": 8, "ffn_dim": 24, "seq_length": 100},
        {"dim": 16, "num_layers": 3, "num_heads": 8, "d_ff": 24, "n_ctx": 100, "n_vocab": 40},
        {"text_config": CONFIG | {"num_key_value_heads": 8}, "vision_config": {}},
    ],
)
def test_other_names_of_keys_mean_the_same(write, config):
    found = measured(write({"w": (1,)}, {"model_type": "xyz", **config}))
    assert (found.layers, found.hidden, found.heads, found.inner) == (3, 16, 8, 24)
    assert (found.key_value_heads, found.context) == (8, 100)


@pytest.mark.parametrize(
    ("config", "heads"),
    [
        ({}, 1),
        ({"multi_query": True, "num_kv_heads": 8}, 1),
        ({"multi_query": False, "num_kv_heads": 8}, 8),
        ({"new_decoder_architecture": True, "multi_query": True, "num_kv_heads": 2}, 2),
    ],
)
def test_falcons_heads_of_keys_follow_its_three_ways(write, config, heads):
    base = {"model_type": "falcon", "hidden_size": 16, "num_attention_heads": 8}
    found = measured(write({"w": (1,)}, base | config))
    assert (found.key_value_heads, found.inner) == (heads, 64)


@pytest.mark.parametrize("bad", [0, -1, True, "8", 2.5, None, [1]])
def test_what_is_no_number_of_heads_is_passed_over(write, bad):
    assert measured(write({"w": (1,)}, {"num_attention_heads": bad})).heads is None


def test_rows_that_no_token_uses_are_not_context(write):
    block = "decoder.layers.0."
    tensors = {
        "decoder.embed_tokens.weight": (40, 16),
        "decoder.embed_positions.weight": (66, 16),
        f"{block}self_attn.q_proj.weight": (16, 16),
        f"{block}fc1.weight": (24, 16),
    }
    assert measured(write(tensors)).context == 64
    found = measured(write(tensors, {"model_type": "opt", "max_position_embeddings": 64}))
    assert (found.context, found.disagreements) == (64, ())


def test_the_context_is_unknown_where_candidates_use_rows_differently(write):
    words, block = "embeddings", "encoder.layer.0"
    tensors = {
        f"{words}.word_embeddings.weight": (40, 16),
        f"{words}.position_embeddings.weight": (66, 16),
        f"{words}.token_type_embeddings.weight": (2, 16),
        f"{words}.LayerNorm.weight": (16,),
        f"{block}.attention.self.query.weight": (16, 16),
        f"{block}.attention.output.LayerNorm.weight": (16,),
        f"{block}.intermediate.dense.weight": (24, 16),
    }
    found = measured(write(tensors))
    assert (found.hidden, found.context) == (16, None)
    assert measured(write(tensors, {"model_type": "roberta"})).context == 64


def test_what_a_model_sees_with_has_dimensions_of_its_own(write):
    vision = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = {"model_type": "llava", "text_config": CONFIG, "vision_config": vision}
    found = measured(write({"w": (1,)}, config))
    assert (found.layers, found.hidden) == (3, WIDE)
    assert (found.vision.layers, found.vision.hidden, found.vision.head_size) == (2, 8, 2)


def test_encoder_and_decoder_are_counted_apart(write):
    config = {"model_type": "t5", "num_layers": 3, "num_decoder_layers": 2}
    found = measured(write({"w": (1,)}, config))
    assert (found.layers, found.layers_text) == (5, "3 + 2")


def test_the_encoder_alone_has_its_own_number_of_blocks(write):
    part = "encoder.block.{}.layer.0.SelfAttention."
    tensors = {f"{part.format(i)}q.weight": (16, 16) for i in range(3)}
    tensors[f"{part.format(0)}relative_attention_bias.weight"] = (32, 4)
    tensors["encoder.block.0.layer.1.DenseReluDense.wi.weight"] = (24, 16)
    config = {"model_type": "t5", "num_layers": 3, "num_decoder_layers": 2}
    found = measured(write(tensors, config))
    assert (found.layers, found.heads, found.disagreements) == (3, 4, ())


def test_adapters_have_no_dimensions(write, tmp_path):
    write({"layers.0.q.lora_A.weight": (4, 16)}, name="adapter_model.safetensors")
    assert values(measured(str(tmp_path))) == (None,) * 8


def test_the_metadata_of_gguf_says_all(gguf):
    numbers = {
        "block_count": 1, "embedding_length": 16, "feed_forward_length": 24, "context_length": 100,
        "attention.head_count": 8, "attention.head_count_kv": 2, "attention.key_length": 4,
        "expert_count": 6,
    }  # fmt: skip
    metadata = {"general.architecture": text("llama")}
    metadata |= {f"llama.{key}": u32(n) for key, n in numbers.items()}
    metadata["tokenizer.ggml.tokens"] = texts([f"t{i}" for i in range(40)])
    found = measured(gguf(metadata, {"blk.0.attn_norm.weight": (16,)}))
    assert values(found) == (1, 16, 8, 2, 4, 24, 40, 100)
    assert found.experts == 6


def test_a_number_for_each_block_is_not_taken_for_one(gguf):
    metadata = {
        "general.architecture": text("llama"),
        "llama.attention.head_count": array(ValueType.I32, [4, 8]),
        "llama.context_length": i32(100),
    }
    found = measured(gguf(metadata, {"token_embd.weight": (40, 16)}))
    assert (found.heads, found.context, found.vocabulary, found.hidden) == (None, 100, 40, 16)


def test_blocks_that_gguf_says_and_has_not_are_a_disagreement(gguf):
    metadata = {"general.architecture": text("llama"), "llama.block_count": u32(2)}
    shapes = {"token_embd.weight": (40, 16), "blk.0.attn_norm.weight": (16,)}
    found = measured(gguf(metadata, shapes))
    assert found.disagreements == ("llama.block_count is 2, the tensors have block 0",)
