"""`entrenar-lora merge` of whole models as a user runs it."""

import json
import shutil

import ml_dtypes
import numpy as np
import pytest

from adapter_files import Q, factors, write_peft
from entrenar_core import models
from entrenar_core.convert.export import export
from entrenar_core.io.gguf import GGUFFile
from entrenar_core.merge.method import all_methods
from entrenar_core.merge.models import merge_models
from entrenar_lora.merge_commands import OF_MODELS
from merge_files import tensors_of
from mergeable import contents, write_family
from model_files import SMALL

TWO = ["--model", "a", "--model", "b"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Models in float16, which GGUF and safetensors hold alike."""
    return write_family(tmp_path_factory.mktemp("models"), config=SMALL, dtype=np.float16)


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def merge(run, folder):
    def command(*arguments):
        done = run(folder, "merge", *arguments)
        assert done.returncode == 0, done.stderr
        return done

    return command


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in found.items():
        assert array.dtype == wanted[name].dtype, name
        assert np.array_equal(array, wanted[name]), name


def blocks(path):
    """The bytes of each tensor of a GGUF file, its type and shape."""
    with GGUFFile(path) as file:
        return {
            name: (str(file.info(name)), file.read(name).data.tobytes()) for name in file.names()
        }


def test_the_methods_of_the_command_are_those_of_the_library():
    assert sorted(OF_MODELS) == sorted(all_methods())


def test_options_and_a_config_and_python_do_the_same(merge, folder):
    given = ["--method", "ties", "--density", "0.5", "--weights", "0.7,0.3", "--set", "lambda=0.9"]
    merge("--base", "base", *TWO, *given, "--output", "options")
    (folder / "merge.yaml").write_text(
        "merge_method: ties\nbase_model: base\nmodels:\n"
        "  - {model: a, parameters: {weight: 0.7}}\n  - {model: b, parameters: {weight: 0.3}}\n"
        "parameters: {density: 0.5, lambda: 0.9}\n"
    )
    merge("--config", "merge.yaml", "--output", "config")
    merge_models(
        [folder / "a", folder / "b"], base=folder / "base", method="ties", density=0.5,
        weight=[0.7, 0.3], output=folder / "python", **{"lambda": 0.9},
    )  # fmt: skip
    wanted = tensors_of(folder / "options")
    same(tensors_of(folder / "config"), wanted)
    same(tensors_of(folder / "python"), wanted)
    models.load(folder / "options")


def test_the_recipe_that_is_written_makes_the_same_model_again(merge, folder):
    merge(*TWO, "--method", "slerp", "--t", "0.3", "--output", "out")
    shutil.copy(folder / "out" / "mergekit_config.yml", folder / "again.yaml")
    merge("--config", "again.yaml", "--output", "again")
    weights = "model.safetensors"
    assert contents(folder / "again")[weights] == contents(folder / "out")[weights]


def test_the_report_has_the_figures_and_fits_80_columns(merge):
    done = merge("--base", "base", *TWO, "--method", "task_arithmetic", "--output", "out")
    assert "Cosines between what they differ by: 1–2" in done.stdout
    assert "Where signs disagree most" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_json_has_every_tensor_and_the_hashes_of_the_inputs(merge, folder):
    done = merge(*TWO, "--method", "linear", "--output", "out", "--json")
    document = json.loads(done.stdout)
    assert document["schema"] == "entrenar.lora.merge-models/1"
    data = document["data"]["merge"]
    assert set(data["tensors"]) == set(tensors_of(folder / "a"))
    assert set(data["hashes"]) == {"a", "b"}
    assert data["peak"] > 0 and data["forecast"] > 0


def test_a_model_with_an_adapter_is_merged_as_if_it_had_been_fused_before(merge, folder):
    write_peft(folder / "one", factors(seed=1))
    merge("--base", "base", "--adapter", "one", "--output", "fused")
    given = ["--method", "linear", "--weights", "0.7,0.3"]
    merge("--model", "fused", "--model", "a", *given, "--output", "wanted")
    merge("--model", "base+one", "--model", "a", *given, "--output", "found")
    found = tensors_of(folder / "found")
    same(found, tensors_of(folder / "wanted"))
    assert not np.array_equal(tensors_of(folder / "fused")[f"{Q}.weight"],
                              tensors_of(folder / "base")[f"{Q}.weight"])  # fmt: skip


def test_two_adapters_of_one_base_are_two_models(merge, folder):
    for number, name in enumerate(("one", "two")):
        write_peft(folder / name, factors(seed=number))
        merge("--base", "base", "--adapter", name, "--output", f"fused-{name}")
    given = ["--method", "ties", "--density", "0.3", "--base", "base"]
    merge("--model", "base+one", "--model", "base+two", *given, "--output", "found")
    merge("--model", "fused-one", "--model", "fused-two", *given, "--output", "wanted")
    same(tensors_of(folder / "found"), tensors_of(folder / "wanted"))


def test_gguf_files_of_floats_are_merged_as_their_folders_are(merge, folder):
    for name in ("a", "b"):
        export(folder / name, folder / f"{name}.gguf", form="gguf", quantization="f16")
    given = ["--method", "slerp", "--t", "0.4", "--output"]
    merge(*TWO, *given, "wanted")
    merge("--model", "a.gguf", "--model", "b.gguf", *given, "found")
    found, wanted = tensors_of(folder / "found"), tensors_of(folder / "wanted")
    assert found.keys() == wanted.keys()
    for name, array in found.items():
        half = array.astype(np.float16)  # GGUF keeps norms in float32
        step = np.abs(wanted[name].astype(np.float64)).max() * 2.0**-11
        off = np.abs(half.astype(np.float64) - wanted[name].astype(np.float64))
        assert off.max() <= step * (array.ndim == 1), name
    models.load(folder / "found")


@pytest.mark.parametrize("quantize", [None, "f16", "q8_0"])
def test_a_merge_to_gguf_is_the_folder_converted(quantize, merge, folder):
    given = ["--base", "base", *TWO, "--method", "ties", "--density", "0.5", "--output"]
    chosen = ["--quantize", quantize] if quantize else []
    merge(*given, "merged")
    merge(*given, "found", "--to", "gguf", *chosen)
    export(folder / "merged", folder / "wanted.gguf", form="gguf", quantization=quantize)
    assert blocks(folder / "found.gguf") == blocks(folder / "wanted.gguf")


def test_out_types_are_given_by_their_short_names(merge, folder):
    merge(*TWO, "--method", "linear", "--dtype", "bf16", "--output", "out")
    kinds = {array.dtype for array in tensors_of(folder / "out").values()}
    assert kinds == {np.dtype(ml_dtypes.bfloat16)}
    assert json.loads((folder / "out" / "config.json").read_text())["dtype"] == "bfloat16"
