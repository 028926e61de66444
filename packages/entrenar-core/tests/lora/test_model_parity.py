"""Adapters on models against PEFT: the same logits from its files and in it from ours, the same
losses in training."""

import numpy as np
import pytest

from entrenar_core import lora, models
from entrenar_core.autograd import ops
from entrenar_core.optim import AdamW

pytestmark = [
    pytest.mark.parity,
    # what PEFT and transformers warn of among themselves
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning"),
]

IDS = np.random.default_rng(0).integers(0, 64, (2, 12))
LLAMA = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "attention_bias": True,
    "tie_word_embeddings": False,
}  # fmt: skip
SIZE_160M = {
    "vocab_size": 32000, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "num_key_value_heads": 12, "tie_word_embeddings": False,
    "max_position_embeddings": 64,
}  # fmt: skip


def llama(**changes):
    transformers = pytest.importorskip("transformers")
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**LLAMA, **changes}))


def gpt2(**changes):
    transformers = pytest.importorskip("transformers")
    special = {"bos_token_id": 0, "eos_token_id": 0}
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    dropouts = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    config = transformers.GPT2Config(vocab_size=64, **sizes, **special, **dropouts, **changes)
    return transformers.GPT2LMHeadModel(config)


def bert():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, num_labels=3,
    )  # fmt: skip
    return transformers.BertForSequenceClassification(config)


TIED = {"tie_word_embeddings": True}
QV = ["q_proj", "v_proj"]
CASES = {
    "all linear": (llama, {}, {"target_modules": "all-linear"}),
    "rslora": (llama, {}, {"target_modules": QV, "use_rslora": True, "r": 5}),
    "patterns": (
        llama,
        {},
        {
            "target_modules": QV,
            "rank_pattern": {"q_proj": 6, "layers.1.self_attn.v_proj": 2},
            "alpha_pattern": {"v_proj": 3},
        },
    ),
    "dora": (llama, {}, {"target_modules": "all-linear", "use_dora": True}),
    "dora and rslora": (llama, {}, {"target_modules": QV, "use_dora": True, "use_rslora": True}),
    "bias of all": (llama, {}, {"target_modules": ["q_proj"], "bias": "all"}),
    "bias of adapted": (llama, {}, {"target_modules": QV, "bias": "lora_only"}),
    "bias of B": (llama, {}, {"target_modules": QV, "lora_bias": True}),
    "embeddings": (llama, {}, {"target_modules": ["embed_tokens", "q_proj"]}),
    "embeddings, dora": (
        llama, {}, {"target_modules": ["embed_tokens", "q_proj"], "use_dora": True}
    ),
    "tied embeddings": (llama, TIED, {"target_modules": ["embed_tokens", "q_proj"]}),
    "output": (llama, {}, {"target_modules": ["lm_head", "q_proj"]}),
    "tied output": (llama, TIED, {"target_modules": ["lm_head", "q_proj"]}),
    "whole modules": (
        llama, {}, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "norm"]}
    ),
    "tied output whole": (
        llama, TIED, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}
    ),
    "expression": (llama, {}, {"target_modules": r".*layers\.1.*(q|v)_proj"}),
    "some layers": (
        llama, {}, {"target_modules": ["q_proj", "down_proj"], "layers_to_transform": [1]}
    ),
    "pissa": (llama, {}, {"target_modules": ["q_proj"], "init_lora_weights": "pissa"}),
    "olora": (llama, {}, {"target_modules": ["q_proj"], "init_lora_weights": "olora"}),
    "gpt2": (gpt2, {}, {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
    "gpt2, dora": (
        gpt2, {}, {"target_modules": ["c_attn"], "fan_in_fan_out": True, "use_dora": True}
    ),
    "bert": (bert, {}, {"target_modules": ["query", "value"], "task_type": "SEQ_CLS"}),
}  # fmt: skip


def adapted_by_peft(make, changes, settings, folder, *, noise=0.1):
    """PEFT's model with an adapter that is `noise` away from its start; both are saved in
    `folder`."""
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    torch.manual_seed(0)
    base = make(**changes)
    base.save_pretrained(folder / "base")
    config = peft.LoraConfig(**{"r": 4, "task_type": "CAUSAL_LM", **settings})
    model = peft.get_peft_model(base, config).eval()
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += noise * torch.randn_like(parameter)
    model.save_pretrained(folder / "adapter")
    return model


def logits_of(model):
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return model(torch.tensor(IDS)).logits.numpy()


def distance(found, wanted):
    return abs(found - wanted).max() / abs(wanted).max()


@pytest.mark.parametrize(("make", "changes", "settings"), CASES.values(), ids=CASES)
def test_an_adapter_of_peft_gives_its_logits_here_and_ours_there(make, changes, settings, tmp_path):
    peft = pytest.importorskip("peft")
    theirs = adapted_by_peft(make, changes, settings, tmp_path)
    wanted = logits_of(theirs)
    model = models.load(tmp_path / "base")
    plain = model(IDS).numpy()
    adapter = lora.load_adapter(model, tmp_path / "adapter", trainable=True)
    found = model(IDS).numpy()
    assert distance(plain, wanted) > 1e-3  # the adapter changes something
    assert distance(found, wanted) <= 1e-5
    trained = sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    assert adapter.parameter_count() == trained
    adapter.save(tmp_path / "ours")
    base = type(theirs.get_base_model()).from_pretrained(tmp_path / "base")
    read = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    assert distance(logits_of(read), found) <= 1e-5


@pytest.mark.tier3
def test_a_model_of_160_million_weights_gives_the_same_logits(tmp_path):
    peft = pytest.importorskip("peft")
    settings = {"target_modules": "all-linear", "r": 16, "use_rslora": True}
    shape = {**SIZE_160M, "attention_bias": False}
    # as far as training moves one; further, and rounding is what is compared
    theirs = adapted_by_peft(llama, shape, settings, tmp_path, noise=0.02)
    wanted = logits_of(theirs)
    model = models.load(tmp_path / "base")
    assert model.parameter_count() > 160e6
    adapter = lora.load_adapter(model, tmp_path / "adapter")
    assert distance(model(IDS).numpy(), wanted) <= 1e-5
    adapter.save(tmp_path / "ours")
    base = type(theirs.get_base_model()).from_pretrained(tmp_path / "base")
    read = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    assert distance(logits_of(read), wanted) <= 1e-5


def losses_of_peft(model, steps, batches):
    torch = pytest.importorskip("torch")
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0), []
    model.train()
    for step in range(steps):
        ids = torch.tensor(batches[step])
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def losses_here(model, adapter, steps, batches):
    optimizer = AdamW(adapter.parameters(), weight_decay=0.0, beta2=0.999)
    losses = []
    for step in range(steps):
        ids = batches[step]
        loss = ops.linear_cross_entropy(
            model.hidden(ids[:, :-1]), model.output_weight, ids[:, 1:], normalizer=ids[:, 1:].size
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(1e-2)
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", ["all linear", "rslora", "dora", "embeddings", "output", "gpt2"])
def test_thirty_steps_have_the_losses_of_peft_and_pytorch(kind, tmp_path):
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    make, changes, settings = CASES[kind]
    torch.manual_seed(0)
    base = make(**changes, initializer_range=0.15)
    base.save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(**{"r": 4, "task_type": "CAUSAL_LM", **settings})
    theirs = peft.get_peft_model(base, config)
    theirs.save_pretrained(tmp_path / "adapter")
    model = models.load(tmp_path / "base")
    adapter = lora.load_adapter(model, tmp_path / "adapter", trainable=True)
    batches = np.random.default_rng(1).integers(0, 64, (30, 4, 12))
    batches[:, :, 1::2] = batches[:, :, ::2]  # something that can be learned
    wanted = losses_of_peft(theirs, 30, batches)
    found = losses_here(model, adapter, 30, batches)
    assert wanted[-1] < wanted[0] - 0.05
    assert np.allclose(found, wanted, rtol=0, atol=1e-4)


def test_a_base_in_nf4_trains_with_the_losses_of_bitsandbytes(tmp_path):
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    pytest.importorskip("bitsandbytes")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    llama(
        hidden_size=64, intermediate_size=128, attention_bias=False, initializer_range=0.15
    ).save_pretrained(tmp_path / "floats")
    stored = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )  # fmt: skip
    base = transformers.LlamaForCausalLM.from_pretrained(
        tmp_path / "floats", quantization_config=stored, dtype=torch.float32, device_map="cpu"
    )
    base.save_pretrained(tmp_path / "base")
    settings = peft.LoraConfig(r=4, task_type="CAUSAL_LM", target_modules="all-linear")
    theirs = peft.get_peft_model(base, settings)
    theirs.save_pretrained(tmp_path / "adapter")
    model = models.load(tmp_path / "base", quantize="nf4")
    adapter = lora.load_adapter(model, tmp_path / "adapter", trainable=True)
    batches = np.random.default_rng(1).integers(0, 64, (30, 4, 12))
    batches[:, :, 1::2] = batches[:, :, ::2]
    wanted = losses_of_peft(theirs, 30, batches)
    assert wanted[-1] < wanted[0] - 0.05
    assert np.allclose(losses_here(model, adapter, 30, batches), wanted, rtol=0, atol=1e-4)
