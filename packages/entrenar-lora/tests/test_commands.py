"""`plan` and `compare` from the command line: what they print, as text and as JSON."""

import json

import pytest

from entrenar_core import models
from entrenar_core.testing import tiny_config
from entrenar_lora.cli import main

GIB = 2**30


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs a command line at 80 columns; gives its exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words):
        code = main.main(list(words), standalone_mode=False) or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def data(command):
    """Runs a command with --json; gives its exit code and data."""

    def run(*words):
        code, shown, _ = command(*words, "--json")
        return code, json.loads(shown)["data"]

    return run


def test_a_plan_says_every_term_and_their_sum(data):
    code, plan = data("plan", "--model", "7B", "--vram", "16GB")
    assert (code, plan["fits"], plan["limit_bytes"]) == (0, True, 16 * GIB)
    names = {term["name"] for term in plan["terms"]}
    assert names >= {
        "weights", "quantization constants", "adapters", "gradients", "optimizer state",
        "activations kept", "logits", "dequantization buffer", "fixed overhead",
    }  # fmt: skip
    assert plan["total_bytes"] == sum(t["bytes"] for t in plan["terms"] if t["at_peak"])
    assert plan["utilisation"] == pytest.approx(plan["total_bytes"] / (16 * GIB))


def test_a_plan_says_what_is_trained(data):
    _, plan = data(
        "plan", "--model", "llama-2-7b", "--vram", "16GB", "--rank", "16",
        "--target-modules", "q_proj,k_proj,v_proj,o_proj",
    )  # fmt: skip
    assert plan["trainable_parameters"] == 16_777_216
    assert plan["trainable_share"] == pytest.approx(16_777_216 / 6_738_415_616)
    assert (plan["rank"], plan["alpha"], plan["adapted_matrices"]) == (16, 16, 128)


def test_gb_of_memory_is_read_as_gib_and_shown(command):
    _, shown, _ = command("plan", "--model", "7B", "--vram", "16GB")
    assert "Recommended for 16.0 GiB of GPU memory" in shown
    assert "computed by published formulae" in shown.casefold()


@pytest.mark.parametrize(
    "words",
    [["--model", "7B", "--vram", "12GB"], ["--model", "gpt2", "--ram", "2GB", "--seq-len", "512"]],
)
def test_a_plan_fits_80_columns(command, words):
    _, shown, _ = command("plan", *words)
    assert max(map(len, shown.splitlines())) <= 80


def test_ram_is_planned_for_this_library(data):
    _, plan = data("plan", "--model", "smollm2-135m", "--ram", "4GB", "--seq-len", "512")
    assert plan["engine"] == "entrenar"
    assert "measured" in plan["computed"]


def test_nothing_that_fits_is_exit_1_with_the_shortfall_and_what_would_fit(command, data):
    words = ("plan", "--model", "7B", "--vram", "8GB", "--method", "lora")
    code, plan = data(*words)
    assert (code, plan["fits"]) == (1, False)
    assert plan["short_by_bytes"] == plan["total_bytes"] - 8 * GIB
    assert [remedy["change"] for remedy in plan["remedies"]] == ["--method auto"]
    _, shown, _ = command(*words)
    assert shown.startswith("Nothing fits 8.0 GiB of GPU memory: the least is 7.0 GiB too much")


def test_a_folder_is_planned_by_its_own_shapes(data, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(tiny_config("llama")))
    _, plan = data("plan", "--model", str(tmp_path), "--vram", "2GB", "--seq-len", "16")
    assert plan["parameters"] == models.parameter_count(tiny_config("llama"))


@pytest.mark.parametrize(
    ("words", "code", "text", "hint"),
    [
        (["--model", "7B", "--vram", "16bananas"], 2, "no unit 'bananas'", "16GB"),
        (["--model", "7B", "--vram", "16"], 2, "no unit", "16GB"),
        (["--model", "7B", "--vram", "-3GB"], 2, "less than a mebibyte", "16GB"),
        (["--model", "7B"], 2, "neither --vram nor --ram", "--vram 16GB"),
        (["--model", "7B", "--vram", "1GB", "--ram", "1GB"], 2, "both given", "the one"),
        (["--model", "7B", "--vram", "1GB", "--engine", "entrenar"], 2, "main memory", "--ram"),
        (["--model", "7B", "--ram", "1GB", "--engine", "torch"], 2, "planned for a GPU", "--vram"),
        (["--model", "6B", "--vram", "1GB"], 14, "'6B'", "7B"),
        (["--model", "7B", "--vram", "9GB", "--target-modules", "q_prj"], 10, "q_prj", "q_proj"),
        (["--model", "7B", "--vram", "9GB", "--target-modules", "a,,b"], 2, "empty name", "help"),
        (["--model", "7B", "--vram", "9GB", "--optimizer", "adma"], 2, "adma", "adamw"),
        (["--model", "7B", "--vram", "9GB", "--method", "full", "--rank", "4"], 2, "full", "lora"),
        (["--model", "7B", "--vram", "9GB", "--alpha", "nan"], 2, "alpha", "number"),
        (["--model", "7B", "--vram", "9GB", "--rank", "5000"], 2, "above 4096", "lower"),
        (["--model", "gpt2", "--vram", "9GB", "--seq-len", "2048"], 2, "1024", "at most 1024"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(command, words, code, text, hint):
    found, shown, said = command("plan", *words)
    lines = said.splitlines()
    assert (found, shown) == (code, "")
    assert lines[0].startswith("error[E-")
    assert text in lines[0]
    assert lines[-1].startswith("hint: ")
    assert hint in lines[-1]


def test_methods_are_shown_side_by_side(data):
    _, found = data(
        "compare", "--model", "7B", "--methods", "full,lora-16,lora-64,qlora-4bit",
        "--vram", "16GB",
    )  # fmt: skip
    rows = found["rows"]
    assert [row["label"] for row in rows] == [
        "Full", "LoRA r=16", "LoRA r=64", "QLoRA 4-bit r=64",
    ]  # fmt: skip
    assert [row["fits"] for row in rows] == [row["bytes"] <= 16 * GIB for row in rows]
    assert rows[0]["trainable_parameters"] == 6_738_415_616
    assert rows[1]["trainable_parameters"] == 39_976_960
    assert rows[0]["relative_speed"] == 1


def test_quality_is_not_shown_unless_it_was_measured(command):
    _, shown, _ = command("compare", "--model", "7B", "--methods", "full,lora-16")
    assert "held-out loss" not in shown.split("Quality is not shown")[0]
    assert "--results" in shown


def test_measured_quality_is_shown_with_its_runs(command, data, tmp_path):
    path = tmp_path / "runs.jsonl"
    runs = [("lora-16", 1, 2.5), ("lora-16", 2, 2.7), ("full", 1, 2.25)]
    path.write_text(
        "".join(json.dumps({"method": m, "seed": s, "held_out_loss": x}) + "\n" for m, s, x in runs)
    )
    words = (
        "compare",
        "--model",
        "7B",
        "--methods",
        "full,lora-16,lora-64",
        "--results",
        str(path),
    )
    _, found = data(*words)
    assert [row["quality"] and row["quality"]["mean"] for row in found["rows"]] == [2.25, 2.6, None]
    assert found["note"] is None
    _, shown, _ = command(*words)
    assert "2.6000 ± 0.1414" in shown.replace("\n", " ")


@pytest.mark.parametrize(
    ("content", "code", "text"),
    [
        ("", 11, "no runs"),
        ("nonsense\n", 11, "not valid JSON"),
        ('{"method": "lora-16"}\n', 11, "runs.jsonl:1"),
        ('{"method": "lora-16", "held_out_loss": true}\n', 11, "runs.jsonl:1"),
        ('{"method": "lora-8", "held_out_loss": 1.0}\n', 2, "no run of any"),
    ],
)
def test_results_that_are_none_are_refused(command, tmp_path, content, code, text):
    path = tmp_path / "runs.jsonl"
    path.write_text(content)
    found, _, said = command("compare", "--model", "7B", "--results", str(path))
    assert (found, text in said.splitlines()[0]) == (code, True)


@pytest.mark.parametrize("methods", ["lora", "lora-0", "qlora-3bit", "full,full", "", "lora-4,"])
def test_a_name_that_is_no_method_is_refused(command, methods):
    code, _, said = command("compare", "--model", "7B", "--methods", methods)
    assert code == 2
    assert "--methods" in said
