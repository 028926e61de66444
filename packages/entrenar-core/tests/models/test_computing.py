"""Models that are loaded to compute in integers of 8 bits: what is kept so, and what comes out."""

import numpy as np
import pytest

from entrenar_common.errors import NumericsError, UnsupportedError
from entrenar_core import models
from entrenar_core.autograd import Tensor
from entrenar_core.convert.export import export
from entrenar_core.kernels import Held, Int8Panels
from entrenar_core.kernels.matmul_int8 import quantized_rows
from entrenar_core.models.computing import COMPUTING, computed_in, load_for
from entrenar_core.nn import Embedding, Projection, modules
from entrenar_core.quant import quantize
from entrenar_core.testing import difference, tiny_config
from model_files import CONFIGS, write_model

pytestmark = pytest.mark.tier2

IDS = np.array([[3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7, 9, 3]])
KINDS = {
    "llama": tiny_config(hidden_size=64, intermediate_size=96),
    "tied": tiny_config(hidden_size=64, intermediate_size=96, tie_word_embeddings=True),
    "gpt2": CONFIGS["gpt2"],
    "bert": {"model_type": "bert", "vocab_size": 61, "hidden_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 4, "intermediate_size": 96, "max_position_embeddings": 32},
}  # fmt: skip


@pytest.fixture(params=KINDS)
def folder(request, tmp_path):
    models.save(models.from_config(KINDS[request.param], seed=0), tmp_path)
    return tmp_path


def panels_in(model):
    named = model.named_parameters().items()
    return {
        name: p.data
        for name, p in named
        if isinstance(p.data, Held) and isinstance(p.data.kept, Int8Panels)
    }


def test_projections_are_kept_in_panels_and_everything_else_in_float32(folder):
    model, plain = load_for(folder, "int8"), models.load(folder).named_parameters()
    kept, tables = panels_in(model), set()
    for path, module in modules(model):
        if isinstance(module, Embedding):
            tables.add(f"{path}.weight")
    output = id(getattr(model, "output_weight", None))
    for path, module in modules(model):
        name = f"{path}.weight"
        if isinstance(module, Projection) and name in model.named_parameters():
            wanted = not model.is_of_head(name) or id(module.weight) == output
            assert (name in kept) == wanted, name
    assert kept.keys().isdisjoint(tables)
    for name, parameter in model.named_parameters().items():
        assert not parameter.requires_grad
        assert parameter.shape == plain[name].shape
        assert name in kept or np.array_equal(parameter.data, plain[name].data)
    assert model.parameter_count() == sum(p.size for p in plain.values())
    bytes_of = sum(matrix.nbytes for matrix in kept.values())
    # with a float32 for each output, and rows that fill up the last panel
    assert bytes_of < 1.9 * sum(matrix.size for matrix in kept.values())


def test_matrices_are_those_of_int8_per_output(folder):
    model, plain = load_for(folder, "int8"), dict(modules(models.load(folder)))
    for path, module in modules(model):
        if isinstance(module, Projection) and isinstance(module.weight.data, Held):
            given, found = plain[path].weight.data, np.asarray(module.weight.data)
            if module.output_axis == 1:
                given, found = given.T, found.T
            assert np.array_equal(found, quantize(given, "int8").dequantize()), path


def by_integers(x, matrix):
    """x (N, I) times the transposed of a weight (O, I) that is stored in int8."""
    q, scale = quantized_rows(x)
    sums = q.astype(np.int64) @ matrix.integers().astype(np.int64).T
    return sums * matrix.scale * scale[:, None]


def test_every_projection_multiplies_integers(folder):
    model, plain = load_for(folder, "int8"), dict(modules(models.load(folder)))
    for path, module in modules(model):
        if isinstance(module, Projection) and isinstance(module.weight.data, Held):
            weight = plain[path].weight.data
            weight = weight.T if module.output_axis == 1 else weight
            x = np.random.default_rng(0).standard_normal((7, weight.shape[1]), np.float32)
            residual = np.random.default_rng(1).standard_normal((7, len(weight)), np.float32)
            with computed_in("int8"):
                found = module(Tensor(x), Tensor(residual)).data
            wanted = by_integers(x, quantize(weight, "int8")) + residual
            if module.bias is not None:
                wanted = wanted + module.bias.data
            assert difference(found, wanted) <= 3e-7, path


def test_states_are_near_those_of_float32(folder):
    model, plain = load_for(folder, "int8"), models.load(folder)
    with computed_in("int8"):
        found = states(model)
    assert found.dtype == np.float32
    assert 1e-4 < difference(found, states(plain)) < 0.1


def states(model):
    backbone = getattr(model, "encoder", model)
    return backbone.hidden(IDS).data


@pytest.mark.parametrize("kind", ["llama", "tied"])
def test_the_output_projection_is_computed_in_integers_too(tmp_path, kind):
    models.save(models.from_config(KINDS[kind], seed=0), tmp_path)
    model, plain = load_for(tmp_path, "int8"), models.load(tmp_path)
    weight = plain.output_weight.data
    with computed_in("int8"):
        hidden, found = model.hidden(IDS), model(IDS).data
    wanted = by_integers(hidden.data.reshape(-1, 64), quantize(weight, "int8"))
    wanted = wanted.reshape(found.shape)
    assert difference(found, wanted) <= 3e-7
    table = model.input_embedding.weight.data
    assert np.array_equal(table, plain.input_embedding.weight.data)


def test_a_table_that_the_output_is_tied_to_stays_one_parameter(tmp_path):
    models.save(models.from_config(KINDS["tied"], seed=0), tmp_path)
    model = load_for(tmp_path, "int8")
    assert model.tied_names() == {"lm_head.weight": "model.embed_tokens.weight"}
    assert isinstance(model.output_weight.data, Held)
    models.save(model, tmp_path / "again")
    found = models.load(tmp_path / "again").named_parameters()
    for name, parameter in model.named_parameters().items():
        assert np.array_equal(found[name].data, np.asarray(parameter.data)), name


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_blocks_of_a_gguf_file_in_q8_0_keep_their_numbers(tmp_path, kind):
    write_model(tmp_path / "model", CONFIGS[kind])
    export(tmp_path / "model", tmp_path / "model.gguf", form="gguf", quantization="q8_0")
    model, wanted = load_for(tmp_path / "model.gguf", "int8"), models.load(tmp_path / "model.gguf")
    kept = panels_in(model)
    in_blocks = {name for name, matrix in kept.items() if matrix.kept.scales.dtype == np.float16}
    assert in_blocks == set(panels_in(model))
    for name, matrix in kept.items():
        assert np.array_equal(np.asarray(matrix), wanted.named_parameters()[name].data), name


def test_blocks_of_another_type_are_rounded_to_int8(tmp_path):
    write_model(tmp_path / "model", CONFIGS["llama"])
    export(tmp_path / "model", tmp_path / "model.gguf", form="gguf", quantization="q4_0")
    floats = models.load(tmp_path / "model.gguf").named_parameters()
    kept = panels_in(load_for(tmp_path / "model.gguf", "int8"))
    # the output is in q8_0 there
    rounded = {n: matrix for n, matrix in kept.items() if matrix.kept.scales.dtype == np.float32}
    assert kept.keys() - rounded.keys() == {"lm_head.weight"}
    for name, matrix in rounded.items():
        assert np.array_equal(np.asarray(matrix), quantize(floats[name].data, "int8").dequantize())


def test_it_goes_on_with_a_cache_as_without(tmp_path):
    models.save(models.from_config(KINDS["tied"], seed=0), tmp_path)
    model = load_for(tmp_path, "int8")
    with computed_in("int8"):
        found = models.generate(model, IDS[0], max_new_tokens=6)
        for end in range(8, 14):
            logits = model(found[None, :end]).data[0, -1]
            assert int(logits.argmax()) == found[end]


def test_outside_a_model_that_was_loaded_for_it_computes_with_the_numbers_of_its_weights(tmp_path):
    models.save(models.from_config(KINDS["llama"], seed=0), tmp_path)
    model, wide = load_for(tmp_path, "int8"), models.load(tmp_path)
    for name, parameter in wide.named_parameters().items():
        parameter.data = np.asarray(model.named_parameters()[name].data)
    assert difference(model(IDS).data, wide(IDS).data) <= 1e-6


def test_float32_is_the_model_as_it_is(tmp_path):
    models.save(models.from_config(KINDS["llama"], seed=0), tmp_path)
    with computed_in("float32"):
        found = load_for(tmp_path, "float32")(IDS).data
    assert np.array_equal(found, models.load(tmp_path)(IDS).data)


def test_another_name_is_an_error_with_those_that_there_are(tmp_path):
    for use in (lambda: load_for(tmp_path, "int7"), lambda: computed_in("int7").__enter__()):
        with pytest.raises(UnsupportedError, match="int7") as caught:
            use()
        assert all(name in str(caught.value.hint) for name in COMPUTING)


def test_a_weight_that_is_not_finite_is_named(tmp_path):
    model = models.from_config(KINDS["llama"], seed=0)
    model.lm_head.weight.data[3, 4] = np.nan
    models.save(model, tmp_path)
    with pytest.raises(NumericsError, match=r"lm_head.weight .* element \(3, 4\) is nan"):
        load_for(tmp_path, "int8")
