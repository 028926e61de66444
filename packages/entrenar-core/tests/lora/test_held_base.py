"""Adapters on a base in few bits: what QLoRA trains, and what it leaves as it is."""

import numpy as np
import pytest

from entrenar_core import lora, models
from entrenar_core.autograd import ops
from entrenar_core.lora import LoraConfig
from entrenar_core.optim import AdamW

SHAPE = {
    "vocab_size": 40, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 32,
}  # fmt: skip
IDS = np.random.default_rng(3).integers(0, 40, (2, 9))


@pytest.fixture(params=["nf4", "int8", "q4_0", "q8_0"])
def form(request):
    return request.param


@pytest.fixture
def folder(tmp_path):
    models.save(models.from_config(SHAPE, seed=5), tmp_path)
    return tmp_path


def floats(folder, form):
    """The model with the floats that its base in `form` stands for."""
    model = models.load(folder, quantize=form)
    for parameter in model.parameters():
        parameter.data = np.array(parameter.data)
    return model


def train(model, adapter, steps=3):
    optimizer, losses = AdamW(adapter.parameters()), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ops.linear_cross_entropy(
            model.hidden(IDS[:, :-1]), model.output_weight, IDS[:, 1:], normalizer=16
        )
        loss.backward()
        losses.append(loss.item())
        optimizer.step(1e-2)
    return losses


@pytest.mark.parametrize("use_dora", [False, True])
def test_it_trains_as_on_the_floats_that_the_base_stands_for(folder, form, use_dora):
    config, found = LoraConfig(rank=4, alpha=8, use_dora=use_dora), []
    for model in (models.load(folder, quantize=form), floats(folder, form)):
        found.append(train(model, lora.adapt(model, config)))
    assert found[0][2] < found[0][0]
    assert np.allclose(found[0], found[1], rtol=1e-6)


def test_training_changes_nothing_that_is_held(folder, form):
    model = models.load(folder, quantize=form)
    before = {name: np.array(p.data) for name, p in model.named_parameters().items()}
    held = model.model.layers[0].mlp.up_proj.weight.data
    train(model, lora.adapt(model, LoraConfig(rank=2)))
    assert model.model.layers[0].mlp.up_proj.weight.data is held
    after = model.base_parameters()
    assert all((np.asarray(after[name].data) == value).all() for name, value in before.items())


def test_a_new_adapter_gives_the_very_logits_of_the_base(folder, form):
    model = models.load(folder, quantize=form)
    before = model(IDS).numpy()
    lora.adapt(model, LoraConfig(rank=2))
    assert (model(IDS).numpy() == before).all()


def test_fused_it_is_floats_and_unfused_what_it_was(folder, form):
    model = models.load(folder, quantize=form)
    train(model, lora.adapt(model, LoraConfig(rank=2)))
    wanted, place = model(IDS).numpy(), model.model.layers[1].self_attn.q_proj
    held = place.weight
    lora.fuse(model)
    assert place.weight.data.dtype == np.float32
    assert abs(model(IDS).numpy() - wanted).max() <= 1e-5 * abs(wanted).max()
    lora.unfuse(model)
    assert place.weight is held
    assert (model(IDS).numpy() == wanted).all()


def test_loftq_leaves_a_base_in_few_bits_that_the_adapter_makes_better(folder):
    model = models.load(folder)
    wanted = model(IDS).numpy()
    rounded = models.load(folder, quantize="nf4")(IDS).numpy()
    lora.adapt(model, LoraConfig(rank=8, init="loftq", loftq_iterations=3))
    kept = model.model.layers[0].mlp.up_proj.weight.data
    assert kept.nbytes < kept.size
    assert abs(model(IDS).numpy() - wanted).max() < abs(rounded - wanted).max()
