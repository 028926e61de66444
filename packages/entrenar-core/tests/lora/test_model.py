"""Adapters on a model: what they change, and what they leave as it was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_core import lora, models
from entrenar_core.autograd import ops
from entrenar_core.lora import LoraConfig
from entrenar_core.nn import dropout
from entrenar_core.optim import AdamW
from entrenar_core.quant import dequantize, quantize

SHAPE = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 32,
}  # fmt: skip
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
IDS = np.random.default_rng(3).integers(0, 40, (2, 9))


def model_of(**changes):
    return models.from_config({**SHAPE, **changes}, seed=5)


def logits(model):
    return model(IDS).numpy()


def train(model, parameters, steps=2):
    """Some steps on the same batch; returns the losses."""
    optimizer, losses = AdamW(parameters), []
    for step in range(steps):
        optimizer.zero_grad()
        with dropout(0, step):
            loss = ops.linear_cross_entropy(
                model.hidden(IDS[:, :-1]), model.output_weight, IDS[:, 1:], normalizer=16
            )
            loss.backward()
        losses.append(loss.item())
        optimizer.step(1e-2)
    return losses


def adapted_weights(model):
    """Some weights with the updates of the adapters that take part."""
    places = [place for b in model.model.layers for place in (b.self_attn.q_proj, b.mlp.down_proj)]
    return [
        place.weight.data if place.adapters is None else place.adapters.weight(place.weight).data
        for place in places
    ]


def bytes_of(model):
    return {name: p.data.tobytes() for name, p in model.base_parameters().items()}


CONFIGS = {
    "all linear": LoraConfig(rank=3, alpha=6),
    "some": LoraConfig(rank=2, target_modules=("q_proj", "down_proj")),
    "rslora": LoraConfig(rank=4, alpha=3, use_rslora=True, rank_pattern={"q_proj": 2}),
    "dora": LoraConfig(rank=2, use_dora=True),
    "embeddings": LoraConfig(rank=2, target_modules=("embed_tokens", "q_proj")),
    "head": LoraConfig(rank=2, target_modules=("lm_head", "v_proj")),
    "gaussian": LoraConfig(rank=2, init="gaussian"),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
class TestEveryKind:
    def test_a_new_adapter_gives_the_very_logits_of_the_base(self, config):
        model = model_of()
        before = logits(model)
        lora.adapt(model, config)
        if config.use_dora:  # a length over itself is one within a rounding
            assert np.allclose(logits(model), before, rtol=0, atol=1e-6 * abs(before).max())
        else:
            assert (logits(model) == before).all()

    def test_only_what_the_adapter_trains_has_gradients_and_moves(self, config):
        model = model_of()
        before = bytes_of(model)
        adapter = lora.adapt(model, config)
        train(model, adapter.parameters(), steps=3)
        trained = adapter.parameters()
        for name, parameter in model.named_parameters().items():
            assert (parameter.grad is not None) == (name in trained), name
        assert bytes_of(model) == before

    def test_the_loss_falls(self, config):
        model = model_of()
        losses = train(model, lora.adapt(model, config).parameters(), steps=8)
        assert losses[-1] < losses[0]

    def test_fused_weights_compute_the_same_and_come_back(self, config):
        model = model_of()
        adapter = lora.adapt(model, config)
        train(model, adapter.parameters(), steps=3)
        wanted = logits(model)
        before = {name: p.data.copy() for name, p in model.base_parameters().items()}
        lora.fuse(model)
        found = logits(model)
        assert abs(found - wanted).max() <= 1e-5 * abs(wanted).max()
        fused = {name: p.data.copy() for name, p in model.base_parameters().items()}
        lora.unfuse(model)
        again = logits(model)
        if config.use_dora:  # whose weights were put aside, and not changed where they are
            assert (again == wanted).all()
        assert abs(again - wanted).max() <= 1e-6 * abs(wanted).max()
        for name, parameter in model.base_parameters().items():
            largest = np.maximum(abs(before[name]), abs(fused[name]))
            assert (abs(parameter.data - before[name]) <= np.spacing(largest)).all(), name

    def test_saved_and_loaded_it_computes_the_same(self, config, tmp_path):
        model = model_of()
        adapter = lora.adapt(model, config)
        train(model, adapter.parameters(), steps=3)
        wanted = logits(model)
        for path in (tmp_path / "folder", tmp_path / "one.json", tmp_path / "a.safetensors"):
            adapter.save(path)
            again = model_of()
            lora.load_adapter(again, path)
            assert (logits(again) == wanted).all(), path

    def test_disabled_and_stripped_the_model_is_what_it_was(self, config):
        model = model_of()
        before, weights = logits(model), bytes_of(model)
        adapter = lora.adapt(model, config)
        train(model, adapter.parameters())
        with lora.disabled(model):
            assert (logits(model) == before).all()
        lora.strip(model)
        assert (logits(model) == before).all()
        assert bytes_of(model) == weights
        assert set(model.named_parameters()) == set(weights)

    def test_the_factors_are_a_function_of_the_seed(self, config):
        found = []
        for seed in (1, 1, 2):
            adapter = lora.adapt(model_of(), config, seed=seed)
            found.append([p.data.tobytes() for p in adapter.parameters().values()])
        assert found[0] == found[1] != found[2]


@given(order=st.permutations(range(3)), seed=st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_a_sum_of_adapters_does_not_depend_on_their_order(order, seed):
    model = model_of()
    names = ["one", "two", "three"]
    for number, name in enumerate(names):
        adapter = lora.adapt(model, LoraConfig(rank=2 + number), name=name, seed=seed)
        draws = np.random.default_rng(seed + number)
        for parameter in adapter.parameters().values():
            parameter.data[...] = draws.standard_normal(parameter.shape) * 0.2
    found = []
    for chosen in (names, [names[i] for i in order]):
        lora.activate(model, *chosen)
        assert lora.active(model) == tuple(chosen)
        found.append([logits(model), *adapted_weights(model)])
    assert all((ours == others).all() for ours, others in zip(*found, strict=True))

    lora.fuse(model)
    plain = model_of()
    for name, parameter in plain.named_parameters().items():
        parameter.data[...] = model.base_parameters()[name].data
    assert (logits(model) == logits(plain)).all()
    for fused, summed in zip(adapted_weights(plain), found[0][1:], strict=True):
        assert abs(fused - summed).max() <= 1e-6 * abs(summed).max()


def test_adapters_are_switched_and_each_keeps_its_own():
    model = model_of()
    base = logits(model)
    seen = {}
    for name in ("one", "two"):
        adapter = lora.adapt(model, LoraConfig(rank=2), name=name)
        train(model, adapter.parameters(), steps=2 if name == "one" else 4)
        seen[name] = logits(model)
    lora.activate(model, "one")
    assert (logits(model) == seen["one"]).all()
    lora.activate(model, "two")
    assert (logits(model) == seen["two"]).all()
    lora.activate(model)
    assert (logits(model) == base).all()


def test_modules_that_are_trained_whole_belong_to_their_adapter():
    model = model_of(tie_word_embeddings=True)
    config = LoraConfig(rank=2, target_modules=("q_proj",), modules_to_save=("lm_head",))
    base = logits(model)
    adapter = lora.adapt(model, config)
    assert "lm_head.weight" in adapter.parameters()
    train(model, adapter.parameters())
    assert not model.config.tie_word_embeddings
    with lora.disabled(model):
        assert model.config.tie_word_embeddings
        assert (logits(model) == base).all()


def test_a_fused_model_with_a_tied_table_is_saved_with_both_weights(tmp_path):
    model = model_of(tie_word_embeddings=True)
    config = LoraConfig(rank=2, target_modules=("embed_tokens",))
    train(model, lora.adapt(model, config).parameters(), steps=3)
    wanted = logits(model)
    lora.fuse(model)
    models.save(model, tmp_path)
    again = models.load(tmp_path)
    assert not again.config.tie_word_embeddings
    found = logits(again)
    assert abs(found - wanted).max() <= 1e-5 * abs(wanted).max()


def test_a_model_that_computes_with_an_adapter_is_not_saved_without_it(tmp_path):
    model = model_of()
    lora.adapt(model, LoraConfig())
    with pytest.raises(ConfigError, match="computes with adapters: default"):
        models.save(model, tmp_path / "no")
    assert not (tmp_path / "no").exists()
    with lora.disabled(model):
        models.save(model, tmp_path / "yes")
    assert bytes_of(models.load(tmp_path / "yes")) == bytes_of(model_of())


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_a_start_from_the_weights_computes_what_the_base_did_and_is_saved_as_a_plain_one(
    init, tmp_path
):
    model = model_of()
    before = logits(model)
    adapter = lora.adapt(model, LoraConfig(rank=2, alpha=3, init=init))
    assert abs(logits(model) - before).max() <= 1e-5 * abs(before).max()
    train(model, adapter.parameters(), steps=3)
    wanted = logits(model)
    adapter.save(tmp_path)
    again = model_of()
    found = lora.load_adapter(again, tmp_path)
    assert found.config.rank == 4
    assert abs(logits(again) - wanted).max() <= 1e-5 * abs(wanted).max()
    lora.strip(model)
    assert abs(logits(model) - before).max() <= 1e-5 * abs(before).max()


def test_pissa_takes_the_largest_singular_vectors():
    model = model_of()
    weight = model.model.layers[0].self_attn.q_proj.weight.data
    values = np.linalg.svd(weight.astype(np.float64), compute_uv=False)
    lora.adapt(model, LoraConfig(rank=3, init="pissa", target_modules=("q_proj",)))
    left = np.linalg.svd(weight.astype(np.float64), compute_uv=False)
    assert np.allclose(left[:13], values[3:], atol=1e-5)


def test_loftq_is_nearer_to_the_weights_than_their_format_and_nearer_with_every_turn():
    weight = model_of().model.layers[0].mlp.up_proj.weight.data.copy()
    errors = []
    for turns in (0, 1, 5):
        model = model_of()
        if turns:
            lora.adapt(model, LoraConfig(rank=4, alpha=12, init="loftq", loftq_iterations=turns))
        place = model.model.layers[0].mlp.up_proj
        found = place.effective_weight.data if turns else dequantize(quantize(weight, "nf4"))
        errors.append(np.linalg.norm(found - weight))
    assert errors[0] > errors[1] > errors[2]


def test_only_chosen_blocks_are_adapted():
    adapter = lora.adapt(model_of(), LoraConfig(rank=2, layers_to_transform=(1,)))
    assert {name.split(".")[2] for name in adapter.layers} == {"1"}
    assert {name.split(".")[-1] for name in adapter.layers} == set(LINEAR)


def test_dropout_of_the_adapter_happens_only_in_training():
    model = model_of()
    adapter = lora.adapt(model, LoraConfig(rank=2, dropout=0.5))
    train(model, adapter.parameters())
    plain = logits(model)
    with dropout(1, 0):
        first = logits(model)
    with dropout(1, 0):
        again = logits(model)
    assert (first == again).all()
    assert (first != plain).any()
    assert (logits(model) == plain).all()


def test_activation_checkpoints_change_no_gradient():
    found = []
    for recompute in (False, True):
        model = models.from_config(SHAPE, seed=5, dtype="float64")
        model.recompute = recompute
        adapter = lora.adapt(model, LoraConfig(rank=2, dropout=0.3, init="gaussian"))
        for parameter in adapter.parameters().values():
            parameter.data += 0.1
        train(model, adapter.parameters(), steps=1)
        found.append([p.grad.copy() for p in adapter.parameters().values()])
    for kept, computed_again in zip(*found, strict=True):
        assert abs(kept - computed_again).max() <= 1e-12 * abs(kept).max()


def test_a_base_in_16_bits_is_adapted_and_fused_into_floats(tmp_path):
    models.save(model_of(), tmp_path)
    model = models.load(tmp_path, dtype="bfloat16")
    adapter = lora.adapt(model, LoraConfig(rank=2))
    losses = train(model, adapter.parameters(), steps=5)
    assert losses[-1] < losses[0]
    wanted, held = logits(model), model.model.layers[0].mlp.up_proj.weight
    lora.fuse(model)
    assert abs(logits(model) - wanted).max() <= 1e-5 * abs(wanted).max()
    lora.unfuse(model)
    assert model.model.layers[0].mlp.up_proj.weight is held
    with pytest.raises(UnsupportedError, match="pissa starts from its floats"):
        lora.adapt(model, LoraConfig(init="pissa"), name="other")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"target_modules": ("q_prj",)}, "no module of this model is 'q_prj'"),
        ({"target_modules": r".*nothing"}, "no module of this model is"),
        ({"modules_to_save": ("lm_hed",)}, "no module of this model is 'lm_hed'"),
        ({"rank": 0}, "the rank of rank is 0"),
        ({"alpha": float("nan")}, "the alpha of alpha is nan"),
        ({"dropout": 1.0}, "dropout of 1.0"),
        ({"init": "pisa"}, "init is 'pisa'"),
        ({"target_modules": "(unclosed"}, "is no regular expression"),
        ({"use_dora": True, "lora_bias": True}, "lora_bias with use_dora"),
    ],
)
def test_settings_that_make_no_sense_are_refused(config, said):
    model = model_of()
    before = bytes_of(model)
    with pytest.raises(ConfigError) as found:
        lora.adapt(model, LoraConfig(**config))
    assert said in found.value.message
    assert found.value.hint
    assert bytes_of(model) == before
    assert set(model.named_parameters()) == set(before)


def test_names_that_are_taken_or_missing_are_refused():
    model = model_of()
    lora.adapt(model, LoraConfig(rank=2))
    with pytest.raises(ConfigError, match="has an adapter 'default' already"):
        lora.adapt(model, LoraConfig(rank=2))
    with pytest.raises(ConfigError, match="no adapter 'other'"):
        lora.activate(model, "other")
    with pytest.raises(ConfigError, match="cannot be called"):
        lora.adapt(model, LoraConfig(rank=2), name="a.b")
    lora.fuse(model)
    with pytest.raises(ConfigError, match="fused: cannot fuse it again"):
        lora.fuse(model)


def test_an_adapter_of_another_model_says_what_does_not_match(tmp_path):
    other = model_of(intermediate_size=20, num_hidden_layers=3)
    lora.adapt(other, LoraConfig(rank=2)).save(tmp_path, base_model="other/model")
    with pytest.raises(ConfigError) as found:
        lora.load_adapter(model_of(), tmp_path)
    assert "is an adapter of another model" in found.value.message
    assert any("layers.2" in line for line in found.value.details)
    assert "other/model" in found.value.hint
