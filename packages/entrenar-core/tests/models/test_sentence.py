"""Pooling, the files of a sentence-transformers folder, and texts in batches."""

import json

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, FormatError, ShapeError, UnsupportedError
from entrenar_core import models
from entrenar_core.autograd import Tensor
from entrenar_core.models.pooling import Pooling
from entrenar_core.models.sentence import SentenceSettings, embed
from entrenar_core.testing import check_grads, difference

RNG = np.random.default_rng(0)
HIDDEN = RNG.standard_normal((3, 5, 4))
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 1, 0]])
TINY = {
    "model_type": "bert", "vocab_size": 31, "hidden_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 3, "intermediate_size": 20, "max_position_embeddings": 16,
    "initializer_range": 0.3, "architectures": ["BertModel"],
}  # fmt: skip


# --- pooling -------------------------------------------------------------------------------------


def test_the_mean_is_that_of_the_positions_that_count():
    wanted = [HIDDEN[0, :3].mean(0), HIDDEN[1].mean(0), HIDDEN[2, 2:4].mean(0)]
    assert difference(Pooling("mean")(Tensor(HIDDEN), MASK).numpy(), wanted) <= 1e-15


def test_the_maximum_is_that_of_the_positions_that_count():
    wanted = [HIDDEN[0, :3].max(0), HIDDEN[1].max(0), HIDDEN[2, 2:4].max(0)]
    assert np.array_equal(Pooling("max")(Tensor(HIDDEN), MASK).numpy(), wanted)


def test_cls_is_the_first_position_that_counts():
    wanted = [HIDDEN[0, 0], HIDDEN[1, 0], HIDDEN[2, 2]]
    assert np.array_equal(Pooling("cls")(Tensor(HIDDEN), MASK).numpy(), wanted)


@pytest.mark.parametrize("mode", ["cls", "max", "mean"])
def test_without_a_mask_every_position_counts(mode):
    full = Pooling(mode)(Tensor(HIDDEN), np.ones((3, 5), int)).numpy()
    assert np.array_equal(Pooling(mode)(Tensor(HIDDEN)).numpy(), full)


def test_what_does_not_count_may_be_anything_but_nan():
    changed = HIDDEN + 1e6 * (MASK == 0)[:, :, None]
    for mode in ("cls", "max", "mean"):
        found = Pooling(mode)(Tensor(changed), MASK).numpy()
        assert difference(found, Pooling(mode)(Tensor(HIDDEN), MASK).numpy()) <= 1e-15


def test_normalised_embeddings_have_length_1_and_the_same_direction():
    plain = Pooling("mean")(Tensor(HIDDEN), MASK).numpy()
    found = Pooling("mean", normalise=True)(Tensor(HIDDEN), MASK).numpy()
    assert np.allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-14)
    assert difference(found, plain / np.linalg.norm(plain, axis=1, keepdims=True)) <= 1e-14


def test_a_zero_embedding_stays_zero_when_it_is_normalised():
    x = Tensor(np.zeros((1, 2, 3)), requires_grad=True)
    y = Pooling("mean", normalise=True)(x)
    y.backward(np.ones((1, 3)))
    assert not y.numpy().any()
    assert np.isfinite(x.grad).all()


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("mode", ["cls", "max", "mean"])
def test_the_gradients_of_pooling_are_right(mode, normalise):
    check_grads(lambda x: Pooling(mode, normalise=normalise)(x, MASK), HIDDEN)


def test_a_sequence_without_positions_is_refused_by_number():
    mask = MASK.copy()
    mask[1] = 0
    with pytest.raises(ShapeError, match="sequence 1 of 3"):
        Pooling()(Tensor(HIDDEN), mask)


def test_no_position_at_all_is_refused():
    with pytest.raises(ShapeError, match="sequence 0 of 2"):
        Pooling()(Tensor(np.zeros((2, 0, 3))))


def test_an_unknown_pooling_is_refused_by_name():
    with pytest.raises(ConfigError, match="'median'"):
        Pooling("median")


# --- files ---------------------------------------------------------------------------------------

MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize",
     "type": "sentence_transformers.models.Normalize"},
]  # fmt: skip
FLAGS = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
BASE = "sentence_transformers.base.modules"


def old_pooling(**on):
    return {
        "word_embedding_dimension": 12,
        **{f"pooling_mode_{flag}": on.get(flag, False) for flag in FLAGS},
    }


@pytest.fixture
def write(tmp_path):
    """Write JSON files by name; returns their folder."""

    def call(files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content))
        return tmp_path

    return call


def test_a_folder_that_says_nothing_has_the_plain_mean(tmp_path):
    assert SentenceSettings.read(tmp_path) == SentenceSettings(Pooling("mean"), None)


def test_the_old_files_are_read(write):
    folder = write(
        {
            "modules.json": MODULES,
            "1_Pooling/config.json": old_pooling(mean_tokens=True),
            "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": False},
            "config_sentence_transformers.json": {"__version__": {"pytorch": "1.8"}},
        }
    )
    wanted = SentenceSettings(Pooling("mean", normalise=True), 256)
    assert SentenceSettings.read(folder) == wanted


def test_the_new_files_are_read(write):
    kinds = [
        f"{BASE}.transformer.Transformer",
        "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        f"{BASE}.normalize.Normalize",
    ]
    modules = [{**old, "type": kind} for old, kind in zip(MODULES, kinds, strict=True)]
    folder = write(
        {
            "modules.json": modules,
            "1_Pooling/config.json": {
                "embedding_dimension": 12, "pooling_mode": "max", "include_prompt": True,
            },
            "2_Normalize/config.json": {
                "module_input_name": "sentence_embedding",
                "module_output_name": "sentence_embedding",
            },
            "sentence_bert_config.json": {
                "transformer_task": "feature-extraction",
                "modality_config": {
                    "text": {"method": "forward", "method_output_name": "last_hidden_state"}
                },
                "module_output_name": "token_embeddings",
            },
            "config_sentence_transformers.json": {"default_prompt_name": None, "prompts": {}},
        }
    )  # fmt: skip
    assert SentenceSettings.read(folder) == SentenceSettings(Pooling("max", normalise=True), None)


@pytest.mark.parametrize(
    ("flag", "mode"), [("cls_token", "cls"), ("max_tokens", "max"), ("mean_tokens", "mean")]
)
def test_each_old_flag_is_its_pooling_and_nothing_is_normalised_without_the_module(
    flag, mode, write
):
    pooling = old_pooling(**{flag: True})
    folder = write({"modules.json": MODULES[:2], "1_Pooling/config.json": pooling})
    assert SentenceSettings.read(folder).pooling == Pooling(mode)


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        ("modules.json", MODULES[:1], "Transformer"),
        ("modules.json", [MODULES[0], MODULES[2], MODULES[1]], "Normalize, Pooling"),
        ("modules.json", [*MODULES, {**MODULES[1], "type": "x.Dense"}], "x.Dense"),
        ("modules.json", [{**MODULES[0], "path": "0_BERT"}, *MODULES[1:]], "0_BERT"),
        ("modules.json", [{**MODULES[0], "kwargs": ["task"]}, *MODULES[1:]], "kwargs"),
        ("1_Pooling/config.json", old_pooling(mean_sqrt_len_tokens=True), "mean_sqrt_len_tokens"),
        ("1_Pooling/config.json", old_pooling(mean_tokens=True, max_tokens=True), "max"),
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "lasttoken"),
        ("1_Pooling/config.json", {"pooling_mode": ["cls", "mean"]}, "mean"),
        ("1_Pooling/config.json", {"pooling_mode": "cls", "include_prompt": False}, "prompt"),
        ("1_Pooling/config.json", {"pooling_mode": "cls", "new_key": 1}, "new_key"),
        ("2_Normalize/config.json", {"module_input_name": "token_embeddings"}, "token_embeddings"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case"),
        ("sentence_bert_config.json", {"query_length": 32}, "query_length"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "query"),
    ],
)
def test_what_would_change_the_vectors_unseen_is_refused(name, content, shown, write):
    files = {"modules.json": MODULES, "1_Pooling/config.json": old_pooling(mean_tokens=True)}
    with pytest.raises(UnsupportedError, match=shown) as caught:
        SentenceSettings.read(write({**files, name: content}))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("modules.json", {"0": MODULES[0]}),
        ("modules.json", ["Transformer"]),
        ("modules.json", [MODULES[0], {**MODULES[1], "path": "../other"}]),
        ("modules.json", [MODULES[0], {**MODULES[1], "path": ".."}]),
        ("modules.json", [MODULES[0], {**MODULES[1], "path": 1}]),
        ("1_Pooling/config.json", ["mean"]),
        ("1_Pooling/config.json", {}),
        ("sentence_bert_config.json", {"max_seq_length": 0}),
        ("sentence_bert_config.json", {"max_seq_length": "256"}),
    ],
)
def test_files_that_are_no_such_thing_are_refused_by_name(name, content, write):
    files = {"modules.json": MODULES[:2], "1_Pooling/config.json": old_pooling(mean_tokens=True)}
    folder = write({**files, name: content})
    with pytest.raises(FormatError, match=name.split("/")[0]) as caught:
        SentenceSettings.read(folder)
    assert caught.value.hint


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("mode", ["cls", "max", "mean"])
@pytest.mark.parametrize("length", [None, 7])
def test_what_is_written_reads_as_itself(mode, normalise, length, write):
    settings = SentenceSettings(Pooling(mode, normalise=normalise), length)
    assert SentenceSettings.read(write(settings.to_files(12))) == settings


# --- models and texts ----------------------------------------------------------------------------


def tiny(pooling=None):
    model = models.from_config(TINY, seed=1)
    model.sentence = SentenceSettings(pooling or Pooling())
    return model


def test_a_saved_model_pools_as_it_did(tmp_path):
    model = tiny(Pooling("max", normalise=True))
    models.save(model, tmp_path)
    again = models.load(tmp_path)
    assert again.sentence == model.sentence
    ids = RNG.integers(0, 31, (2, 6))
    assert np.array_equal(again(ids).numpy(), model(ids).numpy())


def test_fewer_layers_pool_as_all_of_them(tmp_path):
    model = tiny(Pooling("cls"))
    assert models.with_layers(model, [1]).sentence == model.sentence


class Letters:
    """A tokenizer of small letters, with a token in front of a text and `closing` behind it."""

    pad_id: int | None = 0

    def __init__(self, front=(1,), closing=(2,)):
        self.front, self.closing = front, closing

    def encode_many(self, texts):
        letters = [[ord(c) - ord("a") + 3 for c in text] for text in texts]
        return [np.array([*self.front, *row, *self.closing], np.int32) for row in letters]


TEXTS = ["some", "", "letters", "a", "of", "several", "lengths"]


def alone(model, tokenizer, text):
    return model(np.asarray(tokenizer.encode_many([text]), np.int64)).numpy()[0]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_a_text_has_the_embedding_that_it_has_alone(batch_size):
    model, tokenizer = tiny(), Letters()
    found = embed(model, tokenizer, TEXTS, batch_size=batch_size)
    wanted = [alone(model, tokenizer, text) for text in TEXTS]
    assert difference(found, wanted) <= 1e-6


@pytest.mark.parametrize(
    ("front", "closing"), [((1,), (2,)), ((), (2, 1)), ((1, 2), ()), ((), ()), ((1, 1), (2, 1))]
)
@pytest.mark.parametrize("limit", [None, 6])
def test_long_texts_are_cut_before_the_closing_tokens(front, closing, limit):
    model, tokenizer = tiny(), Letters(front, closing)
    model.sentence = SentenceSettings(max_tokens=limit)
    room = (limit or 16) - len(front) - len(closing)
    text = "abcdefghijklmnopqrstuvwxyz"
    found = embed(model, tokenizer, [text, "ab"])
    assert difference(found[0], alone(model, tokenizer, text[:room])) <= 1e-6
    assert difference(found[1], alone(model, tokenizer, "ab")) <= 1e-6


def test_a_limit_without_room_for_text_is_refused():
    model = tiny()
    model.sentence = SentenceSettings(max_tokens=2)
    with pytest.raises(ConfigError, match=r"2 positions, of which .* take 2"):
        embed(model, Letters(), ["long"])


def test_a_tokenizer_without_padding_is_refused():
    tokenizer = Letters()
    tokenizer.pad_id = None
    with pytest.raises(ConfigError, match="no padding token"):
        embed(tiny(), tokenizer, ["a"])


@pytest.mark.parametrize(("texts", "batch_size"), [([], 8), (["a"], 0)])
def test_nothing_to_embed_is_refused(texts, batch_size):
    with pytest.raises(ConfigError, match=f"{len(texts)} texts in batches of {batch_size}"):
        embed(tiny(), Letters(), texts, batch_size=batch_size)
