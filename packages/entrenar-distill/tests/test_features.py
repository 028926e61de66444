"""Students that learn from inside their teacher: configured, trained, resumed and exported."""

import json

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, InterruptedRun
from entrenar_core import models
from entrenar_core.train.checkpoint import CheckpointStore
from entrenar_distill import pipeline, present
from entrenar_distill.cli import main
from entrenar_distill.config import as_yaml, resolve
from entrenar_distill.report_json import read_report

BOTH = {
    "progressive": {
        "layer_mapping": "uniform",
        "loss": "mse",
        "embeddings": True,
        "weight": 0.5,
        "schedule": {"from_step": 1, "ramp_steps": 2},
    },
    "attention": {"kind": "minilm", "heads": 2, "layers": [[0, 1]], "weight": 0.25},
}
"""The student has one layer of 16 numbers, the teacher two of 32."""


def newest(folder):
    return max((folder / "checkpoints" / "student").glob("step-*"))


def projections(folder):
    path = newest(folder)
    return CheckpointStore(path.parent, run_id="").open(path).tensors("objective")


@pytest.fixture(scope="module")
def finished(make_config, tmp_path_factory):
    """The folder of a run through the command line."""
    folder = tmp_path_factory.mktemp("features")
    path = make_config(folder, distillation=BOTH, dataset={"packing": False}, control=True)
    assert main.main(["run", "-q", "--config", str(path)], standalone_mode=False) in (0, None)
    return folder / "out"


@pytest.mark.tier2
def test_each_term_is_logged_by_its_own_name(finished):
    lines = (finished / "metrics.jsonl").read_text().splitlines()
    student = [r for r in map(json.loads, lines) if r["phase"] == "student"]
    control = [r for r in map(json.loads, lines) if r["phase"] == "control"]
    assert ["hidden_mse" in record for record in student] == [False, True, True, True]
    assert all(record["attention_minilm"] > 0 for record in student)
    assert not any("attention_minilm" in record for record in control)
    for record in student:
        ramp = min(1, max(0, (record["step"] - 1) / 2))
        terms = 0.5 * ramp * record.get("hidden_mse", 0) + 0.25 * record["attention_minilm"]
        logits = 0.5 * 4 * record["divergence"] + 0.5 * record["cross_entropy"]
        assert record["loss"] == pytest.approx(logits + terms, rel=1e-5)


@pytest.mark.tier2
def test_projections_are_trained_and_no_part_of_the_student(finished):
    found = projections(finished)
    assert {name: p.shape for name, p in found.items()} == {
        "objective.hidden_mse.embeddings.embeddings": (32, 16),
        "objective.hidden_mse.0.1": (32, 16),
    }
    report = read_report(finished / "report.json")
    assert report.features[0].projections == 2 * 32 * 16
    student = models.load(finished)
    assert not any("hidden_mse" in name for name in student.named_parameters())
    stored = (finished / "model.safetensors").read_bytes()
    header = json.loads(stored[8 : 8 + int.from_bytes(stored[:8], "little")])
    assert set(header) - {"__metadata__"} == set(student.named_parameters())
    assert not list(finished.glob("*objective*"))


@pytest.mark.tier2
def test_the_report_names_the_terms(finished):
    report = read_report(finished / "report.json")
    first, second = report.features
    assert (first.name, first.weight, first.active) == (
        "hidden_mse", 0.5, "from step 1, rising over 2 steps",
    )  # fmt: skip
    assert (first.pairs, second.pairs) == ("embeddings←embeddings, 0←1", "0←1")
    assert first.last < first.first
    titles = [part.title for part in present.parts(report) if getattr(part, "title", None)]
    assert "Learned from inside the teacher" in titles
    assert "attention\\_minilm" in (finished / "report.md").read_text()


@pytest.mark.tier2
def test_an_interrupted_run_ends_as_one_that_was_not(
    finished, write_config, train, stopped_at, outcome, tmp_path
):
    path = write_config(distillation=BOTH, dataset={"packing": False}, control=True)
    for step in (1, 2):
        with stopped_at(step), pytest.raises(InterruptedRun):
            train(path, resume="auto")
    train(path, resume="auto")
    assert outcome(tmp_path / "out") == outcome(finished)
    ours, theirs = projections(tmp_path / "out"), projections(finished)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.tier2
@pytest.mark.parametrize(
    "section",
    [
        {"progressive": {"loss": "cosine", "layer_mapping": "final"}},
        {"progressive": {"loss": "rkd_distance"}, "attention": {"form": "code"}},
        {"attention": {"kind": "tinybert", "layers": "skip", "every": 2}},
    ],
)
def test_the_other_kinds_train_too(section, write_config, train):
    report = train(write_config(distillation=section, training={"max_steps": 2}))
    assert all(np.isfinite(term.last) for term in report.features)


@pytest.mark.tier2
def test_an_adapter_is_trained_with_projections_beside_it(world, write_config, train, tmp_path):
    student = {"model_id": str(world / "teacher"), "lora": {"rank": 2}}
    report = train(write_config(student=student, distillation={"progressive": {}}))
    (term,) = report.features
    assert term.pairs == "0←0, 1←1"
    assert set(projections(tmp_path / "out")) == {
        "objective.hidden_mse.0.0", "objective.hidden_mse.1.1",
    }  # fmt: skip
    adapter = (tmp_path / "out" / "adapter" / "adapter_model.safetensors").read_bytes()
    assert b"hidden_mse" not in adapter


def test_a_plan_shows_the_terms(write_config):
    plan = pipeline.plan(resolve(write_config(distillation=BOTH)))
    assert plan.loss.endswith("per valid token + 0.5*hidden_mse + 0.25*attention_minilm")
    assert plan.features == "hidden_mse (embeddings←embeddings, 0←1); attention_minilm (0←1)"


def test_a_config_says_the_same_when_it_is_written_and_read(write_config, tmp_path):
    config = resolve(write_config(distillation=BOTH))
    again = tmp_path / "again.yaml"
    again.write_text(as_yaml(config))
    assert resolve(again) == config


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"progressive": {"layer_mapping": "odd"}}, "'odd'"),
        ({"progressive": {"layer_mapping": []}}, "at least 1 item"),
        ({"progressive": {"layer_mapping": [[0, -1]]}}, "at least 0"),
        ({"progressive": {"layer_mapping": [[0]]}}, "must be"),
        ({"progressive": {"layer_mapping": 3}}, "must be a list"),
        ({"progressive": {"every": 2}}, "goes with the layer mapping skip"),
        ({"progressive": {"loss": "similarity", "projection": "learned"}}, "goes with the losses"),
        ({"progressive": {"weight": 0}}, "greater than 0"),
        ({"progressive": {"lost": "mse"}}, "unknown key"),
        ({"progressive": {"schedule": {"from_step": 5, "until_step": 5}}}, "after from_step"),
        ({"attention": {"kind": "minilm", "form": "code"}}, "goes with kind: transfer"),
        ({"attention": {"heads": 2}}, "goes with kind: minilm"),
        ({"attention": {"every": 2}}, "goes with the layer mapping skip"),
    ],
)
def test_keys_that_mean_nothing_are_refused(section, words, write_config):
    with pytest.raises(ConfigError) as error:
        resolve(write_config(distillation=section))
    assert words in "\n".join([str(error.value), *error.value.details])
    (name,) = section
    assert f"distillation.{name}" in str(error.value)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"progressive": {"layer_mapping": [[0, 1], [1, 1]]}}, r"progressive: the pair \[1, 1\]"),
        ({"progressive": {"layer_mapping": [[0, 2]]}}, r"progressive: the pair \[0, 2\].*teacher"),
        ({"progressive": {"projection": "identity"}}, "16 numbers, the teacher's 32"),
        ({"attention": {"kind": "minilm", "heads": 3}}, "3 relation heads do not divide"),
        ({"attention": {"schedule": {"from_step": 4}}}, "from step 4 on, in a run of 4 steps"),
    ],
)
def test_terms_that_do_not_fit_the_models_are_refused_before_training(
    section, words, write_config, tmp_path
):
    with pytest.raises(ConfigError, match=words):
        pipeline.run(resolve(write_config(distillation=section)))
    assert not (tmp_path / "out" / "metrics.jsonl").exists()
