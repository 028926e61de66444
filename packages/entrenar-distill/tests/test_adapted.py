"""Students that are a model with an adapter: trained, written, measured and resumed."""

import json

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, InterruptedRun
from entrenar_common.progress import NullProgress
from entrenar_core import lora, models
from entrenar_core.convert.lattice import formats_of
from entrenar_core.convert.recipe import recipe_named
from entrenar_core.nn import modules
from entrenar_core.quant import quantize
from entrenar_core.train.checkpoint import CheckpointStore
from entrenar_distill import causal, present
from entrenar_distill.config import resolve
from entrenar_distill.inputs import read_inputs
from entrenar_distill.report_json import read_report

pytestmark = pytest.mark.tier2

STORED = {"quantization": {"recipe": "q4_0"}}
LEARNED = {
    "weights": "int4",
    "activations": 8,
    "gradient": "learnable",
    "observer": "mse",
    "schedule": {"kind": "lower_bits", "begin": 1, "end": 3},
}
IDS = np.arange(20)[None] % 7


def student(world, **section):
    return {"model_id": str(world / "teacher"), "lora": {"rank": 2, "alpha": 4, **section}}


def weights(folder):
    return {n: p.data for n, p in models.load(folder).named_parameters().items()}


@pytest.fixture(scope="module")
def finished(world, make_config, tmp_path_factory, train):
    folder = tmp_path_factory.mktemp("adapted")
    path = make_config(folder, student=student(world, dropout=0.1), control=True)
    return folder / "out", train(path)


def test_the_student_is_its_base_with_the_adapter_in_its_weights(finished, world):
    folder, _ = finished
    base = models.load(world / "teacher")
    lora.load_adapter(base, folder / "adapter")
    wanted = base(IDS).numpy()
    lora.fuse(base)
    fused = {n: p.data for n, p in base.base_parameters().items()}
    found = weights(folder)
    assert all((found[name] == fused[name]).all() for name in fused)
    assert abs(models.load(folder)(IDS).numpy() - wanted).max() <= 1e-5 * abs(wanted).max()
    assert any((found[name] != value).any() for name, value in weights(world / "teacher").items())


def test_what_is_not_adapted_is_as_it_was(finished, world):
    before, after = weights(world / "teacher"), weights(finished[0])
    kept = [name for name in before if not name.endswith("_proj.weight")]
    assert len(kept) > 3
    assert all((before[name] == after[name]).all() for name in kept)


def test_checkpoints_hold_the_adapter_alone(finished):
    newest = max((finished[0] / "checkpoints" / "student").glob("step-*"))
    names = CheckpointStore(newest.parent, run_id="").open(newest).tensors("model")
    assert names
    assert all(".adapters.default." in name for name in names)


def test_the_report_describes_the_adapter(finished):
    folder, report = finished
    assert report.adapter == read_report(folder / "report.json").adapter
    assert (report.adapter.rank, report.adapter.modules, report.adapter.fused) == (2, 14, True)
    assert report.adapter.parameters == 2 * 2 * (8 * 32 + 3 * (32 + 64))
    shown = [part.title for part in present.parts(report) if getattr(part, "title", None)]
    assert "Trained as an adapter" in shown
    settings = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert settings["r"] == 2
    assert settings["base_model_name_or_path"].endswith("teacher")


def test_an_adapter_alone_is_measured_on_its_base(world, write_config, train, tmp_path):
    report = train(write_config(student=student(world, fuse=False)))
    folder = tmp_path / "out"
    assert not (folder / "model.safetensors").exists()
    assert (folder / "adapter" / "adapter_model.safetensors").exists()
    assert not report.adapter.fused
    inputs = read_inputs(resolve(folder / "distill.yaml"), progress=NullProgress())
    model = models.load(world / "teacher")
    lora.load_adapter(model, folder / "adapter")
    assert causal.held_out_loss(model, inputs, inputs.held_out) == report.score("student").loss
    assert any("lora.load_adapter" in command for command in report.next_commands)


def test_a_base_in_few_bits_is_fused_as_the_numbers_it_stands_for(
    world, write_config, train, tmp_path
):
    train(write_config(student={**student(world), "quantize": "q8_0"}))
    base = models.load(world / "teacher", quantize="q8_0")
    lora.load_adapter(base, tmp_path / "out" / "adapter")
    lora.fuse(base)
    found = weights(tmp_path / "out")
    for name, parameter in base.base_parameters().items():
        assert (np.asarray(parameter.data) == found[name]).all(), name


def test_an_interrupted_run_ends_with_the_same_bits(
    world, make_config, train, stopped_at, tmp_path
):
    section = student(world, dropout=0.2, use_dora=True, init="pissa")
    more = {"gradient_accumulation": 2, "evaluate_every": 2}
    outcomes = []
    for name in ("straight", "stopped"):
        (tmp_path / name).mkdir()
        path = make_config(tmp_path / name, student=section, training=more)
        if name == "stopped":
            with stopped_at(3), pytest.raises(InterruptedRun):
                train(path)
        train(path, resume="auto")
        outcomes.append({n: w.tobytes() for n, w in weights(tmp_path / name / "out").items()})
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("section", "quantization"),
    [({}, STORED["quantization"]), ({"use_dora": True, "init": "pissa"}, LEARNED)],
    ids=["recipe", "learned"],
)
def test_an_interrupted_run_on_stored_weights_ends_as_a_straight_one(
    world, write_config, train, stopped_at, outcome, tmp_path, section, quantization
):
    training = {"quantization": quantization, "evaluate_every": 2, "gradient_accumulation": 2}
    path = write_config(student=student(world, **section), training=training)
    train(path, output=tmp_path / "straight")
    for step in (1, 2):
        with pytest.raises(InterruptedRun), stopped_at(step):
            train(path, resume="auto")
    train(path, resume="auto")
    assert outcome(tmp_path / "out") == outcome(tmp_path / "straight")


@pytest.mark.parametrize("held", [None, "q8_0"])
def test_folder_and_file_have_what_the_recipe_makes_of_the_base_with_its_adapter(
    world, write_config, train, tmp_path, held
):
    section = {**student(world), **({"quantize": held} if held else {})}
    training = {"quantization": {"recipe": "q4_0", "schedule": {"begin": 1}}, "evaluate_every": 2}
    report = train(write_config(student=section, training=training))
    folder = tmp_path / "out"
    found, in_file = weights(folder), weights(folder / "model.gguf")
    assert all(found[name].tobytes() == in_file[name].tobytes() for name in found)

    base = models.load(world / "teacher", **({"quantize": held} if held else {}))
    lora.load_adapter(base, folder / "adapter")
    before = {n: np.asarray(p.data) for n, p in base.base_parameters().items()}
    wanted = before | {
        f"{name}.weight": module.effective_weight.data
        for name, module in lora_modules(base).items()
    }
    for name, form in formats_of(base, recipe_named("q4_0")).items():
        wanted[name] = quantize(wanted[name], form).dequantize()
    assert all((found[name] == wanted[name]).all() for name in wanted)

    inputs = read_inputs(resolve(folder / "distill.yaml"), progress=NullProgress())
    loss = causal.held_out_loss(models.load(folder), inputs, inputs.held_out)
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert loss == report.score("student").loss == list(lines)[-1]["held_out_loss"]
    assert report.quantization.name == "q4_0"
    assert report.adapter.fused


def lora_modules(model):
    adapted = lora.adapters_of(model)["default"].layers
    return {name: module for name, module in modules(model) if name in adapted}


@pytest.mark.parametrize(
    ("section", "more", "said"),
    [
        ({"target_modules": ["q_porj"]}, {}, "no module of this model is 'q_porj'"),
        ({"rank": 0}, {}, "student.lora.rank"),
        ({"use_dora": True, "bias": "some"}, {}, "student.lora.bias"),
        ({"fuse": False}, {"output": {"format": "gguf"}}, "needs student.lora.fuse"),
        ({"fuse": False}, {"training": STORED}, "training.quantization needs student.lora.fuse"),
        ({"dropout": 0.1}, {"training": STORED}, "does not go with student.lora.dropout 0.1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    world, write_config, train, tmp_path, section, more, said
):
    with pytest.raises(ConfigError) as found:
        train(write_config(student=student(world, **section), **more))
    assert said in "\n".join([found.value.message, *found.value.details])
    assert not (tmp_path / "out" / "report.json").exists()


def test_few_bits_without_an_adapter_are_refused(world, write_config):
    path = write_config(student={"model_id": str(world / "teacher"), "quantize": "nf4"})
    with pytest.raises(ConfigError, match="goes with lora"):
        resolve(path)


def test_a_section_that_is_not_enabled_changes_nothing(world, write_config, train, tmp_path):
    report = train(write_config(student=student(world, enabled=False)))
    assert report.adapter is None
    assert not (tmp_path / "out" / "adapter").exists()


def test_the_fused_student_is_written_for_llama_cpp_too(world, write_config, train, tmp_path):
    output = {"format": "gguf", "quantize": "q8_0"}
    report = train(write_config(student=student(world), output=output))
    assert report.score("student in q8_0") is not None
    whole, stored = (
        models.load(tmp_path / "out" / name)(IDS).numpy() for name in ("", "model.gguf")
    )
    assert abs(stored - whole).max() <= 0.05 * abs(whole).max()
