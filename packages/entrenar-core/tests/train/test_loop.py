"""The training loop: what a step does, what a lost step leaves, what a checkpoint holds."""

import json
import math

import numpy as np
import pytest

from entrenar_common.errors import CheckpointError, ConfigError, InterruptedRun, NumericsError
from entrenar_common.testing import RecordedProgress
from entrenar_core import models
from entrenar_core.data.batches import Batches
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.train.checkpoint import CheckpointStore
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.loop import TrainingLoop
from entrenar_core.train.metrics import MetricsLog
from entrenar_core.train.objective import LanguageModelling
from entrenar_core.train.process import StopRequest
from entrenar_core.train.rows import total_steps
from entrenar_core.train.step import Steps

pytestmark = pytest.mark.tier2

SHAPE = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 16, "eos_token_id": 0,
}  # fmt: skip
NAMES = sorted(models.from_config(SHAPE, seed=0).named_parameters())


def documents():
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, 40, size=50).astype(np.int32) for _ in range(8)]
    return TokenizedDocuments.from_arrays([f"{i}.txt" for i in range(8)], ids, [50] * 8)


BATCHES = Batches(documents(), seq_len=16, batch_size=4, seed=0, eos_id=0)


@pytest.fixture
def make(tmp_path):
    def trainer(*, evaluate=None, every=2, name="run", **settings):
        model = models.from_config(SHAPE, seed=0)
        config = TrainingConfig.model_validate({"max_steps": 4, **settings})
        return TrainingLoop(
            model,
            LanguageModelling(model),
            BATCHES,
            config,
            phase="student",
            metrics=MetricsLog(tmp_path / name / "metrics.jsonl"),
            store=CheckpointStore(tmp_path / name / "checkpoints", run_id="r"),
            checkpoint_every=every,
            evaluate=evaluate,
        )

    for name in ("run", "other"):
        (tmp_path / name).mkdir()
    return trainer


def state(trainer):
    """Copies of weights and moments by name."""
    weights = {n: p.data.copy() for n, p in trainer.model.named_parameters().items()}
    return weights | {n: array.copy() for n, array in trainer.optimizer.state().items()}


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_loses_the_step_and_changes_nothing(make, name, value):
    """From wherever it starts it must reach the loss or the gradient's norm."""
    trainer = make(weight_decay=0.1)
    weight = trainer.model.named_parameters()[name].data
    if name == "model.embed_tokens.weight":
        weight[BATCHES.batch(0).ids[0, 3]] = value
    else:
        weight.reshape(-1)[5] = value
    before = state(trainer)
    record = trainer._advance()
    assert record["skipped"]
    assert_equal(state(trainer), before)
    assert (trainer.step, trainer.optimizer.steps, trainer.budget.total) == (1, 0, 1)


@pytest.mark.parametrize("name", [NAMES[0], NAMES[-1]])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_one_gradient_that_is_not_finite_loses_the_step_and_changes_nothing(
    make, monkeypatch, name, value
):
    """The loss is finite; one number of one gradient is not, in the second micro-batch."""
    trainer = make(gradient_accumulation=2, weight_decay=0.1, average_decay=0.5)
    trainer._advance()
    before = state(trainer) | {n: a.copy() for n, a in trainer.average.state().items()}
    parameter, gradients = trainer.model.named_parameters()[name], Steps.gradients

    def poisoned(self, number, micro_batches, targets):
        found = gradients(self, number, micro_batches, targets)
        parameter.grad.reshape(-1)[3] = value
        return found

    monkeypatch.setattr(Steps, "gradients", poisoned)
    record = trainer._advance()
    assert record["skipped"]
    assert math.isfinite(record["loss"])
    assert_equal(state(trainer) | trainer.average.state(), before)


def test_a_step_after_a_lost_one_is_what_it_would_have_been(make, monkeypatch):
    trainer, other = make(schedule="constant"), make(name="other", schedule="constant")
    loss = LanguageModelling.loss
    lost = iter([True, False])

    def poisoned(self, batch, normalizer):
        found = loss(self, batch, normalizer)
        if next(lost):
            found.data = found.data * np.float32("nan")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(LanguageModelling, "loss", poisoned)
        assert trainer._advance()["skipped"]
        trainer._advance()
    other.step = 1  # never saw the first batch
    other._advance()
    assert_equal(state(trainer), state(other))


def test_weights_that_are_not_finite_are_never_saved(make, tmp_path):
    trainer = make(every=1)
    trainer.model.named_parameters()["model.norm.weight"].data[0] = np.nan
    with pytest.raises(NumericsError, match=r"model\.norm\.weight are not finite at step 1"):
        trainer.fit()
    assert not list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_an_evaluation_that_is_not_finite_is_logged_as_null_and_counts_as_worst(make, tmp_path):
    losses = iter([math.nan, 3.0, math.inf, math.nan])
    make(evaluate=lambda: next(losses), evaluate_every=1, every=1).fit()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["held_out_loss"] for line in lines] == [None, 3.0, None, None]
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*"))
    assert kept == ["step-000000002", "step-000000003", "step-000000004"]


@pytest.mark.parametrize("goal", ["lowest", "highest"])
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_no_best_one_whatever_is_looked_for(make, goal, odd):
    found = iter([odd, 3.0, odd, odd])
    trainer = make(
        evaluate=lambda: {"held_out_loss": 1.0, "gain": next(found)}, evaluate_every=1,
        metric="gain", metric_goal=goal, early_stopping={"patience": 2},
    )  # fmt: skip
    trainer.fit()
    assert trainer.store.best().step == 2
    assert trainer.store.latest().state["patience"] == {"best": 3.0, "since": 2}


def test_a_stop_saves_at_the_end_of_the_step(make):
    trainer, stop = make(every=100), StopRequest()
    stop.signal = 15
    with pytest.raises(InterruptedRun, match="step 1 of 4") as caught:
        trainer.fit(stop=stop)
    assert "--resume auto" in caught.value.hint
    fresh = make()
    assert fresh.resume()
    assert fresh.step == 1
    assert_equal(state(fresh), state(trainer))


class Asked(StopRequest):
    """Asked to stop when it has been looked at so often, as by a signal that arrives then."""

    def __init__(self, looks):
        super().__init__()
        self.looks = looks

    def __bool__(self):
        self.looks -= 1
        return self.looks < 0


@pytest.mark.parametrize("looks", range(5))
def test_what_is_said_to_be_saved_is_the_step_that_was_reached(make, looks):
    trainer = make(every=3)
    with pytest.raises(InterruptedRun, match=r"step (\d) of 4 .*step-00000000\1$"):
        trainer.fit(stop=Asked(looks))
    fresh = make(every=3)
    assert fresh.resume()
    assert_equal(state(fresh), state(trainer))


def test_a_stop_without_a_folder_does_not_say_that_anything_is_saved(make):
    trainer, stop = make(), StopRequest()
    trainer.store, stop.signal = None, 15
    with pytest.raises(InterruptedRun, match="step 1 of 4 of student; nothing is saved"):
        trainer.fit(stop=stop)


def test_nothing_to_resume_from_is_a_start(make):
    assert not make().resume()


def test_a_checkpoint_of_another_phase_is_refused(make):
    trainer = make()
    trainer.fit()
    other = make()
    other.phase = "control"
    with pytest.raises(CheckpointError, match="phase 'student', not 'control'"):
        other.resume()


def test_progress_counts_from_the_restored_step(make):
    first, stop = make(), StopRequest()
    stop.signal = 15
    with pytest.raises(InterruptedRun):
        first.fit(stop=stop)
    progress, second = RecordedProgress(), make()
    second.resume()
    second.fit(progress=progress)
    assert progress.calls[0] == ("start", "student", 4)
    assert sum(call[1] for call in progress.calls if call[0] == "advance") == 4


def test_accumulated_micro_batches_are_one_larger_batch(make):
    """2 × 4 rows accumulated against 1 × 8 rows: the same loss and, nearly, the same gradient."""
    small, large = make(gradient_accumulation=2), make(name="other")
    parts = [BATCHES.batch(0), BATCHES.batch(1)]
    tokens = sum(part.targets for part in parts)
    found = small._steps.gradients(0, parts, tokens)
    pairs = zip(*map(_fields, parts), strict=True)
    whole = type(parts[0])(*map(np.concatenate, pairs))
    wanted = large._steps.gradients(0, [whole], tokens)
    assert found == pytest.approx(wanted, rel=1e-6)
    pairs = zip(small.optimizer._groups, large.optimizer._groups, strict=True)
    for mine, theirs in pairs:
        np.testing.assert_allclose(mine.grads(), theirs.grads(), rtol=1e-4, atol=1e-7)


def _fields(batch):
    return batch.ids, batch.labels, batch.row_ids


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"max_steps": 7}, 7),
        ({"epochs": 2}, 2 * BATCHES.steps_per_epoch),
        ({"epochs": 3, "gradient_accumulation": 4}, 3 * BATCHES.steps_per_epoch // 4),
    ],
)
def test_the_number_of_steps(settings, steps):
    assert total_steps(TrainingConfig.model_validate(settings), BATCHES) == steps


def test_not_even_one_step_is_refused():
    config = TrainingConfig.model_validate({"epochs": 1, "gradient_accumulation": 99})
    with pytest.raises(ConfigError, match="not one optimizer step"):
        total_steps(config, BATCHES)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_activations_that_are_computed_again_change_nothing_but_rounding(make, accumulation):
    kept = make(gradient_accumulation=accumulation)
    again = make(name="other", gradient_accumulation=accumulation, checkpointing=True)
    assert again.model.recompute and not kept.model.recompute
    for _ in range(3):
        one, other = kept._advance(), again._advance()
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-6)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-5)
