"""Training and scoring where a part of the tokens counts, or none of a step's."""

import json

import numpy as np
import pytest

from entrenar_core import models
from entrenar_core.data.batches import IGNORED, Batch, Batches
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.row_kinds import Completions
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.tokenizer import train_bpe
from entrenar_core.data.tokens import tokenize
from entrenar_core.distill import Distillation, FeatureDistillation, LiveTeacher
from entrenar_core.distill.features import LayerPair, hidden_term
from entrenar_core.kernels.divergences import Divergence
from entrenar_core.train.checkpoint import CheckpointStore
from entrenar_core.train.config import TrainingConfig
from entrenar_core.train.evaluate import score
from entrenar_core.train.loop import TrainingLoop
from entrenar_core.train.metrics import MetricsLog
from entrenar_core.train.objective import LanguageModelling
from entrenar_core.train.windows import target_counts, window_counts, windows

pytestmark = pytest.mark.tier2

SHAPE = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 16, "eos_token_id": 0,
}  # fmt: skip
LENGTHS = [2, 7, 8, 9, 30]


def documents(*, closed, masked=True):
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, 40, size=n).astype(np.int32) for n in LENGTHS]
    masks = [np.arange(n) >= n - 2 for n in LENGTHS]
    masks[4][5:9] = True
    names, sizes = [str(n) for n in LENGTHS], [3 * n for n in LENGTHS]
    trained = masks if masked else None
    return TokenizedDocuments.from_arrays(names, ids, sizes, trained=trained, closed=closed)


def by_hand(model, docs, index, seq_len):
    """Σ −log p over what counts in one document, and how much that is."""
    around = [] if docs.closed else [0]
    text = np.concatenate([around, docs.document(index), around]).astype(int)
    mask = docs.targets(index)
    mask = np.ones(len(docs.document(index)), bool) if mask is None else mask
    counts = np.concatenate([np.zeros(len(around), bool), mask, np.ones(len(around), bool)])
    nats, count = 0.0, 0
    for start in range(0, len(text) - 1, seq_len):
        window = text[start : start + seq_len + 1]
        logits = model(window[None, :-1]).numpy()[0].astype(np.float64)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        wanted = counts[start + 1 : start + seq_len + 1]
        nats -= log_p[np.arange(len(window) - 1), window[1:]][wanted].sum()
        count += wanted.sum()
    return nats, count


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_scores_are_over_what_counts(closed, masked):
    model, docs = models.from_config(SHAPE, seed=1), documents(closed=closed, masked=masked)
    found = score({"a": model}, docs, seq_len=8, batch_size=3, eos_id=0)["a"]
    hand = [by_hand(model, docs, i, 8) for i in range(len(docs))]
    np.testing.assert_allclose(found.nats, [nats for nats, _ in hand], rtol=1e-5)
    assert found.tokens.tolist() == [count for _, count in hand]
    assert found.calibration[:, :, 0].sum(axis=1).tolist() == found.tokens.tolist()


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_windows_are_as_many_as_foretold_and_each_has_a_label(closed, masked):
    docs = documents(closed=closed, masked=masked)
    found = list(windows(docs, 4, 2, 0))
    owners = np.concatenate([owner for _, _, owner in found])
    labels = np.concatenate([label for _, label, _ in found])
    assert np.bincount(owners, minlength=5).tolist() == window_counts(docs, 4).tolist()
    assert (labels >= 0).any(axis=1).all()
    counted = [np.count_nonzero(labels[owners == i] >= 0) for i in range(5)]
    assert counted == target_counts(docs).tolist()


class Fixed:
    """Batches that are all one."""

    def __init__(self, batch):
        self._batch, self.steps_per_epoch = batch, 4

    def batch(self, position):
        return self._batch

    def names(self, row_ids):
        return []


def nothing():
    ids = np.arange(16).reshape(2, 8)
    return Batch(ids, np.full((2, 8), IGNORED), np.arange(2))


def distillation(model):
    live = LiveTeacher(models.from_config(SHAPE, seed=5), shared=40)
    return Distillation(model, live, divergence=Divergence(temperature=2.0), alpha=0.5)


def features(model):
    logits = distillation(model)
    both = model, logits.teacher.model
    term = hidden_term("hidden_mse", *both, loss="mse", pairs=[LayerPair(0, 0)])
    return FeatureDistillation(logits, logits.teacher, [term])


@pytest.mark.parametrize("objective", [LanguageModelling, distillation, features])
def test_a_step_without_a_target_has_no_loss_and_no_gradient(objective, tmp_path):
    model = models.from_config(SHAPE, seed=0)
    before = {name: p.data.copy() for name, p in model.named_parameters().items()}
    trainer = TrainingLoop(
        model,
        objective(model),
        Fixed(nothing()),
        TrainingConfig(max_steps=1, gradient_accumulation=2, weight_decay=0.0),
        phase="student",
        metrics=MetricsLog(tmp_path / "metrics.jsonl"),
        store=CheckpointStore(tmp_path / "checkpoints", run_id="r"),
        checkpoint_every=9,
    )
    record = trainer._advance()
    assert (record["loss"], record["grad_norm"], record["tokens"]) == (0.0, 0.0, 0)
    assert "skipped" not in record
    for name, parameter in model.named_parameters().items():
        np.testing.assert_array_equal(parameter.data, before[name])


ROWS = [
    {"prompt": "one and two are", "completion": " three"},
    {"prompt": "", "completion": "two"},
    {"prompt": "two and two are", "completion": " four, ä 🙂"},
    {"prompt": "x" * 30, "completion": " y"},
]


@pytest.mark.parity
@pytest.mark.parametrize("answers_only", [True, False])
def test_the_loss_of_completions_is_that_of_labels_made_by_hand(answers_only, tmp_path):
    torch = pytest.importorskip("torch")
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    tokenizer = train_bpe([row["prompt"] + row["completion"] for row in ROWS] * 3, 300)
    spec = DatasetSpec(("rows.jsonl",), root=tmp_path, rows=Completions(answers_only=answers_only))
    docs = tokenize(spec, tokenizer, use_cache=False)
    shape = SHAPE | {"vocab_size": tokenizer.vocab_size, "max_position_embeddings": 64}
    model = models.from_config(shape, seed=1)
    batches = Batches(
        docs, seq_len=64, batch_size=len(ROWS), seed=0, eos_id=tokenizer.eos_id, packing=False
    )
    batch = batches.batch(0)
    found = LanguageModelling(model).loss(batch, batch.targets).item()

    rows, labels = [], []
    for row in ROWS:
        text = row["prompt"] + row["completion"]
        ids = [*tokenizer.encode(text).tolist(), tokenizer.eos_id]
        prompt = len(tokenizer.encode(row["prompt"]))
        assert tokenizer.decode(ids[:prompt]) == row["prompt"]
        first = max(1, prompt if answers_only else 0)  # there is nothing before the first token
        labels.append([*[IGNORED] * (first - 1), *ids[first:], *[IGNORED] * (65 - len(ids))])
        rows.append((ids + [0] * 65)[:64])
    hidden = torch.from_numpy(model.hidden(np.array(rows)).numpy())
    logits = hidden @ torch.from_numpy(np.asarray(model.output_weight.data)).T
    wanted = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), torch.tensor(labels).reshape(-1), ignore_index=IGNORED
    )
    assert found == pytest.approx(wanted.item(), rel=1e-5)
