"""Tensors from one kind of file to another, whatever model they are of."""

import errno
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from entrenar_common.errors import (
    ConfigError,
    IntegrityError,
    NumericsError,
    RefusedError,
    StorageError,
    UnsupportedError,
)
from entrenar_core.convert.tensors import convert_tensors
from entrenar_core.io.apr import APRFile, write_apr
from entrenar_core.io.faults import inject
from entrenar_core.io.safetensors import SafetensorsFile, write_file
from entrenar_core.io.torch_save import TorchFile, write_torch
from entrenar_core.io.weights import open_tensors
from entrenar_core.quant import quantize
from torch_tensors import some_tensors

CONFIG = {"model_type": "falcon", "torch_dtype": "float32", "vocab_size": 8}
FORMS = {"safetensors": "out.safetensors", "pth": "out.pth", "apr": "out.apr"}
OPENERS = {"safetensors": SafetensorsFile, "pth": TorchFile, "apr": APRFile}


def arrays(path, form):
    with OPENERS[form](path) as file:
        return {name: np.array(file.read(name)) for name in file.names()}


def same(found, wanted):
    """Names, types, shapes and bits are the same."""

    def plain(arrays):
        kept = {name: a.astype(a.dtype.newbyteorder("=")) for name, a in arrays.items()}
        return {name: (a.dtype, a.shape, a.tobytes()) for name, a in kept.items()}

    return plain(found) == plain(wanted)


def model_folder(path):
    """A folder with a model that nothing here knows."""
    path.mkdir()
    rng = np.random.default_rng(3)
    tensors = {
        "embed.weight": rng.standard_normal((8, 4)).astype(np.float32),
        "steps": np.arange(3),
    }
    save_file(tensors, path / "model.safetensors", {"format": "pt", "by": "me"})
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "tokenizer.json").write_text('{"version": "1.0"}')
    (path / "notes.txt").write_text("mine")
    return path, tensors


@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("second", FORMS)
def test_every_type_goes_from_each_file_to_each_other_and_back(tmp_path, first, second):
    tensors = some_tensors()
    write_file(tmp_path / "a", tensors)
    convert_tensors(tmp_path / "a", tmp_path / f"b-{FORMS[first]}", form=first)
    convert_tensors(tmp_path / f"b-{FORMS[first]}", tmp_path / FORMS[second], form=second)
    found = convert_tensors(
        tmp_path / FORMS[second], tmp_path / "c.safetensors", form="safetensors"
    )
    assert same(arrays(tmp_path / FORMS[second], second), tensors)
    assert same(arrays(tmp_path / "c.safetensors", "safetensors"), tensors)
    assert {loss.worst for loss in found.losses} == {0.0}
    assert found.quantization == "as stored"
    assert sum(loss.tensors for loss in found.losses) == len(tensors)


def test_metadata_of_a_safetensors_file_come_back_from_an_apr_file(tmp_path):
    save_file({"w": np.ones(2)}, tmp_path / "a", {"license": "mit"})
    convert_tensors(tmp_path / "a", tmp_path / "a.apr", form="apr")
    convert_tensors(tmp_path / "a.apr", tmp_path / "b.safetensors", form="safetensors")
    with SafetensorsFile(tmp_path / "b.safetensors") as file:
        assert file.metadata == {"license": "mit"}


def test_metadata_that_a_file_of_torch_save_has_no_place_for_are_a_note(tmp_path):
    save_file({"w": np.ones(2)}, tmp_path / "a", {"format": "pt", "license": "mit"})
    (note,) = convert_tensors(tmp_path / "a", tmp_path / "b.pth", form="pth").notes
    assert "license" in note
    assert "format" not in note.replace("for the", "")


def test_names_of_the_same_memory_are_written_once_and_tied_again(tmp_path):
    shared = np.arange(6, dtype=np.float32)
    write_torch(tmp_path / "a.pth", {"shared": shared, "b": shared}, tied={"a.head": "shared"})
    found = convert_tensors(tmp_path / "a.pth", tmp_path / "a.safetensors", form="safetensors")
    assert set(load_file(tmp_path / "a.safetensors")) == {"shared", "b"}
    with SafetensorsFile(tmp_path / "a.safetensors") as file:
        assert file.metadata == {"format": "pt", "a.head": "shared"}
    assert found.notes == ("written once, as the same numbers: a.head is shared",)
    convert_tensors(tmp_path / "a.safetensors", tmp_path / "b.pth", form="pth")
    with TorchFile(tmp_path / "b.pth") as file:
        assert set(file.names()) == {"shared", "b", "a.head"}
        keys = {name: info.key for name, info in file.tensors.items()}
    assert keys["a.head"] == keys["shared"] != keys["b"]


def test_floats_alone_are_cast_and_what_that_loses_is_said(tmp_path):
    rng = np.random.default_rng(1)
    wide = rng.standard_normal((40, 30))
    tensors = {
        "f64": wide,
        "f32": wide.astype(np.float32),
        "ids": np.arange(5),
        "on": np.ones(2, bool),
    }
    write_file(tmp_path / "a", tensors)
    found = convert_tensors(
        tmp_path / "a", tmp_path / "b.safetensors", form="safetensors", quantization="f16"
    )
    half = {"f64": wide.astype(np.float16), "f32": tensors["f32"].astype(np.float16)}
    assert same(load_file(tmp_path / "b.safetensors"), tensors | half)
    losses = {loss.form: loss for loss in found.losses}
    assert set(losses) == {"f16", "i64", "bool"}
    noise = sum(((half[n] - tensors[n].astype(np.float64)) ** 2).sum() for n in half)
    signal = sum((tensors[n].astype(np.float64) ** 2).sum() for n in half)
    assert losses["f16"].sqnr == pytest.approx(10 * np.log10(signal / noise), rel=1e-9)
    assert losses["i64"].sqnr is None


def test_a_cast_beyond_the_largest_number_is_an_error_that_leaves_nothing(tmp_path):
    write_file(tmp_path / "a", {"good": np.ones(3, np.float32), "w": np.array([1e6], np.float32)})
    for form, name in FORMS.items():
        with pytest.raises(NumericsError, match=r"a: w: 1e\+06"):
            convert_tensors(tmp_path / "a", tmp_path / name, form=form, quantization="f16")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_blocks_of_an_apr_file_become_the_floats_that_they_stand_for(tmp_path):
    blocks = quantize(np.random.default_rng(2).standard_normal((2, 32)).astype(np.float32), "q8_0")
    write_apr(tmp_path / "a.apr", {"w": blocks})
    found = convert_tensors(tmp_path / "a.apr", tmp_path / "b.pth", form="pth")
    assert same(arrays(tmp_path / "b.pth", "pth"), {"w": blocks.dequantize()})
    assert found.notes == ("1 tensors in q8_0 are written as the floats that they stand for",)


def test_floats_of_8_bits_keep_their_type(tmp_path):
    tensors = {n: a for n, a in some_tensors().items() if "F8_E4M3" in n}
    write_file(tmp_path / "a", tensors)
    found = convert_tensors(tmp_path / "a", tmp_path / "b.pth", form="pth", quantization="f32")
    assert same(arrays(tmp_path / "b.pth", "pth"), tensors)
    assert "F8_E4M3" in found.notes[0]


@pytest.mark.parametrize(("form", "weights"), [("pth", "pytorch_model.bin"),
                                               ("safetensors", "model.safetensors")])  # fmt: skip
def test_a_model_folder_keeps_config_tokenizer_and_other_files(tmp_path, form, weights):
    source, tensors = model_folder(tmp_path / "a")
    found = convert_tensors(source, tmp_path / "b", form=form, quantization="bf16")
    names = {path.name for path in (tmp_path / "b").iterdir()}
    assert names == {weights, "config.json", "tokenizer.json", "notes.txt"}
    assert json.loads((tmp_path / "b/config.json").read_text()) == CONFIG | {
        "torch_dtype": "bfloat16"
    }
    assert arrays(tmp_path / "b" / weights, form)["steps"].tolist() == tensors["steps"].tolist()
    assert found.files == (tmp_path / "b" / weights,)


def test_a_model_folder_comes_back_from_an_apr_file(tmp_path):
    source, tensors = model_folder(tmp_path / "a")
    convert_tensors(source, tmp_path / "a.apr", form="apr")
    convert_tensors(tmp_path / "a.apr", tmp_path / "b", form="safetensors")
    assert same(load_file(tmp_path / "b/model.safetensors"), tensors)
    for name in ("config.json", "tokenizer.json"):
        found, wanted = (
            json.loads((folder / name).read_text()) for folder in (tmp_path / "b", source)
        )
        assert found == wanted


@pytest.mark.parametrize(
    ("name", "options", "error", "word"),
    [
        ("b.gguf", {"form": "gguf"}, UnsupportedError, "gguf"),
        ("b.pth", {"form": "pth", "quantization": "q4_0"}, UnsupportedError, "q4_0"),
        ("b", {"form": "pth"}, ConfigError, "tensors alone"),
        ("a.safetensors", {"form": "safetensors"}, ConfigError, "what is read"),
        ("folder.pth", {"form": "pth"}, ConfigError, "a folder"),
        ("folder.pth", {"form": "apr"}, ConfigError, "a folder"),
        ("file", {"form": "pth"}, ConfigError, "a file"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, name, options, error, word):
    save_file({"w": np.ones(2)}, tmp_path / "a.safetensors")
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(error, match=word) as found:
        convert_tensors(tmp_path / "a.safetensors", tmp_path / name, **options)
    assert found.value.hint
    assert {p.name for p in tmp_path.iterdir()} == {"a.safetensors", "folder.pth", "file"}


def test_a_file_of_the_folder_that_is_read_is_not_written_over(tmp_path):
    source, tensors = model_folder(tmp_path / "a")
    with pytest.raises(ConfigError, match="what is read"):
        convert_tensors(source, source / "model.safetensors", form="safetensors")
    assert same(load_file(source / "model.safetensors"), tensors)


def test_the_error_for_gguf_names_the_architectures_that_can(tmp_path):
    source, _ = model_folder(tmp_path / "a")
    with pytest.raises(UnsupportedError) as error:
        convert_tensors(source, tmp_path / "b.gguf", form="gguf")
    assert "llama" in error.value.hint
    assert "qwen3" in error.value.hint


def test_a_folder_that_has_something_in_it_is_not_written_to(tmp_path):
    source, _ = model_folder(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/mine").write_text("mine")
    with pytest.raises(RefusedError, match="exists"):
        convert_tensors(source, tmp_path / "b", form="pth")
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["mine"]


def test_weights_whose_config_says_how_they_are_quantized_are_not_cast(tmp_path):
    source, tensors = model_folder(tmp_path / "a")
    config = {**CONFIG, "quantization_config": {"quant_method": "gptq"}}
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedError, match="quantization_config"):
        convert_tensors(source, tmp_path / "b", form="pth", quantization="f16")
    convert_tensors(source, tmp_path / "b", form="pth")
    assert same(arrays(tmp_path / "b/pytorch_model.bin", "pth"), tensors)


@pytest.mark.parametrize("form", FORMS)
def test_a_changed_bit_is_noticed(tmp_path, form, monkeypatch):
    write_file(tmp_path / "a", {"w": np.arange(8, dtype=np.float32)})
    read = OPENERS[form].read

    def flipped(self, name):
        found = np.array(read(self, name))
        found.view(np.uint8)[-1] ^= self.path.name == FORMS[form]
        return found

    monkeypatch.setattr(OPENERS[form], "read", flipped)
    with pytest.raises(IntegrityError, match="'w'"):
        convert_tensors(tmp_path / "a", tmp_path / FORMS[form], form=form)


@pytest.mark.parametrize(
    ("form", "name"), [*FORMS.items(), ("pth", "folder"), ("safetensors", "folder")]
)
def test_a_failing_operation_leaves_all_or_nothing(tmp_path, form, name):
    source, tensors = model_folder(tmp_path / "a")
    with inject() as counted:
        convert_tensors(source, tmp_path / f"0-{name}", form=form)
    for at, call in enumerate(counted.calls, 1):
        output = tmp_path / f"{at}-{name}"
        try:
            with inject(at, errno=errno.ENOSPC):
                convert_tensors(source, output, form=form)
        except StorageError:
            if output.exists():  # only the sync of the folder around it was left
                with open_tensors(output) as file:
                    assert same({n: file.read(n) for n in file.names()}, tensors)
                assert not output.is_dir() or (output / "config.json").exists()
        else:
            assert call in ("close", "unlink", "rmdir")
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
