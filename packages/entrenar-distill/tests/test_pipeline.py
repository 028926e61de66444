"""A whole distillation: what it writes, and what a user can do with it."""

import json
import shlex
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import yaml

from entrenar_common.progress import NullProgress
from entrenar_common.testing import run_cli
from entrenar_core import models
from entrenar_core.distill import DIVERGENCES, Divergence
from entrenar_core.io import files
from entrenar_distill import pipeline
from entrenar_distill.cli import main
from entrenar_distill.config import as_yaml, config_hash, resolve
from entrenar_distill.inputs import read_inputs
from entrenar_distill.report_json import read_report, to_json


@pytest.fixture(scope="module")
def finished(make_config, tmp_path_factory, train):
    """The folder of a finished run without a control, and its report."""
    folder = tmp_path_factory.mktemp("it's a $HOME")
    return folder / "out", train(make_config(folder))


@pytest.mark.tier2
def test_the_folder_is_a_model_folder_with_a_report_beside_it(finished):
    folder, _ = finished
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names == {
        "checkpoints",
        "config.json",
        "distill.yaml",
        "generation_config.json",
        "metrics.jsonl",
        "model.safetensors",
        "report.html",
        "report.json",
        "report.md",
        "run.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }


@pytest.mark.tier2
def test_the_report_in_the_folder_is_the_one_that_is_returned(finished):
    folder, report = finished
    assert to_json(read_report(folder / "report.json")) == to_json(report)


@pytest.mark.tier2
def test_the_metrics_have_a_line_for_each_step(finished):
    folder, _ = finished
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["phase"], line["step"]) for line in lines] == [
        ("student", i) for i in (1, 2, 3, 4)
    ]
    for line in lines:
        assert line["loss"] == pytest.approx(2.0 * line["divergence"] + 0.5 * line["cross_entropy"])
    assert {"learning_rate", "grad_norm", "tokens_per_second", "memory_bytes"} <= lines[0].keys()


@pytest.mark.tier2
@pytest.mark.parametrize("loss", DIVERGENCES)
def test_every_loss_trains_and_is_echoed(make_config, train, tmp_path, loss):
    section = {"loss": loss, "temperature": 1.5, "alpha": 1.0, "top_k": 20}
    rate = {"max_steps": 30, "learning_rate": 1e-2, "schedule": "constant"}
    report = train(make_config(tmp_path, distillation=section, training=rate))
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    chosen = Divergence(loss, 1.5, top_k=20)
    for line in lines:
        assert line["loss"] == pytest.approx(chosen.factor * line["divergence"])
    assert lines[-1]["divergence"] < lines[0]["divergence"]
    assert report.formula.startswith(f"alpha*{chosen.formula} + ")
    found = {"beta": report.beta, "skew": report.skew}
    assert found == {"beta": None, "skew": None} | (
        {chosen.weight_name: chosen.weight} if chosen.weight_name else {}
    )
    text = (tmp_path / "out/report.md").read_text()
    assert f"- loss: `{report.formula}`" in text
    assert "- top_k: `20`" in text


@pytest.mark.tier2
def test_the_configuration_in_the_folder_says_the_same(finished):
    folder, _ = finished
    first = resolve(folder.parent / "distill.yaml")
    assert config_hash(resolve(folder / "distill.yaml")) == config_hash(first)


@pytest.mark.tier2
def test_the_command_in_the_report_makes_the_same_student_again(finished):
    folder, report = finished
    again = folder.with_name("out-again")
    words = report.reproduction.command.rpartition(" run ")[2].replace("\\\n", "")
    made = run_cli(["entrenar-distill", "run", *shlex.split(words)])
    assert made.returncode == 0, made.stderr
    weights = [(at / "model.safetensors").read_bytes() for at in (folder, again)]
    assert weights[0] == weights[1]
    found = read_report(again / "report.json")
    assert found.reproduction.inputs == report.reproduction.inputs
    assert found.reproduction.config_hash == report.reproduction.config_hash


@pytest.mark.tier2
def test_the_files_of_a_model_are_hashed_once_a_run(make_config, train, tmp_path, monkeypatch):
    """A teacher can have many gigabytes."""
    hashed = []
    whole = files.sha256_file
    monkeypatch.setattr(files, "sha256_file", lambda path: hashed.append(path) or whole(path))
    train(make_config(tmp_path, training={"max_steps": 1}))
    weights = [path for path in hashed if path.parent.name == "teacher"]
    assert weights
    assert len(weights) == len(set(weights))


@pytest.mark.tier2
def test_the_parts_of_the_loss_are_those_of_the_log(finished):
    folder, report = finished
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert set(report.parts) == {"divergence", "agreement"}
    for name, points in report.parts.items():
        found = [(line["step"], line[name]) for line in lines if line["phase"] == "student"]
        assert points == tuple(map(tuple, found))  # of four steps, each is a point
    assert "divergence" in (folder / "report.md").read_text()


@pytest.mark.tier2
def test_the_samples_go_on_from_held_out_text(finished, world):
    _, report = finished
    texts = [path.read_text() for path in (world / "text").iterdir()]
    assert {sample.model for sample in report.samples} == {"teacher", "student"}
    assert all(any(sample.prompt in text for text in texts) for sample in report.samples)
    assert len({sample.prompt for sample in report.samples}) == 2


@pytest.mark.tier2
def test_padded_vocabularies_of_one_tokenizer_are_trained_on_the_ids_they_share(
    teacher, make_config, tmp_path, train
):
    """A teacher padded to 384 rows and a student of 320: the padding has no part in the loss."""
    config = make_config(tmp_path, training={"max_steps": 30})
    plain = train(config, output=tmp_path / "plain")
    model = models.load(teacher)
    ids = model.config.vocab_size
    padded = models.from_config(model.config.to_hf() | {"vocab_size": 384}, seed=9)
    for name, parameter in padded.named_parameters().items():
        source = model.named_parameters()[name].data
        parameter.data[: len(source)] = source
        parameter.data[len(source) :] = 1e3  # would decide every softmax that it is in
    models.save(padded, teacher)
    student = {**yaml.safe_load(config.read_text())["student"]["config"], "vocab_size": ids}
    config = make_config(
        tmp_path,
        teacher={"model_id": str(teacher)},
        student={"config": student},
        training={"max_steps": 30},
    )
    report = train(config, output=tmp_path / "padded")
    assert report.score("student").loss == pytest.approx(plain.score("student").loss, abs=1e-5)
    assert report.curve["student"][-1][1] < report.curve["student"][0][1] - 0.5


@pytest.mark.tier2
def test_a_padded_student_trains_too(make_config, tmp_path, train):
    student = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    student |= {"intermediate_size": 32, "max_position_embeddings": 32, "vocab_size": 400}
    config = make_config(tmp_path, student={"config": student}, training={"max_steps": 30})
    report = train(config)
    assert report.curve["student"][-1][1] < report.curve["student"][0][1] - 0.5


@pytest.mark.tier2
def test_documents_that_are_left_out_are_counted(make_config, world, tmp_path, capsys):
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    names = [str(world / "text"), str(tmp_path / "bad.txt")]
    config = make_config(tmp_path, dataset={"name": names, "skip_bad": True})
    assert main.main(["run", "-q", "--config", str(config)], standalone_mode=False) == 0
    assert "warning: 1 documents are left out" in capsys.readouterr().err


@pytest.mark.tier2
@pytest.mark.parametrize(("short", "dtype"), [("bf16", "bfloat16"), ("fp16", "float16")])
def test_mixed_precision_keeps_the_teacher_in_16_bits_and_says_so(
    short, dtype, make_config, tmp_path, capsys, finished
):
    config = make_config(tmp_path, training={"mixed_precision": short})
    teacher = read_inputs(resolve(config), progress=NullProgress()).teacher
    kept = np.asarray(teacher.output_weight.data, np.float32)
    assert np.array_equal(kept, kept.astype(getattr(ml_dtypes, dtype, dtype)))
    assert main.main(["run", "-q", "--config", str(config)], standalone_mode=False) == 0
    assert f"the teacher's matrices are kept in {dtype}" in capsys.readouterr().err
    found, plain = read_report(tmp_path / "out" / "report.json"), finished[1]
    wanted = plain.score("student").loss
    assert found.score("student").loss == pytest.approx(wanted, rel=1e-2)
    assert found.score("student").loss != wanted


@pytest.mark.tier2
def test_json_is_one_document_on_standard_output(make_config, tmp_path, capsys):
    config = str(make_config(tmp_path))
    assert main.main(["run", "--config", config, "--json"], standalone_mode=False) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["schema"] == "entrenar.distill.run/1"
    assert printed["data"]["scores"][0]["name"] == "teacher"


# --- the next commands ------------------------------------------------------------------------


@pytest.mark.tier3
def test_each_of_the_next_commands_works_as_it_stands(finished):
    """In a shell, for a folder whose name a shell would take apart."""
    _, report = finished
    assert len(report.next_commands) >= 3
    for command in report.next_commands:
        done = subprocess.run(
            ["/bin/sh", "-c", command], capture_output=True, encoding="utf-8", timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


# --- without training -------------------------------------------------------------------------


def test_a_dry_run_trains_nothing_and_leaves_nothing(make_config, tmp_path, capsys):
    config = make_config(tmp_path, control=True, training={"max_steps": None, "epochs": 3})
    code = main.main(["run", "--config", str(config), "--dry-run", "--json"], standalone_mode=False)
    assert code == 0
    found = json.loads(capsys.readouterr().out)["data"]
    assert found["steps"] == 3 * found["steps_per_epoch"]
    assert found["phases"] == ["student", "control"]
    assert found["done"] == {}
    assert found["loss"] == "alpha*T^2*KL(teacher||student) + (1-alpha)*CE, per valid token"
    assert found["loss_settings"] == {"temperature": 2.0, "alpha": 0.5}
    assert [path.name for path in tmp_path.iterdir()] == ["distill.yaml"]


@pytest.mark.parametrize(
    ("dataset", "rows", "bounded"),
    [
        ({}, "packed documents", False),
        ({"boundaries": True}, "packed documents, each read by itself", True),
        ({"packing": False}, "one document in each", False),
    ],
)
def test_what_rows_have_of_documents_is_planned_and_done(
    make_config, tmp_path, dataset, rows, bounded
):
    config = resolve(make_config(tmp_path, dataset=dataset))
    assert pipeline.plan(config).rows == rows
    batch = read_inputs(config, progress=NullProgress()).batches.batch(0)
    assert (batch.segments is not None) == bounded


def test_the_whole_configuration_can_be_written_and_read_again(make_config, tmp_path):
    student = {"layers_from_teacher": [0, 1]}
    config = resolve(make_config(tmp_path, student=student, training={"epsilon": 1e-9}))
    (tmp_path / "again.yaml").write_text(as_yaml(config))
    assert resolve(tmp_path / "again.yaml") == config


@pytest.mark.tier2
@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_no_numpy(words):
    code = (
        "import sys\n"
        "from entrenar_distill.cli import main\n"
        f"main.main({words!r}, standalone_mode=False)\n"
        "print(sorted({'numpy', 'numba', 'rich', 'pydantic', 'yaml'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_the_help_says_where_the_keys_are(capsys):
    main.main(["run", "--help"], standalone_mode=False)
    assert "docs/config.md" in capsys.readouterr().out


@pytest.mark.tier2
def test_the_command_line_as_it_is_installed(make_config, tmp_path):
    config = str(make_config(tmp_path))
    done = run_cli(["entrenar-distill", "run", "--config", config])
    assert done.returncode == 0, done.stderr
    assert "student: done, 4/4" in done.stderr
    again = run_cli(["entrenar-distill", "run", "--config", config, "--resume", "auto", "-q"])
    assert again.stdout == done.stdout
    assert again.stderr == ""
