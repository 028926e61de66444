"""Scores on held-out documents, against a plain computation on the whole logits."""

import math

import numpy as np
import pytest

from entrenar_core import models
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.train import evaluate
from entrenar_core.train.evaluate import BINS, perplexity, score
from entrenar_core.train.predicting import Blend

SHAPE = {
    "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "max_position_embeddings": 16, "eos_token_id": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def documents():
    rng = np.random.default_rng(0)
    lengths = [1, 7, 8, 9, 30]
    ids = [rng.integers(1, 40, size=n).astype(np.int32) for n in lengths]
    return TokenizedDocuments.from_arrays([str(n) for n in lengths], ids, [3 * n for n in lengths])


def by_hand(model, document, seq_len):
    """Σ −log p and the argmaxes of one document, one window at a time, in float64."""
    text = np.concatenate([[0], document, [0]])
    nats, best = 0.0, []
    for start in range(0, len(text) - 1, seq_len):
        window = text[start : start + seq_len + 1]
        logits = model(window[None, :-1]).numpy()[0].astype(np.float64)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        nats -= log_p[np.arange(len(window) - 1), window[1:]].sum()
        best += logits.argmax(axis=1).tolist()
    return nats, np.array(best)


@pytest.mark.tier2
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_scores_are_those_of_each_document_on_its_own(documents, batch_size):
    pair = {"a": models.from_config(SHAPE, seed=1), "b": models.from_config(SHAPE, seed=2)}
    found = score(pair, documents, seq_len=8, batch_size=batch_size, eos_id=0)
    for i in range(len(documents)):
        hand = {name: by_hand(model, documents.document(i), 8) for name, model in pair.items()}
        for name in pair:
            assert found[name].nats[i] == pytest.approx(hand[name][0], rel=1e-5)
            agreed = (hand[name][1] == hand["a"][1]).sum()
            assert found[name].agreed[i] == agreed
    assert found["a"].agreement == 1.0
    assert found["a"].tokens.tolist() == (documents.lengths + 1).tolist()


def test_a_blend_is_scored_by_the_mean_of_probabilities(documents):
    one, two = models.from_config(SHAPE, seed=1), models.from_config(SHAPE, seed=2)
    blend = Blend((one, two), (0.3, 0.7))
    found = score({"both": blend, "one": one}, documents, seq_len=16, batch_size=2, eos_id=0)
    for i in range(4):  # those of one window
        text = np.concatenate([[0], documents.document(i), [0]])
        each = [softmax(model(text[None, :-1]).numpy()[0].astype(float)) for model in (one, two)]
        mixed = 0.3 * each[0] + 0.7 * each[1]
        nats = -np.log(mixed[np.arange(len(mixed)), text[1:]]).sum()
        assert found["both"].nats[i] == pytest.approx(nats, rel=1e-5)
        assert found["one"].agreed[i] == (mixed.argmax(1) == each[0].argmax(1)).sum()
    assert blend.parameter_count() == 2 * one.parameter_count()


@pytest.fixture(scope="module")
def scored(documents):
    """Two models, what they were scored, and their whole logits in float64 with the labels."""
    pair = {
        "a": models.from_config(SHAPE, seed=1),
        "b": models.from_config({**SHAPE, "vocab_size": 43}, seed=2),
    }
    for model in pair.values():  # larger logits, so that confidences differ
        model.output_weight.data *= 40
    found = score(pair, documents, seq_len=8, batch_size=3, eos_id=0)
    whole = {name: [] for name in pair}
    labels = []
    for i in range(len(documents)):
        text = np.concatenate([[0], documents.document(i), [0]])
        for start in range(0, len(text) - 1, 8):
            window = text[start : start + 9]
            labels.append((i, window[1:]))
            for name, model in pair.items():
                whole[name].append(model(window[None, :-1]).numpy()[0].astype(np.float64))
    owners = np.concatenate([np.full(len(part), i) for i, part in labels])
    return (
        found,
        {n: np.concatenate(z) for n, z in whole.items()},
        owners,
        np.concatenate([part for _, part in labels]),
    )


def softmax(z):
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def per_document(owners, values):
    return [values[owners == i].sum() for i in range(owners.max() + 1)]


@pytest.mark.tier2
@pytest.mark.parametrize("name", ["a", "b"])
def test_hits_are_those_of_the_sorted_logits(scored, name):
    found, logits, owners, labels = scored
    order = np.argsort(-logits[name], axis=1)
    first = order[:, 0] == labels
    among = (order[:, :5] == labels[:, None]).any(axis=1)
    assert found[name].calibration[:, :, 2].sum(axis=1).tolist() == per_document(owners, first)
    assert found[name].in_top.tolist() == per_document(owners, among)


@pytest.mark.tier2
@pytest.mark.parametrize("name", ["a", "b"])
def test_calibration_and_brier_are_those_of_the_whole_distribution(scored, name):
    found, logits, owners, labels = scored
    p = softmax(logits[name])
    confidence, hit = p.max(axis=1), p.argmax(axis=1) == labels
    assert found[name].brier == pytest.approx(
        np.array(per_document(owners, (confidence - hit) ** 2)), rel=1e-5
    )
    edges = np.linspace(0, 1, BINS + 1)
    for i in range(BINS):
        inside = (confidence > edges[i]) & (confidence <= edges[i + 1])
        for column, values in enumerate((inside, inside * confidence, inside * hit)):
            mine = found[name].calibration[:, i, column]
            assert mine == pytest.approx(np.array(per_document(owners, values)), rel=1e-5)


@pytest.mark.tier2
def test_divergence_is_from_the_first_model_over_the_ids_of_both(scored):
    found, logits, owners, _ = scored
    p, q = softmax(logits["a"]), softmax(logits["b"][:, :40])
    wanted = per_document(owners, (p * np.log(p / q)).sum(axis=1))
    assert found["b"].divergence == pytest.approx(np.array(wanted), rel=1e-5)
    assert found["a"].divergence.tolist() == [0] * len(wanted)


@pytest.mark.tier2
def test_figures_do_not_depend_on_chunks_and_batches(scored, documents, monkeypatch):
    model = models.from_config(SHAPE, seed=1)
    other = models.from_config(SHAPE, seed=2)
    runs = []
    for chunk, batch_size in ((1024, 64), (5, 64), (3, 1)):
        monkeypatch.setattr(evaluate, "CHUNK", chunk)
        found = score(
            {"a": model, "b": other}, documents, seq_len=8, batch_size=batch_size, eos_id=0
        )["b"]
        runs.append(found)
    for found in runs[1:]:
        for field in ("nats", "divergence", "brier", "calibration", "in_top", "agreed"):
            assert getattr(found, field) == pytest.approx(getattr(runs[0], field), rel=1e-5)


@pytest.mark.tier2
def test_between_batches_the_work_can_be_ended(documents):
    calls = []

    def between():
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt

    model = models.from_config(SHAPE, seed=1)
    with pytest.raises(KeyboardInterrupt):
        score({"a": model}, documents, seq_len=8, batch_size=1, eos_id=0, between=between)


@pytest.mark.parametrize(("loss", "wanted"), [(1e6, math.inf), (math.inf, math.inf), (0.0, 1.0)])
def test_perplexity_beyond_all_numbers_is_infinite(loss, wanted):
    assert perplexity(loss) == wanted


def test_perplexity_of_nan_is_nan():
    assert math.isnan(perplexity(math.nan))
