"""Trainings as one YAML file says them, from the file to the folder."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import yaml

from entrenar_common.errors import (
    CheckpointError,
    ConfigError,
    InterruptedRun,
    NotFoundError,
    RefusedError,
    UnsupportedError,
)
from entrenar_common.progress import NullProgress
from entrenar_core import models
from entrenar_core.convert.export import export
from entrenar_core.data.tokenizer import train_bpe
from entrenar_core.io.safetensors import SafetensorsFile
from entrenar_core.kernels.cpu.compile import cache_folder
from entrenar_core.train.callbacks import Callback
from entrenar_core.train.declarative import plan, resolve, train_from_yaml
from entrenar_core.train.declarative.inputs import read_inputs
from entrenar_core.train.declarative.report import read_report
from entrenar_core.train.metrics import READINGS, MetricsLog

pytestmark = pytest.mark.tier3

GOOD, BAD = ["good", "great", "fine", "nice"], ["bad", "awful", "poor", "sad"]
FILLER = ["the", "film", "was", "so", "very", "really"]
SHAPE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
         "num_attention_heads": 2, "max_position_embeddings": 32}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def own_token_cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("NUMBA_CACHE_DIR", str(cache_folder()))
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with tables of texts, and two models of one shape, one in a GGUF file too."""
    root, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(3)
    rows = {"id": [], "review": [], "stars": [], "mood": []}
    for i in range(48):
        words = [*rng.choice(FILLER, 4), *rng.choice(GOOD if i % 2 else BAD, 3)]
        rng.shuffle(words)
        count = int(rng.integers(6))
        rows["id"].append(i)
        rows["review"].append(" ".join([*words, *["ok"] * count]))
        rows["stars"].append((3.0 if i % 2 else 0.5) + 0.125 * count)
        rows["mood"].append("pos" if i % 2 else "neg")
    texts = rows["review"]
    for name, part in (("train", slice(0, 36)), ("val", slice(36, 48))):
        parquet.write_table(arrow.table({"text": texts[part]}), root / f"{name}.parquet")
    keys = ("id", "review", "mood")
    lines = [{key: rows[key][i] for key in keys} for i in range(48)]
    (root / "moods.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    stars = zip(texts, rows["stars"], strict=True)
    (root / "stars.csv").write_text("review,stars\n" + "".join(f"{t},{s}\n" for t, s in stars))
    parquet.write_table(arrow.table(rows), root / "both.parquet")
    (root / "lines.txt").write_text("\n".join(texts))
    tokenizer = train_bpe(texts, 280)
    for seed, name in enumerate(("base", "other")):
        shape = {"vocab_size": tokenizer.vocab_size, "eos_token_id": tokenizer.eos_id}
        models.save(models.from_config({**SHAPE, **shape}, seed=seed), root / name)
        tokenizer.save(root / name)
    export(root / "base", root / "base.gguf", form="gguf", quantization="f32")
    return root


@pytest.fixture
def trained(world, tmp_path, monkeypatch):
    """Trains as a file of these sections says, in the world's folder; into `out`."""
    monkeypatch.chdir(world)

    def run(*, name="out", resume="never", overrides=(), callbacks=(), warn=print, **sections):
        data = {
            "model": {"path": "base"},
            "data": {"train": "train.parquet", "val": "val.parquet", "max_length": 24},
            "training": {"max_steps": 2},
            "output": {"dir": str(tmp_path / name), "checkpoint_every": 2},
            **sections,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        return train_from_yaml(path, overrides, resume=resume, callbacks=callbacks, warn=warn)

    return run


def tables(name, **more):
    return {"train": name, "held_out": 0.25, "max_length": 24, **more}


def outcome(folder):
    """What a training ended with and must not depend on how often it was interrupted."""
    report = json.loads((folder / "report.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    newest = max(p for p in (folder / "checkpoints" / "training").iterdir() if p.name[0] == "s")
    return {
        "model": (folder / "model.safetensors").read_bytes(),
        "optimizer": (newest / "optimizer.safetensors").read_bytes(),
        "log": [{k: v for k, v in line.items() if k not in READINGS} for line in lines],
        "scores": report["scores"],
        "steps": report["steps"],
    }


def test_the_specifications_file_with_small_models(trained, tmp_path):
    found = trained(
        model={"path": "base.gguf", "layers": ["q_proj", "k_proj", "v_proj", "o_proj"]},
        data={"train": "train.parquet", "val": "val.parquet", "batch_size": 8,
              "auto_infer_types": True, "max_length": 24},
        optimizer={"name": "adam", "lr": 1e-2, "beta1": 0.9, "beta2": 0.999},
        lora={"rank": 8, "alpha": 16, "target_modules": ["q_proj", "v_proj"]},
        merge={"method": "TIES", "density": 0.2, "models": ["other"], "base": "base"},
        training={"epochs": 1},
    )  # fmt: skip
    assert found.task == "causal-lm"
    assert [each.name for each in found.scores] == ["before training", "trained", "merged"]
    out = tmp_path / "out"
    adapter = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert sorted(adapter["target_modules"]) == [
        "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj",
    ] or sorted(adapter["target_modules"]) == ["q_proj", "v_proj"]  # fmt: skip
    changed = differing(out, Path("base"))
    assert changed == {f"model.layers.0.self_attn.{n}_proj.weight" for n in "qv"}
    assert (tmp_path / "out-merged" / "model.safetensors").exists()


def test_the_page_has_the_figures_of_the_report_and_no_secret(trained, tmp_path):
    found = trained(
        model={"path": "base"}, data={"train": "train.parquet", "max_length": 24},
        training={"max_steps": 3},
        observe={"otlp": {"endpoint": "http://127.0.0.1:9", "headers": {"x-token": "hush"}}},
    )  # fmt: skip
    page = (tmp_path / "out" / "report.html").read_text()
    for score in found.scores:
        assert f"{score.figures['held_out_loss']:.4f}" in page
    assert "optimizer.lr" in page
    assert "hush" not in page


def test_the_specifications_file_on_the_numbers_that_are_stored(trained, tmp_path):
    """`quantize` too: every row of the model, the adapter in it, has one of 16 multiples."""
    found = trained(
        model={"path": "base.gguf", "layers": ["q_proj", "k_proj", "v_proj", "o_proj"]},
        data={"train": "train.parquet", "val": "val.parquet", "batch_size": 8,
              "auto_infer_types": True, "max_length": 24},
        optimizer={"name": "adam", "lr": 1e-2, "beta1": 0.9, "beta2": 0.999},
        lora={"rank": 8, "alpha": 16, "target_modules": ["q_proj", "v_proj"]},
        quantize={"bits": 4, "symmetric": True, "per_channel": True},
        merge={"method": "TIES", "density": 0.2, "models": ["other"], "base": "base"},
        training={"epochs": 1},
    )  # fmt: skip
    assert found.quantization.matrices == 7
    with SafetensorsFile(tmp_path / "out" / "model.safetensors") as file:
        for name in file.names():
            if name.endswith("_proj.weight"):
                for row in file.read(name):
                    assert len(np.unique(row)) <= 16, name


def test_easy_rows_come_first_where_a_field_says_which_they_are(trained):
    """A file of one document a row; the first step's are the easiest ones."""
    rows = [json.dumps({"text": "a b c d " * 9, "hard": n % 8}) for n in range(64)]
    Path("graded.jsonl").write_text("\n".join(rows))
    sections = {
        "model": {"path": "base"},
        "data": {"train": "graded.jsonl", "max_length": 16, "batch_size": 2, "packing": False},
        "task": "causal-lm",
        "training": {"max_steps": 3, "curriculum": {"field": "hard", "steps": 3}},
    }
    assert trained(**sections).steps == 3
    Path("graded.yaml").write_text(yaml.safe_dump(sections))
    batches = read_inputs(resolve("graded.yaml"), progress=NullProgress()).batches
    lines = [int(n.rpartition(":")[2]) for n in batches.names(batches.batch(0).row_ids)]
    assert {(line - 1) % 8 for line in lines} == {0}


def differing(folder, other):
    """The names of the tensors in which two model folders differ."""
    with (
        SafetensorsFile(folder / "model.safetensors") as mine,
        SafetensorsFile(other / "model.safetensors") as its,
    ):
        return {n for n in mine.names() if not np.array_equal(mine.read(n), its.read(n))}


LANGUAGE = {
    "fresh": {
        "model": {"config": {**SHAPE, "hidden_size": 8}, "vocab_size": 270},
        "data": {"train": "lines.txt", "format": "lines", "max_length": 12},
    },
    "a tokenizer from elsewhere": {
        "model": {"config": {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2,
                             "n_positions": 24}, "tokenizer": "base"},
    },
    "unpacked with lion": {
        "data": {"train": "train.parquet", "max_length": 24, "packing": False},
        "optimizer": {"name": "lion", "lr": 1e-3},
    },
    "muon, averaged": {
        "optimizer": {"name": "muon", "lr": 0.02},
        "training": {"max_steps": 2, "average_decay": 0.5, "label_smoothing": 0.1},
    },
    "sgd": {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True}},
    "adafactor": {"optimizer": {"name": "adafactor", "lr": 0.01}},
    "rmsprop": {"optimizer": {"name": "rmsprop", "lr": 0.001, "alpha": 0.9}},
    "stored as int4": {"quantize": {"bits": 4, "symmetric": True, "per_channel": True}},
    "an adapter on 16 bits": {
        "lora": {"rank": 2}, "training": {"max_steps": 2, "mixed_precision": "bf16"},
    },
    "an adapter alone": {"lora": {"rank": 2, "fuse": False}},
    "slerp": {"merge": {"method": "slerp", "t": 0.5, "base": "other"}},
    "dare": {"merge": {"method": "DARE", "density": 0.5, "models": ["other"], "base": "base"}},
}  # fmt: skip


@pytest.mark.parametrize("case", LANGUAGE)
def test_language_models_are_trained_and_written(trained, tmp_path, case):
    found = trained(**LANGUAGE[case])
    before, after = (found.score(n).figures for n in ("before training", "trained"))
    assert after["held_out_loss"] < before["held_out_loss"]
    assert after["perplexity"] == pytest.approx(np.exp(after["held_out_loss"]))
    assert read_report(tmp_path / "out" / "report.json") == found
    for path in found.files.values():
        assert Path(path).exists()


def test_what_is_written_with_bits_has_no_more_levels_than_they(trained, tmp_path):
    trained(quantize={"bits": 2})
    with SafetensorsFile(tmp_path / "out" / "model.safetensors") as file:
        rows = file.read("model.layers.0.mlp.up_proj.weight")
    assert max(len(np.unique(row)) for row in rows) <= 3  # symmetric: -1, 0 and 1 times a scale


def test_a_gguf_file_has_the_numbers_of_the_folder(trained, tmp_path):
    shape = {**SHAPE, "hidden_size": 32}
    found = trained(model={"config": shape, "vocab_size": 280}, quantize={"recipe": "q4_0"})
    whole, file = (models.load(tmp_path / "out" / n) for n in ("", "model.gguf"))
    for name, parameter in whole.named_parameters().items():
        np.testing.assert_array_equal(parameter.data, file.named_parameters()[name].data)
    assert found.score("model.gguf in q4_0").figures == found.score("trained").figures


# --- texts with labels ------------------------------------------------------------------------


def test_classes_are_learned_and_named(trained, tmp_path):
    found = trained(
        data=tables("moods.jsonl"), optimizer={"lr": 0.01},
        training={"epochs": 6, "evaluate_every": 4, "metric": "accuracy", "metric_goal": "highest",
                  "early_stopping": {"patience": 3}},
    )  # fmt: skip
    assert found.task == "sequence-classification"
    assert found.score("trained").figures["accuracy"] > 0.8
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "neg", "1": "pos"}
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    logged = [json.loads(line).get("accuracy", 0.0) for line in lines]
    assert found.score("trained").figures["accuracy"] == pytest.approx(max(logged))


def test_a_classifier_is_trained_further_on_the_classes_that_it_has(trained, tmp_path):
    trained(name="first", data=tables("moods.jsonl"))
    found = trained(model={"path": str(tmp_path / "first")}, data=tables("moods.jsonl"))
    assert found.score("before training").figures == pytest.approx(
        read_report(tmp_path / "first" / "report.json").score("trained").figures
    )
    with pytest.raises(ConfigError, match="is no class of the model"):
        trained(name="third", model={"path": str(tmp_path / "first")},
                data=tables("stars.csv"), task="sequence-classification")  # fmt: skip


@pytest.mark.parametrize("fuse", [True, False])
def test_a_head_that_was_drawn_is_trained_beside_an_adapter(trained, fuse):
    found = trained(
        data=tables("moods.jsonl"), lora={"rank": 2, "fuse": fuse}, optimizer={"lr": 0.01},
        training={"epochs": 4},
    )  # fmt: skip
    assert found.words["trained whole"].startswith("score")
    before, after = (found.score(n).figures for n in ("before training", "trained"))
    assert after["held_out_loss"] < before["held_out_loss"]


def test_numbers_are_fitted(trained):
    found = trained(
        data=tables("stars.csv"), optimizer={"name": "adam", "lr": 0.01}, training={"epochs": 20}
    )
    assert found.task == "regression"
    after = found.score("trained").figures
    assert after["r2"] > 0.3 > found.score("before training").figures["r2"]
    assert after["rmse"] == pytest.approx(np.sqrt(after["held_out_loss"]))


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_the_report_of_a_regression_is_what_transformers_finds(trained, tmp_path, world, kind):
    torch, transformers = (pytest.importorskip(n) for n in ("torch", "transformers"))
    model = {"path": "base"}
    if kind == "bert":
        model = {"config": {"model_type": "bert", **SHAPE}, "tokenizer": "base"}
    table = parquet.read_table(world / "both.parquet").to_pydict()
    held = slice(40, 48)
    part = {name: table[name][held] for name in ("review", "stars")}
    parquet.write_table(arrow.table(part), tmp_path / "held.parquet")
    found = trained(
        model=model, optimizer={"lr": 0.01}, training={"max_steps": 6},
        data={"train": "both.parquet", "val": str(tmp_path / "held.parquet"), "max_length": 24,
              "label_field": "stars"},
    )  # fmt: skip
    out = tmp_path / "out"
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(out).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    said = []
    with torch.no_grad():
        for text in part["review"]:
            ids = torch.tensor([tokenizer(text)["input_ids"][:24]])
            said.append(theirs(ids).logits.item())
    errors = np.array(said) - part["stars"]
    figures = found.score("trained").figures
    assert figures["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-5)
    spread = np.var(part["stars"]) * len(errors)
    assert figures["r2"] == pytest.approx(1 - np.sum(errors**2) / spread, rel=1e-4, abs=1e-5)


# --- what is found by the data ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "task", "fields"),
    [
        ({"train": "train.parquet"}, "causal-lm", ("text", None)),
        ({"train": "moods.jsonl"}, "sequence-classification", ("review", "mood")),
        ({"train": "stars.csv"}, "regression", ("review", "stars")),
        ({"train": "both.parquet", "label_field": "mood"}, "sequence-classification",
         ("review", "mood")),
        ({"train": "lines.txt", "format": "lines"}, "causal-lm", ("text", None)),
        ({"train": "moods.jsonl", "auto_infer_types": False, "text_field": "review"}, "causal-lm",
         ("review", None)),
    ],
)  # fmt: skip
def test_the_plan_says_what_was_found_and_why(world, tmp_path, monkeypatch, data, task, fields):
    monkeypatch.chdir(world)
    path = tmp_path / "train.yaml"
    sections = {"model": {"path": "base"}, "data": {**data, "max_length": 16}}
    path.write_text(yaml.safe_dump({**sections, "output": {"dir": str(tmp_path / "out")}}))
    found = plan(resolve(path))
    assert found.task == task
    words = " ".join(found.why)
    assert "task: " in words
    if data["train"] != "lines.txt" and data.get("auto_infer_types", True):
        assert f"text: {fields[0]}" in words
    assert (f"label: {fields[1]}" in words) == (fields[1] is not None)
    assert not (tmp_path / "out").exists()


REFUSED = {
    "several columns": (ConfigError, "several columns could be the label: stars .*, mood",
                        {"data": tables("both.parquet")}),
    "no such column": (ConfigError, "there is no column lable",
                       {"data": tables("moods.jsonl", label_field="lable")}),
    "a label that is text": (ConfigError, "is no finite number",
                             {"data": tables("moods.jsonl", label_field="mood"),
                              "task": "regression"}),
    "a metric of another task": (ConfigError, "is no figure of causal-lm",
                                 {"training": {"metric": "accuracy"}}),
    "a module that is not there": (ConfigError, "no module of this model is 'qproj'",
                                   {"lora": {"target_modules": ["qproj"]}}),
    "too long": (ConfigError, "more than the model's 32 positions",
                 {"data": {"train": "train.parquet", "max_length": 64}}),
    "a recipe for a classifier": (UnsupportedError, "llama.cpp has no place for the head",
                                  {"data": tables("moods.jsonl"), "quantize": {"recipe": "q8_0"}}),
    "a merge of classifiers": (UnsupportedError, "merge after sequence-classification",
                               {"data": tables("moods.jsonl"),
                                "merge": {"method": "linear", "models": ["other"]}}),
    "no such model to merge with": (NotFoundError, "no/such/model",
                                    {"merge": {"method": "linear", "models": ["no/such/model"]}}),
    "no such data": (NotFoundError, "matches no file", {"data": {"train": "no.parquet"}}),
    "no hidden matrix for muon": (ConfigError, "no hidden matrix",
                                  {"optimizer": {"name": "muon"}, "lora": {
                                      "target_modules": ["embed_tokens"]}}),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_written(trained, tmp_path, case):
    kind, words, sections = REFUSED[case]
    with pytest.raises(kind, match=words):
        trained(**sections)
    assert not (tmp_path / "out").exists()


# --- stopping and going on --------------------------------------------------------------------


LONG = {"training": {"max_steps": 7, "evaluate_every": 3}, "optimizer": {"lr": 0.01}}


@pytest.fixture
def stopped_at(monkeypatch):
    """Sends this process SIGTERM in that step of the next training."""
    import signal

    append = MetricsLog.append

    def at(step):
        def counted(log, record):
            append(log, record)
            if record["step"] == step:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(MetricsLog, "append", counted)

    yield at
    monkeypatch.setattr(MetricsLog, "append", append)


@pytest.mark.parametrize("sections", [LONG, {**LONG, "data": tables("moods.jsonl")}])
def test_an_interrupted_training_goes_on_to_the_bit(trained, tmp_path, stopped_at, sections):
    trained(name="straight", **sections)
    stopped_at(3)
    with pytest.raises(InterruptedRun, match="stopped at step 3 of 7"):
        trained(**sections)
    stopped_at(5)
    with pytest.raises(InterruptedRun):
        trained(resume="auto", **sections)
    stopped_at(None)
    trained(resume="auto", **sections)
    assert outcome(tmp_path / "out") == outcome(tmp_path / "straight")


def test_an_older_checkpoint_gives_the_same_end(trained, tmp_path):
    sections = {**LONG, "merge": {"method": "linear", "models": ["other"]}}
    trained(**sections)
    before, merged = outcome(tmp_path / "out"), tmp_path / "out-merged" / "model.safetensors"
    weights = merged.read_bytes()
    older = min((tmp_path / "out" / "checkpoints" / "training").glob("step-*"))
    trained(resume=str(older), **sections)
    assert outcome(tmp_path / "out") == before
    assert merged.read_bytes() == weights


def test_a_finished_training_is_not_repeated_and_not_overwritten(trained, tmp_path):
    first = trained()
    assert trained(resume="auto") == first
    with pytest.raises(RefusedError, match="already holds a run"):
        trained()
    with pytest.raises(CheckpointError, match="differs from this one"):
        trained(resume="auto", optimizer={"lr": 0.5})


def test_what_is_in_the_place_of_the_merged_model_is_not_overwritten(trained, tmp_path):
    (tmp_path / "out-merged").mkdir()
    (tmp_path / "out-merged" / "mine").touch()
    with pytest.raises(RefusedError, match="out-merged: exists already"):
        trained(merge={"method": "linear", "models": ["other"]})


def test_overrides_win_over_the_file(trained, tmp_path):
    found = trained(overrides=[("training.max_steps", "1"), ("optimizer.name", "sgd")])
    assert (found.steps, found.optimizer) == (1, "sgd, lr 0.001")
    again = yaml.safe_load((tmp_path / "out" / "train.yaml").read_text())
    assert again["training"]["max_steps"] == 1


def test_callbacks_are_told_of_the_training(trained):
    class Told(Callback):
        steps = 0

        def step(self, record):
            self.steps += 1

    told = Told()
    trained(callbacks=[told])
    assert told.steps == 2


def test_rows_that_cannot_be_read_are_left_out_where_that_is_asked_for(trained, tmp_path, world):
    broken = tmp_path / "broken.jsonl"
    shutil.copy(world / "moods.jsonl", broken)
    with broken.open("a") as file:
        file.write("{not json\n")
    said = []
    found = trained(data=tables(str(broken), skip_bad=True), warn=said.append)
    assert found.rows + found.held_out == 48
    assert any(text.startswith("1 rows are left out") for text in said)
