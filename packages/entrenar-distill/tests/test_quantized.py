"""Runs that train on stored weights: what is written, measured and resumed."""

import json

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, InterruptedRun, UnsupportedError
from entrenar_common.progress import NullProgress
from entrenar_core import models
from entrenar_core.convert.lattice import formats_of
from entrenar_core.convert.recipe import recipe_named
from entrenar_core.quant import quantize
from entrenar_core.train.checkpoint import CheckpointStore
from entrenar_distill import causal, pipeline, present
from entrenar_distill.config import resolve
from entrenar_distill.inputs import read_inputs
from entrenar_distill.report_json import read_report

pytestmark = pytest.mark.tier2

STUDENT = {
    "config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "tie_word_embeddings": True,
    }
}
LEARNED = {
    "weights": "int4",
    "embedding": True,
    "head": True,
    "activations": 8,
    "gradient": "learnable",
    "observer": "mse",
    "schedule": {"kind": "lower_bits", "begin": 1, "end": 3},
}


def training(quantization, **more):
    return {"quantization": quantization, "evaluate_every": 2, **more}


def log(folder, phase="student"):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["phase"] == phase]


def masters(folder, phase="student"):
    """The weights in full precision that a phase ended with."""
    newest = max((folder / "checkpoints" / phase).glob("step-*"))
    return CheckpointStore(newest.parent, run_id="").open(newest).tensors("model")


@pytest.fixture(scope="module")
def finished(make_config, tmp_path_factory, train):
    """A run towards q4_0, from its second step on; gives its folder and its report."""
    folder = tmp_path_factory.mktemp("q4_0")
    quantization = {"recipe": "q4_0", "schedule": {"begin": 1}}
    path = make_config(folder, student=STUDENT, training=training(quantization), control=True)
    return folder / "out", train(path)


def numbers(path):
    return {n: p.data for n, p in models.load(path).named_parameters().items()}


def test_the_file_stands_for_the_numbers_of_the_folder_to_the_bit(finished):
    folder, _ = finished
    in_folder, in_file = numbers(folder), numbers(folder / "model.gguf")
    assert in_folder.keys() == in_file.keys()
    for name, wanted in in_folder.items():
        assert in_file[name].tobytes() == wanted.tobytes(), name


def test_the_folder_has_what_the_recipe_makes_of_the_trained_weights(finished):
    folder, _ = finished
    trained, formats = masters(folder), formats_of(models.load(folder), recipe_named("q4_0"))
    assert set(formats.values()) == {"q4_0", "q8_0"}
    for name, found in numbers(folder).items():
        wanted = trained[name]
        if name in formats:
            wanted = quantize(wanted, formats[name]).dequantize()
        np.testing.assert_array_equal(found, wanted, err_msg=name)


def test_student_and_control_are_measured_on_stored_weights(finished):
    folder, report = finished
    config = resolve(folder / "distill.yaml")
    inputs = read_inputs(config, progress=NullProgress())
    for phase in ("student", "control"):
        model, trained = models.load(folder), masters(folder, phase)
        for name, form in formats_of(model, recipe_named("q4_0")).items():
            model.named_parameters()[name].data[...] = quantize(trained[name], form).dequantize()
        for name, parameter in model.named_parameters().items():
            if parameter.ndim < 2:
                parameter.data[...] = trained[name]
        wanted = causal.held_out_loss(model, inputs, inputs.held_out)
        assert report.score(phase).loss == wanted
        assert log(folder, phase)[-1]["held_out_loss"] == wanted


def test_the_log_has_the_noise_of_each_matrix_where_the_run_evaluates(finished):
    folder, report = finished
    records = log(folder)
    assert [r["step"] for r in records if "sqnr_db" in r] == [2, 4]
    found = records[3]["sqnr_db"]
    assert found.keys() == report.quantization.sqnr_db.keys()
    wanted = masters(folder)["model.layers.1.mlp.up_proj.weight"]
    noise = wanted - quantize(wanted, "q4_0").dequantize()
    expected = 10 * np.log10(np.square(wanted).sum() / np.square(noise).sum())
    assert found["model.layers.1.mlp.up_proj.weight"] == pytest.approx(expected, abs=2e-3)


def test_the_report_names_the_formats_the_worst_matrix_and_the_file(finished):
    folder, report = finished
    found = report.quantization
    assert (found.name, found.from_step, found.activations) == ("q4_0", 1, None)
    assert found.sqnr_db[found.worst] == min(found.sqnr_db.values())
    assert report.files["model for llama.cpp"] == str(folder / "model.gguf")
    assert read_report(folder / "report.json").quantization == found
    text = present.to_markdown(report)
    assert "## Trained on stored weights" in text
    assert found.worst in text


@pytest.mark.parity
def test_transformers_and_the_gguf_package_read_the_same_numbers(finished):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    gguf = pytest.importorskip("gguf")
    folder, _ = finished
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tensors = {t.name: t for t in gguf.GGUFReader(folder / "model.gguf").tensors}
    for ours, named in {"up": "ffn_up", "down": "ffn_down", "gate": "ffn_gate"}.items():
        found = tensors[f"blk.1.{named}.weight"]
        assert found.tensor_type == gguf.GGMLQuantizationType.Q4_0
        decoded = gguf.quants.dequantize(found.data, found.tensor_type)
        wanted = theirs.state_dict()[f"model.layers.1.mlp.{ours}_proj.weight"].numpy()
        np.testing.assert_array_equal(decoded, wanted)


@pytest.mark.parametrize(
    "quantization",
    [{"recipe": "q4_0"}, LEARNED, {"weights": "q8_0", "noise": 0.5}],
    ids=["recipe", "learned", "noise"],
)
def test_an_interrupted_run_ends_as_a_straight_one(
    write_config, train, stopped_at, outcome, tmp_path, quantization
):
    path = write_config(student=STUDENT, training=training(quantization))
    train(path, output=tmp_path / "straight")
    for step in (1, 2):
        with pytest.raises(InterruptedRun), stopped_at(step):
            train(path, resume="auto")
    train(path, resume="auto")
    assert outcome(tmp_path / "out") == outcome(tmp_path / "straight")


def test_rounded_inputs_are_measured_beside_whole_ones(write_config, train, tmp_path):
    report = train(write_config(student=STUDENT, training=training(LEARNED)))
    found = report.quantization
    assert found.activations == 8
    assert found.loss_with_inputs != report.score("student").loss
    assert log(tmp_path / "out")[-1]["held_out_loss"] == found.loss_with_inputs
    assert not (tmp_path / "out" / "model.gguf").exists()


def test_a_run_without_the_section_has_nothing_of_it(write_config, train, tmp_path):
    report = train(write_config(student=STUDENT))
    assert report.quantization is None
    (checkpoint,) = (tmp_path / "out" / "checkpoints" / "student").glob("step-000000004")
    names = {path.name for path in checkpoint.iterdir()}
    assert names == {"manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"}


def test_a_dry_run_says_what_is_stored_how_and_from_when(write_config):
    quantization = {"recipe": "q4_0", "schedule": {"begin": 2}}
    path = write_config(student=STUDENT, training=training(quantization))
    found = pipeline.plan(resolve(path))
    assert found.quantization == "15 matrices in q4_0, all of it from step 2 on"
    (fields, _) = found.__view__()
    assert ("stored weights", found.quantization) in fields.items
    assert ("output", f"{found.output}, with model.gguf in q4_0") in fields.items


@pytest.mark.parametrize(
    ("quantization", "kind", "words"),
    [
        ({"recipe": "q4_0", "schedule": {"begin": 4}}, ConfigError, "begin is 4, and the last"),
        (
            {"weights": "int4", "schedule": {"kind": "lower_bits", "end": 9}},
            ConfigError,
            "end is 9, and the last",
        ),
        ({"weights": "int4", "include": ["*.mpl.*"]}, ConfigError, r"no matrix .* '\*\.mpl\.\*'"),
    ],
)
def test_what_cannot_be_is_an_error_before_anything_is_written(
    write_config, train, tmp_path, quantization, kind, words
):
    path = write_config(student=STUDENT, training=training(quantization))
    with pytest.raises(kind, match=words):
        train(path)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_llama_cpp_has_not_is_an_error_at_the_start(
    write_config, train, teacher, tmp_path
):
    path = teacher / "tokenizer.json"
    content = json.loads(path.read_text())
    content["normalizer"] = {"type": "Lowercase"}
    path.write_text(json.dumps(content))
    config = write_config(
        teacher={"model_id": str(teacher)},
        student=STUDENT,
        training=training({"recipe": "q4_0"}),
    )
    with pytest.raises(UnsupportedError):
        train(config)
    assert not (tmp_path / "out").exists()


# --- quantized after training -------------------------------------------------------------------


def test_a_student_can_be_written_as_gguf_after_training_and_is_measured_so(
    write_config, train, tmp_path
):
    path = write_config(student=STUDENT, output={"format": "gguf", "quantize": "q4_0"})
    report = train(path)
    in_folder, in_file = numbers(tmp_path / "out"), numbers(tmp_path / "out" / "model.gguf")
    for name, form in formats_of(models.load(tmp_path / "out"), recipe_named("q4_0")).items():
        np.testing.assert_array_equal(in_file[name], quantize(in_folder[name], form).dequantize())
    assert [score.name for score in report.scores] == ["teacher", "student", "student in q4_0"]
    assert report.score("student in q4_0").loss != report.score("student").loss
    assert report.quantization is None


def test_a_gguf_file_without_a_recipe_has_the_numbers_of_the_folder(write_config, train, tmp_path):
    report = train(write_config(student=STUDENT, output={"format": "gguf"}))
    in_folder, in_file = numbers(tmp_path / "out"), numbers(tmp_path / "out" / "model.gguf")
    assert all(in_file[name].tobytes() == wanted.tobytes() for name, wanted in in_folder.items())
    assert [score.name for score in report.scores] == ["teacher", "student"]


@pytest.mark.parametrize(
    ("output", "quantization", "words"),
    [
        ({"quantize": "q4_0"}, None, "output.quantize: goes with format: gguf"),
        ({"format": "gguf", "quantize": "q4_9"}, None, "did you mean q4_0?"),
        (
            {"format": "gguf", "quantize": "q8_0"},
            {"recipe": "q4_0"},
            "quantize q8_0 contradicts training.quantization.recipe q4_0",
        ),
    ],
)
def test_one_file_has_one_recipe(write_config, output, quantization, words):
    path = write_config(output=output, training={"quantization": quantization})
    with pytest.raises(ConfigError, match=words):
        resolve(path)
