"""Distillations about whole texts: what they write, refuse, and end with when interrupted."""

import json
import signal
import subprocess

import numpy as np
import pytest
import yaml

from entrenar_common.errors import CheckpointError, ConfigError, InterruptedRun, UnsupportedError
from entrenar_core import models
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.testing import tiny_model
from entrenar_core.train.metrics import READINGS
from entrenar_distill import pipeline
from entrenar_distill.cli import main
from entrenar_distill.config import as_yaml, config_hash, resolve
from entrenar_distill.report_json import to_json
from entrenar_distill.text_report import read_text_report
from entrenar_distill.validation import validate
from text_cases import ENCODER, encoder, sentences, word_tokenizer

pytestmark = pytest.mark.tier2

NAMES = ["calm", "loud"]
CLASSES = {"id2label": dict(enumerate(NAMES)), "label2id": {n: i for i, n in enumerate(NAMES)}}
DROPS = {"hidden_dropout_prob": 0.1}
NARROW = {**ENCODER, "hidden_size": 12, "num_hidden_layers": 1}
BESIDE = {"embedding": {"loss": "mse", "pairwise": 0.5}}
HIDDEN = {"progressive": {"layer_mapping": [[0, 1]], "weight": 0.5}}
KINDS = {
    "cut": {"task": "sentence-embedding", "student": {"layers_from_teacher": [1]}},
    "narrow": {
        "task": "sentence-embedding",
        "student": {"config": NARROW},
        "distillation": {**BESIDE, **HIDDEN},
    },
    "classes": {
        "task": "sequence-classification",
        "student": {"layers_from_teacher": [0]},
        "distillation": {"alpha": 0.8, "temperature": 1.5, **HIDDEN},
        "control": True,
    },
}
STEPS = 9


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Teachers `embedding/` and `sequence-classification/`, `lines.txt`, and `rows.jsonl` in which
    what has a dog is loud."""
    root = tmp_path_factory.mktemp("texts")
    for head in ("embedding", "sequence-classification"):
        models.save(encoder(head, seed=1, **CLASSES, **DROPS), root / head)
        word_tokenizer().save(root / head)
    pooling = {"pooling_mode_mean_tokens": True, "word_embedding_dimension": 24}
    (root / "embedding/1_Pooling/config.json").write_text(json.dumps(pooling))
    texts = sentences(60)
    (root / "lines.txt").write_text("\n".join(texts))
    rows = [{"text": text, "kind": NAMES["dog" in text], "other": "a fox"} for text in texts]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture(scope="module")
def write(world):
    """Writes `distill.yaml` of a kind to a folder, for the output folder `out` beside it."""

    def write_to(folder, kind, **sections):
        task = KINDS[kind]["task"]
        classes = task == "sequence-classification"
        data = {
            **KINDS[kind],
            "teacher": {"model_id": str(world / task.removeprefix("sentence-"))},
            "training": {
                "epochs": 3, "batch_size": 4, "gradient_accumulation": 4, "learning_rate": 1e-2,
                "evaluate_every": 4,
            },
            "dataset": {
                "name": str(world / ("rows.jsonl" if classes else "lines.txt")), "held_out": 0.2,
                **({"label_field": "kind"} if classes else {"format": "lines"}),
            },
            "output": {"dir": str(folder / "out"), "checkpoint_every": 2},
        }  # fmt: skip
        for name, value in sections.items():
            merged = isinstance(value, dict) and name != "student"
            data[name] = {**data.get(name, {}), **value} if merged else value
        path = folder / "distill.yaml"
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        return path

    return write_to


@pytest.fixture(scope="module")
def finished(write, tmp_path_factory):
    """Folder and report of a finished run of each kind, made when it is first asked for."""
    made = {}

    def of(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            made[kind] = folder / "out", pipeline.run(resolve(write(folder, kind)))
        return made[kind]

    return of


def outcome(folder):
    """What a run ended with and must not depend on how often it was interrupted."""
    found = {"model": (folder / "model.safetensors").read_bytes()}
    for phase in sorted((folder / "checkpoints").iterdir()):
        newest = max(path for path in phase.iterdir() if path.name.startswith("step-"))
        for path in sorted(newest.glob("*.safetensors")):
            found[f"{phase.name} {path.name}"] = path.read_bytes()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found["metrics"] = [
        {k: v for k, v in json.loads(line).items() if k not in READINGS} for line in lines
    ]
    report = json.loads((folder / "report.json").read_text())
    found["report"] = [[score["name"], score["figures"]] for score in report["scores"]]
    return found | {k: report[k] for k in ("difference", "curve", "steps", "verdict")}


# --- what is written --------------------------------------------------------------------------


def test_the_page_has_speeds_below_what_is_the_same_in_equal_runs(finished):
    folder, _ = finished(next(iter(KINDS)))
    above, _, below = (folder / "report.html").read_text().partition("<h2>On this machine</h2>")
    assert "Texts/s" not in above
    assert "Texts/s" in below


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_in_the_folder_is_the_one_that_is_returned(kind, finished):
    folder, report = finished(kind)
    assert to_json(read_text_report(folder / "report.json")) == to_json(report)
    assert report.steps == STEPS
    text = (folder / "report.md").read_text()
    assert f"- loss: `{report.formula}`" in text
    assert f"- task: `{report.task}`" in text


@pytest.mark.tier2
def test_the_report_has_the_parts_of_the_loss(finished):
    folder, report = finished("classes")
    parts = {"divergence", "agreement", "hidden_mse"}
    assert set(report.parts) == parts
    text = (folder / "report.md").read_text()
    assert "What the student's loss was made of" in text
    assert all(name in text for name in parts)


@pytest.mark.parametrize("kind", KINDS)
def test_the_configuration_in_the_folder_says_the_same(kind, finished):
    folder, _ = finished(kind)
    first = resolve(folder.parent / "distill.yaml")
    assert config_hash(resolve(folder / "distill.yaml")) == config_hash(first)


def test_an_embedding_student_is_a_folder_of_sentence_transformers(finished):
    folder, _ = finished("cut")
    modules = json.loads((folder / "modules.json").read_text())
    assert [module["type"].rpartition(".")[2] for module in modules] == ["Transformer", "Pooling"]
    pooling = json.loads((folder / "1_Pooling/config.json").read_text())
    assert pooling["pooling_mode_mean_tokens"] is True
    assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == 32
    prompts = json.loads((folder / "config_sentence_transformers.json").read_text())
    assert prompts["default_prompt_name"] is None
    assert (folder / "tokenizer.json").exists()


def test_the_model_that_was_written_is_the_one_that_was_measured(finished, world):
    folder, report = finished("cut")
    kept = np.sort(np.argsort(_bits(60), kind="stable")[:12])
    texts = (world / "lines.txt").read_text().splitlines()
    found, wanted = (
        models.embed(models.load(path), Tokenizer.load(path), [texts[i] for i in kept])
        for path in (folder, world / "embedding")
    )
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    cosine = ((found * wanted).sum(1) / lengths).mean()
    assert report.score("student").figures["cosine"].value == pytest.approx(cosine, rel=1e-5)


def _bits(count):
    from entrenar_core.rng import stream

    return stream(0, "held-out documents").bit_generator.random_raw(count)


@pytest.mark.parametrize("kind", ["cut", "narrow"])
def test_embeddings_come_nearer_to_the_teachers(kind, finished):
    folder, report = finished(kind)
    before, after = (report.score(name).figures for name in ("before training", "student"))
    figure = "cosine" if kind == "cut" else "spearman"
    assert after[figure].value > before[figure].value
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    key = "cosine" if kind == "cut" else "mse"
    assert lines[-1][key] < lines[0][key]
    assert "mean cosine of" in report.verdict


def test_a_projection_is_beside_the_student_and_not_in_it(finished):
    folder, report = finished("narrow")
    newest = max((folder / "checkpoints/student").glob("step-*"))
    assert (newest / "objective.safetensors").exists()
    assert not any("projection" in n for n in models.load(folder).named_parameters())
    assert models.load(folder).config.hidden_size == 12
    assert report.score("before training").figures["cosine"] is None
    assert any("not in the student" in note for note in report.notes)
    assert report.formula == (
        "|W*student - teacher|^2/24 + 0.5*|G_student - G_teacher|^2/n^2, per text + 0.5*hidden_mse"
    )


def test_a_classifier_keeps_the_names_of_its_classes(finished):
    folder, report = finished("classes")
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {"0": "calm", "1": "loud"}
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert report.settings["classes"] == "calm, loud"


def test_a_run_with_a_control_says_whether_the_teacher_helped(finished):
    _, report = finished("classes")
    assert {score.name for score in report.scores} == {"teacher", "student", "control"}
    found = report.difference["accuracy"]
    student, control = (report.score(n).figures["accuracy"].value for n in ("student", "control"))
    assert found.value == pytest.approx(student - control)
    words = ("Distillation helped", "Distillation hurt", "No difference shown", "Cannot tell")
    assert report.verdict.startswith(words)


def test_each_line_of_the_log_has_the_parts_of_the_loss(finished):
    folder, _ = finished("classes")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    students = [line for line in lines if line["phase"] == "student"]
    assert len(students) == STEPS
    for line in students:
        soft = 0.8 * 1.5**2 * line["divergence"] + 0.2 * line["cross_entropy"]
        assert line["loss"] == pytest.approx(soft + 0.5 * line["hidden_mse"], rel=1e-5)


@pytest.mark.tier3
@pytest.mark.parametrize("kind", ["cut", "classes"])
def test_each_of_the_next_commands_works_as_it_stands(kind, finished):
    _, report = finished(kind)
    assert report.next_commands
    for text in report.next_commands:
        done = subprocess.run(
            ["/bin/sh", "-c", text], capture_output=True, encoding="utf-8", timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


# --- interrupted ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_stopped_at_every_step_ends_as_one_that_is_not(
    kind, write, finished, stopped_at, tmp_path
):
    path = write(tmp_path, kind)
    for _ in range(2 * STEPS + 2):
        try:
            with stopped_at(2, signal.SIGINT):
                pipeline.run(resolve(path), resume="auto")
            break
        except InterruptedRun:
            continue
    assert outcome(tmp_path / "out") == outcome(finished(kind)[0])


def test_a_finished_run_is_not_repeated_and_gets_a_control_when_it_has_none(
    write, finished, tmp_path
):
    alone = pipeline.run(resolve(write(tmp_path, "classes", control=False)))
    assert alone.difference is None
    again = pipeline.run(resolve(tmp_path / "distill.yaml"), resume="auto")
    assert to_json(again) == to_json(alone)
    pipeline.run(resolve(write(tmp_path, "classes")), resume="auto")
    assert outcome(tmp_path / "out") == outcome(finished("classes")[0])


def test_data_that_changed_is_refused(write, world, tmp_path, stopped_at):
    (tmp_path / "lines.txt").write_text((world / "lines.txt").read_text())
    path = write(tmp_path, "cut", dataset={"name": str(tmp_path / "lines.txt")})
    with stopped_at(1), pytest.raises(InterruptedRun):
        pipeline.run(resolve(path))
    with (tmp_path / "lines.txt").open("a") as file:
        file.write("\nthe old house")
    with pytest.raises(CheckpointError, match="differs") as caught:
        pipeline.run(resolve(path), resume="auto")
    assert list(caught.value.details) == ["texts: its files have changed since"]


# --- students ---------------------------------------------------------------------------------


def test_a_pretrained_student_gets_a_head_for_the_teachers_classes(write, tmp_path):
    three = {"id2label": {0: "x", 1: "y", 2: "z"}, "label2id": {"x": 0, "y": 1, "z": 2}}
    models.save(encoder("sequence-classification", seed=4, **three), tmp_path / "teacher")
    models.save(encoder("masked-lm", seed=5), tmp_path / "student")
    word_tokenizer().save(tmp_path / "teacher")
    path = write(
        tmp_path, "classes", control=False, teacher={"model_id": str(tmp_path / "teacher")},
        student={"model_id": str(tmp_path / "student")}, training={"epochs": None, "max_steps": 2},
        dataset={"label_field": None}, distillation={"alpha": 1.0},
    )  # fmt: skip
    report = pipeline.run(resolve(path))
    found = models.load(tmp_path / "out")
    assert found.config.labels == ("x", "y", "z")
    assert report.score("student").figures["accuracy"] is None
    assert "Cannot tell whether distillation helped" in report.verdict


def test_decoders_are_classifiers_too(write, tmp_path):
    teacher = tiny_model("llama", head="sequence-classification", seed=3, **CLASSES)
    models.save(teacher, tmp_path / "teacher")
    word_tokenizer().save(tmp_path / "teacher")
    path = write(
        tmp_path, "classes", teacher={"model_id": str(tmp_path / "teacher")}, control=False,
        distillation={"progressive": None}, training={"epochs": None, "max_steps": 2},
        dataset={"text_pair_field": "other"},
    )  # fmt: skip
    report = pipeline.run(resolve(path))
    assert report.score("student").figures["accuracy"].value > 0
    assert models.load(tmp_path / "out").hf_class == "LlamaForSequenceClassification"


def test_an_adapter_can_be_trained(write, world, tmp_path):
    section = {"model_id": str(world / "sequence-classification"), "lora": {"rank": 2}}
    path = write(
        tmp_path, "classes", student=section, control=False,
        distillation={"progressive": None}, training={"epochs": None, "max_steps": 2},
    )  # fmt: skip
    report = pipeline.run(resolve(path))
    assert report.adapter.rank == 2
    assert models.load(tmp_path / "out").hf_class == "BertForSequenceClassification"


# --- without training -------------------------------------------------------------------------


def test_a_dry_run_says_what_would_be_done(write, tmp_path, capsys):
    path = write(tmp_path, "classes")
    assert main.main(["run", "--config", str(path), "--dry-run"], standalone_mode=False) == 0
    shown = capsys.readouterr().out
    assert "sequence-classification" in shown
    assert "calm, loud" in shown
    assert "9 of 16 texts each; an epoch has 3" in shown
    assert "per text of the whole optimizer step" in shown
    assert not (tmp_path / "out").exists()


def test_json_is_one_document_on_standard_output(write, tmp_path, capsys):
    path = write(tmp_path, "cut", training={"epochs": 1})
    assert main.main(["run", "--config", str(path), "--json"], standalone_mode=False) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["schema"] == "entrenar.distill.text-run/1"
    assert [score["name"] for score in printed["data"]["scores"]] == [
        "teacher", "student", "before training",
    ]  # fmt: skip


def test_texts_that_are_cut_are_counted(write, tmp_path, capsys):
    path = write(tmp_path, "cut", dataset={"max_length": 8})
    config = resolve(path)
    task = pipeline.task_of(config)
    inputs = task.read_inputs(config, progress=pipeline.NullProgress())
    cut = int((inputs.train.lengths == 8).sum())
    (warning,) = task.warnings(inputs)
    found = int(warning.split(" ")[0])
    assert 0 < found <= cut
    assert warning.endswith(f"of {len(inputs.train)} training texts are cut to 8 ids")


# --- refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "sections", "said"),
    [
        ("cut", {"control": True}, "without the teacher nothing is learned"),
        ("cut", {"distillation": {"temperature": 2.0}}, "temperature goes with task causal-lm"),
        ("cut", {"dataset": {"packing": True}}, "packing goes with task causal-lm, not sentence"),
        ("cut", {"dataset": {"label_field": "kind"}}, "label_field goes with task sequence-class"),
        ("classes", {"distillation": {"embedding": {}}}, "embedding goes with task sentence-emb"),
        ("classes", {"dataset": {"label_field": None}}, "alpha 0.8 labels count too"),
        (
            "classes",
            {"dataset": {"label_field": None}, "distillation": {"alpha": 1.0}},
            "needs dataset.label_field",
        ),
        ("classes", {"task": "classification"}, "task"),
    ],
)
def test_what_does_not_go_together_is_refused(kind, sections, said, write, tmp_path):
    with pytest.raises(ConfigError) as caught:
        resolve(write(tmp_path, kind, **sections))
    assert said in str(caught.value) + " ".join(caught.value.details or ())


@pytest.mark.parametrize(
    ("sections", "error", "said"),
    [
        ({"dataset": {"label_field": "other"}}, ConfigError, "'a fox' is no class of the teacher"),
        ({"distillation": {"top_k": 3}}, ConfigError, "top_k 3 is more than the 2 classes"),
        ({"student": {"layers_from_teacher": [5]}}, ConfigError, "no layer 5"),
        ({"output": {"format": "gguf"}}, UnsupportedError, "llama.cpp has no place for the head"),
    ],
)
def test_what_does_not_fit_the_models_is_refused(sections, error, said, write, tmp_path):
    with pytest.raises(error, match=said):
        pipeline.plan(resolve(write(tmp_path, "classes", **sections)))


def test_numbers_of_a_file_are_not_trained_on(write, tmp_path):
    quantization = {"training": {"quantization": {"recipe": "q8_0"}}}
    with pytest.raises(UnsupportedError, match="only language models are trained on the numbers"):
        pipeline.plan(resolve(write(tmp_path, "cut", **quantization)))


def test_an_adapter_beside_a_head_that_was_drawn_is_refused(write, world, tmp_path):
    models.save(encoder("masked-lm", seed=5), tmp_path / "student")
    student = {"model_id": str(tmp_path / "student"), "lora": {"rank": 2}}
    with pytest.raises(ConfigError, match=r"pooler\.dense\.weight of the student was drawn"):
        pipeline.plan(resolve(write(tmp_path, "classes", student=student)))
    student["lora"]["modules_to_save"] = ["pooler", "classifier"]
    assert pipeline.plan(resolve(write(tmp_path, "classes", student=student))).steps == STEPS


def test_a_teacher_without_a_head_is_refused(write, world, tmp_path):
    teacher = {"model_id": str(world / "embedding")}
    with pytest.raises(ConfigError, match="no head for sequence-classification: classifier"):
        pipeline.plan(resolve(write(tmp_path, "classes", teacher=teacher)))


def test_a_decoder_has_no_embeddings_to_learn(write, tmp_path):
    models.save(tiny_model("llama"), tmp_path / "teacher")
    word_tokenizer().save(tmp_path / "teacher")
    teacher = {"model_id": str(tmp_path / "teacher")}
    with pytest.raises(UnsupportedError, match="llama has no head embedding"):
        pipeline.plan(resolve(write(tmp_path, "cut", teacher=teacher)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_means_nothing_to_a_task_is_not_in_its_configuration(kind, write, tmp_path):
    text = yaml.safe_load(as_yaml(resolve(write(tmp_path, kind))))
    assert "packing" not in text["dataset"]
    assert ("temperature" in text["distillation"]) == (kind == "classes")


@pytest.mark.parametrize("kind", ["cut", "classes"])
def test_a_task_about_texts_is_validated_and_its_loss_is_said_not_to_be_tried(
    write, tmp_path, kind
):
    found = validate(write(tmp_path, kind), self_check=True)
    assert found.valid
    assert {check.name for check in found.checks} >= {"inputs", "output", "space"}
    (tried,) = found.self_checks or ()
    assert KINDS[kind]["task"] in tried.note
