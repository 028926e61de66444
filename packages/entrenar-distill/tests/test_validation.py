"""`validate`: what is wrong with a configuration is shown at once, and what `run` would take."""

import json
import shutil
from pathlib import Path

import pytest

from entrenar_core.convert.gguf import GGUFPlan, gguf_nbytes
from entrenar_core.convert.recipe import recipe_named
from entrenar_core.io import files
from entrenar_distill import causal, memory_check
from entrenar_distill.check import Check, Status, lines_of, marks_for
from entrenar_distill.cli import main
from entrenar_distill.config import resolve
from entrenar_distill.validation import Shown, validate


@pytest.fixture
def said(capsys):
    """Runs the command; gives its exit code and the checks of its JSON by name."""

    def run(path, *options):
        line = ["validate", "-q", "--json", "--config", str(path), *options]
        code = main.main(line, standalone_mode=False)
        document = json.loads(capsys.readouterr().out)
        assert document["schema"] == "entrenar.distill.validate/1"
        data = document["data"]
        every = data["checks"] + (data["self_checks"] or [])
        assert data["valid"] == (code == 0)
        return code, {check["name"]: check for check in every}

    return run


def statuses(checks) -> dict[str, str]:
    return {name: check["status"] for name, check in checks.items() if check["status"] != "ok"}


# --- what there is ----------------------------------------------------------------------------


def test_a_configuration_that_can_be_run_has_nothing_wrong(said, write_config, tmp_path):
    path = write_config()
    before = sorted(p.name for p in tmp_path.iterdir())
    code, checks = said(path)
    assert (code, statuses(checks)) == (0, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_what_is_looked_at_is_said(said, write_config):
    _, checks = said(write_config(training={"gradient_accumulation": 2}))
    assert "4 steps of 4 rows of 32 tokens" in checks["steps"]["note"]
    assert "24 documents" in checks["documents"]["note"]
    assert "20.0% of them" in checks["held_out"]["note"]
    assert checks["vocabulary"]["note"].startswith("identical: ")
    assert "T^2*KL(teacher||student)" in checks["loss"]["note"]


def test_rows_that_the_models_do_not_share_are_said(said, write_config, world):
    student = {"config": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
                          "num_attention_heads": 2, "vocab_size": 400}}  # fmt: skip
    _, checks = said(write_config(student=student))
    assert "and student's 400" in checks["vocabulary"]["note"]


def test_layers_that_are_learned_from_are_said(said, write_config):
    _, checks = said(write_config(distillation={"progressive": {}}))
    assert checks["inside"]["note"] == "hidden_mse (0←1)"


# --- what is wrong ----------------------------------------------------------------------------


def test_every_problem_is_shown_not_only_the_first(said, write_config, tmp_path):
    path = write_config(
        teacher={"model_id": str(tmp_path / "no-teacher")},
        student={"model_id": str(tmp_path / "no-student")},
        dataset={"name": str(tmp_path / "no-text")},
        output={"dir": str(path_of_a_file(tmp_path) / "out")},
    )
    code, checks = said(path)
    problems = {n: c["code"] for n, c in checks.items() if c["status"] == "problem"}
    assert code == 1
    assert problems == {
        "teacher": "E-NOTFOUND",
        "student": "E-NOTFOUND",
        "documents": "E-NOTFOUND",
        "output": "E-STORAGE",
    }
    assert all(checks[name]["hint"] for name in problems)


def path_of_a_file(folder: Path) -> Path:
    path = folder / "file"
    path.write_text("not a folder")
    return path


def test_what_a_missing_thing_hides_is_not_checked_and_says_why(said, write_config, tmp_path):
    _, checks = said(write_config(teacher={"model_id": str(tmp_path / "none")}))
    assert checks["student"]["status"] == "not checked"
    assert checks["student"]["note"] == "needs the teacher"


def test_all_problems_of_the_file_are_shown_with_their_places(said, tmp_path):
    path = tmp_path / "typo.yaml"
    path.write_text("teacher: {model_id: t}\nstudent: {model_id: s}\ndataset: {nam: x}\nlr: 3\n")
    code, checks = said(path, "--set", "training.epochs=none")
    assert code == 1
    assert checks["configuration"]["code"] == "E-CONFIG"
    shown = "\n".join(checks["configuration"]["details"])
    assert "line 3: dataset.nam: unknown key; did you mean name?" in shown
    assert "line 4: lr: unknown key" in shown
    assert "--set training.epochs: must be a whole number" in shown


@pytest.mark.parametrize(
    ("sections", "name", "text"),
    [
        ({"dataset": {"max_length": 64}}, "positions", "more than the teacher's 32 positions"),
        ({"dataset": {"max_documents": 2, "max_length": 32}, "training": {"batch_size": 99}},
         "steps", "fewer than one batch of 99"),
        ({"distillation": {"top_k": 999}}, "vocabulary", "top_k 999 is more than"),
        ({"distillation": {"progressive": {"layer_mapping": [[0, 7]]}}}, "inside",
         "the teacher has 2 layers"),
        ({"distillation": {"progressive": {"schedule": {"from_step": 9}}}}, "inside",
         "in a run of 4 steps"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_the_problem_of_its_own_check(
    said, write_config, sections, name, text
):
    code, checks = said(write_config(**sections))
    assert code == 1
    assert {n for n, c in checks.items() if c["status"] == "problem"} == {name}
    assert text in checks[name]["note"]


def test_another_tokenizer_is_a_problem_of_the_vocabulary(said, write_config, world):
    _, checks = said(write_config(student={"model_id": str(world / "other")}))
    assert checks["vocabulary"]["status"] == "problem"
    assert "different tokenizers" in checks["vocabulary"]["note"]


def test_an_error_that_no_single_check_finds_is_shown(said, write_config, monkeypatch):
    """`validate` never passes what `run` refuses."""
    from entrenar_common.errors import ConfigError

    def refuse(*_args, **_named):
        raise ConfigError("something new", hint="look")

    monkeypatch.setattr(causal, "read_inputs", refuse)
    code, checks = said(write_config())
    assert (code, statuses(checks)) == (1, {"inputs": "problem"})


# --- what is doubtful -------------------------------------------------------------------------


def test_doubts_are_warnings_and_no_failure(said, write_config):
    path = write_config(training={"warmup_steps": 9, "evaluate_every": 50})
    code, checks = said(path)
    assert (code, statuses(checks)) == (0, {"steps": "warning"})
    assert len(checks["steps"]["details"]) == 2


def test_documents_that_are_left_out_are_counted(said, write_config, world, tmp_path):
    text = Path(shutil.copytree(world / "text", tmp_path / "text"))
    (text / "bad.txt").write_bytes(b"\xff\xfe\xfa broken")
    path = write_config(dataset={"name": str(text), "skip_bad": True})
    code, checks = said(path)
    assert (code, statuses(checks)) == (0, {"warnings": "warning"})
    assert "1 that cannot be read" in checks["documents"]["note"]


# --- the output -------------------------------------------------------------------------------


def test_a_finished_run_is_said_to_be_this_one(said, write_config, train):
    path = write_config()
    train(path)
    code, checks = said(path)
    assert (code, checks["output"]["status"]) == (0, "warning")
    assert "holds this run, finished" in checks["output"]["note"]


def test_another_run_in_the_folder_is_a_problem(said, write_config, train):
    path = write_config()
    train(path)
    code, checks = said(path, "--set", "training.seed=5")
    assert (code, checks["output"]["code"]) == (1, "E-CHECKPOINT")
    assert "training.seed: was 0, is 5" in checks["output"]["details"]


def test_files_that_are_no_run_are_a_problem(said, write_config, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    code, checks = said(write_config())
    assert (code, checks["output"]["code"]) == (1, "E-REFUSED")


@pytest.mark.parametrize("sections", [
    {},
    {"distillation": {"progressive": {}}, "training": {"evaluate_every": 2}, "control": True},
    {"training": {"max_steps": 7}},
])  # fmt: skip
def test_the_bytes_that_are_expected_are_those_that_a_run_leaves(
    write_config, train, tmp_path, sections
):
    """The tensors' files have headers besides: some thousand bytes each."""
    from entrenar_common.progress import NullProgress
    from entrenar_distill.output_checks import space_for
    from entrenar_distill.pieces import read_pieces

    path = write_config(output={"checkpoint_every": 1, "format": "gguf"}, **sections)
    config = resolve(path)
    space = space_for(config, read_pieces(config, progress=NullProgress()))
    train(path)
    out = tmp_path / "out"
    checkpoints = sorted((out / "checkpoints").glob("student/step-*"))
    phases = 2 if config.control else 1
    # one more was there while it was written; of the best, there is one where it is not a last one
    best = config.training.evaluate_every is not None
    assert space.checkpoints - 1 - best * phases <= len(checkpoints) * phases < space.checkpoints
    for found, expected in [
        (checkpoints[0].glob("*.safetensors"), space.checkpoint),
        ([out / "model.safetensors"], space.student),
    ]:
        size = sum(file.stat().st_size for file in found)
        assert expected < size < expected + 16_000
    with GGUFPlan(out, recipe_named("f32")) as plan:
        assert space.gguf == plan.nbytes


def test_the_bytes_of_a_gguf_file_are_those_of_its_plan(world):
    from entrenar_core import models

    recipe = recipe_named("q4_k_m")
    with GGUFPlan(world / "teacher", recipe) as plan:
        assert gguf_nbytes(models.load(world / "teacher"), recipe) == plan.nbytes


@pytest.mark.parametrize(
    ("installed", "status"), [(10**11, "ok"), (200_000_000, "warning"), (10**6, "problem")]
)
def test_memory_that_is_not_there_is_a_problem(said, write_config, monkeypatch, installed, status):
    """A toy run takes some 180 MB, of which nearly all is the process without a model."""
    monkeypatch.setattr(memory_check, "installed_memory", lambda: installed)
    _, checks = said(write_config())
    assert checks["memory"]["status"] == status
    assert checks["memory"]["code"] == ("E-MEMORY" if status == "problem" else None)


def test_memory_that_is_not_estimated_is_said_not_to_be_checked(said, write_config, world):
    teachers = [{"model_id": str(world / "teacher")}] * 2
    _, checks = said(write_config(teacher=teachers))
    assert checks["memory"]["status"] == "not checked"
    assert "several teachers" in checks["memory"]["note"]


@pytest.mark.parametrize(("free", "status"), [(10**9, "ok"), (450_000, "warning"), (9, "problem")])
def test_a_disk_without_room_is_a_problem(said, write_config, monkeypatch, free, status):
    monkeypatch.setattr(files, "probe_writable", lambda folder, **_: free)
    _, checks = said(write_config())
    assert checks["space"]["status"] == status


# --- the self-check ---------------------------------------------------------------------------


def test_the_loss_is_tried_on_the_run_itself(said, write_config):
    path = write_config(distillation={"progressive": {"loss": "cosine"}})
    code, checks = said(path, "--self-check")
    assert (code, statuses(checks)) == (0, {})
    names = {"self_divergence", "gradient_weights", "accumulation_2", "labels", "packing"}
    assert names <= checks.keys()
    assert checks["gradient_weights"]["found"] <= checks["gradient_weights"]["bound"]


def test_what_the_self_check_cannot_see_is_said(said, write_config):
    path = write_config(training={"quantization": {"recipe": "q8_0"}})
    code, checks = said(path, "--self-check")
    assert (code, checks["stored_weights"]["status"]) == (0, "not checked")


def test_an_adapter_is_tried_too(said, write_config, world):
    student = {"model_id": str(world / "teacher"), "lora": {"rank": 2}, "quantize": "q8_0"}
    code, checks = said(write_config(student=student), "--self-check")
    assert (code, statuses(checks)) == (0, {})


@pytest.mark.parametrize("each", [{}, {"weight": 0.5}])
def test_several_teachers_are_tried_too(said, write_config, world, each):
    teacher = {"model_id": str(world / "teacher"), **each}
    code, checks = said(write_config(teacher=[teacher, teacher]), "--self-check")
    assert (code, statuses(checks)) == (0, {"memory": "not checked"})
    assert "teacher 1" in checks["teacher"]["note"]


def test_answers_are_tried_where_only_they_are_learned(said, write_config, tmp_path):
    lines = [
        {"prompt": "the red fox sees " * 5, "completion": " the old tree near a house"}
        for _ in range(12)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    dataset = {"name": str(tmp_path / "rows.jsonl"), "kind": "completion", "packing": False}
    code, checks = said(write_config(dataset=dataset), "--self-check")
    assert code == 0
    assert checks["labels"]["status"] == "ok"
    assert checks["self_first"]["note"].startswith("sum over 4 rows")


def test_without_its_inputs_the_loss_is_not_tried(said, write_config, tmp_path):
    path = write_config(teacher={"model_id": str(tmp_path / "none")})
    _, checks = said(path, "--self-check")
    assert checks["self_check"]["status"] == "not checked"


# --- the command line -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ([], 2, "--config"),
        (["--config", "nowhere.yaml"], 14, "nowhere.yaml"),
        (["--config", "nowhere.yaml", "--set", "x"], 2, "KEY=VALUE"),
        (["--config", "nowhere.yaml", "--selfcheck"], 2, "--self-check"),
    ],
)
def test_a_command_line_that_means_nothing_is_an_error(capsys, options, code, text):
    assert main.main(["validate", *options], standalone_mode=False) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert text in printed.err


def test_the_view_fits_in_80_columns_and_has_a_line_for_each_check(write_config):
    found = validate(write_config(training={"warmup_steps": 9}))
    parts = Shown(found, marks_for("utf-8")).__view__()
    lines = [line for part in parts for line in part.text.split("\n")]
    assert [line for line in lines if len(line) > 80 and " " in line[2:].strip()] == []
    assert sum(line[:1] in "✓⚠✗·" for line in lines if line) == len(found.checks) + 1
    assert parts[-1].text.startswith("\n⚠ ")


def test_names_from_outside_are_shown_escaped():
    check = Check("teacher", "teacher", Status.PROBLEM, "\x1b[31mred\n✓ all is well")
    (line,) = lines_of(check, marks_for("ascii"))
    assert "\x1b" not in line.text
    assert line.text.startswith("FAIL teacher")
