"""`entrenar-distill export`: the command line, the report, and runs that start from its files."""

import hashlib
import json
import shutil

import pytest

from entrenar_core import models
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.train.evaluate import score
from entrenar_distill import pipeline
from entrenar_distill.cli import main
from entrenar_distill.export import export


@pytest.fixture
def command(capsys):
    """Runs `export` with options; gives the exit code and what it printed."""

    def run(*options):
        code = main.main(["export", "-q", *map(str, options)], standalone_mode=False)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_the_report_says_sizes_and_losses(command, world, tmp_path):
    output = tmp_path / "teacher.gguf"
    code, out, err = command(
        "--input", world / "teacher", "--format", "gguf", "--quantize", "q8_0", "--output", output
    )
    assert (code or 0, err) == (0, "")
    assert "q8_0" in out
    assert "Read back from the file" in out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert output.is_file()


def test_json_has_the_figures(command, world, tmp_path):
    output = tmp_path / "teacher.gguf"
    _, out, _ = command(
        "--input", world / "teacher", "--format", "gguf", "--output", output, "--json"
    )
    found = json.loads(out)
    assert found["schema"] == "entrenar.distill.export/1"
    data = found["data"]
    assert data["bytes_after"] == output.stat().st_size
    assert data["bytes_before"] == (world / "teacher" / "model.safetensors").stat().st_size
    assert data["quantization"] == "f32"
    assert data["perplexity"] is None
    assert data["parameters"] == models.load(world / "teacher").parameter_count()


def test_perplexity_is_that_of_the_two_models_on_the_text(world, tmp_path):
    report = export(
        str(world / "teacher"), str(tmp_path / "t.gguf"), form="gguf", quantization="q4_0",
        eval_data=[str(world / "text" / "00*.txt")], seq_len=16,
    )  # fmt: skip
    from entrenar_core.data.sources import DatasetSpec
    from entrenar_core.data.tokens import tokenize

    tokenizer = Tokenizer.load(world / "teacher")
    documents = tokenize(DatasetSpec((str(world / "text" / "00*.txt"),)), tokenizer)
    scores = score(
        {"a": models.load(world / "teacher"), "b": models.load(tmp_path / "t.gguf")},
        documents, seq_len=16, batch_size=4, eos_id=tokenizer.eos_id,
    )  # fmt: skip
    found = report.perplexity
    assert found.before == pytest.approx(scores["a"].perplexity, rel=1e-5)
    assert found.after == pytest.approx(scores["b"].perplexity, rel=1e-5)
    assert found.documents == len(documents)


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["--format", "gguf", "--quantize", "q4_l"], 15, "q4_l"),
        (["--format", "safetensors", "--quantize", "q4_0"], 15, "q4_0"),
        (["--format", "onnx"], 2, "onnx"),
        (["--format", "gguf", "--pre", "kwen"], 10, "kwen"),
        (["--format", "gguf", "--eval-data", "nowhere/*.txt"], 14, "nowhere"),
        (["--format", "safetensors", "--output", "o.safetensors", "--eval-data", "x"], 10, "alone"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_a_hint(
    command, world, tmp_path, options, code, word
):
    found, out, err = command("--input", world / "teacher", "--output", tmp_path / "out", *options)
    assert (found, out) == (code, "")
    assert word in err
    assert err.startswith("error[E-")
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_masked_words_has_no_perplexity(command, world, tmp_path):
    bert = {
        "model_type": "bert", "vocab_size": 320, "hidden_size": 8, "intermediate_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": 32,
    }  # fmt: skip
    models.save(models.from_config(bert, seed=1, head="masked-lm"), tmp_path / "bert")
    Tokenizer.load(world / "teacher").save(tmp_path / "bert")
    code, _, err = command(
        "--input", tmp_path / "bert", "--format", "safetensors", "--output", tmp_path / "out",
        "--eval-data", world / "text",
    )  # fmt: skip
    assert code == 10
    assert "not a language model" in err


def test_a_missing_model_and_a_missing_folder_are_told_apart(command, world, tmp_path):
    gguf = ["--format", "gguf"]
    code, _, err = command("--input", tmp_path / "none" / "x", *gguf, "--output", tmp_path / "a")
    assert code == 14
    assert "no such folder" in err
    code, _, err = command("--input", world / "teacher", *gguf, "--output", tmp_path / "no" / "a")
    assert code == 21
    assert "no/a" in err


@pytest.mark.tier2
@pytest.mark.parametrize("form", ["gguf", "apr"])
def test_a_run_can_start_from_an_exported_file(world, write_config, tmp_path, form):
    teacher = tmp_path / f"teacher.{form}"
    export(str(world / "teacher"), str(teacher), form=form, quantization="f32")
    from entrenar_distill.config import resolve

    of_folder = resolve(write_config(), output=str(tmp_path / "a"))
    of_file = resolve(write_config(), teacher=str(teacher), output=str(tmp_path / "b"))
    one, other = pipeline.run(of_folder), pipeline.run(of_file)
    assert one.score("student").loss == other.score("student").loss
    assert one.score("teacher").loss == other.score("teacher").loss


def test_a_largest_size_is_kept(command, world, tmp_path):
    output = tmp_path / "teacher.gguf"
    code, out, _ = command(
        "--input", world / "teacher", "--format", "gguf", "--max-size", "40kB",
        "--calibrate", world / "text" / "00*.txt", "--seq-len", "16", "--output", output,
    )  # fmt: skip
    assert (code or 0) == 0
    assert output.stat().st_size <= 40_000
    assert "mixed" in out


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--format", "gguf", "--max-size", "1MB"], "--calibrate"),
        (["--format", "gguf", "--calibrate", "x.txt"], "--max-size"),
        (["--format", "apr", "--max-size", "1MB", "--calibrate", "x"], "--format gguf"),
        (
            ["--format", "gguf", "--max-size", "1MB", "--calibrate", "x", "--quantize", "q4_0"],
            "--quantize",
        ),
    ],
)
def test_options_of_a_largest_size_go_together(command, world, tmp_path, options, word):
    code, _, err = command("--input", world / "teacher", "--output", tmp_path / "a", *options)
    assert code == 10
    assert word in err


# ---- where it comes from -----------------------------------------------------------------------


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("form", "name", "beside", "written"),
    [
        ("gguf", "t.gguf", "t.gguf.provenance.json", "t.gguf"),
        ("safetensors", "t", "t/provenance.json", "t/model.safetensors"),
        ("safetensors", "t.safetensors", "t.safetensors.provenance.json", "t.safetensors"),
    ],
)
def test_where_a_model_comes_from_is_written_beside_it(
    command, world, tmp_path, form, name, beside, written
):
    code, out, err = command(
        "--input", world / "teacher", "--format", form, "--output", tmp_path / name,
        "--include-metadata", "--json",
    )  # fmt: skip
    assert (code or 0, err) == (0, "")
    assert json.loads(out)["data"]["provenance"] == str(tmp_path / beside)
    found = json.loads((tmp_path / beside).read_text())
    weights = world / "teacher" / "model.safetensors"
    assert found["source"]["files"]["model.safetensors"]["sha256"] == sha256(weights)
    new = tmp_path / written
    assert found["output"]["files"][new.name] == {
        "bytes": new.stat().st_size, "sha256": sha256(new)
    }  # fmt: skip
    assert found["run"] is None


def test_what_the_run_said_of_its_model_goes_with_it(command, world, tmp_path):
    source = tmp_path / "student"
    shutil.copytree(world / "teacher", source)
    (source / "report.json").write_text('{"scores": [{"loss": 2.5}], "phases": [{"seconds": 1}]}')
    (source / "distill.yaml").write_text("training: {epochs: 3}\n")
    command(
        "--input", source, "--format", "gguf", "--output", tmp_path / "t.gguf", "--include-metadata"
    )
    found = json.loads((tmp_path / "t.gguf.provenance.json").read_text())
    assert found["run"] == {
        "configuration": {"distill.yaml": "training: {epochs: 3}\n"},
        "report": {"scores": [{"loss": 2.5}]},
    }


def test_nothing_is_written_beside_a_model_unless_it_is_asked_for(command, world, tmp_path):
    _, out, _ = command(
        "--input", world / "teacher", "--format", "gguf", "--output", tmp_path / "t.gguf", "--json"
    )
    assert json.loads(out)["data"]["provenance"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["t.gguf"]
