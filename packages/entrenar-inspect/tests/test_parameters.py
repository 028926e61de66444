"""Exact numbers of parameters, whatever they are packed in."""

import json
from math import prod

import numpy as np
import pytest

from entrenar_core.io.torch_write import write_torch
from entrenar_inspect.opening import open_artifact
from entrenar_inspect.parameters import count_parameters


def counted(spec):
    with open_artifact(spec) as artifact:
        return count_parameters(artifact)


def test_shares_are_by_type_from_the_most_on(write):
    found = counted(
        write({"a.weight": ("BF16", (3, 5)), "b.weight": (7,), "c.weight": ("F8", (2,))})
    )
    assert found.total == 15 + 7 + 2
    shares = [(part.dtype, part.parameters) for part in found.by_dtype]
    assert shares == [("BF16", 15), ("F32", 7), ("F8_E4M3", 2)]
    assert sum(part.share for part in found.by_dtype) == pytest.approx(1)


def test_a_number_alone_is_one_parameter(write):
    assert counted(write({"logit_scale": ()})).total == 1


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("embeddings.position_ids", ("int64", (1, 4))),
        ("layers.0.self_attn.rotary_emb.inv_freq", (4,)),
        ("rotary_emb.sliding_attention_inv_freq", (4,)),
        ("h.0.attn.bias", (1, 1, 6, 6)),
        ("h.0.attn.bias", ("bool", (1, 1, 6, 6))),
        ("h.0.attn.masked_bias", ()),
        ("norm.running_mean", (4,)),
        ("norm.num_batches_tracked", ("int64", ())),
        ("rope_freqs.weight", (4,)),
    ],
)
def test_buffers_are_left_out(write, name, tensor):
    found = counted(write({name: tensor, "w": (3,)}))
    assert (found.total, found.left_out, found.notes) == (3, (name,), ())


def test_a_bias_of_attention_counts(write):
    assert counted(write({"h.0.attn.bias": (6,), "k.bias": (1, 1, 3, 2)})).total == 12


def test_shared_memory_counts_once(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    write_torch(
        path,
        {"embed_tokens.weight": np.zeros((5, 3))},
        tied={"lm_head.weight": "embed_tokens.weight"},
    )
    found = counted(str(path))
    assert (found.total, found.tied, found.tied_head) == (15, ("lm_head.weight",), True)


HEADS = {"model.embed_tokens.weight": (5, 3), "lm_head.weight": (5, 3)}


@pytest.mark.parametrize(
    ("config", "total"),
    [
        ({"model_type": "llama", "tie_word_embeddings": True}, 15),
        ({"model_type": "llama", "tie_word_embeddings": False}, 30),
        ({"model_type": "llama"}, 30),
        ({"model_type": "gemma"}, 15),
        ({"model_type": "llava", "text_config": {"tie_word_embeddings": True}}, 15),
        (None, 30),
    ],
)
def test_a_copy_of_the_embedding_counts_where_the_config_does_not_tie_it(write, config, total):
    found = counted(write(HEADS, config))
    assert (found.total, found.tied_head) == (total, total == 15)


def test_a_head_of_another_shape_is_not_tied(write):
    tensors = HEADS | {"lm_head.weight": (6, 3)}
    assert counted(write(tensors, {"tie_word_embeddings": True})).total == 33


def test_t5s_copies_of_the_embedding_count_once(write):
    copies = {f"{half}.embed_tokens.weight": (5, 3) for half in ("encoder", "decoder")}
    found = counted(write({"shared.weight": (5, 3), **copies}))
    assert (found.total, set(found.tied)) == (15, set(copies))


@pytest.mark.parametrize(
    ("architecture", "tied"), [("LlamaForCausalLM", True), ("LlamaModel", None)]
)
def test_a_head_that_is_not_stored_is_tied_where_the_model_has_one(write, architecture, tied):
    config = {"architectures": [architecture], "tie_word_embeddings": True}
    assert counted(write({"embed_tokens.weight": (5, 3)}, config)).tied_head is tied


def packed_4bit(state, name="layers.0.q_proj.weight"):
    """A matrix of 6 × 10 as bitsandbytes stores it in 4 bits."""
    text = json.dumps(state).encode()
    return {
        name: ("uint8", (30, 1)),
        f"{name}.absmax": ("uint8", (1,)),
        f"{name}.quant_map": (16,),
        f"{name}.nested_absmax": (1,),
        f"{name}.nested_quant_map": (256,),
        f"{name}.quant_state.bitsandbytes__nf4": np.frombuffer(text, np.uint8),
        "norm.weight": (10,),
    }


STATES = [{"shape": [6, 10]}, {"shape": "?"}, [], {"shape": [600, 10]}, {"shape": [6]}]


@pytest.mark.parametrize("state", STATES)
def test_4_bits_of_bitsandbytes_count_as_what_they_stand_for(write, state):
    found = counted(write(packed_4bit(state)))
    assert (found.total, found.left_out) == (70, ())
    assert [part.dtype for part in found.by_dtype] == ["NF4", "F32"]


def test_an_odd_number_of_4_bit_codes_is_told_by_their_shape(write):
    assert counted(write(packed_4bit({"shape": [59]}))).total == 69


def test_8_bits_of_bitsandbytes_count_without_their_scales(write):
    tensors = {
        "q_proj.weight": ("int8", (6, 10)),
        "q_proj.SCB": (6,),
        "q_proj.weight_format": ("uint8", ()),
    }
    found = counted(write(tensors))
    assert (found.total, found.by_dtype[0].dtype, found.left_out) == (60, "I8", ())


def gptq(bits, inputs=64, outputs=96, groups=2):
    return {
        "q_proj.qweight": ("int32", (inputs * bits // 32, outputs)),
        "q_proj.qzeros": ("int32", (groups, outputs * bits // 32)),
        "q_proj.scales": ("float16", (groups, outputs)),
        "q_proj.g_idx": ("int32", (inputs,)),
        "q_proj.bias": ("float16", (outputs,)),
    }


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq_counts_as_what_it_stands_for(write, bits):
    found = counted(write(gptq(bits)))
    assert found.total == 64 * 96 + 96
    assert found.by_dtype[0].dtype == f"GPTQ {bits} bit"
    assert (found.left_out, found.notes) == ((), ())


def test_gptq_without_zeros_takes_its_bits_from_the_config(write):
    tensors = gptq(4)
    del tensors["q_proj.qzeros"]
    assert counted(write(tensors, {"quantization_config": {"bits": 4}})).total == 64 * 96 + 96


def test_awq_counts_as_what_it_stands_for(write):
    tensors = {
        "q_proj.qweight": ("int32", (64, 96 * 4 // 32)),
        "q_proj.qzeros": ("int32", (2, 96 * 4 // 32)),
        "q_proj.scales": ("float16", (2, 96)),
    }
    found = counted(write(tensors))
    assert (found.total, found.by_dtype[0].dtype) == (64 * 96, "AWQ 4 bit")


@pytest.mark.parametrize("scale", ["weight_scale_inv", "weight_scale"])
def test_fp8_counts_without_its_scales(write, scale):
    tensors = {"w.weight": ("F8", (6, 10)), f"w.{scale}": (1, 1), "w.input_scale": (1,)}
    found = counted(write(tensors))
    assert (found.total, found.left_out) == (60, ())


def test_compressed_tensors_count_as_what_they_stand_for(write):
    tensors = {
        "w.weight_packed": ("int32", (6, 8)),
        "w.weight_scale": (6, 2),
        "w.weight_shape": ("int64", (2,)),
    }
    config = {"quantization_config": {"config_groups": {"0": {"weights": {"num_bits": 4}}}}}
    found = counted(write(tensors, config))
    assert (found.total, found.by_dtype[0].dtype) == (6 * 64, "INT4")


def test_blocks_of_mxfp4_count_as_what_they_stand_for(write):
    tensors = {
        "experts.gate_up_proj_blocks": ("uint8", (2, 6, 3, 16)),
        "experts.gate_up_proj_scales": ("uint8", (2, 6, 3)),
    }
    found = counted(write(tensors))
    assert (found.total, found.by_dtype[0].dtype) == (2 * prod((2, 6, 3, 16)), "MXFP4")


def test_integers_that_nothing_explains_are_told_of(write):
    found = counted(write({"w.weird": ("int32", (100, 100)), "b": (3,)}))
    assert found.total == 3
    assert "w.weird" in found.notes[0]
