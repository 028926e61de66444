"""Scores on held-out documents, against a plain computation on the whole logits."""

import math

import numpy as np
import pytest

from entrenar_core import models
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.train.evaluate import perplexity, score

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
