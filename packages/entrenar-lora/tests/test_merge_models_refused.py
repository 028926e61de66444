"""`entrenar-lora merge` of models: what is refused names what is wrong, and writes nothing."""

import shutil

import ml_dtypes
import numpy as np
import pytest

from entrenar_core.io.safetensors import write_file
from entrenar_core.testing import difference
from merge_files import tensors_of
from mergeable import TINY, edit_config, edit_tensors, write_family
from model_files import CONFIGS

Q = "model.layers.1.self_attn.q_proj.weight"
TWO = ["--model", "a", "--model", "b"]
OUT = ["--output", "out"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_family(tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def refused(run, folder):
    """Runs a command that must fail; returns its lines. Nothing may have been written."""

    def command(*arguments, code):
        before = sorted(folder.rglob("*"))
        done = run(folder, "merge", *arguments)
        assert done.returncode == code, done.stderr
        lines = [line for line in done.stderr.splitlines() if not line.startswith("  ")]
        lines = lines[-2:]
        assert lines[0].startswith("error[E-")
        assert lines[1].startswith("hint: ")
        assert sorted(folder.rglob("*")) == before
        return done.stderr

    return command


def ties(folder, text=""):
    """A config of ties, written to a file; `text` is the second model's parameters."""
    (folder / "merge.yaml").write_text(
        "merge_method: ties\nbase_model: base\nmodels:\n  - model: a\n"
        f"  - model: b\n    parameters: {{{text}}}\nparameters: {{weight: 0.5, density: 0.5}}\n"
    )
    return ["--config", "merge.yaml"]


# ---- models that do not fit together -----------------------------------------------------------


def test_another_architecture_is_named_with_each_model(folder, refused):
    edit_config(folder / "b", model_type="mistral")
    said = refused(*TWO, "--method", "linear", *OUT, code=10)
    assert "a is llama, b is mistral" in said
    assert "one architecture" in said


def test_another_architecture_of_other_layers_is_named_too(folder, refused):
    write_family(folder, ("other",), CONFIGS["gpt2"])
    said = refused("--model", "a", "--model", "other", "--method", "linear", *OUT, code=10)
    assert "a has 4 and is llama, other has 2 and is gpt2" in said
    assert "one architecture" in said


def test_every_tensor_of_another_shape_is_listed_with_its_shapes(folder, refused):
    down = "model.layers.0.mlp.down_proj.weight"
    zeros = {Q: (8, 16), down: (16, 20)}
    edit_tensors(folder / "b", {n: np.zeros(s, np.float32) for n, s in zeros.items()})
    said = refused(*TWO, "--method", "linear", *OUT, code=10)
    assert f"{Q}: (16, 16) in a, (8, 16) in b" in said
    assert f"{down}: (16, 24) in a, (16, 20) in b" in said
    assert "in 2 places" in said


def test_a_tensor_that_one_model_lacks_is_named(folder, refused):
    edit_tensors(folder / "b", {Q: None})
    said = refused(*TWO, "--method", "linear", *OUT, code=10)
    assert f"{Q}: a has it, b not" in said


def test_more_tokens_than_the_other_model_point_to_the_tokenizer_source(folder, refused):
    tables = ("model.embed_tokens.weight", "lm_head.weight")
    edit_tensors(folder / "b", {n: np.zeros((310, 16), np.float32) for n in tables})
    said = refused(*TWO, "--method", "linear", *OUT, code=10)
    assert "(300, 16) in a, (310, 16) in b" in said
    assert "tokenizer_source" in said


def test_models_of_more_layers_name_the_tensors_that_are_over(folder, refused):
    write_family(folder, ("deep",), TINY | {"num_hidden_layers": 5})
    said = refused("--model", "a", "--model", "deep", "--method", "linear", *OUT, code=10)
    assert "deep" in said and "layers" in said


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_with_tensor_and_model(value, folder, refused):
    array = tensors_of(folder / "b")[Q].copy()
    array[3, 4] = value
    edit_tensors(folder / "b", {Q: array})
    said = refused(*TWO, "--method", "linear", *OUT, code=30)
    assert f"{Q} of b has {'NaN' if np.isnan(value) else 'an infinite number'}" in said


@pytest.mark.parametrize("method", ["ties", "slerp", "sce", "karcher", "model_stock"])
def test_nan_of_the_base_is_named_whatever_the_method(method, folder, refused):
    array = tensors_of(folder / "base")[Q].copy()
    array[0, 0] = np.nan
    edit_tensors(folder / "base", {Q: array})
    given = {"slerp": ["--model", "base", "--model", "a", "--t", "0.5"]}.get(
        method, ["--base", "base", *TWO]
    )
    said = refused(*given, "--method", method, *OUT, code=30)
    assert f"{Q} of base has NaN" in said


def test_a_result_too_large_for_float16_is_named(folder, refused):
    array = tensors_of(folder / "b")[Q].copy()
    array[3, 4] = 7e4
    edit_tensors(folder / "b", {Q: array})
    given = ["--model", "b", "--model", "a", "--method", "linear", "--weights", "1,0.001"]
    said = refused(*given, "--dtype", "f16", *OUT, code=30)
    assert Q in said and "float16" in said


def test_tensors_of_no_floats_that_differ_are_named(folder, refused):
    for name, value in (("a", 1), ("b", 2)):
        edit_tensors(folder / name, {"model.norm.steps": np.array([value], np.int64)})
    said = refused(*TWO, "--method", "linear", *OUT, code=10)
    assert "model.norm.steps" in said


# ---- settings ----------------------------------------------------------------------------------


def test_a_method_that_needs_a_base_says_so(refused):
    said = refused(*TWO, "--method", "ties", *OUT, code=10)
    assert "ties needs a base_model" in said


@pytest.mark.parametrize("density", ["0", "2", "-0.5", "nan"])
def test_densities_that_make_no_sense_are_refused(density, refused):
    given = ["--base", "base", *TWO, "--method", "ties", "--density", density]
    assert "density" in refused(*given, *OUT, code=10)


@pytest.mark.parametrize("density", ["0", "2", "[0.5, 2]", "text"])
def test_densities_of_a_config_are_refused_with_their_line(density, folder, refused):
    said = refused(*ties(folder, f"density: {density}"), *OUT, code=10)
    assert "merge.yaml: line 6: models.1.parameters.density" in said


def test_everything_wrong_in_a_config_is_said_at_once(folder, refused):
    given = ties(folder, "density: 3, weight: x, densty: 1")
    said = refused(*given, *OUT, code=10)
    assert "3 problems" in said
    assert "did you mean density?" in said


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (["--base", "base", *TWO, "--method", "ties", "--weights", "1,2,3"], 10, "3 values"),
        ([*TWO, "--method", "linear", "--weights", "1,-1"], 10, "sum to 0"),
        ([*TWO, "--method", "slerp"], 10, "t has no value"),
        ([*TWO, "--model", "base", "--method", "slerp", "--t", "0.5"], 10, "slerp merges 2 models"),
        (["--model", "a", "--model", "a", "--method", "linear"], 10, "a is given twice"),
        (["--model", "a", "--model", "./a", "--method", "linear"], 10, "the same model"),
        ([*TWO, "--method", "linear", "--set", "wieght=1"], 10, "weight"),
        ([*TWO, "--method", "linear", "--set", "weight"], 2, "NAME=VALUE"),
        ([*TWO], 2, "--method"),
        ([*TWO, "--method", "svd"], 10, "svd"),
        ([*TWO, "--method", "linear", "--adapter", "x"], 2, "--adapter is for adapters"),
        ([*TWO, "--method", "linear", "--rank", "4"], 2, "--rank is for adapters"),
        (["--base", "base", "--adapter", "x", "--t", "0.5"], 2, "--t is for models"),
        (["--base", "base", "--adapter", "x", "--to", "gguf"], 2, "--to is for models"),
        (["--t", "0.5"], 2, "--model"),
        ([*TWO, "--method", "linear", "--dtype", "q4_k"], 10, "float16"),
        ([*TWO, "--method", "linear", "--quantize", "q8_0"], 10, ".gguf"),
        ([*TWO, "--method", "linear", "--memory-limit", "1MB"], 22, "--memory-limit is 1"),
        (["--model", "./nowhere", "--model", "a", "--method", "linear"], 14, "nowhere"),
        (["--config", "nowhere.yaml"], 14, "nowhere.yaml"),
    ],
)  # fmt: skip
def test_wrong_command_lines_say_what_is_wrong(given, code, words, refused):
    assert words in refused(*given, *OUT, code=code)


def test_options_besides_a_config_are_refused(folder, refused):
    said = refused(*ties(folder), "--density", "0.5", "--t", "1", *OUT, code=2)
    assert "--density, --t besides --config" in said


def test_a_folder_that_a_config_names_and_that_is_not_there_is_named(folder, refused):
    (folder / "merge.yaml").write_text(
        "merge_method: linear\nmodels: [{model: a}, {model: ./gone}]\nparameters: {weight: 1}\n"
    )
    assert "gone" in refused("--config", "merge.yaml", *OUT, code=14)


# ---- outputs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["a", "a/model.safetensors", "b/inside", "."])
def test_an_output_that_is_an_input_is_refused(output, refused):
    said = refused(*TWO, "--method", "linear", "--output", output, code=10)
    assert "give another output" in said


def test_an_output_folder_with_something_in_it_is_left_alone(folder, refused):
    (folder / "out").mkdir()
    (folder / "out" / "mine.txt").write_text("mine")
    said = refused(*TWO, "--method", "linear", *OUT, code=12)
    assert "out: exists already" in said
    assert (folder / "out" / "mine.txt").read_text() == "mine"


def test_an_empty_output_folder_is_filled(run, folder):
    (folder / "out").mkdir()
    assert run(folder, "merge", *TWO, "--method", "linear", *OUT).returncode == 0
    assert (folder / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("flags", [["--dry-run"], ["--dry-run", "--json"]])
def test_a_dry_run_writes_nothing(flags, run, folder):
    before = sorted(folder.rglob("*"))
    assert run(folder, "merge", *TWO, "--method", "linear", *OUT, *flags).returncode == 0
    assert sorted(folder.rglob("*")) == before


# ---- files of tensors without a config ---------------------------------------------------------


@pytest.fixture
def lone(folder):
    for name in ("a", "b"):
        write_file(folder / f"{name}.safetensors", tensors_of(folder / name))
    return ["--model", "a.safetensors", "--model", "b.safetensors", "--method", "linear"]


def test_lone_files_become_a_lone_file(lone, run, folder):
    assert run(folder, "merge", *lone, "--output", "out.safetensors").returncode == 0
    a, b, found = (tensors_of(folder / f"{n}.safetensors") for n in ("a", "b", "out"))
    wanted = (a[Q].astype(np.float64) + b[Q].astype(np.float64)) / 2
    assert difference(found[Q].astype(np.float64), wanted) < 2 * ml_dtypes.finfo("bfloat16").eps


def test_a_folder_of_lone_files_is_refused_for_it_would_have_no_config(lone, refused):
    said = refused(*lone, *OUT, code=10)
    assert "config.json" in said and ".safetensors" in said


def test_lone_files_of_other_shapes_are_refused(lone, folder, refused):
    tensors = tensors_of(folder / "b") | {Q: np.zeros((4, 4), ml_dtypes.bfloat16)}
    write_file(folder / "b.safetensors", tensors)
    assert Q in refused(*lone, "--output", "out.safetensors", code=10)


def test_a_name_of_a_model_cannot_forge_a_line(folder, refused):
    evil = "b\nerror[E-FAKE]: done"
    (folder / "b").rename(folder / evil)
    edit_tensors(folder / evil, {Q: None})
    said = refused("--model", "a", "--model", evil, "--method", "linear", *OUT, code=10)
    assert not [line for line in said.splitlines() if line.startswith("error[E-FAKE]")]
    assert f"{Q}: a has it, b\\nerror" in said


def test_a_config_of_a_model_that_is_no_json_is_named(folder, refused):
    (folder / "b" / "config.json").write_text("{")
    assert "config.json" in refused(*TWO, "--method", "linear", *OUT, code=11)


def test_a_file_that_is_cut_short_is_named(folder, refused):
    path = folder / "b" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    said = refused(*TWO, "--method", "linear", *OUT, code=11)
    assert "model.safetensors" in said


def test_a_type_in_a_config_that_is_none_is_refused_with_its_line(folder, refused):
    given = ties(folder)
    with (folder / "merge.yaml").open("a") as file:
        file.write("dtype: int8\n")
    said = refused(*given, *OUT, code=10)
    assert "line 8: dtype" in said


def test_the_donor_is_the_model_whose_config_counts(run, folder):
    edit_config(folder / "a", rope_theta=123.0)
    assert run(folder, "merge", *TWO, "--method", "linear", *OUT).returncode == 0
    assert "123.0" in (folder / "out" / "config.json").read_text()
