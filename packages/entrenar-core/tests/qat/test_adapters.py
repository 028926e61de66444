"""Stored weights beside adapters: what is stored is W + s·B·A, and A and B are what is trained."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError
from entrenar_core import lora, models
from entrenar_core.autograd import no_grad, ops
from entrenar_core.lora import LoraConfig
from entrenar_core.optim import AdamW
from entrenar_core.qat import QatConfig, Schedule, matrices, prepare
from entrenar_core.quant import FORMATS, Integer, Percentile, format_named, quantize
from entrenar_core.testing import difference, tiny_model

SIZES = {"hidden_size": 64, "intermediate_size": 96}
GPT2 = {"n_embd": 64, "n_inner": 96}
IDS = np.array([[1, 7, 30, 2, 11], [5, 5, 9, 60, 3]])
ADAPTED = LoraConfig(rank=4, alpha=8)
"""s = 2."""


def model_of(kind="llama", *, adapter=ADAPTED, **options):
    """A model whose adapter is a product of numbers with few bits: W + s·B·A of floats in float64
    is then the same whatever the order of its sums."""
    model = tiny_model(kind, **(GPT2 if kind == "gpt2" else SIZES), **options)
    draws = np.random.default_rng(3)
    for layer in lora.adapt(model, adapter).layers.values():
        for factor in (layer.lora_A, layer.lora_B):
            factor.data[...] = draws.integers(-8, 9, factor.shape) / 64
    return model


def parts_of(model):
    """The adapted modules' weight, A, B and lengths, (out, in), and whether stored turned."""
    found = {}
    for name, layer in lora.adapters_of(model)["default"].layers.items():
        u = layer.update()
        w = lora_weight(model, name)
        found[name] = (w.T if u.transposed else w), u, u.transposed
    return found


def lora_weight(model, name):
    return model.base_parameters()[f"{name}.weight"].data


def fused_by_hand(w, u):
    """W + s·B·A in numpy; with DoRA its rows have the lengths m."""
    total = w + u.scale * (u.b @ u.a)
    if u.magnitude is None:
        return total
    return total * (u.magnitude / np.linalg.norm(total, axis=1))[:, None]


def plain_copy(model, stored):
    """A model without adapters whose weights are `stored(name, fused)`, all of them trained."""
    copy = models.with_layers(model, range(2))
    wholes = {n: (fused_by_hand(w, u), turned) for n, (w, u, turned) in parts_of(model).items()}
    for name, (whole, turned) in wholes.items():
        values = stored(f"{name}.weight", whole)
        copy.named_parameters()[f"{name}.weight"].data[...] = values.T if turned else values
    return copy


def loss_of(model, ids=IDS):
    labels = np.roll(ids, -1, axis=1)
    return ops.linear_cross_entropy(
        model.hidden(ids), model.output_weight, labels, normalizer=labels.size
    )


def as_stored(form):
    """int4 in float64 by its definition: a step is the largest number of the row over 7."""
    if form != "int4":
        return lambda _name, whole: FORMATS[form].quantize(whole).dequantize()

    def rounded(_name, whole):
        step = np.abs(whole).max(axis=1, keepdims=True) / 7
        return np.rint(whole / step) * step

    return rounded


def straight_through(g, w, u):
    """Gradients of A, B and m where that of what is stored, g (out, in), is that of the sum. The
    lengths of rows are constants (arXiv:2402.09353 §4.3)."""
    found = {}
    if u.magnitude is not None:
        total = w + u.scale * (u.b @ u.a)
        norms = np.linalg.norm(total, axis=1)
        found["magnitude"] = (g * total).sum(axis=1) / norms
        g = g * (u.magnitude / norms)[:, None]
    return found | {"lora_A": u.scale * (u.b.T @ g), "lora_B": u.scale * (g @ u.a.T)}


def check_gradients(model, gradient_of):
    """`gradient_of(name)` is that of the sum, laid out as the model has it."""
    for name, (w, u, turned) in parts_of(model).items():
        g = gradient_of(f"{name}.weight")
        layer = lora.adapters_of(model)["default"].layers[name]
        for part, wanted in straight_through(g.T if turned else g, w, u).items():
            assert difference(layer.named_parameters()[part].grad, wanted) <= 1e-9, (name, part)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("form", ["q4_0", "nf4", "int4"])
def test_factors_get_the_gradient_of_what_is_stored_straight(kind, form, dora):
    adapter = LoraConfig(rank=4, alpha=8, use_dora=dora)
    model = model_of(kind, adapter=adapter, dtype="float64")
    quantized = prepare(model, QatConfig(weights=form))
    copy = plain_copy(model, as_stored(form))
    with quantized.active(0):
        found = loss_of(model)
        for row in IDS:
            loss_of(model, row[None]).backward()
    for row in IDS:
        loss_of(copy, row[None]).backward()
    assert found.item() == pytest.approx(loss_of(copy).item(), rel=1e-12)
    check_gradients(model, lambda name: copy.named_parameters()[name].grad)
    base = model.base_parameters()
    assert all(base[name].grad is None for name in matrices(model))


def test_learned_steps_and_factors_have_the_gradients_of_the_formula():
    """Esser et al. 2020, arXiv:1902.08153: ∂y/∂w is 1 and ∂y/∂s round(v) − v where
    round(v) is within the range; outside 0 and the end of the range."""
    model = model_of(dtype="float64")
    config = QatConfig(weights="int4", gradient="learnable", observer=Percentile(90))
    quantized = prepare(model, config)
    steps = {name: np.exp(p.data) for name, p in quantized.parameters().items()}
    top = Integer(4).high

    def of(name):
        return steps[f"qat.{name}.log_step"][:, None]

    def stored(name, whole):
        return np.clip(np.rint(whole / of(name)), -top, top) * of(name)

    copy = plain_copy(model, stored)
    with quantized.active(0):
        loss_of(model).backward()
    loss_of(copy).backward()
    inside = {}
    for name, (w, u, _) in parts_of(model).items():
        name = f"{name}.weight"
        v = fused_by_hand(w, u) / of(name)
        g = copy.named_parameters()[name].grad
        inside[name] = np.abs(np.rint(v)) <= top
        assert 0 < inside[name].mean() < 1
        slope = np.where(inside[name], np.rint(v) - v, np.clip(np.rint(v), -top, top))
        each = (g * slope).sum(axis=1) / np.sqrt(g.shape[1] * top)
        found = quantized.parameters()[f"qat.{name}.log_step"].grad
        assert difference(found, each * of(name)[:, 0]) <= 1e-9, name
    check_gradients(model, lambda name: copy.named_parameters()[name].grad * inside[name])


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        QatConfig(weights="q4_0", embedding=True, head=True),
        QatConfig(weights="int4", gradient="learnable", observer="mse"),
        QatConfig(weights="q8_0", include=("*.mlp.*",)),
    ],
    ids=["q4_0", "learned", "some"],
)
def test_what_is_stored_is_what_was_trained_with_and_the_base_stays(config, dora):
    model = model_of(adapter=LoraConfig(rank=4, alpha=8, use_dora=dora))
    adapter = lora.adapters_of(model)["default"]
    quantized = prepare(model, config)
    before = {n: p.data.copy() for n, p in model.base_parameters().items()}
    optimizer = AdamW({**adapter.parameters(), **quantized.parameters()})
    for step in range(2):
        optimizer.zero_grad()
        with quantized.active(step):
            loss_of(model).backward()
        optimizer.step(1e-2)
    assert all((p.data == before[n]).all() for n, p in model.base_parameters().items())
    with no_grad():
        with quantized.active(2):
            trained_with = loss_of(model).item()
        with quantized.exported():
            evaluated = loss_of(model).item()
        stored, errors = quantized.stored(), quantized.errors()
        quantized.finish()
    assert trained_with == evaluated
    assert loss_of(model).item() == pytest.approx(evaluated, abs=0 if len(stored) > 13 else 1e-5)
    assert set(model.fused) == set(adapter.layers)
    for name, each in stored.items():
        assert np.array_equal(model.base_parameters()[name].data, each.dequantize()), name
        assert errors[name].sqnr_db > 10
    assert all((adapter.layers[n].lora_B.data != 0).any() for n in adapter.layers)


@pytest.mark.parametrize("form", ["q4_0", "q8_0", "nf4", "int4"])
def test_the_file_has_the_stored_form_of_the_fused_weights(form, tmp_path):
    model = model_of()
    wanted = {n: quantize(fused_by_hand(w, u), form) for n, (w, u, _) in parts_of(model).items()}
    prepare(model, QatConfig(weights=form)).finish()
    models.save(model, tmp_path)
    found = models.load(tmp_path).named_parameters()
    for name, each in wanted.items():
        assert np.array_equal(found[f"{name}.weight"].data, each.dequantize()), name


def test_outside_the_blocks_and_before_the_schedule_begins_the_adapter_works_as_without():
    model = model_of()
    wanted = loss_of(model).item()
    quantized = prepare(model, QatConfig(weights="int2", schedule=Schedule(1, 1)))
    with quantized.active(0):
        assert loss_of(model).item() == wanted
    with pytest.raises(KeyError), quantized.active(1):
        assert loss_of(model).item() != wanted
        raise KeyError
    assert loss_of(model).item() == wanted


def test_matrices_of_adapters_are_none_that_is_stored():
    assert list(matrices(model_of())) == list(matrices(tiny_model("llama", **SIZES)))


def test_a_base_in_few_bits_is_stored_anew_with_its_adapter(tmp_path):
    models.save(tiny_model("llama", **SIZES), tmp_path)
    model = models.load(tmp_path, quantize="q8_0")
    adapter = lora.adapt(model, LoraConfig(rank=4, alpha=8, target_modules=("q_proj",)))
    draws = np.random.default_rng(0)
    for layer in adapter.layers.values():
        layer.lora_B.data[...] = draws.integers(-8, 9, layer.lora_B.shape) / 64
    bases = {n: np.asarray(p.data) for n, p in model.base_parameters().items()}
    quantized = prepare(model, QatConfig(weights="q4_0"))
    with quantized.active(0):
        loss_of(model).backward()
    assert all(layer.lora_A.grad.any() for layer in adapter.layers.values())
    wanted = {name: bases[name] for name in quantized.matrices}
    for name, layer in adapter.layers.items():
        wanted[f"{name}.weight"] = fused_by_hand(bases[f"{name}.weight"], layer.update())
    quantized.finish()
    for name, whole in wanted.items():
        found = np.asarray(model.base_parameters()[name].data)
        noise = np.square(found - quantize(whole, "q4_0").dequantize()).sum()
        # a sum that differs in its last place can move a code here and there, no more
        assert noise <= 1e-5 * np.square(found).sum(), name
    lora.unfuse(model)
    q_proj = model.model.layers[0].self_attn.q_proj.weight
    assert np.array_equal(q_proj.data, bases["model.layers.0.self_attn.q_proj.weight"])


def test_weights_trained_whole_are_stored_beside_the_adapted_ones():
    model = model_of(adapter=LoraConfig(rank=4, alpha=8, modules_to_save=("lm_head",)))
    quantized = prepare(model, QatConfig(weights="q4_0", head=True))
    with quantized.active(0):
        loss_of(model).backward()
    own = model.lm_head.weight
    assert own.grad.any()
    wanted = quantize(own.data, "q4_0").dequantize()
    quantized.finish()
    assert np.array_equal(model.lm_head.weight.data, wanted)


@pytest.mark.parametrize(
    ("adapter", "tied", "message"),
    [
        ({"dropout": 0.1}, False, r"q_proj.weight: its adapter has a dropout of 0.1"),
        ({"lora_bias": True}, False, r"q_proj.weight: its adapter has a bias of B"),
        (
            {"target_modules": ("q_proj", "embed_tokens")},
            True,
            r"embed_tokens.weight is used in 2 places, and an adapter works in one",
        ),
    ],
)
def test_an_adapter_that_is_no_part_of_a_weight_is_refused(adapter, tied, message):
    model = model_of(adapter=LoraConfig(rank=4, **adapter), tie_word_embeddings=tied)
    with pytest.raises(ConfigError, match=message):
        prepare(model, QatConfig(weights=format_named("q4_0"), embedding=True))


def test_a_tied_table_with_an_adapter_may_be_left_out():
    adapter = LoraConfig(rank=4, target_modules=("q_proj", "embed_tokens"))
    model = model_of(adapter=adapter, tie_word_embeddings=True)
    wanted = {n: fused_by_hand(w, u) for n, (w, u, _) in parts_of(model).items() if "q_" in n}
    table = parts_of(model)["model.embed_tokens"]
    prepare(model, QatConfig(weights="q4_0", include=("*.q_proj.weight",))).finish()
    for name, whole in wanted.items():
        found = model.base_parameters()[f"{name}.weight"].data
        assert np.array_equal(found, quantize(whole, "q4_0").dequantize()), name
    assert np.array_equal(model.model.embed_tokens.weight.data.T, fused_by_hand(*table[:2]))


def test_weights_to_fuse_that_no_adapter_works_beside_are_refused():
    model = model_of(adapter=LoraConfig(rank=4, target_modules=("q_proj",)))
    name = "model.layers.0.mlp.up_proj"
    with pytest.raises(ConfigError, match=f"no adapter works beside {name}"):
        lora.fuse(model, weights={name: np.zeros((96, 64), np.float32)})
    assert not model.fused
