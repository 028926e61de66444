"""Rows of several documents, each of which is read as if it were alone."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core import models
from entrenar_core.autograd import ops
from entrenar_core.models.cache import KVCache
from entrenar_core.models.features import Wanted
from entrenar_core.models.forward import starts_of
from entrenar_core.testing import difference, tiny_model

KINDS = ["llama", "mistral", "qwen2", "qwen3", "gpt2"]
LENGTHS = [[5, 1, 6], [12], [3, 9]]
DOCUMENTS = np.array(
    [np.repeat(np.arange(10 * row, 10 * row + len(n)), n) for row, n in enumerate(LENGTHS)]
)
IDS = np.random.default_rng(0).integers(0, 61, DOCUMENTS.shape)
PIECES = [
    (row, slice(stop - n, stop))
    for row, lengths in enumerate(LENGTHS)
    for n, stop in zip(lengths, np.cumsum(lengths), strict=True)
]
LABELS = np.where(np.arange(12) % 5 == 3, -100, np.roll(IDS, -1, axis=1))
DYNAMIC = {
    "max_position_embeddings": 4, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0},
}  # fmt: skip

SIZES = {"vocab_size": 61, "max_position_embeddings": 20}
ENCODERS = {
    "bert": {**SIZES, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2},
    "distilbert": {**SIZES, "dim": 24, "n_layers": 1, "n_heads": 2, "hidden_dim": 40},
}


def gradients(model, parts):
    """Of the mean over all labels, of the sum over (ids, labels, documents)."""
    for parameter in model.parameters():
        parameter.grad = None
    for ids, labels, documents in parts:
        loss = ops.linear_cross_entropy(
            model.hidden(ids, documents=documents), model.output_weight, labels,
            normalizer=int((LABELS >= 0).sum()),
        )  # fmt: skip
        loss.backward()
    return {name: p.grad for name, p in model.named_parameters().items()}


def alone():
    return [(IDS[None, row, own], LABELS[None, row, own], None) for row, own in PIECES]


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-13)])
@pytest.mark.parametrize(
    ("kind", "more"),
    [*((kind, {}) for kind in KINDS), ("mistral", {"sliding_window": 3}), ("llama", DYNAMIC)],
)
def test_the_logits_of_a_document_are_those_it_has_alone(kind, more, dtype, bound):
    model = tiny_model(kind, dtype=dtype, **more)
    together = model(IDS, documents=DOCUMENTS).numpy()
    for row, own in PIECES:
        wanted = model(IDS[row : row + 1, own]).numpy()
        assert difference(together[row : row + 1, own], wanted) <= bound


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_the_documents_alone(kind):
    model = tiny_model(kind, dtype="float64")
    found = gradients(model, [(IDS, LABELS, DOCUMENTS)])
    wanted = gradients(model, alone())
    assert max(difference(found[name], wanted[name]) for name in wanted) <= 1e-12


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_recomputed_activations_give_the_same_gradients(kind):
    model = tiny_model(kind, dtype="float64")
    wanted = gradients(model, [(IDS, LABELS, DOCUMENTS)])
    model.recompute = True
    found = gradients(model, [(IDS, LABELS, DOCUMENTS)])
    assert max(difference(found[name], wanted[name]) for name in wanted) <= 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_the_documents_alone(kind):
    model = tiny_model(kind, dtype="float64")
    together = model.features(IDS, documents=DOCUMENTS)
    for row, own in PIECES:
        wanted = model.features(IDS[row : row + 1, own])
        pairs = zip(together.hidden_states, wanted.hidden_states, strict=True)
        assert all(difference(a.numpy()[row, own], b.numpy()[0]) <= 1e-12 for a, b in pairs)
        for ours, theirs in zip(together.attentions, wanted.attentions, strict=True):
            map_ = ours.numpy()[row][:, own]  # (H, n, T)
            assert difference(map_[..., own], theirs.numpy()[0]) <= 1e-12
            assert np.delete(map_, np.r_[own], axis=2).any() == np.False_


def test_padding_in_a_row_of_documents_counts_for_nothing():
    model = tiny_model("llama", dtype="float64")
    mask = np.ones(IDS.shape, bool)
    mask[2, 8:] = False
    documents = np.where(mask, DOCUMENTS, -1)
    found = model.hidden(IDS, mask, documents=documents).numpy()
    assert difference(found[2:, 3:8], model.hidden(IDS[2:, 3:8]).numpy()) <= 1e-12


def test_rows_of_one_document_are_read_as_without_documents():
    model = tiny_model("llama")
    one = np.broadcast_to(np.array([[4], [4], [9]]), IDS.shape)
    assert starts_of(one, IDS) is None
    assert np.array_equal(model.hidden(IDS, documents=one).numpy(), model.hidden(IDS).numpy())


def test_a_document_begins_where_its_left_neighbour_is_of_another():
    documents = np.array([[7, 7, 2, 7, 7], [1, 1, 1, 1, 0]])
    assert starts_of(documents, documents).tolist() == [[0, 0, 2, 3, 3], [0, 0, 0, 0, 4]]


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("documents", [DOCUMENTS[:, :-1], DOCUMENTS * 1.0, DOCUMENTS[0]])
def test_documents_that_do_not_fit_are_refused(documents):
    with pytest.raises(ShapeError, match=r"documents .* for ids \(3, 12\)"):
        tiny_model("llama").hidden(IDS, documents=documents)


def test_documents_with_a_cache_are_refused():
    model = tiny_model("llama")
    cache = KVCache(model.config, 3, 20, model.dtype)
    with pytest.raises(ConfigError, match="documents together with a cache"):
        model.hidden(IDS, cache=cache, documents=DOCUMENTS)


def test_documents_with_positions_are_refused():
    positions = np.broadcast_to(np.arange(12), IDS.shape)
    with pytest.raises(ConfigError, match="documents together with positions"):
        tiny_model("gpt2").hidden(IDS, positions=positions, documents=DOCUMENTS)


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_refuses_documents(kind):
    model = models.from_config({"model_type": kind, **ENCODERS[kind]}, seed=0, head="masked-lm")
    with pytest.raises(ConfigError, match="documents to keep apart"):
        model.hidden(IDS, documents=DOCUMENTS)
    with pytest.raises(ConfigError, match="documents to keep apart"):
        model.select_features(IDS, Wanted(), documents=DOCUMENTS)
