"""Runs with task: masked-lm: what they write, report and refuse."""

import subprocess
import sys

import numpy as np
import pytest
import yaml

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.progress import NullProgress
from entrenar_common.testing import run_cli
from entrenar_core import models
from entrenar_core.data.masking import MaskTokens
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.train.evaluate_masked import score_masked
from entrenar_distill import pipeline
from entrenar_distill.config import resolve
from entrenar_distill.masked_inputs import read_masked_inputs
from entrenar_distill.text_report import read_text_report
from masked_text import around, masked_config, masked_model, tokenizer


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with `text/` and `teacher/`, a BERT that knows nothing."""
    root = tmp_path_factory.mktemp("masked")
    (root / "text").mkdir()
    rng = np.random.default_rng(0)
    for i in range(24):
        words = [f"w{j}" for j in rng.integers(0, 56, 40)]
        (root / "text" / f"{i:02d}.txt").write_text(" ".join(words))
    models.save(masked_model("bert", seed=1, dtype="float32"), root / "teacher")
    tokenizer().save(root / "teacher")
    return root


@pytest.fixture
def config(place, tmp_path):
    """Writes a configuration; arguments such as dataset={...} change its sections."""

    def write(**changes):
        sections = {
            "task": "masked-lm",
            "teacher": {"model_id": str(place / "teacher")},
            "student": {"layers_from_teacher": [1]},
            "dataset": {"name": str(place / "text"), "max_length": 16, "held_out": 0.25},
            "training": {"max_steps": 3, "batch_size": 4, "gradient_accumulation": 2},
            "output": {"dir": str(tmp_path / "out")},
        }
        for name, change in changes.items():
            given = sections.get(name)
            both = isinstance(given, dict) and isinstance(change, dict)
            sections[name] = {**given, **change} if both else change
        path = tmp_path / "distill.yaml"
        path.write_text(yaml.safe_dump(sections))
        return path

    return write


@pytest.fixture(scope="module")
def finished(place, tmp_path_factory):
    """The inputs and the report of a run with a control, of a student of another architecture."""
    folder = tmp_path_factory.mktemp("run")
    student = {key: v for key, v in masked_config("distilbert").items() if key != "vocab_size"}
    sections = {
        "task": "masked-lm",
        "teacher": {"model_id": str(place / "teacher")},
        "student": {"config": student},
        "dataset": {
            "name": str(place / "text"), "max_length": 16, "held_out": 0.25, "mask_share": 0.3,
        },
        "distillation": {"progressive": {"loss": "cosine", "projection": "identity"}},
        "training": {"max_steps": 3, "batch_size": 4, "evaluate_every": 2},
        "output": {"dir": str(folder / "out")},
        "control": True,
    }  # fmt: skip
    (folder / "distill.yaml").write_text(yaml.safe_dump(sections))
    config = resolve(folder / "distill.yaml")
    report = pipeline.run(config)
    return read_masked_inputs(config, progress=NullProgress()), report, folder / "out"


@pytest.mark.tier2
def test_the_student_is_a_masked_language_model_with_the_teachers_tokenizer(finished):
    inputs, _, folder = finished
    student = models.load(folder, head="masked-lm")
    assert type(student).__name__ == "DistilBertForMaskedLM"
    found = Tokenizer.load(folder)
    assert found.same_as(inputs.tokenizer)
    assert found.mask_id == inputs.tokens.mask


@pytest.mark.tier2
def test_the_report_has_the_scores_of_the_model_that_was_written(finished):
    inputs, report, folder = finished
    pair = {"teacher": inputs.teacher, "student": models.load(folder, head="masked-lm")}
    wanted = score_masked(
        pair, inputs.held_out, seq_len=16, batch_size=7, tokens=MaskTokens.of(inputs.tokenizer),
        seed=inputs.config.training.seed, share=0.3,
    )  # fmt: skip
    for name, scores in wanted.items():
        figures, tokens = report.score(name).figures, scores.tokens.sum()
        hits = scores.calibration[:, :, 2].sum()
        assert figures["loss"].value == pytest.approx(scores.loss, rel=1e-5)
        assert figures["accuracy"].value == pytest.approx(hits / tokens)
        assert figures["top5_accuracy"].value == pytest.approx(scores.in_top.sum() / tokens)
    student, scores = report.score("student").figures, wanted["student"]
    assert student["agreement"].value == pytest.approx(scores.agreement)
    assert student["kl"].value == pytest.approx(scores.divergence.sum() / scores.tokens.sum(), 1e-4)
    assert report.score("teacher").figures["kl"] is None


@pytest.mark.tier2
def test_the_difference_is_student_minus_control(finished):
    _, report, _ = finished
    for name in ("loss", "accuracy", "top5_accuracy"):
        student, control = (report.score(m).figures[name].value for m in ("student", "control"))
        found = report.difference[name]
        assert found.value == pytest.approx(student - control, abs=1e-12)
        assert found.low <= found.value <= found.high
    assert "nats per hidden token" in report.verdict or "No difference" in report.verdict


@pytest.mark.tier2
def test_the_report_is_read_back_and_shown(finished):
    _, report, folder = finished
    assert read_text_report(folder / "report.json") == report
    text = (folder / "report.md").read_text()
    assert "nats per hidden token" in text
    assert "In top 5" in text
    assert "per hidden token of the whole optimizer step" in text


@pytest.mark.tier2
def test_the_log_has_the_parts_of_the_loss(finished):
    _, _, folder = finished
    records = [yaml.safe_load(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    student = [r for r in records if r["phase"] == "student"]
    assert len(student) == 3
    assert {"cross_entropy", "divergence", "agreement"} <= student[0].keys()
    assert "held_out_loss" in student[1]


@pytest.mark.tier2
def test_the_commands_that_come_next_work(finished):
    _, report, _ = finished
    scripts = [c for c in report.next_commands if "fill in a word" in c]
    (script,) = scripts
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    words = done.stdout.strip().strip("[]").split(", ")
    assert len(words) == 5
    assert sys.executable in script


@pytest.mark.tier2
def test_a_plan_says_what_is_hidden(config):
    done = run_cli(["entrenar-distill", "run", "--config", str(config()), "--dry-run"])
    assert done.returncode == 0, done.stderr
    assert "0.15 of the tokens, others in each epoch" in done.stdout
    assert "per hidden token" in done.stdout


@pytest.mark.tier2
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": {"max_length": 25}}, "max_length 25 is more than the teacher's 24 positions"),
        ({"dataset": {"max_length": 2}}, "leaves no token between the 2"),
        ({"training": {"batch_size": 4000}}, "fewer than the 8000 of one step"),
        ({"distillation": {"top_k": 62}}, "top_k 62 is more than the 61 ids"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(changes, message, config):
    with pytest.raises(ConfigError, match=message):
        pipeline.plan(resolve(config(**changes)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": {"packing": True}}, "packing goes with task causal-lm, not masked-lm"),
        ({"task": "causal-lm", "dataset": {"mask_share": 0.2}}, "mask_share goes with task masked"),
        ({"dataset": {"mask_share": 1.0}}, "mask_share"),
    ],
)
def test_keys_that_mean_nothing_are_refused(changes, message, config):
    with pytest.raises(ConfigError, match=message):
        resolve(config(**changes))


@pytest.mark.tier2
def test_a_student_with_another_tokenizer_is_refused_with_the_reason(config, tmp_path):
    models.save(masked_model("distilbert", dtype="float32"), tmp_path / "student")
    tokenizer(processor=around("$A [SEP]")).save(tmp_path / "student")
    changes = {"model_id": str(tmp_path / "student"), "layers_from_teacher": None}
    with pytest.raises(ConfigError, match="about different tokens"):
        pipeline.plan(resolve(config(student=changes)))


@pytest.mark.tier2
def test_a_teacher_without_a_mask_token_is_refused(config, tmp_path):
    models.save(masked_model("bert", dtype="float32"), tmp_path / "teacher")
    tokenizer({"pad_token": "[PAD]"}).save(tmp_path / "teacher")
    with pytest.raises(ConfigError, match="no mask token"):
        pipeline.plan(resolve(config(teacher={"model_id": str(tmp_path / "teacher")})))


@pytest.mark.tier2
def test_a_file_for_llama_cpp_is_refused(config):
    with pytest.raises(UnsupportedError, match="no BertForMaskedLM"):
        pipeline.plan(resolve(config(output={"format": "gguf"})))


@pytest.mark.tier2
def test_held_out_documents_without_a_token_to_hide_are_refused(config, tmp_path):
    (tmp_path / "text").mkdir()
    for i in range(8):
        (tmp_path / "text" / f"{i}.txt").write_text("nothing known here at all " * 3)
    found = config(
        dataset={"name": str(tmp_path / "text")},
        training={"batch_size": 1, "gradient_accumulation": 1},
    )
    with pytest.raises(ConfigError, match="held-out documents have no token to hide"):
        pipeline.plan(resolve(found))
