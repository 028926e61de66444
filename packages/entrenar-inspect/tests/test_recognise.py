"""Families by configs, by names and by shapes, and where they cannot be told apart."""

import json

import pytest

from entrenar_core.io.gguf import text, u32
from entrenar_inspect.names import pattern_of
from entrenar_inspect.opening import open_artifact
from entrenar_inspect.recognise import block_of, recognise

WIDE, INNER, VOCABULARY = 8, 12, 20


def decoder(prefix="model.", **more):
    """The tensors of a decoder as LLaMA's; keys of `more` have _ for dots."""
    shapes = {f"{prefix}embed_tokens.weight": (VOCABULARY, WIDE), f"{prefix}norm.weight": (WIDE,)}
    for i in range(2):
        block = f"{prefix}layers.{i}."
        shapes |= {f"{block}self_attn.{part}_proj.weight": (WIDE, WIDE) for part in "qkvo"}
        shapes |= {f"{block}mlp.{part}_proj.weight": (INNER, WIDE) for part in ("gate", "up")}
        shapes[f"{block}mlp.down_proj.weight"] = (WIDE, INNER)
        shapes[f"{block}input_layernorm.weight"] = (WIDE,)
        shapes[f"{block}post_attention_layernorm.weight"] = (WIDE,)
        shapes |= {f"{block}{key.replace('__', '.')}": shape for key, shape in more.items()}
    return shapes


def bert(types, positions, prefix=""):
    words = f"{prefix}embeddings"
    block = f"{prefix}encoder.layer.0"
    return {
        f"{words}.word_embeddings.weight": (VOCABULARY, WIDE),
        f"{words}.position_embeddings.weight": (positions, WIDE),
        f"{words}.token_type_embeddings.weight": (types, WIDE),
        f"{words}.LayerNorm.weight": (WIDE,),
        f"{block}.attention.self.query.weight": (WIDE, WIDE),
        f"{block}.attention.output.LayerNorm.weight": (WIDE,),
        f"{block}.intermediate.dense.weight": (INNER, WIDE),
    }


def recognised(spec):
    with open_artifact(spec) as artifact:
        return recognise(artifact)


def test_a_config_says_the_family(write):
    found = recognised(write(decoder(), {"model_type": "mistral"}))
    assert (found.family, found.model_type, found.candidates) == ("Mistral", "mistral", ())
    assert found.origin == "config.json"
    assert "model_type is 'mistral'" in found.evidence


def test_a_config_without_model_type_says_it_by_the_class(write):
    found = recognised(write(decoder(), {"architectures": ["GemmaForCausalLM"]}))
    assert (found.family, found.model_type) == ("Gemma", None)
    assert "architectures names 'GemmaForCausalLM'" in found.evidence


def test_a_class_whose_name_only_begins_like_a_familys_is_not_of_it(write):
    found = recognised(write({"w": (2,)}, {"architectures": ["Qwen2VLForConditionalGeneration"]}))
    assert found.family is None


def test_an_unknown_model_type_is_shown_and_no_family_is_guessed(write):
    found = recognised(write(decoder(), {"model_type": "xyz"}))
    assert (found.family, found.model_type, found.candidates) == (None, "xyz", ())
    assert "its tensors are called as those of LLaMA, Mistral or Gemma" in found.evidence


def test_families_of_the_same_tensors_are_all_candidates(write):
    found = recognised(write(decoder()))
    assert found.family is None
    assert found.candidates == ("LLaMA", "Mistral", "Gemma")
    assert (found.origin, found.prefix, found.kind) == ("tensor names", "model.", "model")


@pytest.mark.parametrize(
    ("more", "family"),
    [
        ({"self_attn__q_proj.bias": (WIDE,)}, "Qwen2"),
        ({"self_attn__q_proj.bias": (WIDE,), "self_attn__o_proj.bias": (WIDE,)}, "LLaMA"),
        ({"self_attn__q_norm.weight": (4,), "self_attn__k_norm.weight": (4,)}, "Qwen3"),
        ({"pre_feedforward_layernorm.weight": (WIDE,)}, "Gemma 2"),
        (
            {
                "pre_feedforward_layernorm.weight": (WIDE,),
                "self_attn__q_norm.weight": (4,),
                "self_attn__k_norm.weight": (4,),
            },
            "Gemma 3",
        ),
    ],
)
def test_what_a_block_has_besides_tells_the_family(write, more, family):
    assert recognised(write(decoder(**more))).family == family


@pytest.mark.parametrize("prefix", ["", "model.", "language_model.model.", "0.auto_model."])
def test_any_prefix_may_come_before_a_familys_names(write, prefix):
    norms = {"self_attn__q_norm.weight": (4,), "self_attn__k_norm.weight": (4,)}
    found = recognised(write(decoder(prefix, **norms)))
    assert (found.family, found.prefix) == ("Qwen3", prefix)
    assert f"{prefix}layers.0.self_attn.q_norm.weight of 4 numbers" in found.evidence


def test_layer_norms_with_biases_are_not_llamas(write):
    found = recognised(write(decoder(**{"input_layernorm.bias": (WIDE,)})))
    assert (found.family, found.candidates) == (None, ())


@pytest.mark.parametrize(
    ("types", "positions", "prefix", "families"),
    [
        (2, 512, "", ["BERT"]),
        (1, 514, "", ["RoBERTa"]),
        (2, 514, "", ["BERT", "RoBERTa"]),
        (1, 512, "", ["BERT", "RoBERTa"]),
        (1, 514, "bert.", ["BERT"]),
        (2, 512, "roberta.", ["RoBERTa"]),
        (2, 512, "electra.", []),
    ],
)
def test_bert_and_roberta_are_told_apart_where_prefix_or_sizes_do(
    write, types, positions, prefix, families
):
    found = recognised(write(bert(types, positions, prefix)))
    assert list(found.candidates or filter(None, [found.family])) == families


def test_a_weight_of_other_proportions_is_not_gpt2s(write):
    names = ("h.0.attn.c_attn.weight", "h.0.mlp.c_fc.weight", "wte.weight", "wpe.weight")
    conv = dict(zip(names, [(8, 24), (8, 32), (20, 8), (16, 8)], strict=True))
    assert recognised(write(conv)).family == "GPT-2"
    linear = conv | {"h.0.attn.c_attn.weight": (24, 8)}  # as GPT-BigCode has it
    assert recognised(write(linear)).family is None


def test_tensors_of_another_family_contradict_a_config(write):
    tensors = decoder(**{"self_attn__q_proj.bias": (WIDE,)})
    found = recognised(write(tensors, {"model_type": "llama"}))
    assert found.family == "LLaMA"
    assert found.contradiction == "the config says LLaMA, the tensors are those of Qwen2"


@pytest.mark.parametrize("model_type", ["llama", "mistral", "gemma"])
def test_tensors_that_fit_a_config_contradict_nothing(write, model_type):
    assert recognised(write(decoder(), {"model_type": model_type})).contradiction is None


def test_unusual_sizes_do_not_contradict_a_config(write):
    assert recognised(write(bert(1, 514), {"model_type": "bert"})).contradiction is None


@pytest.mark.parametrize(
    ("keys", "family", "sentence"),
    [
        ({}, "LLaMA", "GGUF files call Mistral's models llama too"),
        ({"llama.expert_count": u32(8)}, "Mixtral", "llama.expert_count is 8"),
    ],
)
def test_gguf_says_llama_of_several(gguf, keys, family, sentence):
    metadata = {"general.architecture": text("llama"), **keys}
    found = recognised(gguf(metadata, {"token_embd.weight": (VOCABULARY, 32)}))
    assert (found.family, found.model_type, found.origin) == (family, "llama", "GGUF metadata")
    assert sentence in found.evidence


@pytest.mark.parametrize("metadata", [{}, {"general.architecture": u32(3)}])
def test_a_gguf_file_that_names_no_architecture_is_unknown(gguf, metadata):
    found = recognised(gguf(metadata, {"token_embd.weight": (VOCABULARY, 32)}))
    assert (found.family, found.model_type, found.candidates) == (None, None, ())


def test_low_rank_matrices_make_an_adapter(write, tmp_path):
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    write({name.format("A"): (4, 8), name.format("B"): (8, 4)}, name="adapter_model.safetensors")
    found = recognised(str(tmp_path))
    assert (found.kind, found.family, found.origin) == ("LoRA adapter", None, "tensor names")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4}))
    assert recognised(str(tmp_path)).origin == "adapter_config.json"


def test_a_model_that_has_adapters_is_recognised_through_them(write):
    norms = {"self_attn__q_norm.weight": (4,), "self_attn__k_norm.weight": (4,)}
    wrapped = {
        f"base_model.model.{name.replace('_proj.weight', '_proj.base_layer.weight')}": shape
        for name, shape in decoder(**norms).items()
    }
    wrapped["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"] = (4, 8)
    found = recognised(write(wrapped))
    assert (found.kind, found.family) == ("model with LoRA adapters", "Qwen3")


def test_modules_json_makes_a_sentence_transformers_model(write, tmp_path):
    (tmp_path / "modules.json").write_text("[]")
    found = recognised(write(bert(2, 512), {"model_type": "bert"}))
    assert (found.kind, found.family) == ("sentence-transformers model", "BERT")


def test_tensors_without_blocks_are_only_tensors(write):
    found = recognised(write({"mean": (3,), "deviation": (3,)}))
    assert (found.kind, found.family, found.candidates, found.evidence) == ("tensors", None, (), ())


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("layers.0.mlp.up_proj.weight", ("layers", 0, "mlp.up_proj.weight")),
        (
            "model.layers.11.mlp.experts.7.w1.weight",
            ("model.layers", 11, "mlp.experts.7.w1.weight"),
        ),
        ("enc.blk.2.attn_q.weight", ("enc.blk", 2, "attn_q.weight")),
        ("0.auto_model.encoder.layer.5.x", ("0.auto_model.encoder.layer", 5, "x")),
        ("model.norm.weight", None),
        ("h.1", None),
        ("0.weight", None),
        ("layers.٣.weight", None),
    ],
)
def test_a_name_is_split_at_its_blocks_number(name, split):
    assert block_of(name) == split


def test_a_pattern_has_no_numbers():
    assert pattern_of("0.layers.12.v2.norm1.3.b") == "{}.layers.{}.v2.norm1.{}.b"
