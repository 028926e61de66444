"""The configuration of a distillation: the schema, the command line over it, the fingerprint."""

from typing import get_args

import pytest
import yaml

from entrenar_common.errors import ConfigError
from entrenar_core.data.hub_dataset import HubSpec
from entrenar_core.distill import DIVERGENCES, Divergence
from entrenar_distill.config import DistillConfig, config_hash, resolve
from entrenar_distill.inputs import dataset_spec
from entrenar_distill.loss import DistillationConfig

SMALL = {
    "teacher": {"model_id": "models/teacher"},
    "student": {"model_id": "models/student"},
    "dataset": {"name": "texts/*.txt"},
}


@pytest.fixture
def write(tmp_path):
    def write_data(**sections):
        path = tmp_path / "distill.yaml"
        path.write_text(yaml.safe_dump({**SMALL, **sections}, sort_keys=False))
        return path

    return write_data


def error_of(path, kind, **options):
    with pytest.raises(kind) as caught:
        resolve(path, **options)
    assert caught.value.hint
    return "\n".join([str(caught.value), *caught.value.details])


FULL = """
teacher:
  model_id: org/teacher
  revision: main
  format: safetensors
student:
  config: {model_type: llama, hidden_size: 64, rope_theta: 1e4}
distillation:
  temperature: 4.0
  alpha: 0.7
training:
  epochs: 10
  batch_size: 32
  learning_rate: 1e-4
  warmup_steps: 100
  gradient_accumulation: 4
  mixed_precision: fp32
dataset:
  source: files
  name: [a.txt, b/*.jsonl]
  exclude: b/bad.jsonl
  text_field: content
  max_length: 512
  streaming: false
  packing: false
  held_out: 0.1
output:
  dir: ./distilled-model
  checkpoint_every: 1000
  format: safetensors
control: true
"""


def test_a_full_file_is_read(tmp_path):
    (tmp_path / "distill.yaml").write_text(FULL)
    config = resolve(tmp_path / "distill.yaml")
    assert config.student.config == {"model_type": "llama", "hidden_size": 64, "rope_theta": 1e4}
    assert config.dataset.name == ("a.txt", "b/*.jsonl")
    assert config.dataset.exclude == ("b/bad.jsonl",)
    assert config.training.learning_rate == 1e-4
    assert config.control


def test_every_field_says_what_it_is():
    for section in DistillConfig.model_fields.values():
        for field in getattr(section.annotation, "model_fields", {"": section}).values():
            assert field.description


# --- the student ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "student",
    [
        {"model_id": "m"},
        {"model_id": "org/m", "revision": "v1"},
        {"config": {"hidden_size": 8}},
        {"layers_from_teacher": [0, 2, 5]},
    ],
)
def test_a_student_starts_in_one_of_three_ways(write, student):
    found = resolve(write(student=student)).student.model_dump(exclude_none=True, mode="json")
    assert found == student


@pytest.mark.parametrize(
    ("student", "text"),
    [
        ({}, "give one of model_id, config and layers_from_teacher"),
        ({"model_id": "m", "config": {}}, "not several"),
        ({"config": {}, "layers_from_teacher": [1]}, "not several"),
        ({"layers_from_teacher": []}, "must have at least 1 item"),
        ({"layers_from_teacher": [0, 5, 2]}, "rising order"),
        ({"layers_from_teacher": [1, 1]}, "rising order"),
        ({"layers_from_teacher": [-1]}, "must be at least 0"),
        ({"layers_from_teacher": 3}, "must be a list"),
        ({"config": {"rope_theta": float("nan")}}, "every number must be finite"),
        ({"config": {}, "revision": "v1"}, "goes with model_id"),
        ({"model_id": ""}, "must not be empty"),
    ],
)
def test_a_student_without_one_clear_start_is_refused(write, student, text):
    message = error_of(write(student=student), ConfigError)
    assert "student" in message
    assert text in message


def test_a_student_with_several_faults_has_them_all_reported(write):
    message = error_of(write(student={"model_id": "m", "config": 3, "rank": 1}), ConfigError)
    assert "student.config: must be a section of keys, not 3" in message
    assert "student.rank: unknown key" in message
    assert "not several" in message


# --- the loss ---------------------------------------------------------------------------------


def test_every_divergence_can_be_chosen():
    assert get_args(DistillationConfig.model_fields["loss"].annotation) == tuple(DIVERGENCES)


def test_a_loss_is_the_divergence_of_its_settings(write):
    section = {"loss": "jsd", "beta": 0.3, "temperature": 4.0, "top_k": 9}
    found = resolve(write(distillation=section)).distillation
    assert found.divergence() == Divergence("jsd", 4.0, beta=0.3, top_k=9)
    assert found.settings() == {"temperature": 4.0, "alpha": 0.5, "beta": 0.3, "top_k": 9}


@pytest.mark.parametrize("loss", DIVERGENCES)
def test_the_formula_of_a_loss_names_its_weight_and_its_factor(write, loss):
    section = resolve(write(distillation={"loss": loss})).distillation
    assert ("T^2" in section.formula) == (section.divergence().factor != 1)
    for name in ("beta", "skew"):
        assert (name in section.formula) == (name in section.settings())


# --- values that make no sense ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("distillation.temperature", "0", "must be greater than 0, not 0"),
        ("distillation.temperature", "-2", "must be greater than 0, not -2"),
        ("distillation.temperature", ".nan", "must be a finite number, not nan"),
        ("distillation.temperature", ".inf", "must be a finite number, not inf"),
        ("distillation.alpha", "1.5", "must be at most 1, not 1.5"),
        ("distillation.alpha", "-0.1", "must be at least 0, not -0.1"),
        ("dataset.held_out", "0", "must be greater than 0, not 0"),
        ("dataset.held_out", "0.6", "must be at most 0.5, not 0.6"),
        ("dataset.name", "[]", "must have at least 1 item"),
        ("dataset.name", "''", "must not be empty"),
        ("dataset.name", "3", "must be a path or a list of paths"),
        ("dataset.max_length", "1", "must be at least 2, not 1"),
        ("dataset.source", "fiels", "must be 'files' or 'huggingface', not 'fiels'"),
        ("dataset.split", "train", "belongs to source: huggingface"),
        ("dataset.subset", "en", "belongs to source: huggingface"),
        ("dataset.revision", "v1", "belongs to source: huggingface"),
        ("dataset.streaming", "true", "belongs to source: huggingface"),
        ("output.keep_checkpoints", "0", "must be at least 1, not 0"),
        ("control", "yes", "must be true or false, not 'yes'"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(write, key, value, text):
    message = error_of(write(), ConfigError, overrides=[(key, value)])
    assert message.startswith(f"--set {key}: ")
    assert text in message


def test_boundaries_without_packing_are_refused(write):
    key = "dataset.boundaries"
    message = error_of(write(dataset={"packing": False}), ConfigError, overrides=[(key, "true")])
    assert f"{key}: goes with packing" in message


def test_a_list_with_a_wrong_item_is_one_problem(write):
    message = error_of(write(dataset={"name": ["a", 3]}), ConfigError)
    assert "line 8: dataset.name.1: must be text, not 3" in message


def test_missing_sections_are_named():
    message = error_of(None, ConfigError)
    assert [line.split(":")[0] for line in message.splitlines()[1:]] == [
        "teacher",
        "student",
        "dataset",
    ]


# --- formats of a teacher ---------------------------------------------------------------------


def test_a_format_that_no_teacher_has_is_a_mistake_with_those_that_there_are(write):
    path = write(distillation={"alpha": 2}, teacher={"model_id": "t", "format": "onnx"})
    message = error_of(path, ConfigError)
    assert "teacher.format" in message
    assert all(f"'{name}'" in message for name in ("auto", "safetensors", "pytorch", "gguf", "apr"))
    assert "distillation.alpha: must be at most 1" in message


# --- a dataset on the hub ---------------------------------------------------------------------

ON_THE_HUB = {"source": "huggingface", "name": "org/data"}


def test_a_dataset_on_the_hub_is_read_by_its_keys(write):
    keys = {"revision": "v1", "subset": "en", "split": "test", "streaming": True}
    spec = dataset_spec(resolve(write(dataset={**ON_THE_HUB, **keys})).dataset)
    assert spec.hub == HubSpec("org/data", **keys)
    assert spec.paths == ()


def test_of_a_dataset_on_the_hub_the_split_is_train(write):
    spec = dataset_spec(resolve(write(dataset=ON_THE_HUB)).dataset)
    assert spec.hub == HubSpec("org/data", revision=None, subset=None, split="train")


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("name", "./texts", "must be the name of one dataset on the hub"),
        ("name", "[org/a, org/b]", "must be the name of one dataset on the hub"),
        ("exclude", "b", "belongs to source: files"),
        ("format", "csv", "belongs to source: files"),
        ("revision", "''", "must not be empty"),
    ],
)
def test_what_does_not_go_with_the_hub_is_refused(write, key, value, text):
    path = write(dataset=ON_THE_HUB)
    assert text in error_of(path, ConfigError, overrides=[(f"dataset.{key}", value)])


# --- the command line -------------------------------------------------------------------------


def test_the_command_line_wins_over_the_file(write):
    config = resolve(write(), teacher="t", student="s", output="o", control=True)
    assert (config.teacher.model_id, config.student.model_id) == ("t", "s")
    assert (config.output.dir, config.control) == ("o", True)


def test_a_teacher_from_the_command_line_drops_the_revision_of_the_files_teacher(write):
    path = write(teacher={"model_id": "a", "revision": "v1"})
    assert resolve(path, teacher="b").teacher.revision is None


def test_a_student_from_the_command_line_replaces_the_files_architecture(write):
    path = write(student={"config": {"hidden_size": 8}})
    student = resolve(path, student="b").student
    assert (student.model_id, student.config) == ("b", None)


def test_control_can_be_switched_off_from_the_command_line(write):
    assert not resolve(write(control=True), control=False).control


def test_without_a_file_the_command_line_can_say_everything():
    config = resolve(None, teacher="t", student="s", overrides=[("dataset.name", "*.py")])
    assert config.dataset.name == ("*.py",)


def test_a_fault_in_an_option_names_the_option(write):
    assert error_of(write(), ConfigError, teacher="").startswith("--teacher: teacher.model_id: ")


def test_a_tilde_is_the_home_folder(write, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert resolve(write(output={"dir": "~/x"})).output.dir == "/home/someone/x"


# --- the fingerprint --------------------------------------------------------------------------


def test_the_fingerprint_ignores_where_and_how_often_the_result_is_saved(write):
    moved = write(output={"dir": "elsewhere", "checkpoint_every": 7, "keep_checkpoints": 1})
    assert config_hash(resolve(moved)) == config_hash(resolve(write()))


def test_the_fingerprint_ignores_a_control_which_the_student_does_not_depend_on(write):
    assert config_hash(resolve(write(control=True))) == config_hash(resolve(write()))


def test_the_fingerprint_ignores_where_figures_are_shown(write):
    observed = write(observe={"csv": True, "tensorboard": "events", "wandb": {"project": "mine"}})
    assert config_hash(resolve(observed)) == config_hash(resolve(write()))


def test_the_fingerprint_ignores_how_the_same_thing_is_written(write):
    explicit = write(dataset={"name": ["texts/*.txt"], "max_length": 256}, training={"epochs": 1})
    assert config_hash(resolve(explicit)) == config_hash(resolve(write()))


def test_the_fingerprint_ignores_how_documents_of_the_hub_are_come_by(write):
    first = config_hash(resolve(write(dataset=ON_THE_HUB)))
    pinned = write(dataset={**ON_THE_HUB, "revision": "a" * 40, "streaming": True})
    assert config_hash(resolve(pinned)) == first
    assert config_hash(resolve(pinned, overrides=[("dataset.split", "test")])) != first


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.seed", "1"),
        ("training.learning_rate", "2e-3"),
        ("distillation.alpha", "0.4"),
        ("distillation.loss", "tvd"),
        ("distillation.top_k", "7"),
        ("dataset.held_out", "0.1"),
        ("student.model_id", "other"),
    ],
)
def test_the_fingerprint_changes_with_what_decides_the_result(write, key, value):
    changed = resolve(write(), overrides=[(key, value)])
    assert config_hash(changed) != config_hash(resolve(write()))
