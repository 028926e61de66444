"""One optimizer step cut into micro-batches in different ways: the same gradient."""

import numpy as np
import pytest

from entrenar_core.data.batches import IGNORED, Batch
from entrenar_core.distill import Distillation, Divergence, FeatureDistillation, LiveTeacher
from entrenar_core.distill.features import LayerPair, attention_term, hidden_term
from entrenar_core.testing import difference, tiny_llama
from entrenar_core.train.checkpoint import CheckpointStore
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.loop import TrainingLoop
from entrenar_core.train.metrics import MetricsLog
from entrenar_core.train.objective import LanguageModelling
from entrenar_core.train.state import BESIDE

ROWS, TIME = 8, 11
BOUNDS = {"float32": 1e-6, "float64": 1e-12}
"""What "the same gradient" means, where rounding alone does not come to more."""
COMPARED = (
    "loss", "grad_norm", "tokens", "cross_entropy", "divergence", "agreement", "hidden_mse",
    "rkd_distance", "minilm", "tinybert",
)  # fmt: skip


def rows(vocabulary):
    """Eight rows, of which row i has i + 2 valid tokens."""
    rng = np.random.default_rng(0)
    ids, labels = rng.integers(0, vocabulary, (2, ROWS, TIME))
    labels[np.arange(TIME)[None, :] >= np.arange(ROWS)[:, None] + 2] = IGNORED
    return Batch(ids, labels, np.arange(ROWS))


class Cut:
    """A source of batches that hands out one batch in equal parts."""

    def __init__(self, batch, parts):
        self._parts = batch.split(parts)
        self.steps_per_epoch = parts

    def batch(self, position):
        return self._parts[position]

    def names(self, row_ids):
        return [str(row) for row in row_ids]


def rounded(model):
    """The model with weights that float32 holds exactly, whatever its type."""
    for parameter in model.parameters():
        parameter.data[...] = parameter.data.astype(np.float32)
    return model


def language_modelling(model, dtype):
    return LanguageModelling(model)


def distillation(model, dtype):
    teacher = rounded(tiny_llama(seed=1, dtype=dtype, hidden_size=32, vocab_size=70))
    live = LiveTeacher(teacher, shared=61)
    return Distillation(model, live, divergence=Divergence(temperature=2.0), alpha=0.7)


def features(model, dtype):
    """Losses of every normaliser: tokens, sequences, and pairs of tokens."""
    logits = distillation(model, dtype)
    pairs = [LayerPair(0, 1), LayerPair(1, 1)]
    both = model, logits.teacher.model
    terms = [
        hidden_term("hidden_mse", *both, loss="mse", pairs=pairs),
        hidden_term("rkd_distance", *both, loss="rkd_distance", pairs=pairs),
        attention_term("minilm", *both, loss="minilm", pairs=pairs, heads=4),
        attention_term("tinybert", *both, loss="tinybert", pairs=pairs),
    ]
    task = FeatureDistillation(logits, logits.teacher, terms)
    for projection in task.parameters().values():
        projection.data[...] = projection.data.astype(np.float32)
    return task


def distillation_of_few_ids(model, dtype):
    teacher = rounded(tiny_llama(seed=1, dtype=dtype, hidden_size=32, vocab_size=70))
    chosen = Divergence("jsd", 2.0, beta=0.3, top_k=9)
    live = LiveTeacher(teacher, shared=61)
    return Distillation(model, live, divergence=chosen, alpha=0.7)


@pytest.fixture
def one_step(tmp_path):
    """The log record of a step of the trainer, and the gradients that it has used."""

    def call(objective, dtype, parts):
        model = rounded(tiny_llama(dtype=dtype))
        folder = tmp_path / f"{dtype} {parts}"
        folder.mkdir()
        trainer = TrainingLoop(
            model,
            objective(model, dtype),
            Cut(rows(61), parts),
            TrainingConfig(max_steps=1, batch_size=ROWS // parts, gradient_accumulation=parts),
            phase="train",
            metrics=MetricsLog(folder / "metrics.jsonl"),
            store=CheckpointStore(folder / "checkpoints", run_id="a"),
            checkpoint_every=1,
        )
        trainer.fit()
        (record,) = trainer.metrics.records("train")
        trained = {**model.named_parameters(), **trainer.state.weights.get(BESIDE, {})}
        return record, {n: p.grad for n, p in trained.items()}

    return call


def test_the_micro_batches_have_different_numbers_of_valid_tokens():
    assert len({part.targets for part in rows(61).split(4)}) == 4


@pytest.mark.tier2
@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize(
    "objective", [language_modelling, distillation, distillation_of_few_ids, features]
)
def test_accumulation_changes_neither_loss_nor_gradient(objective, dtype, one_step):
    whole, wanted = one_step(objective, dtype, 1)
    _, exact = one_step(objective, "float64", 1) if dtype == "float32" else (None, wanted)
    # how far the uncut gradient is from the exact one; by how much it is in a single tensor is
    # chance, and differs between CPUs
    rounding = max(difference(gradient, exact[name]) for name, gradient in wanted.items())
    allowed = max(BOUNDS[dtype], 2 * rounding)
    for parts in (2, 4, 8):
        record, found = one_step(objective, dtype, parts)
        for key in COMPARED:
            if key in whole:
                assert record[key] == pytest.approx(whole[key], rel=BOUNDS[dtype]), key
        for name, gradient in found.items():
            assert difference(gradient, exact[name]) <= allowed, name


def test_the_loss_is_the_mean_over_all_valid_tokens_of_the_step(one_step):
    record, _ = one_step(language_modelling, "float64", 4)
    batch = rows(61)
    z = rounded(tiny_llama(dtype="float64"))(batch.ids).numpy()
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    valid = batch.labels >= 0
    assert record["loss"] == pytest.approx(-log_p[valid, batch.labels[valid]].mean(), rel=1e-12)
    assert record["tokens"] == valid.sum()
