"""A model while it is quantized, beside one whose weights are what is stored."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core import models
from entrenar_core.autograd import no_grad, ops
from entrenar_core.optim import AdamW
from entrenar_core.qat import QatConfig, matrices, prepare
from entrenar_core.quant import FORMATS, Grain, Integer, Percentile
from entrenar_core.testing import difference, tiny_model

SIZES = {"hidden_size": 64, "intermediate_size": 96}
GPT2 = {"n_embd": 64, "n_inner": 96}
FORMS = ["q4_0", "q8_0", "nf4", "int4", "uint4", "f16"]
IDS = np.array([[1, 7, 30, 2, 11], [5, 5, 9, 60, 3]])


def model_of(kind="llama", **overrides):
    return tiny_model(kind, **(GPT2 if kind == "gpt2" else SIZES), **overrides)


def copy_with(model, form, names):
    """The same model with the weights `names` as `form` stores them, laid out (out, in)."""
    copy = models.with_layers(model, range(2))
    for name, matrix in matrices(copy).items():
        if name in names:
            w = matrix.parameter.data
            turned = w.T if matrix.output_axis else w
            stored = FORMATS[form].quantize(turned).dequantize()
            matrix.parameter.data[...] = stored.T if matrix.output_axis else stored
    return copy


def loss_of(model, ids=IDS):
    labels = np.roll(ids, -1, axis=1)
    return ops.linear_cross_entropy(
        model.hidden(ids), model.output_weight, labels, normalizer=labels.size
    )


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters().items()}


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("form", FORMS)
def test_values_and_gradients_are_those_of_a_model_with_the_stored_weights(kind, form):
    model = model_of(kind)
    config = QatConfig(weights=form, embedding=True, head=True)
    quantized = prepare(model, config)
    copy = copy_with(model, form, quantized.matrices)
    with quantized.active(0):
        loss = loss_of(model)
        loss.backward()
    wanted = loss_of(copy)
    wanted.backward()
    assert loss.item() == wanted.item()
    assert set(quantized.matrices) == set(matrices(model))
    for name, gradient in gradients(copy).items():
        assert np.array_equal(gradients(model)[name], gradient), name


def test_every_use_of_a_tied_table_sees_what_is_stored():
    model = model_of(tie_word_embeddings=True)
    quantized = prepare(model, QatConfig(weights="q4_0", embedding=True, exclude=("*.layers.*",)))
    assert list(quantized.matrices) == ["model.embed_tokens.weight"]
    copy = copy_with(model, "q4_0", quantized.matrices)
    with quantized.active(0):
        assert model.lm_head.weight is model.model.embed_tokens.weight
        loss_of(model).backward()
    loss_of(copy).backward()
    name = "model.embed_tokens.weight"
    assert np.array_equal(gradients(model)[name], gradients(copy)[name])


def test_an_encoder_is_quantized_as_well():
    config = {
        "model_type": "bert", "vocab_size": 61, "hidden_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 96, "max_position_embeddings": 64,
    }  # fmt: skip
    model, copy = (models.from_config(config, seed=0, head="embedding") for _ in range(2))
    quantized = prepare(model, QatConfig(weights="q4_0"))
    for name in quantized.matrices:
        p = copy.named_parameters()[name]
        p.data[...] = FORMATS["q4_0"].quantize(p.data).dequantize()
    with quantized.active(0), no_grad():
        found = model(IDS).data
    assert np.array_equal(found, copy(IDS).data)


@pytest.mark.parametrize("gradient", ["clipped", "learnable"])
@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_of_several_micro_batches_add_up(gradient, recompute):
    model = model_of(dtype="float64")
    model.recompute = recompute
    quantized = prepare(model, QatConfig(weights="int4", gradient=gradient))
    total = {}
    for row in IDS:
        with quantized.active(0):
            loss_of(model, row[None]).backward()
        for name, p in {**model.named_parameters(), **quantized.parameters()}.items():
            total[name] = total.get(name, 0) + p.grad
            p.grad = None
    model.recompute = False
    with quantized.active(0):
        for row in IDS:
            loss_of(model, row[None]).backward()
    for name, p in {**model.named_parameters(), **quantized.parameters()}.items():
        assert difference(p.grad, total[name]) <= 1e-12, name


@pytest.mark.parametrize("form", ["q4_0", Integer(4)])
@pytest.mark.parametrize("observer", ["minmax", "percentile"])
def test_gradients_arrive_in_the_memory_of_the_optimizer(form, observer):
    if form == "q4_0" and observer != "minmax":
        form = Integer(4, symmetric=False)
    model = model_of()
    quantized = prepare(model, QatConfig(weights=form, observer=observer))
    optimizer = AdamW(model.named_parameters())
    before = {n: p.data.copy() for n, p in model.named_parameters().items()}
    for step in range(2):
        optimizer.zero_grad()
        with quantized.active(step):
            loss_of(model).backward()
        for name, p in model.named_parameters().items():
            assert p.grad is p.grad_buffer, name
        optimizer.step(1e-3)
    after = model.named_parameters()
    assert all((after[name].data != before[name]).any() for name in before)


def test_a_step_of_training_is_that_of_the_gradient_at_the_stored_weights():
    model = model_of()
    quantized = prepare(model, QatConfig(weights="q4_0"))
    copy = copy_with(model, "q4_0", quantized.matrices)
    loss_of(copy).backward()
    start = {n: p.data.copy() for n, p in model.named_parameters().items()}
    optimizer = AdamW(model.named_parameters(), beta1=0.0, beta2=0.0, eps=1.0, weight_decay=0.0)
    with quantized.active(0):
        loss_of(model).backward()
    optimizer.step(1.0)
    for name, p in model.named_parameters().items():
        g = gradients(copy)[name]  # with β = 0 a step is lr·g/(|g| + ε)
        assert p.data == pytest.approx(start[name] - g / (np.abs(g) + 1), abs=1e-6), name


def test_outside_the_range_of_a_percentile_there_is_no_gradient():
    model = model_of()
    form, observer = Integer(4), Percentile(90)
    quantized = prepare(model, QatConfig(weights=form, observer=observer))
    with quantized.active(0):
        loss_of(model).backward()
    for fake in quantized.matrices.values():
        w = fake.matrix.parameter
        limit = np.percentile(np.abs(w.data), 90, axis=1)[:, None] * (7.5 / 7)
        assert not w.grad[np.abs(w.data) > limit * 1.001].any()
        assert (w.grad[np.abs(w.data) < limit * 0.999] != 0).mean() > 0.9


def test_after_the_block_and_after_an_error_the_model_is_as_it_was():
    model = model_of(tie_word_embeddings=True)
    before = {name: id(p) for name, p in model.named_parameters().items()}
    quantized = prepare(
        model,
        QatConfig(weights="q4_0", embedding=True, activations=Integer(8, grain=Grain("tensor"))),
    )
    for block in (quantized.active(0), quantized.exported()):
        with pytest.raises(KeyError), block:
            raise KeyError
        assert {name: id(p) for name, p in model.named_parameters().items()} == before
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert model.model.layers[0].mlp.down_proj.on_input is None


def test_a_gradient_that_comes_too_late_is_an_error_and_not_lost():
    model = model_of()
    quantized = prepare(model, QatConfig(weights="q4_0"))
    with quantized.active(0):
        loss = loss_of(model)
    with pytest.raises(ConfigError, match="came after its step"):
        loss.backward()


def test_frozen_weights_are_quantized_and_get_no_gradient():
    model = model_of()
    model.model.layers[0].freeze()
    quantized = prepare(model, QatConfig(weights="int4", observer="percentile"))
    copy = models.with_layers(model, range(2))
    for name, stored in quantized.stored().items():
        copy.named_parameters()[name].data[...] = stored.dequantize()
    with quantized.active(0):
        loss = loss_of(model)
        loss.backward()
    assert loss.item() == loss_of(copy).item()
    assert all(p.grad is None for p in model.model.layers[0].parameters())
    assert all(p.grad is not None for p in model.model.layers[1].parameters())


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_the_input_of_every_projection_is_quantized_with_or_without_recomputation(kind):
    config = QatConfig(weights="q8_0", activations=Integer(8, False, Grain("tensor")))
    found = []
    for recompute in (False, True):
        model = model_of(kind, dtype="float64")
        model.recompute = recompute
        quantized = prepare(model, config)
        for step in range(2):
            with quantized.active(step):
                loss_of(model).backward()
        ranges = {n: a for n, a in quantized.state().items() if ".input_" in n}
        assert len(ranges) == 2 * len(quantized.inputs) > 0
        found.append(gradients(model) | ranges)
    for name, array in found[0].items():
        assert difference(found[1][name], array) <= 1e-12, name


@pytest.mark.parametrize(
    "config",
    [
        QatConfig(weights="q4_0"),
        QatConfig(weights="nf4", embedding=True),
        QatConfig(weights="uint3", observer="mse"),
        QatConfig(weights=Integer(4, False, Grain("group", 16)), gradient="learnable"),
        QatConfig(weights="int4", gradient="soft", head=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_what_is_stored_is_what_was_trained_with_to_the_bit(kind, config):
    model = model_of(kind)
    quantized = prepare(model, config)
    with no_grad():
        with quantized.active(0):
            trained_with = loss_of(model).item()
        with quantized.exported():
            evaluated = loss_of(model).item()
        stored = quantized.stored()
        quantized.finish()
        finished = loss_of(model).item()
    assert trained_with == evaluated == finished
    for name, fake in quantized.matrices.items():
        w = fake.matrix.parameter.data
        assert np.array_equal(stored[name].dequantize(), w.T if fake.matrix.output_axis else w)


def test_a_recipe_gives_each_matrix_its_format():
    def recipe(name):
        if name == "lm_head.weight":
            return "q8_0"
        return "q4_0" if "mlp" in name else None

    found = prepare(model_of(), QatConfig(weights=recipe)).stored()
    by_name = {name: recipe(name) for name in matrices(model_of()) if recipe(name)}
    assert {name: stored.form.name for name, stored in found.items()} == by_name
    again = prepare(model_of(), QatConfig(weights=by_name))
    assert again.matrices.keys() == found.keys()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weights": "q4_0", "include": ("*.mpl.*",)}, ConfigError, r"matches '\*.mpl.\*'"),
        ({"weights": "q4_0", "exclude": ("*",)}, ConfigError, "no matrix of the model is quant"),
        ({"weights": {"lm_haed.weight": "q4_0"}}, ConfigError, "no matrix lm_haed.weight"),
        ({"weights": {}}, ConfigError, "no matrix of the model is quantized"),
        ({"weights": {}, "embedding": True}, ConfigError, "weights by name together with"),
        ({"weights": "q4_0", "gradient": "soft"}, ConfigError, "in q4_0 has scales of its own: gr"),
        ({"weights": "nf4", "observer": "mse"}, ConfigError, "in nf4 has scales.*: observer"),
        ({"weights": "int4", "gradient": "hard"}, ConfigError, "the gradient 'hard'"),
        ({"weights": "int4", "observer": "max"}, ConfigError, "the observer 'max'"),
        ({"weights": "int4", "alpha": 1.0}, ConfigError, "alpha is 1.0"),
        ({"weights": "int4", "noise": 1.0}, ConfigError, "noise in a share of 1.0"),
        ({"weights": "int4", "activations": Integer(8)}, ConfigError, "activations in int8"),
        ({"weights": "q4_k"}, ShapeError, "64 elements is no whole number of q4_k blocks"),
    ],
)
def test_what_makes_no_sense_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        prepare(model_of(), QatConfig(**options))
