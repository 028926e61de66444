"""`entrenar-inspect memory` from the command line: what it prints, as text and as JSON."""

import json
import sys

import pytest

from entrenar_core import models
from entrenar_core.convert import export
from entrenar_core.estimate import Setup, find_shape
from entrenar_core.estimate.engines import ENGINES
from entrenar_core.estimate.inference import Inference
from entrenar_core.io import hub
from entrenar_core.testing import tiny_config
from entrenar_core.train import measuring
from entrenar_inspect.cli import main
from model_files import write_model

GIB = 2**30


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs a command line at 80 columns; gives its exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words):
        code = main.main(["memory", *words], standalone_mode=False) or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def data(command):
    """Runs the command with --json; gives its exit code and data."""

    def run(*words):
        code, shown, _ = command(*words, "--json")
        document = json.loads(shown)
        assert document["schema"] == "entrenar.inspect.memory/1"
        return code, document["data"]

    return run


def test_every_term_is_there_and_those_at_the_peak_add_up(data):
    code, found = data("7B", "--batch-size", "4", "--seq-len", "4096")
    assert code == 0
    for use in (found["inference"], found["training"]):
        at_peak = [term for term in use["terms"] if term["at_peak"]]
        assert use["total_bytes"] == sum(term["bytes"] for term in at_peak)
        assert sum(term["share"] for term in at_peak) == pytest.approx(1)
        assert all(term["how"] for term in use["terms"])
    cache = next(t for t in found["inference"]["terms"] if t["name"] == "KV cache")
    assert cache["bytes"] == 4 * 2 * GIB


def test_both_uses_are_what_the_estimates_say(data):
    _, found = data("llama-3-8b", "--batch-size", "2", "--seq-len", "512", "--optimizer", "lion")
    shape, engine = find_shape("llama-3-8b"), ENGINES["torch"]
    setup = Setup("full", "bfloat16", optimizer="lion", batch=2, seq_len=512)
    assert found["training"]["total_bytes"] == engine.memory(shape, setup).total
    inference = Inference("bfloat16", 2, 512)
    assert found["inference"]["total_bytes"] == engine.inference(shape, inference).total
    assert found["training"]["peak_phase"] == engine.memory(shape, setup).phase


@pytest.mark.parametrize(
    ("words", "engine", "method", "precision"),
    [
        ([], "torch", "full", "bfloat16"),
        (["--vram", "80GB"], "torch", "full", "bfloat16"),
        (["--ram", "64GB"], "entrenar", "full", "float32"),
        (["--engine", "entrenar", "--method", "lora"], "entrenar", "lora", "float32"),
        (["--ram", "64GB", "--method", "lora", "--precision", "BF16"], "entrenar", "lora",
         "bfloat16"),
        (["--rank", "8"], "torch", "lora", "bfloat16"),
        (["--target-modules", "q_proj,v_proj"], "torch", "lora", "bfloat16"),
        (["--precision", "nf4"], "torch", "lora", "nf4"),
        (["--method", "qlora"], "torch", "lora", "nf4"),
        (["--method", "qlora", "--precision", "bf16"], "torch", "lora", "nf4"),
        (["--method", "qlora", "--precision", "int8"], "torch", "lora", "int8"),
        (["--ram", "9GB", "--precision", "q4_k"], "entrenar", "lora", "q4_k"),
    ],
)  # fmt: skip
def test_what_is_not_said_follows_from_what_is(data, words, engine, method, precision):
    _, found = data("7B", *words)
    assert (found["engine"], found["method"], found["precision"]) == (engine, method, precision)


def test_the_largest_batch_fits_and_one_more_does_not(data):
    limit = 24 * GIB
    code, found = data("7B", "--method", "qlora", "--seq-len", "512", "--vram", "24GB")
    assert (code, found["limit_bytes"]) == (0, limit)
    for use in ("inference", "training"):
        largest = found[use]["largest_batch"]
        words = ("7B", "--method", "qlora", "--seq-len", "512", "--batch-size")
        assert data(*words, str(largest))[1][use]["total_bytes"] <= limit
        assert data(*words, str(largest + 1))[1][use]["total_bytes"] > limit


def test_where_neither_fits_the_exit_code_is_1(data):
    code, found = data("7B", "--vram", "8GB")
    assert (code, found["inference"]["fits"], found["training"]["fits"]) == (1, False, False)
    assert found["inference"]["largest_batch"] == 0


def test_where_one_of_them_fits_the_exit_code_is_0(data):
    code, found = data("7B", "--vram", "24GB")
    assert (code, found["inference"]["fits"], found["training"]["fits"]) == (0, True, False)


def test_without_a_limit_nothing_is_said_to_fit(data):
    _, found = data("7B")
    assert found["limit_bytes"] is None
    assert (found["inference"]["fits"], found["inference"]["largest_batch"]) == (None, None)


@pytest.mark.parametrize("words", [["7B", "--vram", "12GB"], ["gpt2", "--ram", "2GB"]])
def test_it_fits_80_columns(command, words):
    _, shown, _ = command(*words)
    assert max(map(len, shown.splitlines())) <= 80


def test_it_says_for_which_engine_and_how_it_is_known(command):
    _, shown, _ = command("7B")
    assert "torch, in GPU memory" in shown
    assert "not measured" in shown
    _, shown, _ = command("gpt2", "--ram", "4GB")
    assert "entrenar, in main memory" in shown


def test_learned_positions_bound_the_default_length(data):
    assert data("gpt2")[1]["seq_len"] == 1024
    assert data("bert-base")[1]["seq_len"] == 512
    assert data("7B")[1]["seq_len"] == 2048


def test_a_config_is_enough(data, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(tiny_config("llama")))
    for path in (tmp_path, tmp_path / "config.json"):
        _, found = data(str(path), "--seq-len", "16")
        assert found["parameters"] == models.parameter_count(tiny_config("llama"))


@pytest.mark.tier2
def test_a_file_in_blocks_is_run_in_its_blocks(data, tmp_path):
    raw = tiny_config("llama", hidden_size=64, intermediate_size=128, vocab_size=320)
    write_model(tmp_path / "model", raw)
    path = tmp_path / "model.gguf"
    export(tmp_path / "model", path, form="gguf", quantization="q8_0")
    _, found = data(str(path), "--seq-len", "16", "--engine", "entrenar")
    assert found["precision"] == "q8_0"
    weights = found["inference"]["terms"][0]["bytes"]
    linears = find_shape(path).linears.values()
    assert weights == sum(rows * columns * 34 // 32 for rows, columns in linears)
    assert data(str(path), "--seq-len", "16")[1]["precision"] == "bfloat16"  # for PyTorch


@pytest.mark.parametrize(("spec", "revision"), [("hf://o/m", None), ("hf://o/m@v1", "v1")])
def test_a_name_with_the_prefix_of_the_hub_is_looked_for_there(
    data, tmp_path, monkeypatch, spec, revision
):
    (tmp_path / "config.json").write_text(json.dumps(tiny_config("llama")))
    (tmp_path / "o/m").mkdir(parents=True)  # a folder of that name is not meant
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(hub, "fetch_shapes", lambda *_: None)
    monkeypatch.setattr(
        hub, "fetch_config", lambda *words: asked.append(words) or tmp_path / "config.json"
    )
    _, found = data(spec, "--seq-len", "16")
    assert asked == [("o/m", revision)]
    assert (found["model"], found["model_from"]) == ("o/m", "hub: config and headers")


@pytest.mark.parametrize(
    ("words", "code", "text", "hint"),
    [
        (["7B", "--vram", "1GB", "--ram", "1GB"], 2, "both given", "the one"),
        (["7B", "--vram", "1GB", "--engine", "entrenar"], 2, "main memory", "--ram"),
        (["6B"], 14, "'6B'", "7B"),
        (["hf://org/name/file"], 14, "org/name/file", "org/model"),
        (["7B", "--precision", "bf17"], 2, "bf17", "did you mean bf16?"),
        (["7B", "--precision", "fp16"], 2, "float16", "bf16"),
        (["7B", "--precision", "q4_k"], 2, "torch", "nf4"),
        (["7B", "--precision", "bf16", "--engine", "entrenar"], 2,
         "trains all weights in float32", "bfloat16 is for --method lora"),
        (["7B", "--precision", "fp32", "--method", "lora"], 2, "in bfloat16", "bfloat16"),
        (["7B", "--precision", "nf4", "--method", "full"], 2, "nf4", "nf4 is for --method qlora"),
        (["7B", "--precision", "fp32", "--method", "qlora"], 2, "nf4 or int8", "nf4"),
        (["7B", "--method", "full", "--rank", "4"], 2, "full", "lora"),
        (["7B", "--rank", "5000"], 2, "above 4096", "lower"),
        (["7B", "--target-modules", "q_prj"], 10, "q_prj", "q_proj"),
        (["7B", "--target-modules", "a,,b"], 2, "empty name", "help"),
        (["7B", "--optimizer", "adma"], 2, "adma", "adamw"),
        (["gpt2", "--seq-len", "2048"], 2, "1024", "at most 1024"),
        (["7B", "--batch-size", "0"], 2, "0", "help"),
        (["7B", "--measure", "--engine", "torch"], 15, "torch", "--engine entrenar"),
        (["7B", "--measure", "--vram", "80GB"], 15, "torch", "--engine entrenar"),
    ],
)  # fmt: skip
def test_a_request_that_makes_no_sense_is_refused(command, words, code, text, hint):
    found, shown, said = command(*words)
    lines = said.splitlines()
    assert (found, shown) == (code, "")
    assert lines[0].startswith("error[E-")
    assert text in lines[0]
    assert lines[-1].startswith("hint: ")
    assert hint in lines[-1]


def test_an_architecture_that_is_not_known_is_named(command, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "falcon"}')
    code, _, said = command(str(tmp_path))
    assert (code, "falcon" in said) == (15, True)


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


@linux
def test_what_does_not_fit_this_machine_is_not_measured(command, monkeypatch):
    monkeypatch.setattr(measuring, "available_memory", lambda: GIB)
    code, shown, said = command("7B", "--measure")
    assert (code, shown) == (22, "")
    assert "this machine has 1.0 GiB available" in said


@linux
def test_a_model_without_a_loss_is_not_measured(command, tmp_path):
    raw = tiny_config("llama", architectures=["LlamaForSequenceClassification"])
    (tmp_path / "config.json").write_text(json.dumps(raw))
    code, _, said = command(str(tmp_path), "--measure", "--seq-len", "8")
    assert (code, "predicts no tokens" in said) == (15, True)


@linux
@pytest.mark.tier3
@pytest.mark.parametrize("has_weights", [False, True])
def test_what_is_measured_is_shown_beside_what_was_predicted(data, tmp_path, has_weights):
    raw = tiny_config("llama")
    (tmp_path / "config.json").write_text(json.dumps(raw))
    if has_weights:
        models.save(models.from_config(raw, seed=0), tmp_path / "model")
    path = tmp_path / "model" if has_weights else tmp_path
    _, found = data(str(path), "--seq-len", "8", "--measure")
    assert [each["use"] for each in found["measured"]] == ["inference", "training"]
    for each in found["measured"]:
        assert each["predicted_bytes"] == found[each["use"]]["total_bytes"]
        assert each["measured_bytes"] > 2**25  # a process with NumPy
        error = each["predicted_bytes"] / each["measured_bytes"] - 1
        assert each["error"] == pytest.approx(error)
