"""Models loaded with the matrices of their projections in few bits: the frozen base of adapters."""

import json

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, ShapeError, UnsupportedError
from entrenar_core import models
from entrenar_core.autograd import Tensor
from entrenar_core.convert.export import export
from entrenar_core.io.bitsandbytes import FourBitFolder
from entrenar_core.io.safetensors import write_folder
from entrenar_core.kernels import Held
from entrenar_core.kernels.nf4 import ENTRIES
from entrenar_core.nn import Projection, modules
from entrenar_core.qat import QatConfig, prepare
from entrenar_core.quant import NF4, Integer, NF4Array, quantize
from entrenar_core.testing import difference, tiny_config, tiny_llama
from model_files import CONFIGS, write_model

IDS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
KINDS = {
    "llama": tiny_config(hidden_size=64, intermediate_size=96),
    "gpt2": CONFIGS["gpt2"],
    "bert": {"model_type": "bert", "vocab_size": 61, "hidden_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 4, "intermediate_size": 96, "max_position_embeddings": 32},
}  # fmt: skip
WIDE = {"hidden_size": 256, "intermediate_size": 512}
FORMS = ["nf4", "int8", "q4_0", "q8_0", "int3"]


@pytest.fixture(params=KINDS)
def folder(request, tmp_path):
    models.save(models.from_config(KINDS[request.param], seed=0), tmp_path)
    return tmp_path


def held_in(model):
    return {n: p.data for n, p in model.named_parameters().items() if isinstance(p.data, Held)}


def outputs_first(weight, module):
    return weight.T if module.output_axis == 1 else weight


@pytest.mark.parametrize("form", FORMS)
def test_it_computes_what_the_dequantized_weights_give(folder, form):
    model, wanted = models.load(folder, quantize=form), models.load(folder)
    assert held_in(model)
    for name, parameter in wanted.named_parameters().items():
        parameter.data = np.asarray(model.named_parameters()[name].data)
    found = model(IDS).data
    assert found.dtype == model.dtype == np.float32
    assert difference(found, wanted(IDS).data) <= 1e-6


@pytest.mark.parametrize("form", FORMS)
def test_blocks_run_along_the_inputs_whatever_way_a_matrix_lies(folder, form):
    model, plain = models.load(folder, quantize=form), dict(modules(models.load(folder)))
    for path, module in modules(model):
        if isinstance(module, Projection) and isinstance(module.weight.data, Held):
            given = outputs_first(plain[path].weight.data, module)
            wanted = quantize(given, form).dequantize()
            found = outputs_first(module.weight.numpy(), module)
            assert np.array_equal(found, wanted), path


def test_tables_norms_biases_and_the_head_stay_floats_and_nothing_is_trained(folder):
    model, plain = models.load(folder, quantize="nf4"), models.load(folder).named_parameters()
    held = held_in(model)
    head = getattr(model, "output_weight", None)
    for path, module in modules(model):
        if isinstance(module, Projection) and module.weight is not head:
            assert (f"{path}.weight" in held) != model.is_of_head(path)
    for name, parameter in model.named_parameters().items():
        assert not parameter.requires_grad
        assert parameter.shape == plain[name].shape
        assert name in held or np.array_equal(parameter.data, plain[name].data)
    assert model.parameter_count() == sum(p.size for p in plain.values())


def test_the_rest_may_be_held_in_16_bits(folder):
    model = models.load(folder, quantize="nf4", dtype="bfloat16")
    held = held_in(model)
    others = {
        p.dtype.name for n, p in model.named_parameters().items() if n not in held and p.ndim > 1
    }
    assert others == {"bfloat16"}
    assert model.dtype == np.float32
    plain = models.load(folder, quantize="nf4")
    assert difference(model(IDS).data, plain(IDS).data) <= 0.05


def test_gradients_of_what_comes_before_pass_through(folder):
    def gradient(model):
        norm = next(p for p in model.parameters() if p.ndim == 1)
        norm.requires_grad = True
        y = model(IDS)
        y.backward(np.random.default_rng(0).standard_normal(y.shape, np.float32))
        return norm.grad

    model, wide = models.load(folder, quantize="nf4"), models.load(folder)
    wide.freeze()
    for name, parameter in wide.named_parameters().items():
        parameter.data = np.asarray(model.named_parameters()[name].data)
    assert difference(gradient(model), gradient(wide)) <= 1e-5


def test_a_saved_model_has_the_numbers_that_the_matrices_stand_for(folder, tmp_path):
    model = models.load(folder, quantize="q4_0")
    models.save(model, tmp_path / "again", max_shard_bytes=20_000)
    for name, parameter in models.load(tmp_path / "again").named_parameters().items():
        assert np.array_equal(parameter.data, np.asarray(model.named_parameters()[name].data))


def test_it_generates_with_a_cache(tmp_path):
    models.save(models.from_config(KINDS["llama"], seed=0), tmp_path / "plain")
    held = models.load(tmp_path / "plain", quantize="q8_0")
    models.save(held, tmp_path / "wide")
    wanted = models.generate(models.load(tmp_path / "wide"), IDS[0], max_new_tokens=8)
    assert np.array_equal(models.generate(held, IDS[0], max_new_tokens=8), wanted)


def test_layers_taken_from_it_are_trained_in_float32(tmp_path):
    models.save(models.from_config(KINDS["llama"], seed=0), tmp_path)
    model = models.load(tmp_path, quantize="nf4")
    student = models.with_layers(model, [1])
    assert all(p.dtype == np.float32 and p.requires_grad for p in student.parameters())
    one = "model.layers.{}.mlp.up_proj.weight".format
    taken = student.named_parameters()[one(0)].data
    assert np.array_equal(taken, np.asarray(model.named_parameters()[one(1)].data))


def test_training_on_stored_numbers_needs_the_weights_themselves(tmp_path):
    models.save(models.from_config(KINDS["llama"], seed=0), tmp_path)
    model = models.load(tmp_path, quantize="nf4")
    with pytest.raises(ConfigError, match=r"q_proj.weight is held in few bits"):
        prepare(model, QatConfig(weights="q4_0"))


def test_a_format_with_options_may_be_given_itself(tmp_path):
    models.save(models.from_config(KINDS["llama"], seed=0), tmp_path)
    held = held_in(models.load(tmp_path, quantize=Integer(4, symmetric=False)))
    assert {matrix.kept.form.name for matrix in held.values()} == {"uint4"}


def test_a_matrix_that_the_format_does_not_fit_is_named(tmp_path):
    models.save(tiny_llama(), tmp_path)  # rows of 24
    where = r"layers.0.self_attn.q_proj.weight \(24, 24\) cannot be held in q4_0"
    with pytest.raises(ShapeError, match=where):
        models.load(tmp_path, quantize="q4_0")


def test_an_unknown_format_is_an_error_with_the_nearest_name(tmp_path):
    models.save(tiny_llama(), tmp_path)
    with pytest.raises(UnsupportedError, match="no format 'nf5'") as error:
        models.load(tmp_path, quantize="nf5")
    assert "nf4" in str(error.value.hint)


def test_arithmetic_in_float64_is_refused(tmp_path):
    models.save(tiny_llama(), tmp_path)
    with pytest.raises(UnsupportedError, match="weights in nf4 are float32"):
        models.load(tmp_path, quantize="nf4", dtype="float64")


# --- files that have their weights in the format already -----------------------------------------


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
@pytest.mark.parametrize("form", ["q4_0", "q8_0"])
def test_blocks_of_a_gguf_file_stay_as_they_are(tmp_path, kind, form):
    write_model(tmp_path / "model", CONFIGS[kind])
    export(tmp_path / "model", tmp_path / "model.gguf", form="gguf", quantization=form)
    model, wanted = (
        models.load(tmp_path / "model.gguf", quantize=form),
        models.load(tmp_path / "model.gguf"),
    )
    held = held_in(model)
    assert held
    for name, matrix in held.items():
        # stored anew from its floats, a block may come out otherwise
        assert np.array_equal(np.asarray(matrix), wanted.named_parameters()[name].data), name
        assert matrix.kept.data.flags.owndata
    assert difference(model(IDS).data, wanted(IDS).data) <= 1e-6


@pytest.mark.parametrize("kind", ["q8_0", "q4_k_m", "f16", "f32"])
def test_what_a_file_has_in_few_bits_can_stay_as_it_is_and_nothing_else(tmp_path, kind):
    """q4_k_m has matrices of two types, where they are of whole blocks."""
    write_model(tmp_path / "plain", CONFIGS["llama"] | WIDE)
    export(tmp_path / "plain", tmp_path / "model.gguf", form="gguf", quantization=kind)
    model, wanted = (models.load(tmp_path / "model.gguf", quantize=how) for how in ("stored", None))
    types = {matrix.kept.form.name for matrix in held_in(model).values()}
    assert types == {"q8_0": {"q8_0"}, "q4_k_m": {"q4_k", "q6_k"}}.get(kind, set())
    for name, parameter in wanted.named_parameters().items():
        assert np.array_equal(np.asarray(model.named_parameters()[name].data), parameter.data)
    assert difference(model(IDS).data, wanted(IDS).data) < 1e-5


def test_blocks_of_another_type_are_stored_anew(tmp_path):
    write_model(tmp_path / "model", CONFIGS["llama"])
    export(tmp_path / "model", tmp_path / "model.gguf", form="gguf", quantization="q8_0")
    floats = models.load(tmp_path / "model.gguf").named_parameters()
    for name, matrix in held_in(models.load(tmp_path / "model.gguf", quantize="nf4")).items():
        assert np.array_equal(np.asarray(matrix), quantize(floats[name].data, "nf4").dequantize())


def test_blocks_of_an_apr_file_stay_as_they_are(tmp_path):
    write_model(tmp_path / "model", CONFIGS["llama"])
    export(tmp_path / "model", tmp_path / "model.apr", form="apr", quantization="q4_0")
    wanted = models.load(tmp_path / "model.apr").named_parameters()
    held = held_in(models.load(tmp_path / "model.apr", quantize="q4_0"))
    assert held
    for name, matrix in held.items():
        assert np.array_equal(np.asarray(matrix), wanted[name].data)


def write_four_bit(folder, config, form, dtype):
    """A folder in NF4 as bitsandbytes' `QuantState.as_dict` lays it out, without the head."""
    models.save(models.from_config(config, seed=0), folder)
    tensors = {}
    for name, parameter in models.load(folder).named_parameters().items():
        tensors[name] = parameter.data
        if not name.endswith("proj.weight"):
            continue
        stored = quantize(parameter.data, form)
        state = {
            "quant_type": "nf4", "blocksize": form.block, "dtype": dtype,
            "shape": list(parameter.shape),
        }  # fmt: skip
        tensors |= {
            name: stored.codes[:, None],
            f"{name}.absmax": stored.scales.codes,
            f"{name}.quant_map": ENTRIES,
            f"{name}.quant_state.bitsandbytes__nf4": np.frombuffer(
                json.dumps(state).encode(), np.uint8
            ),
        }
    write_folder(folder, tensors)
    path = folder / "config.json"
    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": settings}))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_codes_of_a_folder_in_nf4_stay_as_they_are(tmp_path, dtype):
    # other blocks and scales than those that are asked for: to round again would lose more
    write_four_bit(tmp_path, KINDS["llama"], NF4(128, double=False), dtype)
    model, wanted = models.load(tmp_path, quantize="nf4"), models.load(tmp_path)
    held = held_in(model)
    assert len(held) == 14
    with FourBitFolder(tmp_path) as files:
        for name, matrix in held.items():
            assert isinstance(matrix.kept, NF4Array)
            assert matrix.kept.form == NF4(128, double=False)
            assert np.array_equal(matrix.kept.codes, files.stored(name).codes)
            assert np.array_equal(np.asarray(matrix), wanted.named_parameters()[name].data)
    assert difference(model(IDS).data, wanted(IDS).data) <= 1e-6


# --- beside bitsandbytes -------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("block", [64, 128])
def test_logits_are_those_of_bitsandbytes_weights_in_torch(tmp_path, block):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    functional = pytest.importorskip("bitsandbytes.functional")
    models.save(models.from_config(KINDS["llama"], seed=0), tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    with torch.no_grad():
        for name, module in theirs.named_modules():
            if isinstance(module, torch.nn.Linear) and name != "lm_head":
                packed, state = functional.quantize_4bit(
                    module.weight.data, blocksize=block, quant_type="nf4"
                )
                # in one row: with AVX-512, bitsandbytes 0.50.2 misreads rows of parts of blocks
                shape, state.shape = state.shape, torch.Size((1, module.weight.numel()))
                module.weight.copy_(functional.dequantize_4bit(packed, state).reshape(shape))
        wanted = theirs(torch.from_numpy(IDS)).logits.numpy()
    # with their scales in float32: in 8 bits theirs depend on the order of a sum
    found = models.load(tmp_path, quantize=NF4(block, double=False))(IDS).data
    assert difference(found, wanted) <= 1e-5


@pytest.mark.parity
def test_a_layer_computes_what_linear4bit_does(tmp_path):
    torch = pytest.importorskip("torch")
    bitsandbytes = pytest.importorskip("bitsandbytes")
    x, weight = (np.random.default_rng(i).standard_normal((48, 64), np.float32) for i in (0, 1))
    layer = bitsandbytes.nn.Linear4bit(
        64, 48, bias=False, compute_dtype=torch.float32, compress_statistics=False,
        quant_type="nf4",
    )  # fmt: skip
    layer.weight = bitsandbytes.nn.Params4bit(
        torch.from_numpy(weight), requires_grad=False, quant_type="nf4", compress_statistics=False
    )
    layer = layer.to("cpu")
    given = torch.from_numpy(x).requires_grad_()
    theirs = layer(given)
    theirs.backward(torch.ones_like(theirs))
    from entrenar_core.autograd import ops

    ours = Tensor(x, requires_grad=True)
    y = ops.linear(ours, Tensor(Held(quantize(weight, "nf4-single"))))
    y.backward(np.ones(y.shape, np.float32))
    assert difference(y.data, theirs.detach().numpy()) <= 1e-6
    assert difference(ours.grad, given.grad.numpy()) <= 1e-6
