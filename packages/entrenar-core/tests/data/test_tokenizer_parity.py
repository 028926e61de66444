"""Equal to transformers and to GPT-2's own regular expression."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrenar_core.data.patterns import GPT2_PATTERN
from entrenar_core.data.tokenizer import Tokenizer, train_bpe

pytestmark = pytest.mark.parity

TEXTS = ["def f(x):\n    return x + 1\n", "the cat sat on the mat", "naïve café 漢字 🙂"] * 5
# Text as it is in files, and what is hard for the pattern: spaces of all kinds, quotes, marks.
HARD = st.text(
    st.sampled_from("  \t\n\r\v\f\x1c\x85\xa0\u200b\u2028\u3000'’stredvlm1２Ⅷ½aÀǅßée\u0301漢🙂_-!.")
)


@pytest.fixture(scope="module")
def ours():
    return train_bpe(TEXTS, 300)


@pytest.fixture(scope="module")
def theirs(ours, tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("tokenizer")
    ours.save(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


def test_transformers_loads_the_special_tokens(ours, theirs):
    assert theirs.is_fast
    assert (theirs.eos_token_id, theirs.bos_token_id) == (ours.eos_id, ours.bos_id)
    assert len(theirs) == ours.vocab_size


@given(text=st.text() | HARD)
@settings(max_examples=300, deadline=None)
def test_transformers_encodes_and_decodes_identically(ours, theirs, text):
    ids = ours.encode(text).tolist()
    assert theirs(text)["input_ids"] == ids
    assert theirs.decode(ids) == ours.decode(ids) == text


def test_special_tokens_inside_a_text_are_the_same(ours, theirs):
    text = "a<|endoftext|> b <|endoftext|>"
    ids = ours.encode(text).tolist()
    assert theirs(text)["input_ids"] == ids
    assert theirs.decode(ids) == ours.decode(ids)


def test_what_transformers_saves_loads_as_the_same_tokenizer(ours, theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.same_as(ours)
    assert loaded.eos_id == ours.eos_id


def test_a_loaded_and_saved_tokenizer_keeps_what_transformers_added(ours, theirs, tmp_path):
    transformers = pytest.importorskip("transformers")
    theirs.save_pretrained(tmp_path / "a")
    Tokenizer.load(tmp_path / "a").save(tmp_path / "b")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "b")
    assert again("the café")["input_ids"] == ours.encode("the café").tolist()


@given(text=st.text() | HARD)
@settings(max_examples=1000, deadline=None)
def test_pieces_are_those_of_the_gpt2_regular_expression(ours, text):
    regex = pytest.importorskip("regex")
    # Letters that one Unicode version knows and the other does not are no fault of the pattern.
    text = "".join(char for char in text if unicodedata.category(char) != "Cn")
    wanted = [match.span() for match in regex.finditer(GPT2_PATTERN, text)]
    pieces = ours._inner.pre_tokenizer.pre_tokenize_str(text)
    assert [span for _, span in pieces] == wanted
