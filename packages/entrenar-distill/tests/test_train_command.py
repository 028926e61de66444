"""The command `train`: what the library does, with the command line's manners."""

import json
import os
import re
import signal

import pytest
import yaml

from entrenar_core.train.config import json_schema
from entrenar_core.train.declarative import TrainSpec, train_from_yaml
from entrenar_core.train.metrics import READINGS, MetricsLog
from entrenar_distill.cli import main

pytestmark = pytest.mark.tier2


@pytest.fixture
def config(world, tmp_path):
    """`train.yaml`, for the output folder `out` beside it."""
    sections = {
        "model": {"path": str(world / "teacher")},
        "data": {"train": str(world / "text"), "max_length": 32, "held_out": 0.2},
        "training": {"max_steps": 4},
        "output": {"dir": str(tmp_path / "out"), "checkpoint_every": 2},
    }
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


@pytest.fixture
def train(config, capsys):
    """Runs the command in this process; its exit code, and what it printed."""

    def run(*words, path=config):
        code = main.main(["train", "--config", str(path), *words], standalone_mode=False)
        return code or 0, capsys.readouterr()

    return run


def lines_of(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in READINGS} for line in lines]


def test_the_command_does_what_the_library_does(train, config, tmp_path):
    code, printed = train("--json", "-q", "--set", "optimizer.lr=0.01")
    assert code == 0, printed.err
    found = json.loads(printed.out)
    assert found["schema"] == "entrenar.distill.train/1"
    other = tmp_path / "library"
    report = train_from_yaml(config, [("optimizer.lr", "0.01"), ("output.dir", str(other))])
    assert [s["figures"] for s in found["data"]["scores"]] == [s.figures for s in report.scores]
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_bytes() == (other / name).read_bytes()
    assert lines_of(tmp_path / "out") == lines_of(other)


def test_what_is_printed_shows_both_models(train):
    _, printed = train("-q")
    assert re.search(r"before training.*\n.*trained", printed.out)
    assert "perplexity" in printed.out


def test_validate_shows_the_plan_and_writes_nothing(train, tmp_path):
    code, printed = train("--validate", "-q")
    assert code == 0
    assert "nothing was trained" in printed.out
    assert re.search(r"steps\s+4; an epoch has", printed.out)
    assert not (tmp_path / "out").exists()


def test_validate_finds_what_only_the_files_can_tell(train, tmp_path):
    code, printed = train("--validate", "-q", "--set", "data.max_length=33")
    assert code == 10
    assert "more than the model's 32 positions" in printed.err
    assert not (tmp_path / "out").exists()


def test_the_schema_is_printed_without_a_configuration(capsys):
    assert not main.main(["train", "--print-schema"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out) == json_schema(TrainSpec)


def test_set_alone_can_be_the_whole_configuration(world, train, capsys):
    words = [
        word
        for key, value in {
            "model.path": world / "teacher", "data.train": world / "text",
            "data.max_length": 32, "data.held_out": 0.2, "training.max_steps": 4,
        }.items()
        for word in ("--set", f"{key}={value}")
    ]  # fmt: skip
    assert not main.main(["train", "--validate", "--json", *words], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)["data"]
    _, printed = train("--validate", "--json")
    same = json.loads(printed.out)["data"]
    assert {**found, "output": None} == {**same, "output": None}


def test_without_a_configuration_the_command_says_so(capsys):
    assert main.main(["train"], standalone_mode=False) == 2
    assert "missing option '--config'" in capsys.readouterr().err


def test_all_problems_are_shown_at_once(train, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("model: {pth: m}\ndata: {train: t}\noptimizer: {name: sgd, beta1: 0.9}\n")
    code, printed = train("--set", "trainin.epochs=3", path=path)
    assert code == 10
    assert "line 1: model.pth: unknown key; did you mean path?" in printed.err
    assert "line 3: optimizer.beta1: is no parameter of sgd" in printed.err
    assert "--set trainin.epochs: trainin: unknown key; did you mean training?" in printed.err


def test_set_wins_over_output_and_output_over_the_file(train, tmp_path):
    train("-q", "--output", str(tmp_path / "given"))
    assert (tmp_path / "given" / "report.md").exists()
    train("-q", "--output", str(tmp_path / "b"), "--set", f"output.dir={tmp_path / 'set'}")
    assert (tmp_path / "set" / "report.json").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_75_and_the_run_goes_on(train, tmp_path, monkeypatch, number):
    train("-q", "--output", str(tmp_path / "straight"))
    append = MetricsLog.append

    def stopping(log, record):
        append(log, record)
        if record["step"] == 3:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "append", stopping)
        code, printed = train("-q")
    assert code == 75
    assert "go on with --resume auto" in printed.err
    assert train("-q")[0] == 12  # it holds a run
    assert train("-q", "--resume", "auto")[0] == 0
    assert lines_of(tmp_path / "out") == lines_of(tmp_path / "straight")
    model = "model.safetensors"
    assert (tmp_path / "out" / model).read_bytes() == (tmp_path / "straight" / model).read_bytes()
