"""The section training.quantization: what it refuses, and what the training loop makes of it."""

import math

import numpy as np
import pytest

from entrenar_common.errors import CheckpointError, ConfigError
from entrenar_core import models
from entrenar_core.data.batches import Batches
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.qat import LowerBits, MoreMatrices, Schedule
from entrenar_core.quant import Integer, quantize
from entrenar_core.train.checkpoint import CheckpointStore
from entrenar_core.train.config import TrainingConfig, load_config
from entrenar_core.train.loop import TrainingLoop
from entrenar_core.train.metrics import MetricsLog
from entrenar_core.train.objective import LanguageModelling
from entrenar_core.train.quantization import QuantizationConfig

SHAPE = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 16, "eos_token_id": 0,
}  # fmt: skip
LEARNED = {"weights": "int3", "gradient": "learnable", "activations": 4}


# --- the section -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give recipe or weights"),
        ({"recipe": "q4_0", "weights": "int4"}, "give recipe or weights, not both"),
        ({"recipe": "q4_00"}, "no quantization 'q4_00' for GGUF files; did you mean q4_0?"),
        ({"recipe": "f32"}, "f32 stores weights as they are"),
        ({"weights": "itn4"}, "no format 'itn4'; did you mean int4?"),
        ({"recipe": "q4_0", "exclude": ["*.mlp.*"]}, "exclude goes with weights"),
        ({"recipe": "q4_0", "head": True}, "head goes with weights"),
        ({"recipe": "q4_0", "activations": 8}, "activations go with weights"),
        ({"recipe": "q4_0", "observer": "mse"}, "observer is for integers"),
        ({"weights": "nf4", "gradient": "soft"}, "gradient is for integers"),
        ({"weights": "int4", "gradient": "softer"}, "must be 'clipped', 'soft' or 'learnable'"),
        ({"weights": "int4", "activations": 9}, "must be at most 8, not 9"),
        ({"weights": "int4", "noise": 1.0}, "must be less than 1, not 1.0"),
        ({"weights": "int4", "includes": "*"}, "unknown key; did you mean include?"),
        ({"weights": "int4", "schedule": {"end": 3}}, "end goes with kind"),
        ({"weights": "int4", "schedule": {"kind": "lower_bits"}}, "lower_bits needs an end"),
        (
            {"weights": "int4", "schedule": {"kind": "more_matrices", "begin": 5, "end": 3}},
            "end 3 is before begin 5",
        ),
        (
            {"weights": "int4", "schedule": {"kind": "more_matrices", "end": 3, "first": 6}},
            "first goes with kind lower_bits",
        ),
        (
            {"weights": "nf4", "schedule": {"kind": "lower_bits", "end": 3}},
            "schedule.kind lower_bits is for integers",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(tmp_path, given, message):
    import yaml

    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump({"quantization": given}))
    with pytest.raises(ConfigError) as caught:
        load_config(TrainingConfig, path)
    assert message in " ".join([str(caught.value), *caught.value.details])


@pytest.mark.parametrize("overrides", [(), [("quantization", "null")]])
def test_without_the_section_or_with_null_nothing_is_quantized(tmp_path, overrides):
    path = tmp_path / "train.yaml"
    path.write_text("quantization:\n" if not overrides else "quantization: {recipe: q4_0}\n")
    config, _ = load_config(TrainingConfig, path, overrides)
    assert config.quantization is None


def test_one_override_is_enough():
    config, _ = load_config(TrainingConfig, None, [("quantization.recipe", "Q4_0")])
    assert config.quantization == QuantizationConfig.model_validate({"recipe": "q4_0"})


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, Schedule(0, 0)),
        ({"begin": 3}, Schedule(3, 3)),
        ({"kind": "lower_bits", "begin": 1, "end": 5}, LowerBits(1, 5)),
        ({"kind": "lower_bits", "end": 5, "first": 6}, LowerBits(0, 5, first=6)),
        ({"kind": "more_matrices", "end": 5}, MoreMatrices(0, 5)),
    ],
)
def test_the_schedule_is_that_of_the_library(given, wanted):
    config = QuantizationConfig.model_validate({"weights": "int4", "schedule": given})
    assert config.schedule.schedule() == wanted


# --- the loop ----------------------------------------------------------------------------------


@pytest.fixture
def make(tmp_path):
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, 40, size=50).astype(np.int32) for _ in range(8)]
    documents = TokenizedDocuments.from_arrays([f"{i}.txt" for i in range(8)], ids, [50] * 8)
    batches = Batches(documents, seq_len=16, batch_size=4, seed=0, eos_id=0)

    def trainer(quantization=None, *, evaluate=None, name="run", **settings):
        model = models.from_config(SHAPE, seed=0)
        (tmp_path / name).mkdir(exist_ok=True)
        given = {"max_steps": 4, "quantization": quantization, **settings}
        return TrainingLoop(
            model, LanguageModelling(model), batches, TrainingConfig.model_validate(given),
            phase="student", metrics=MetricsLog(tmp_path / name / "metrics.jsonl"),
            store=CheckpointStore(tmp_path / name / "checkpoints", run_id="r"),
            checkpoint_every=2, evaluate=evaluate and (lambda: evaluate(model)),
        )  # fmt: skip

    return trainer


@pytest.mark.tier2
def test_an_evaluation_sees_the_weights_as_they_are_stored(make):
    seen = []

    def evaluate(model):
        seen.append(model.model.layers[0].mlp.up_proj.weight.data.copy())
        return 1.0

    quantization = {"recipe": "q4_0", "schedule": {"begin": 3}}
    trainer = make(quantization, evaluate=evaluate, evaluate_every=4)
    trainer.fit()
    name = "model.layers.0.mlp.up_proj.weight"
    trained = trainer.model.named_parameters()[name].data
    np.testing.assert_array_equal(seen[0], quantize(trained, "q4_0").dequantize())
    assert not np.array_equal(seen[0], trained)


@pytest.mark.tier2
def test_learned_steps_are_trained_with_the_weights(make):
    trainer = make(LEARNED)
    before = {name: p.data.copy() for name, p in trainer.quantized.parameters().items()}
    trainer.fit()
    for name, parameter in trainer.quantized.parameters().items():
        assert (parameter.data != before[name]).all(), name


@pytest.mark.tier2
def test_learned_steps_start_from_the_weights_of_the_step_that_begins_with_them(make):
    trainer = make({**LEARNED, "schedule": {"begin": 3}})
    for _ in range(3):
        trainer._advance()
    name = "model.layers.0.mlp.up_proj.weight"
    weight = trainer.model.named_parameters()[name].data.copy()
    log_step = trainer.quantized.parameters()[f"qat.{name}.log_step"]
    with trainer.quantized.active(3):
        found = np.exp(log_step.data)
    np.testing.assert_allclose(found, np.abs(weight).max(axis=1) / Integer(3).high, rtol=1e-6)


@pytest.mark.tier2
def test_an_evaluation_before_that_has_steps_of_the_weights_as_they_are(make):
    seen = []

    def evaluate(model):
        seen.append(model.model.layers[0].mlp.up_proj.weight.data.copy())
        return 1.0

    quantization = {**LEARNED, "activations": None, "schedule": {"begin": 3}}
    trainer = make(quantization, evaluate=evaluate, evaluate_every=2)
    weight = trainer.model.named_parameters()["model.layers.0.mlp.up_proj.weight"]
    for _ in range(2):
        trainer._advance()
    trainer._evaluated({})
    wanted = quantize(weight.data, "int3").dequantize()
    np.testing.assert_allclose(seen[0], wanted, rtol=1e-5)  # of a logarithm and its exponential


@pytest.mark.tier2
def test_a_lost_step_moves_neither_weights_nor_steps_nor_ranges(make, monkeypatch):
    trainer = make(LEARNED)
    trainer._advance()

    def state():
        weights = {n: p.data for n, p in trainer.model.named_parameters().items()}
        parts = (weights, trainer.optimizer.state(), trainer.quantized.state())
        return {name: array.copy() for part in parts for name, array in part.items()}

    loss = LanguageModelling.loss

    def poisoned(self, batch, normalizer):
        found = loss(self, batch, normalizer)
        found.data = found.data * np.float32("nan")
        return found

    before = state()
    with monkeypatch.context() as patch:
        patch.setattr(LanguageModelling, "loss", poisoned)
        assert trainer._advance()["skipped"]
    after = state()
    assert after.keys() == before.keys()
    for name, wanted in before.items():
        np.testing.assert_array_equal(after[name], wanted, err_msg=name)
    assert math.isfinite(trainer._advance()["loss"])


@pytest.mark.tier2
def test_a_checkpoint_without_quantization_is_not_gone_on_from_with_it(make):
    make().fit()
    with pytest.raises(CheckpointError, match=r"has no quantization\.safetensors"):
        make({"recipe": "q4_0"}).resume()
