"""What this library is said to keep in memory, beside what its tape and optimizers really hold."""

import numpy as np
import pytest

from entrenar_core import lora, models, optim
from entrenar_core.autograd import memory_report, ops
from entrenar_core.estimate import Setup, find_shape
from entrenar_core.estimate.own_activations import (
    kept_by_block,
    kept_outside,
    missing_from_first,
)
from entrenar_core.estimate.own_memory import OPTIMIZERS, own_memory
from entrenar_core.estimate.own_weights import FLOAT
from entrenar_core.estimate.shape import model_shape
from entrenar_core.estimate.targets import matching, usual_targets

BATCH, TIME, RANK, LAYERS, ROWS = 2, 32, 4, 3, 100
DECODER = {
    "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": LAYERS, "vocab_size": ROWS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
ENCODER = {k: v for k, v in DECODER.items() if k != "num_key_value_heads"}
CONFIGS = {
    "llama": {**DECODER, "model_type": "llama"},
    "qwen2": {**DECODER, "model_type": "qwen2"},
    "qwen3": {**DECODER, "model_type": "qwen3", "head_dim": 32},
    "gpt2": {
        "model_type": "gpt2", "n_embd": 64, "n_inner": 176, "n_layer": LAYERS, "n_head": 4,
        "vocab_size": ROWS, "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0,
    },
    "bert": {**ENCODER, "model_type": "bert", "architectures": ["BertForMaskedLM"]},
    "roberta": {**ENCODER, "model_type": "roberta", "architectures": ["RobertaForMaskedLM"]},
    "distilbert": {
        "model_type": "distilbert", "architectures": ["DistilBertForMaskedLM"], "dim": 64,
        "hidden_dim": 176, "n_layers": LAYERS, "n_heads": 4, "vocab_size": ROWS,
        "max_position_embeddings": 64,
    },
}  # fmt: skip


def held(model, *, loss=ops.linear_cross_entropy):
    """The bytes that the tape holds after a forward pass with its loss."""
    ids = np.full((BATCH, TIME), 5)
    hidden = model.hidden(ids)
    found = loss(hidden, model.output_weight, ids, normalizer=1)
    del hidden
    held_bytes = memory_report().bytes
    del found
    return held_bytes


def setup_for(shape, targets, *, checkpointing):
    if targets is None:
        return Setup("full", "float32", batch=BATCH, seq_len=TIME, checkpointing=checkpointing)
    names = matching(shape.linears, targets)
    return Setup(
        "lora", "float32", names, RANK, batch=BATCH, seq_len=TIME, checkpointing=checkpointing
    )


def adapted(kind, targets, *, checkpointing):
    model = models.from_config(CONFIGS[kind], seed=0)
    model.recompute = checkpointing
    if targets is not None:
        chosen = targets[0] if targets == ("all-linear",) else targets
        lora.adapt(model, lora.LoraConfig(rank=RANK, alpha=RANK, target_modules=chosen))
    return model


SETS = {
    "full": lambda _: None,
    "all": lambda k: usual_targets(k)[0],
    "few": lambda k: usual_targets(k)[2],
}


@pytest.mark.tier2
@pytest.mark.parametrize("chosen", SETS)
@pytest.mark.parametrize("kind", CONFIGS)
def test_the_tape_keeps_what_is_said(kind, chosen):
    targets = SETS[chosen](kind)
    model = adapted(kind, targets, checkpointing=False)
    shape = model_shape(CONFIGS[kind], name=kind, origin="")
    setup = setup_for(shape, targets, checkpointing=False)
    numbers = kept_by_block(shape, setup) * LAYERS + kept_outside(shape, setup)
    numbers -= missing_from_first(shape, setup)
    said = FLOAT * BATCH * TIME * numbers
    said += FLOAT * ROWS * 64 if targets is None else 0  # the gradient of the head
    # not said, since they are small: ids and positions, tables of angles for 256 positions, what
    # the adapter in BERT's head keeps, and a norm of keys that the first block needs no gradient of
    width = shape.blocks.queries // shape.blocks.heads
    angles = 256 * width * FLOAT if shape.blocks.norms == "rms" else 0
    assert held(model) == pytest.approx(said + angles, rel=0.004)


@pytest.mark.tier2
@pytest.mark.parametrize("kind", CONFIGS)
def test_checkpointing_keeps_the_inputs_of_blocks(kind):
    model = adapted(kind, None, checkpointing=True)
    shape = model_shape(CONFIGS[kind], name=kind, origin="")
    setup = setup_for(shape, None, checkpointing=True)
    numbers = LAYERS * 64 + kept_outside(shape, setup)
    said = FLOAT * (BATCH * TIME * numbers + ROWS * 64)
    assert held(model) == pytest.approx(said, rel=0.01)


MAKERS = {
    "adamw": optim.AdamW,
    "adamw-8bit": lambda parameters: optim.AdamW(parameters, state_bits=8),
    "lion": optim.Lion,
    "sgd": optim.SGD,
    "sgd-momentum": lambda parameters: optim.SGD(parameters, momentum=0.9),
}


def test_every_optimizer_that_is_planned_for_is_compared():
    assert set(MAKERS) == set(OPTIMIZERS)


@pytest.mark.parametrize("name", MAKERS)
def test_optimizers_remember_what_is_said(name):
    model = models.from_config({**CONFIGS["llama"], "vocab_size": 4096}, seed=0)
    kept = MAKERS[name](model.named_parameters()).state().values()
    shape = model_shape({**CONFIGS["llama"], "vocab_size": 4096}, name="", origin="")
    said = own_memory(shape, Setup("full", "float32", optimizer=name))["optimizer state"]
    # flat arrays start every parameter at a whole vector, codes at a whole block
    assert sum(array.nbytes for array in kept) == pytest.approx(said, rel=0.005)


BASES = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "nf4": {"quantize": "nf4"},
    "int8": {"quantize": "int8"},
}


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_base_takes_what_is_said(base, kind, tmp_path):
    raw = CONFIGS[kind] | ({"intermediate_size": 192} if kind == "llama" else {"n_inner": 192})
    models.save(models.from_config(raw, seed=0), tmp_path)
    model = models.load(tmp_path, **BASES[base])
    kept = sum(parameter.data.nbytes for parameter in model.named_parameters().values())
    shape = model_shape(raw, name="", origin="")
    memory = own_memory(shape, Setup("lora", base, tuple(shape.linears), RANK))
    names = ("weights", "weights in float32", "quantization constants")
    assert sum(memory[name] for name in names) == kept


def test_logits_exist_for_1024_tokens_at_a_time():
    shape = find_shape("smollm2-135m")
    few, many = (
        own_memory(shape, Setup("full", "float32", seq_len=n))["logits"] for n in (512, 4096)
    )
    assert (few, many) == (512 * 49152 * 4, 1024 * 49152 * 4)
