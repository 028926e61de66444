"""`entrenar-distill estimate`: what it says of a configuration, and what it refuses."""

import json

import pytest

from entrenar_core.estimate.own_distillation import own_distillation
from entrenar_distill.cli import main
from entrenar_distill.config import resolve
from entrenar_distill.planned import planned

PAIR = ["--teacher", "smollm2-360m", "--student", "smollm2-135m"]


@pytest.fixture
def estimated(capsys):
    """Runs the command; gives its exit code and what it printed."""

    def run(*words):
        code = main.main(["estimate", "-q", *map(str, words)], standalone_mode=False)
        return code or 0, capsys.readouterr()

    return run


@pytest.fixture
def data(estimated):
    def run(*words):
        code, printed = estimated("--json", *words)
        return code, json.loads(printed.out)["data"]

    return run


def test_a_configuration_is_estimated_without_its_data(data, write_config):
    path = write_config(dataset={"name": "nowhere"})
    code, found = data("--config", path)
    plan = planned(resolve(path))
    memory = own_distillation(plan.student, plan.teacher, plan.asked)
    assert (code, found["total_bytes"]) == (0, memory.total)
    assert sum(term["bytes"] for term in found["terms"] if term["at_peak"]) == memory.total


def test_set_changes_the_configuration(data, write_config):
    path = write_config()
    _, found = data("--config", path, "--set", "training.batch_size=7")
    assert found["batch_size"] == 7


def test_two_published_models_are_estimated_from_their_configs(data):
    _, found = data(*PAIR, "--batch-size", "2", "--seq-len", "128")
    assert (found["batch_size"], found["seq_len"]) == (2, 128)
    assert found["teacher"]["origin"] == "published config"


def test_every_precision_of_the_teacher_has_a_row(data):
    _, found = data(*PAIR, "--teacher-precision", "bf16")
    rows = {row["precision"]: row for row in found["teachers"]}
    assert rows["bfloat16"]["chosen"] and rows["bfloat16"]["total_bytes"] == found["total_bytes"]
    assert rows["float32"]["teacher_bytes"] > rows["bfloat16"]["teacher_bytes"]
    assert rows["bfloat16"]["teacher_bytes"] > rows["nf4"]["teacher_bytes"]
    assert {"int8", "q8_0"} <= set(rows)


def test_the_largest_batch_is_the_last_that_fits(data):
    sizes = (*PAIR, "--seq-len", "256", "--ram", "8GiB")
    _, found = data(*sizes)
    largest = found["largest_batch"]
    assert data(*sizes, "--batch-size", largest)[0] == 0
    assert data(*sizes, "--batch-size", largest + 1)[0] == 1


def test_it_ends_with_1_only_where_memory_was_stated(data):
    code, found = data("--teacher", "70B", "--student", "llama-3-8b")
    assert (code, found["fits"]) == (0, False)
    assert data(*PAIR, "--ram", "1GiB")[0] == 1


def test_checkpoints_have_weights_and_two_moments(data, write_config):
    _, found = data("--config", write_config(output={"keep_checkpoints": 3, "checkpoint_every": 1}))
    disk = {row["what"]: row["bytes"] for row in found["disk"]}
    # one more is there while it is written
    assert disk["checkpoints"] == (3 + 1) * 3 * 4 * found["trained_parameters"]


def test_it_fits_into_80_columns(estimated, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, printed = estimated(*PAIR)
    assert max(map(len, printed.out.splitlines())) <= 80


@pytest.mark.tier2
def test_a_probe_takes_real_steps(data, write_config):
    sections = {"distillation": {"progressive": {}}, "control": True}
    words = "--config", write_config(**sections), "--probe"
    data(*words)  # this one may have to compile kernels, which takes memory
    _, found = data(*words)
    probe = found["probe"]
    assert probe["steps"] == 4
    step = probe["student_seconds"] + probe["control_seconds"]
    assert probe["seconds"] == pytest.approx(4 * step)
    assert abs(probe["error"]) < 0.2  # of a process that is hardly more than its libraries


@pytest.mark.tier2
def test_epochs_are_counted_on_the_data(data, write_config, train):
    path = write_config(training={"max_steps": None, "epochs": 1})
    _, found = data("--config", path, "--probe")
    assert found["probe"]["steps"] == train(path).steps


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ([], 2, "--teacher is missing"),
        (["--teacher", "7B"], 2, "--student is missing"),
        (["--config", "x.yaml", "--teacher", "7B"], 2, "--config and --teacher are both given"),
        (["--config", "x.yaml", "--seq-len", "8"], 2, "training.batch_size"),
        (["--teacher", "lama-2-7b", "--student", "7B"], 14, "did you mean llama-2-7b"),
        ([*PAIR, "--batch-size", "0"], 2, "--batch-size"),
        ([*PAIR, "--seq-len", "100000"], 10, "positions"),
        ([*PAIR, "--teacher-precision", "int3"], 2, "did you mean int8"),
        ([*PAIR, "--set", "rank"], 2, "KEY=VALUE"),
        ([*PAIR, "--set", "student.rank=3"], 10, "student.rank"),
        (["--teacher", "bert-base", "--student", "7B"], 15, "predicts no next token"),
        ([*PAIR, "--set", "training.quantization.weights=int4"], 15, "training.quantization"),
        ([*PAIR, "--set", "student.lora.use_dora=true"], 15, "student.lora.use_dora"),
        ([*PAIR, "--set", "student={layers_from_teacher: [40]}"], 10, "no layer 40"),
        ([*PAIR, "--set", "distillation.attention.kind=tinybert"], 10, "heads"),
        ([*PAIR, "--ram", "16"], 2, "16GB"),
        ([*PAIR, "--set", "task=masked-lm"], 15, "task masked-lm"),
        ([*PAIR, "--set", "teacher.cache=kept"], 15, "teacher.cache"),
        ([*PAIR, "--set", "distillation.cross_tokenizer={}"], 15, "cross_tokenizer"),
        ([*PAIR, "--set", "teacher=[{model_id: 7B}, {model_id: 13B}]"], 15, "several teachers"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_a_hint(estimated, words, code, text):
    found, printed = estimated(*words)
    assert text in printed.err
    assert "hint: " in printed.err
    assert (found, printed.out) == (code, "")
