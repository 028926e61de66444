"""`entrenar-inspect compare` from the command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from entrenar_core.convert import export
from entrenar_core.io.safetensors import SafetensorsFolder, write_file
from entrenar_inspect.cli import main
from model_files import SMALL, write_model


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A small LLaMA whose heads are rotated otherwise in GGUF files."""
    folder = tmp_path_factory.mktemp("models")
    return write_model(folder / "base", SMALL | {"bos_token_id": 0, "eos_token_id": 0})


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs a command line at 80 columns; gives its exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words):
        capsys.readouterr()
        code = main.main(["compare", *map(str, words)], standalone_mode=False) or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def data(command):
    """Runs a command with --json; gives its exit code and data."""

    def run(*words):
        code, shown, _ = command(*words, "--json", "--quiet")
        document = json.loads(shown)
        assert document["schema"] == "entrenar.inspect.compare/1"
        return code, document["data"]

    return run


def variant(base, folder, change):
    """A copy of the model with other tensors: `change` gets them by name and returns them."""
    shutil.copytree(base, folder)
    with SafetensorsFolder(base) as file:
        tensors = {name: np.array(file.read(name)) for name in file.names()}
    write_file(folder / "model.safetensors", change(tensors))
    return folder


def test_a_model_is_the_same_as_itself(base, command):
    code, shown, _ = command(base, base, "--values")
    assert code == 0
    assert "The same: 21 tensors." in shown


def test_without_values_it_is_said_that_headers_alone_were_compared(base, command):
    code, shown, _ = command(base, base)
    assert (code, "--values" in shown) == (0, True)


def test_other_numbers_end_with_1_and_only_if_they_were_looked_at(base, tmp_path, command):
    other = variant(
        base, tmp_path / "b", lambda t: {n: x + (n == "lm_head.weight") for n, x in t.items()}
    )
    assert command(base, other)[0] == 0
    code, shown, _ = command(base, other, "--values")
    assert code == 1
    assert "lm_head.weight" in shown
    assert "1 with other numbers, 20 the same" in shown


def test_a_tolerance_looks_at_numbers_and_lets_small_differences_pass(base, tmp_path, command):
    other = variant(
        base, tmp_path / "b", lambda t: {n: x * np.float32(1.001) for n, x in t.items()}
    )
    assert command(base, other, "--tolerance", "0.0011")[0] == 0
    assert command(base, other, "--tolerance", "0.0009")[0] == 1


def test_the_json_has_every_tensor_and_all_figures(base, tmp_path, data):
    def change(tensors):
        return {n: x + np.float32(0.5) * (n == "model.norm.weight") for n, x in tensors.items()}

    other = variant(base, tmp_path / "b", change)
    code, found = data(base, other, "--values")
    assert (code, found["same"], len(found["tensors"])) == (1, False, 21)
    norm = next(t for t in found["tensors"] if t["name"] == "model.norm.weight")
    with SafetensorsFolder(base) as file:
        a = file.read("model.norm.weight").astype(float)
    assert norm["change"] == "differs"
    assert norm["difference"]["relative"] == pytest.approx(4 / np.linalg.norm(a), rel=1e-6)
    assert norm["difference"]["unequal"] == 64
    assert found["numbers"]["identical"] == 20


def test_figures_that_are_not_finite_are_null(base, tmp_path, data):
    def zero(tensors):
        return {n: x * (n != "model.norm.weight") for n, x in tensors.items()}

    _, found = data(variant(base, tmp_path / "b", zero), base, "--values")
    norm = next(t for t in found["tensors"] if t["name"] == "model.norm.weight")
    assert (norm["difference"]["relative"], norm["difference"]["cosine"]) == (None, None)


def test_a_nan_is_reported(base, tmp_path, command):
    def spoil(tensors):
        tensors["model.norm.weight"][3] = np.nan
        return tensors

    code, shown, _ = command(base, variant(base, tmp_path / "b", spoil), "--values")
    assert code == 1
    assert "model.norm.weight: 1 number is NaN or infinite" in shown


def test_a_gguf_file_has_the_same_numbers_as_the_model_it_was_made_from(base, tmp_path, data):
    export(base, tmp_path / "m.gguf", form="gguf", quantization="f32")
    code, found = data(base, tmp_path / "m.gguf", "--values")
    assert {t["change"] for t in found["tensors"]} == {"same"}
    assert (code, found["numbers"]["differ"], found["config"]) == (0, 0, [])
    assert "Hugging Face" in found["notes"][0]


@pytest.mark.tier2
def test_a_quantized_file_says_its_noise(base, tmp_path, data):
    export(base, tmp_path / "m.gguf", form="gguf", quantization="q8_0")
    code, found = data(tmp_path / "m.gguf", base, "--values")
    q_proj = next(t for t in found["tensors"] if "0.self_attn.q_proj" in t["name"])
    difference = q_proj["difference"]
    assert (code, q_proj["change"], q_proj["a"]["dtype"]) == (1, "retyped", "Q8_0")
    # steps of peak/127, uniform errors: peaks of 32 normal numbers are 2 to 3 deviations
    assert 40 < difference["sqnr_db"] < 50
    signal = difference["norm_b"] / difference["distance"]
    assert difference["sqnr_db"] == pytest.approx(20 * np.log10(signal), rel=1e-6)
    assert data(base, tmp_path / "m.gguf", "--tolerance", "0.02")[0] == 0


def test_two_gguf_files_are_compared_by_their_own_names(base, tmp_path, data):
    for form in ("f32", "f16"):
        export(base, tmp_path / f"{form}.gguf", form="gguf", quantization=form)
    _, found = data(tmp_path / "f32.gguf", tmp_path / "f16.gguf")
    assert "blk.0.attn_q.weight" in {t["name"] for t in found["tensors"]}
    assert [each["key"] for each in found["metadata"]] == ["general.file_type"]


def test_a_merged_adapter_is_named(base, tmp_path, command):
    def merge(tensors):
        rng = np.random.default_rng(0)
        for name, x in tensors.items():
            if "up_proj" in name or "down_proj" in name:
                b, a = rng.standard_normal((len(x), 3)), rng.standard_normal((3, x.shape[1]))
                tensors[name] = (x + 0.01 * b @ a).astype(np.float32)
        return tensors

    _, shown, _ = command(base, variant(base, tmp_path / "b", merge), "--values")
    said = " ".join(shown.split())
    assert "Δ is of rank 3 in down_proj, up_proj (4 of 4 changed matrices)" in said
    assert "looks like a merged LoRA of rank 3" in said


def test_lines_fit_80_columns_and_have_colours_where_asked_for(
    base, tmp_path, command, monkeypatch
):
    other = variant(base, tmp_path / "b", lambda t: {n: x for n, x in t.items() if ".1." not in n})
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[31m- model.layers.1.* (9 tensors, removed layer)" in command(base, other)[1]
    monkeypatch.delenv("FORCE_COLOR")
    code, shown, _ = command(base, other, "--values")
    assert code == 1
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("words", [["nowhere", "base"], ["base", "nowhere"]])
def test_what_is_not_there_has_the_code_of_its_error(base, command, monkeypatch, words):
    monkeypatch.chdir(base.parent)
    code, shown, said = command(*words)
    assert (code, shown) == (14, "")
    assert said.startswith("error[E-NOTFOUND]: nowhere")


def test_a_filter_that_fits_nothing_is_an_error(base, command):
    code, _, said = command(base, base, "--filter", "q_proj")
    assert code == 14
    assert "hint: a filter is a whole name with wildcards" in said
