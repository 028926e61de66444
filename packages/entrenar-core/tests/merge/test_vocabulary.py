"""Embeddings with the rows of one vocabulary, by hand."""

import ml_dtypes
import numpy as np
import pytest

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core.merge.group import Held
from entrenar_core.merge.token_choice import ModelToken, TokenChoice, TokenizerChoice, Zero
from entrenar_core.merge.tokens import MergedTokens, ModelTokens, merged_tokens
from entrenar_core.merge.vocabulary import Vocabulary
from word_tokenizers import of_words

WORDS = {"one": "? a b", "two": "c ? b", "three": "b c d ?"}
"""The union's ids, of ? a b c d in this order, are 0 to 4."""


def vocabulary(tokens=None, *, base=None, pad=None, words=WORDS):
    choice = TokenizerChoice("union", tokens or {}, pad)
    models = {key: of_words(*text.split()) for key, text in words.items()}
    rows = {key: ModelTokens(tokenizer, tokenizer.vocab_size) for key, tokenizer in models.items()}
    return Vocabulary(merged_tokens(rows, choice), choice, base)


def tables(dtype=np.float32):
    """Row i of a model's embedding is 10 i and 10 i + 1, plus 100, 200 or 300."""
    return {
        key: Held(100 * n + np.add.outer(10 * np.arange(rows), np.arange(2)).astype(dtype))
        for n, (key, rows) in enumerate({"one": 3, "two": 3, "three": 4}.items(), 1)
    }


def firsts(vocabulary, given=None):
    """The first column of each model's rows."""
    found = vocabulary.aligned(given or tables())
    return {key: rows.read(slice(None))[:, 0].tolist() for key, rows in found.items()}


def test_rows_are_those_of_the_same_token_where_the_model_has_it():
    found = firsts(vocabulary())
    assert found["one"][:3] == [100, 110, 120]
    assert [found["two"][i] for i in (0, 2, 3)] == [210, 220, 200]
    assert [found["three"][i] for i in (0, 2, 3, 4)] == [330, 300, 310, 320]


def test_a_token_of_one_model_alone_has_that_embedding_in_all():
    found = firsts(vocabulary(base="two"))
    assert found["two"][1] == found["three"][1] == 110
    assert found["one"][4] == found["two"][4] == 320


def test_the_base_gives_a_token_that_several_models_have():
    assert firsts(vocabulary(base="two"))["one"][3] == 200
    assert firsts(vocabulary(base="three"))["one"][3] == 310


def test_a_token_of_several_models_but_not_the_base_is_their_average():
    assert firsts(vocabulary())["one"][3] == 255
    assert firsts(vocabulary(base="one"))["one"][3] == 255


def test_models_without_the_tensor_give_no_embedding():
    given = {key: table for key, table in tables().items() if key != "three"}
    found = firsts(vocabulary(base="three"), given)
    assert found == {"one": [100, 110, 120, 200, 0], "two": [210, 110, 220, 200, 0]}


def test_averages_are_rounded_at_each_step_in_the_type_of_the_tensors():
    words = {"one": "? a", "two": "? b", "three": "b ?", "four": "? b"}
    values = {"one": [0, 0], "two": [0, 256], "three": [1, 0], "four": [0, 1]}
    dtype = ml_dtypes.bfloat16
    given = {key: Held(np.array(rows, dtype)[:, None]) for key, rows in values.items()}
    # 256 + 1 is 256 in 8 bits, twice; a third of it lies nearest to 85.5.
    assert firsts(vocabulary(words=words), given)["one"][2] == 85.5


def test_a_token_of_no_model_is_zeros_with_a_note():
    made = vocabulary({"<new>": TokenChoice()})
    assert [rows[5] for rows in firsts(made).values()] == [0, 0, 0]
    assert made.notes == ("no model has an embedding for '<new>': it is zeros",)
    assert vocabulary().notes == ()


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("two", 200),
        (ModelToken("three", "d"), 320),
        (ModelToken("one", token_id=2), 120),
        (Zero(), 0),
    ],
)
def test_a_configured_embedding_is_that_of_the_models_that_lack_the_token(source, wanted):
    found = firsts(vocabulary({"c": TokenChoice(source)}, base="three"))
    assert (found["one"][3], found["two"][3], found["three"][3]) == (wanted, 200, 310)


def test_a_forced_embedding_is_that_of_all_models():
    found = firsts(vocabulary({"c": TokenChoice(ModelToken("one", "a"), force=True)}))
    assert (found["one"][3], found["two"][3], found["three"][3]) == (110, 110, 110)


def test_what_is_forced_without_a_source_goes_by_the_rules():
    tokens = {"c": TokenChoice(force=True), "b": TokenChoice(force=True)}
    found = firsts(vocabulary(tokens, base="one"))
    assert {rows[3] for rows in found.values()} == {255}
    assert {rows[2] for rows in found.values()} == {120}


def test_rows_are_padded_with_the_mean_of_all_others():
    made = vocabulary(pad=4, base="two")
    assert made.size == 8
    found = firsts(made)
    assert found["one"][5:] == [(100 + 110 + 120 + 200 + 320) / 5] * 3
    assert found["two"][5:] == [(210 + 110 + 220 + 200 + 320) / 5] * 3


def test_a_size_that_is_a_multiple_is_not_padded():
    assert vocabulary(pad=5).size == 5


def test_an_id_of_no_token_is_padding_too():
    tokenizer = of_words("?", "a")
    known = {"?": 0, "a": 2}
    tokens = MergedTokens(tokenizer, known, {"one": known}, {"one": 3})
    made = Vocabulary(tokens, TokenizerChoice())
    assert firsts(made, {"one": Held(np.array([[1.0], [9], [3]], np.float32))}) == {
        "one": [1, 2, 3]
    }


def test_a_tensor_of_one_axis_has_an_element_for_each_token():
    bias = {key: Held(np.asarray(table.array[:, 0])) for key, table in tables().items()}
    made = vocabulary(pad=4, base="two")
    found = made.aligned(bias)
    wanted = firsts(made)
    for key, rows in found.items():
        assert rows.shape == (8,)
        assert rows.read(slice(0, 1)).tolist() == [wanted[key]]


def test_rows_are_read_in_any_parts():
    for rows in vocabulary(pad=4).aligned(tables()).values():
        assert rows.shape == (8, 2)
        whole = rows.read(slice(0, 8))
        parts = [rows.read(slice(i, i + 3)) for i in (0, 3, 6)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_tensors_of_several_types_are_aligned_in_the_one_that_holds_all():
    given = tables()
    given["two"] = Held(given["two"].array.astype(np.float16))
    given["three"] = Held(given["three"].array.astype(ml_dtypes.bfloat16))
    assert firsts(vocabulary(), given)["one"][3] == 255
    assert {rows.dtype for rows in vocabulary().aligned(given).values()} == {np.dtype("f4")}


class Counted:
    """Rows that are decoded where they are read."""

    def __init__(self, array):
        self.array, self.rows, self.released = array, 0, False
        self.shape, self.dtype = array.shape, array.dtype

    def read(self, part):
        found = self.array[part].copy()
        self.rows += len(found)
        return found

    def release(self):
        self.released = True


def test_rows_that_are_not_asked_for_are_not_read():
    names = [f"t{i}" for i in range(1000)]
    words = {"one": " ".join(names), "two": " ".join(reversed(names))}
    array = np.arange(4096_000, dtype=np.float32).reshape(1000, 4096)
    table = Counted(array)
    rows = vocabulary(words=words).aligned({"one": Held(array), "two": table})["two"]
    np.testing.assert_array_equal(rows.read(slice(10, 30)), array[::-1][10:30])
    np.testing.assert_array_equal(rows.read(slice(500, 600)), array[::-1][500:600])
    assert table.rows < 130
    rows.release()
    assert table.released


def test_no_tensors_give_none():
    assert vocabulary().aligned({}) == {}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("four", "four, which is no model"),
        (ModelToken("four", "a"), "four, which is no model"),
        ("one", "token 'c' of one, which has no such token"),
        (ModelToken("two", "x"), "token 'x' of two, which has no such token"),
        (ModelToken("two", token_id=3), "token 3 of two, whose embedding has 3 rows"),
        (ModelToken("two", token_id=-1), "token -1 of two, whose embedding has 3 rows"),
    ],
)
def test_a_configured_embedding_that_does_not_exist_is_an_error(source, message):
    with pytest.raises(ConfigError, match=message) as caught:
        vocabulary({"c": TokenChoice(source)})
    assert caught.value.hint


def test_a_configured_model_without_the_tensor_is_an_error():
    made = vocabulary({"c": TokenChoice("three")})
    given = {key: table for key, table in tables().items() if key != "three"}
    with pytest.raises(ConfigError, match="'c' is to come from three, which has no such tensor"):
        made.aligned(given)


def test_tables_of_different_widths_are_an_error():
    given = tables() | {"two": Held(np.zeros((3, 3), np.float32))}
    with pytest.raises(ShapeError, match=r"two \(3, 3\)"):
        vocabulary().aligned(given)


def test_a_table_with_too_few_rows_is_an_error():
    given = tables() | {"three": Held(np.zeros((3, 2), np.float32))}
    with pytest.raises(ShapeError, match="three: a token has the id 3, and the tensor has 3 rows"):
        vocabulary().aligned(given)


@pytest.mark.parametrize("names", [{}, {"token": "a", "token_id": 1}])
def test_a_models_token_is_named_in_one_way(names):
    with pytest.raises(ConfigError, match="by its text or by its id"):
        ModelToken("one", **names)


def test_a_multiple_below_one_is_an_error():
    with pytest.raises(ConfigError, match="pad_to_multiple_of is 0"):
        TokenizerChoice(pad_to_multiple_of=0)


def test_an_empty_token_is_an_error():
    with pytest.raises(ConfigError, match="empty"):
        TokenizerChoice(tokens={"": TokenChoice()})
