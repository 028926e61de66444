"""LLaMA against transformers: the same logits, gradients, training steps and continuations."""

import json

import numpy as np
import pytest

from entrenar_core import models
from entrenar_core.autograd import ops
from entrenar_core.optim import AdamW
from entrenar_core.testing import difference, tiny_llama

pytestmark = pytest.mark.parity

BASE = {
    "vocab_size": 131,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
}
ROPE = {
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "dynamic": {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
    "dynamic beyond": {
        "rope_scaling": {"rope_type": "dynamic", "factor": 2.0},
        "max_position_embeddings": 20,
    },
    "yarn": {
        "rope_scaling": {
            "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
        },
    },
    "yarn with everything": {
        "rope_scaling": {
            "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32,
            "beta_fast": 16.0, "beta_slow": 2.0, "mscale": 0.8, "mscale_all_dim": 0.5,
        },
        "head_dim": 32,
    },
    "llama3": {
        "rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    },
}  # fmt: skip
CONFIGS = {
    "multi-head": {},
    "grouped queries": {"num_key_value_heads": 2},
    "multi-query": {"num_key_value_heads": 1},
    "tied head": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 2},
    "explicit head_dim": {"head_dim": 20},
    "rope_theta": {"rope_theta": 500.0},
    "eps": {"rms_norm_eps": 1e-2},
    **ROPE,
}
IDS = np.random.default_rng(0).integers(0, BASE["vocab_size"], (3, 37))
LABELS = np.where(np.arange(37) < 36, np.roll(IDS, -1, axis=1), -100)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture
def theirs(torch, transformers):
    """A model of transformers with the given config, every parameter random, norms too."""

    def make(overrides):
        torch.manual_seed(0)
        config = transformers.LlamaConfig(**{**BASE, **overrides})
        model = transformers.LlamaForCausalLM(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.uniform_(0.5, 1.5)
        return model

    return make


@pytest.fixture
def pair(theirs, tmp_path):
    def make(overrides):
        model = theirs(overrides)
        model.save_pretrained(tmp_path)
        return model, models.load(tmp_path)

    return make


def logits(torch, model, ids=IDS):
    with torch.no_grad():
        return model(torch.from_numpy(ids)).logits.float().numpy()


def their_loss(torch, model):
    labels = torch.from_numpy(LABELS).reshape(-1)
    z = model(torch.from_numpy(IDS)).logits.reshape(len(labels), -1)
    return torch.nn.functional.cross_entropy(z, labels)


def our_loss(model):
    count = int((LABELS >= 0).sum())
    return ops.linear_cross_entropy(
        model.hidden(IDS), model.output_weight, LABELS, normalizer=count
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_equal(name, pair, torch, record_property):
    their, our = pair(CONFIGS[name])
    error = difference(our(IDS).numpy(), logits(torch, their))
    record_property("error", error)
    assert error <= 2e-5


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_equal_for_every_parameter(name, pair, torch, record_property):
    their, our = pair(CONFIGS[name])
    loss = their_loss(torch, their)
    loss.backward()
    mine = our_loss(our)
    mine.backward()
    wanted = {n: p.grad.numpy() for n, p in their.named_parameters()}
    found = {n: p.grad for n, p in our.named_parameters().items()}
    assert found.keys() == wanted.keys()
    assert mine.item() == pytest.approx(loss.item(), rel=1e-5)
    error = max(difference(found[n], wanted[n]) for n in wanted)
    record_property("error", error)
    assert error <= 1e-4


@pytest.mark.parametrize("name", CONFIGS)
def test_twenty_steps_of_adamw_give_the_same_losses(name, pair, torch, record_property):
    their, our = pair(CONFIGS[name])
    groups = [
        {"params": [p for p in their.parameters() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in their.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95), eps=1e-8)
    ours = AdamW(our.named_parameters(), beta2=0.95, weight_decay=0.1)
    wanted, found = [], []
    for _ in range(20):
        adamw.zero_grad()
        loss = their_loss(torch, their)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(their.parameters(), 1.0)
        adamw.step()
        wanted.append(loss.item())
        ours.zero_grad()
        mine = our_loss(our)
        mine.backward()
        ours.step(3e-3, max_norm=1.0)
        found.append(mine.item())
    error = difference(found, wanted)
    record_property("error", error)
    assert wanted[-1] < wanted[0] - 0.3  # the steps do train
    assert error <= 1e-4


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_files_of_every_float_type_are_read(dtype, theirs, torch, transformers, tmp_path):
    theirs({"num_key_value_heads": 2}).to(getattr(torch, dtype)).save_pretrained(tmp_path)
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype="float32").eval()
    assert difference(models.load(tmp_path)(IDS).numpy(), logits(torch, again)) <= 2e-5


def test_sharded_files_are_read(theirs, torch, tmp_path):
    model = theirs({"num_key_value_heads": 2})
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert difference(models.load(tmp_path)(IDS).numpy(), logits(torch, model)) <= 2e-5


def respell(folder, **changes):
    """Write rope the old way: rope_theta and rope_scaling beside each other."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["rope_parameters"]
    path.write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize("kind", ["type", "rope_type"])
@pytest.mark.parametrize("name", ROPE)
def test_the_old_spelling_of_rope_means_the_same(name, kind, pair, torch, transformers, tmp_path):
    their, _ = pair({**ROPE[name], "rope_theta": 700.0})
    scaling = dict(ROPE[name]["rope_scaling"])
    scaling[kind] = scaling.pop("rope_type")
    respell(tmp_path, rope_theta=700.0, rope_scaling=scaling)
    again = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()
    wanted = logits(torch, their)
    assert np.array_equal(logits(torch, again), wanted)
    assert difference(models.load(tmp_path)(IDS).numpy(), wanted) <= 2e-5


def test_the_old_spelling_of_rope_theta_alone_means_the_same(pair, torch, tmp_path):
    their, _ = pair({"rope_theta": 700.0})
    respell(tmp_path, rope_theta=700.0, rope_scaling=None)
    assert difference(models.load(tmp_path)(IDS).numpy(), logits(torch, their)) <= 2e-5


# --- what we write -------------------------------------------------------------------------------


@pytest.fixture
def reread(transformers, tmp_path):
    def call(model, **options):
        models.save(model, tmp_path / "saved", **options)
        return transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved").eval()

    return call


def same_continuation(torch, our, their, prompt, count):
    wanted = their.generate(
        torch.from_numpy(prompt[None, :]), max_new_tokens=count, do_sample=False,
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long), pad_token_id=0,
    )[0]  # fmt: skip
    eos = our.config.eos_token_id
    found = models.generate(our, prompt, max_new_tokens=count, eos_ids=eos)
    return found.tolist() == wanted.tolist()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_saved_model_is_the_same_in_transformers(name, pair, torch, reread):
    _, our = pair(CONFIGS[name])
    their = reread(our)
    assert difference(our(IDS).numpy(), logits(torch, their)) <= 2e-5
    assert same_continuation(torch, our, their, IDS[0, :9], 24)


@pytest.mark.parametrize("name", ["default", *ROPE])
def test_a_model_trained_from_a_config_is_the_same_in_transformers(name, torch, reread):
    overrides = ROPE.get(name, {})
    our = models.from_config({**BASE, "num_key_value_heads": 2, **overrides}, seed=3)
    adamw = AdamW(our.named_parameters())
    for _ in range(5):
        adamw.zero_grad()
        our_loss(our).backward()
        adamw.step(3e-3)
    their = reread(our)
    assert difference(our(IDS).numpy(), logits(torch, their)) <= 2e-5
    assert same_continuation(torch, our, their, IDS[0, :9], 24)


def test_a_saved_sharded_model_is_the_same_in_transformers(pair, torch, reread, tmp_path):
    _, our = pair({"num_key_value_heads": 2})
    their = reread(our, max_shard_bytes=40_000)
    assert len(list((tmp_path / "saved").glob("model-*.safetensors"))) > 2
    assert difference(our(IDS).numpy(), logits(torch, their)) <= 2e-5


def test_a_saved_float64_model_is_the_same_in_transformers(torch, reread):
    our = tiny_llama(dtype="float64")
    ids = IDS % our.config.vocab_size
    assert difference(our(ids).numpy(), logits(torch, reread(our), ids)) <= 2e-5


def test_the_initialisation_has_the_spread_of_transformers(theirs):
    our = models.from_config({**BASE, "initializer_range": 0.02, "vocab_size": 4000}, seed=0)
    for name, parameter in our.named_parameters().items():
        if parameter.data.ndim == 2:
            assert parameter.data.std() == pytest.approx(0.02, rel=0.05), name
            assert abs(parameter.data.mean()) < 1e-3
        else:
            assert np.all(parameter.data == 1.0), name
