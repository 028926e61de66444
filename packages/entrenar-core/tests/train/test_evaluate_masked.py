"""Scores of masked language models, against a plain computation on the whole logits."""

import numpy as np
import pytest

from entrenar_core.data.masking import MaskedRows, MaskTokens
from entrenar_core.train import evaluate
from entrenar_core.train.evaluate_masked import score_masked
from masked_text import SHAPES, VOCABULARY, documents, masked_model, tokenizer

TOKENS = MaskTokens.of(tokenizer())
LENGTHS = (18, 3, 0, 41, 1, 7)
DOCUMENTS = documents(*LENGTHS)
SETTINGS = {"seq_len": 12, "tokens": TOKENS, "seed": 5, "share": 0.3}
SUMS = ("nats", "tokens", "agreed", "divergence", "in_top", "brier", "calibration")


def pair(kind):
    return {
        "teacher": masked_model(kind, seed=1, vocab_size=VOCABULARY + 3),
        "student": masked_model(kind),
    }


def log_softmax(z):
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def by_hand(models):
    """The logits of each model at the hidden positions, one row at a time, the documents (N,) that
    these are of, and the ids that were there (N,)."""
    rows = MaskedRows(DOCUMENTS, seq_len=12, tokens=TOKENS, share=0.3)
    logits, owners, labels = {name: [] for name in models}, [], []
    for row in range(rows.count):
        batch = next(iter(rows.in_order(rows.count, seed=5)))
        ids = batch.ids[row][batch.mask[row]]
        wanted = batch.labels[row][batch.mask[row]]
        places = np.flatnonzero(wanted >= 0)
        owners += [int(rows.owners(np.array([row]))[0])] * len(places)
        labels += wanted[places].tolist()
        for name, model in models.items():
            logits[name].append(model(ids[None]).numpy()[0][places])
    return {n: np.concatenate(z) for n, z in logits.items()}, np.array(owners), np.array(labels)


def per_document(owners, values):
    return np.bincount(owners, values, len(LENGTHS))


@pytest.mark.parametrize("kind", SHAPES)
def test_scores_are_those_of_the_whole_logits_at_the_hidden_positions(kind):
    models = pair(kind)
    found = score_masked(models, DOCUMENTS, batch_size=3, **SETTINGS)
    logits, owners, labels = by_hand(models)
    at = np.arange(len(labels))
    best = {name: z.argmax(axis=1) for name, z in logits.items()}
    for name, z in logits.items():
        log_p, order = log_softmax(z), np.argsort(-z, axis=1)
        hits = best[name] == labels
        confidence = np.exp(log_p).max(axis=1)
        sums = {
            "nats": -log_p[at, labels],
            "tokens": np.ones(len(labels)),
            "agreed": best[name] == best["teacher"],
            "in_top": (order[:, :5] == labels[:, None]).any(axis=1),
            "brier": (confidence - hits) ** 2,
        }
        for field, values in sums.items():
            wanted = pytest.approx(per_document(owners, values), rel=1e-9)
            assert getattr(found[name], field) == wanted, field
        hit = found[name].calibration[:, :, 2].sum(axis=1)
        assert hit.tolist() == per_document(owners, hits).tolist()
    log_p, log_q = (log_softmax(logits[n][:, :VOCABULARY]) for n in ("teacher", "student"))
    apart = per_document(owners, (np.exp(log_p) * (log_p - log_q)).sum(axis=1))
    assert found["student"].divergence == pytest.approx(apart, rel=1e-9)
    assert found["student"].loss == pytest.approx(
        -log_softmax(logits["student"])[at, labels].mean(), rel=1e-9
    )


def test_a_document_without_text_has_sums_of_nothing():
    found = score_masked(pair("bert"), DOCUMENTS, batch_size=64, **SETTINGS)["student"]
    empty = LENGTHS.index(0)
    assert all(not np.any(getattr(found, field)[empty]) for field in SUMS)
    assert (np.delete(found.tokens, empty) > 0).all()


def test_scores_depend_neither_on_batches_nor_on_chunks(monkeypatch):
    models, runs = pair("bert"), []
    for chunk, batch_size in ((1024, 64), (2, 3), (5, 1)):
        monkeypatch.setattr(evaluate, "CHUNK", chunk)
        runs.append(score_masked(models, DOCUMENTS, batch_size=batch_size, **SETTINGS)["student"])
    for found in runs[1:]:
        for field in SUMS:
            assert getattr(found, field) == pytest.approx(getattr(runs[0], field), rel=1e-9)


def test_another_seed_measures_other_tokens():
    models = {"student": masked_model("bert")}
    runs = [
        score_masked(models, DOCUMENTS, batch_size=8, **{**SETTINGS, "seed": seed})["student"]
        for seed in (5, 6)
    ]
    assert runs[0].nats.tolist() != runs[1].nats.tolist()


def test_no_row_may_be_longer_than_the_positions_there_are():
    # RoBERTa numbers positions from padding_idx + 1 on
    model = masked_model("roberta", max_position_embeddings=13)
    found = score_masked({"a": model}, DOCUMENTS, batch_size=8, **SETTINGS)
    assert np.isfinite(found["a"].loss)
