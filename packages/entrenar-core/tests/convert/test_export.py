"""Models into other formats: what is written, what is said about it, what is refused."""

import errno
import json

import ml_dtypes
import numpy as np
import pytest

from entrenar_common.errors import (
    ConfigError,
    IntegrityError,
    NotFoundError,
    NumericsError,
    RefusedError,
    StorageError,
    UnsupportedError,
)
from entrenar_core import models
from entrenar_core.convert.export import export
from entrenar_core.convert.verify import by_format, compared
from entrenar_core.data.load_tokenizer import load_tokenizer
from entrenar_core.io.apr import APRFile
from entrenar_core.io.faults import inject
from entrenar_core.io.safetensors import SafetensorsFile, write_file
from entrenar_core.io.torch_save import TorchFile
from entrenar_core.io.weights import open_tensors
from entrenar_core.quant import FORMATS, quantize
from model_files import SMALL, bpe, write_model

IDS = np.random.default_rng(0).integers(0, 290, (2, 17))
TEXT = "the cat, naïve\n\n  and 漢字 🙂 123"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model with a tokenizer; read only."""
    return write_model(tmp_path_factory.mktemp("model"), SMALL)


def logits(path):
    return models.load(path)(IDS).numpy()


@pytest.mark.parametrize(
    ("form", "name"), [("gguf", "a.gguf"), ("apr", "a.apr"), ("safetensors", "a"), ("pth", "a")]
)
def test_every_format_brings_back_model_and_tokenizer(folder, tmp_path, form, name):
    found = export(folder, tmp_path / name, form=form, quantization="f32")
    assert np.array_equal(logits(tmp_path / name), logits(folder))
    ids = load_tokenizer(tmp_path / name).encode(TEXT)
    assert ids.tolist() == bpe().encode(TEXT).tolist()
    assert found.nbytes == sum(path.stat().st_size for path in found.files)
    assert [loss.worst for loss in found.losses] == [0.0]
    assert sum(loss.elements for loss in found.losses) == models.parameter_count(SMALL)


def test_a_chain_of_formats_changes_nothing_but_what_the_coarsest_does(folder, tmp_path):
    export(folder, tmp_path / "a.gguf", form="gguf", quantization="q8_0")
    export(tmp_path / "a.gguf", tmp_path / "b", form="safetensors", quantization="f32")
    export(tmp_path / "b", tmp_path / "c.apr", form="apr", quantization="f32")
    export(tmp_path / "c.apr", tmp_path / "d.gguf", form="gguf", quantization="q8_0")
    assert np.array_equal(logits(tmp_path / "d.gguf"), logits(tmp_path / "a.gguf"))


def test_the_type_of_the_source_is_the_default(folder, tmp_path):
    export(folder, tmp_path / "half", form="safetensors", quantization="bf16")
    assert export(tmp_path / "half", tmp_path / "a.gguf", form="gguf").quantization == "bf16"
    assert export(folder, tmp_path / "b.gguf", form="gguf").quantization == "f32"
    export(folder, tmp_path / "c.gguf", form="gguf", quantization="q4_0")
    assert export(tmp_path / "c.gguf", tmp_path / "d", form="safetensors").quantization == "float16"


def test_matrices_of_an_apr_file_are_in_blocks_where_rows_allow_it(folder, tmp_path):
    export(folder, tmp_path / "a.apr", form="apr", quantization="q4_0")
    with APRFile(tmp_path / "a.apr") as file:
        kinds = {name: str(getattr(i.dtype, "name", i.dtype)) for name, i in file.tensors.items()}
        weight = file.read_blocks("model.layers.0.mlp.up_proj.weight")
    assert kinds["model.norm.weight"] == "F32"
    with SafetensorsFile(folder / "model.safetensors") as source:
        wanted = source.read("model.layers.0.mlp.up_proj.weight")
    assert np.array_equal(weight.data, quantize(wanted, "q4_0").data)


def test_losses_are_those_of_the_formats(folder, tmp_path):
    found = export(folder, tmp_path / "a.gguf", form="gguf", quantization="q8_0")
    (loss,) = (loss for loss in found.losses if loss.form == "q8_0")
    noise = signal = 0.0
    with SafetensorsFile(folder / "model.safetensors") as source:
        for name in source.names():
            array = source.read(name)
            if array.ndim == 2:
                error = quantize(array, "q8_0").dequantize() - array
                noise += float((error.astype(np.float64) ** 2).sum())
                signal += float((array.astype(np.float64) ** 2).sum())
    assert loss.sqnr == pytest.approx(10 * np.log10(signal / noise), abs=1e-3)
    assert loss.bits_per_weight == 8.5


def test_numbers_that_are_not_finite_count_for_nothing_and_have_to_be_there():
    array = np.array([[1.0, np.inf, np.nan, -np.inf]], np.float32)
    loss = compared("w", array, FORMATS["f32"].wrap(array.view(np.uint8), array.shape))
    assert (loss.worst, loss.noise, loss.signal) == (0.0, 0.0, 1.0)
    for place, value in ((0, np.nan), (1, -np.inf), (2, 0.0)):
        wrong = array.copy()
        wrong[0, place] = value
        with pytest.raises(IntegrityError, match="'w'"):
            compared("w", array, FORMATS["f32"].wrap(wrong.view(np.uint8), array.shape))


@pytest.mark.parametrize("form", ["f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q6_k"])
def test_a_changed_element_is_an_integrity_error(form):
    array = np.random.default_rng(1).standard_normal((4, 512)).astype(np.float32)
    stored = FORMATS[form].quantize(array)
    compared("w", array, stored)
    wrong = array.copy()
    wrong[2, 300] += 1.0
    with pytest.raises(IntegrityError, match="'w'"):
        compared("w", wrong, stored)


BLOCKS = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k", "f16", "bf16")


@pytest.mark.parametrize("form", BLOCKS)
@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1.0, 30.0])
def test_no_array_that_is_stored_right_is_reported(form, scale):
    rng = np.random.default_rng(2)
    rows = [
        rng.standard_normal((8, 512)),
        rng.standard_t(2, (8, 512)),
        np.where(rng.random((8, 512)) < 0.01, rng.standard_normal((8, 512)) * 50, 0),
        np.zeros((8, 512)),
        rng.uniform(0, 1, (8, 512)),
        np.sign(rng.standard_normal((8, 512))),
    ]
    array = (np.concatenate(rows) * scale).astype(np.float32)
    error = compared("w", array, FORMATS[form].quantize(array))
    assert next(by_format([error])).tensors == 1


def test_half_precision_that_would_overflow_is_refused(tmp_path):
    source = write_model(tmp_path / "a", SMALL)
    with SafetensorsFile(source / "model.safetensors") as file:
        tensors = {name: file.read(name).copy() for name in file.names()}
    tensors["model.norm.weight"][3] = 1e6
    write_file(source / "model.safetensors", tensors, {"format": "pt"})
    with pytest.raises(NumericsError, match=r"model\.norm\.weight.*1e\+06"):
        export(source, tmp_path / "b", form="safetensors", quantization="f16")
    assert not list((tmp_path / "b").glob("*.safetensors*"))


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"form": "onnx"}, UnsupportedError, "onnx"),
        ({"form": "gguf", "quantization": "q4_l"}, UnsupportedError, "q4_l"),
        ({"form": "apr", "quantization": "q4_k_m"}, UnsupportedError, "q4_k_m"),
        ({"form": "safetensors", "quantization": "q4_0"}, UnsupportedError, "q4_0"),
        ({"form": "pth", "quantization": "q8_0"}, UnsupportedError, "q8_0"),
        ({"form": "pth", "pre": "qwen2"}, ConfigError, "qwen2"),
        ({"form": "safetensors", "pre": "qwen2"}, ConfigError, "qwen2"),
        ({"form": "apr", "pre": "qwen2"}, ConfigError, "qwen2"),
        ({"form": "gguf", "pre": "kwen"}, ConfigError, "kwen"),
    ],
)
def test_what_cannot_be_written_is_refused(folder, tmp_path, options, error, word):
    with pytest.raises(error, match=word):
        export(folder, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


OPENERS = {"safetensors": SafetensorsFile, "pth": TorchFile}


def test_a_folder_where_a_file_is_to_be_is_refused(folder, tmp_path):
    for form in ("gguf", "apr"):
        with pytest.raises(ConfigError, match="a folder"):
            export(folder, tmp_path, form=form)
    (tmp_path / "a.pth").mkdir()
    with pytest.raises(ConfigError, match="a folder"):
        export(folder, tmp_path / "a.pth", form="pth")
    (tmp_path / "file").write_text("mine")
    for form in ("safetensors", "pth"):
        with pytest.raises(ConfigError, match="a file"):
            export(folder, tmp_path / "file", form=form)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(("form", "name"), [("safetensors", "a.safetensors"), ("pth", "a.pth")])
def test_a_lone_file_has_the_tensors_and_nothing_lies_beside_it(folder, tmp_path, form, name):
    found = export(folder, tmp_path / name, form=form)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert found.files == (tmp_path / name,)
    with SafetensorsFile(folder / "model.safetensors") as wanted, OPENERS[form](found.path) as file:
        assert file.names() == wanted.names()
        for tensor in wanted.names():
            assert np.array_equal(file.read(tensor), wanted.read(tensor))


def test_a_state_dict_has_the_names_of_tied_weights_for_one_storage(tmp_path):
    tied = write_model(tmp_path / "a", SMALL | {"tie_word_embeddings": True})
    export(tied, tmp_path / "a.pth", form="pth", quantization="bf16")
    with TorchFile(tmp_path / "a.pth") as file:
        head, table = file.info("lm_head.weight"), file.info("model.embed_tokens.weight")
    assert (head.key, head.dtype.name) == (table.key, "BF16")
    export(tied, tmp_path / "b", form="pth")
    assert np.array_equal(logits(tmp_path / "b"), logits(tied))


@pytest.mark.parametrize("form", ["safetensors", "pth"])
def test_tensors_of_a_folder_keep_their_own_types(tmp_path, form):
    source = write_model(tmp_path / "a", SMALL)
    with SafetensorsFile(source / "model.safetensors") as file:
        tensors = {name: file.read(name).astype(ml_dtypes.bfloat16) for name in file.names()}
    norm = np.float32(1) + np.arange(64, dtype=np.float32) * np.float32(2**-20)
    tensors["model.norm.weight"] = norm
    write_file(source / "model.safetensors", tensors, {"format": "pt"})
    found = export(source, tmp_path / "b", form=form)
    assert found.quantization == "bfloat16"
    assert {loss.form: loss.worst for loss in found.losses} == {"bf16": 0.0, "f32": 0.0}
    with open_tensors(tmp_path / "b") as file:
        assert np.array_equal(file.read("model.norm.weight"), norm)
        assert str(file.info("model.embed_tokens.weight").dtype) == "BF16"
    assert json.loads((tmp_path / "b/config.json").read_text())["dtype"] == "bfloat16"


def test_what_else_lies_in_a_model_folder_goes_along(tmp_path):
    source = write_model(tmp_path / "a", SMALL)
    (source / "chat_template.jinja").write_text("{{ messages }}")
    (source / "model.onnx").write_text("weights")
    export(source, tmp_path / "b", form="pth")
    assert (tmp_path / "b/chat_template.jinja").read_text() == "{{ messages }}"
    names = {path.name for path in (tmp_path / "b").iterdir()}
    assert not names & {"model.onnx", "model.safetensors"}


@pytest.mark.parametrize("form", ["safetensors", "pth"])
def test_a_folder_that_has_something_in_it_is_refused(folder, tmp_path, form):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(RefusedError, match="exists"):
        export(folder, tmp_path, form=form)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["b", "b.pth", "b.safetensors"])
def test_a_disk_that_is_full_leaves_nothing(folder, tmp_path, name):
    form = "safetensors" if name.endswith("safetensors") else "pth"
    with inject() as counted:
        export(folder, tmp_path / name, form=form)
    writes = [at for at, call in enumerate(counted.calls, 1) if call == "write"]
    for at in writes[:: len(writes) // 8 or 1]:
        place = tmp_path / f"{at}"
        place.mkdir()
        with inject(at, errno=errno.ENOSPC, forever=True), pytest.raises(StorageError):
            export(folder, place / name, form=form)
        # with every operation failing not even what was begun can be removed
        assert all(path.name.startswith(".") for path in place.iterdir())


def test_the_model_itself_is_not_overwritten(tmp_path):
    source = write_model(tmp_path / "a", SMALL)
    before = (source / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="the model itself"):
        export(source, tmp_path / "a", form="safetensors", quantization="f16")
    export(source, tmp_path / "a.gguf", form="gguf")
    with pytest.raises(ConfigError, match="the model itself"):
        export(tmp_path / "a.gguf", tmp_path / "a.gguf", form="gguf", quantization="q4_0")
    with pytest.raises(ConfigError, match="a file of the model"):
        export(source, source / "model.safetensors", form="safetensors", quantization="f16")
    assert (source / "model.safetensors").read_bytes() == before


def test_a_model_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFoundError):
        export(tmp_path / "none", tmp_path / "a.gguf", form="gguf")


def test_an_apr_file_without_a_config_is_no_model(tmp_path):
    document = {"format": "apr", "version": 1, "metadata": {}, "tensors": []}
    (tmp_path / "a.apr").write_text(json.dumps(document))
    with pytest.raises(Exception, match="no config") as error:
        models.load(tmp_path / "a.apr")
    assert error.value.exit_code == 11
