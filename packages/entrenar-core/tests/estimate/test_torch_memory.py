"""The memory planned for PyTorch: published formulae, and what autograd really saves."""

import pytest

from entrenar_core.estimate import Setup, find_shape
from entrenar_core.estimate.operations import operations, relative_cost
from entrenar_core.estimate.shape import model_shape
from entrenar_core.estimate.targets import matching
from entrenar_core.estimate.torch_activations import block_bytes
from entrenar_core.estimate.torch_memory import torch_memory

LLAMA = find_shape("llama-2-7b")
EVERYTHING = matching(LLAMA.linears, ["all-linear"])
LINEAR, REST = 6_476_005_376, 262_410_240  # of 6,738,415,616


def qlora(**changes):
    settings = {"checkpointing": True, "seq_len": 2048, **changes}
    return Setup("lora", "nf4", EVERYTHING, 16, **settings)


def test_full_training_takes_16_bytes_for_each_parameter():
    # Rajbhandari et al. 2020, arXiv:1910.02054, §3.1
    memory = torch_memory(LLAMA, Setup("full", "bfloat16"))
    state = memory["weights"] + memory["gradients"] + memory["optimizer state"]
    assert state == 16 * (LINEAR + REST)


def test_a_base_in_nf4_takes_half_a_byte_and_the_rest_stays_float32():
    memory = torch_memory(LLAMA, qlora())
    assert memory["weights"] == LINEAR // 2
    assert memory["weights in float32"] == 4 * REST


def test_double_quantization_takes_0_127_bits_for_each_weight():
    # Dettmers et al. 2023, arXiv:2305.14314, §3: 8/64 + 32/(64·256)
    bits = 8 * torch_memory(LLAMA, qlora())["quantization constants"] / LINEAR
    assert bits == pytest.approx(8 / 64 + 32 / (64 * 256), rel=1e-4)


def test_adapters_take_16_bytes_for_each_parameter_with_adamw():
    memory = torch_memory(LLAMA, qlora())
    state = memory["adapters"] + memory["gradients"] + memory["optimizer state"]
    assert state == 16 * 39_976_960


def test_moments_in_8_bits_take_two_bytes_and_a_scale_for_256():
    memory = torch_memory(LLAMA, qlora(optimizer="adamw-8bit"))
    assert memory["optimizer state"] == pytest.approx(39_976_960 * (2 + 2 * 4 / 256), rel=1e-3)


def test_checkpointing_keeps_the_input_of_each_block():
    assert torch_memory(LLAMA, qlora())["activations kept"] == 2 * 2048 * 4096 * 32


def test_the_larger_of_loss_and_backward_pass_decides_the_peak():
    long = torch_memory(LLAMA, qlora())
    assert (long.phase, long.at_peak(long.terms[-2])) == ("loss", False)
    dropped = sum(term.bytes for term in long.terms if not long.at_peak(term))
    assert long.total == sum(term.bytes for term in long.terms) - dropped
    wide = find_shape("gpt2-xl")
    targets = matching(wide.linears, ["all-linear"])
    short = torch_memory(wide, Setup("lora", "nf4", targets, 4, seq_len=16, checkpointing=True))
    assert short.phase == "backward"


def test_attention_and_norms_of_a_gpt_block_are_those_of_the_paper():
    # Korthikanti et al. 2022, arXiv:2205.05198, §4.1: 34·s·b·h in 16 bits with an inner layer of
    # 4·h, without what depends on the square of the length. BERT's GELU is one operation
    shape = find_shape("bert-base")
    per_head = 4 * 12 + 4 * 2  # logarithms of attention, and roots of norms
    assert block_bytes(shape, Setup("full", "bfloat16")) - per_head == 34 * 768


@pytest.mark.parametrize("name", ["llama-2-7b", "mistral-7b", "gpt2", "bert-base"])
def test_memory_grows_with_batch_length_and_rank(name):
    shape = find_shape(name)
    targets = matching(shape.linears, ["all-linear"])

    def total(rank, batch, seq_len):
        setup = Setup("lora", "bfloat16", targets, rank, batch=batch, seq_len=seq_len)
        return torch_memory(shape, setup).total

    assert total(8, 1, 128) < total(16, 1, 128) < total(16, 2, 128) < total(16, 2, 256)


def test_full_training_takes_six_operations_for_each_weight_and_token():
    # Kaplan et al. 2020, arXiv:2001.08361, §2.1; attention is apart from the 6·N
    found = operations(LLAMA, Setup("full", "bfloat16", batch=2, seq_len=8))
    attention = 3 * 4 * 16 * 8 * 4096 * 32 // 2
    matrices = LINEAR + 32000 * 4096
    assert found.total == 6 * 16 * matrices + attention


def test_frozen_weights_save_a_third_and_checkpointing_costs_it_again():
    frozen = relative_cost(LLAMA, Setup("lora", "bfloat16", EVERYTHING, 1, seq_len=16))
    again = relative_cost(LLAMA, qlora(seq_len=16, checkpointing=True))
    assert frozen == pytest.approx(2 / 3, abs=0.01)
    assert again > frozen + 0.3


CAST = {"all-linear": True, "full": False, "q_proj,v_proj": True}


def saved_bytes(config, layers, mode):
    """The bytes that PyTorch's autograd saves in a forward pass, parameters not counted."""
    import peft
    import torch
    import transformers

    kind = getattr(transformers, config["architectures"][0])
    settings = {**config, "num_hidden_layers": layers, "layer_types": None}
    made = transformers.AutoConfig.for_model(**settings)
    made._attn_implementation = "sdpa"
    model = kind(made).to(torch.bfloat16)
    base = model.base_model
    if mode != "full":
        names = mode if mode == "all-linear" else mode.split(",")
        model = peft.get_peft_model(model, peft.LoraConfig(r=8, target_modules=names))
    model.train()
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    held, alive = {}, []

    def pack(tensor):
        alive.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.zeros((2, 64), dtype=torch.long)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=CAST[mode]),
    ):
        base(ids)
    return sum(held.values())


SMALL = {
    "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 2, "vocab_size": 100,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's use of it
@pytest.mark.parametrize("mode", CAST)
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_a_block_keeps_what_autograd_saves(kind, mode):
    pytest.importorskip("peft")
    name = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}[kind]
    config = {**SMALL, "model_type": kind, "architectures": [name], "head_dim": 32}
    measured = (saved_bytes(config, 3, mode) - saved_bytes(config, 2, mode)) / (2 * 64)
    shape = model_shape(config, name=kind, origin="")
    setup = Setup("full", "bfloat16")
    if mode != "full":
        setup = Setup("lora", "bfloat16", matching(shape.linears, mode.split(",")), 8)
    # beside it, autocast keeps bfloat16 copies of the adapters, whatever the number of tokens
    copies = 2 * sum(8 * sum(shape.linears[n]) for n in setup.targets if ".0." in n) / (2 * 64)
    assert measured == pytest.approx(block_bytes(shape, setup) + copies, rel=0.005)
