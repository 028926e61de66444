"""Tokenizers that cut texts alike are known by their content, whatever the ids are."""

import copy
import json

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from entrenar_core.data.patterns import QWEN2_PATTERN
from entrenar_core.data.same_tokens import difference, token_ids
from entrenar_core.data.tokenizer import Tokenizer
from renumbered import renumbered
from tokenizer_cases import bert, pieces, roberta, texts, trained, whole_words
from varied_strings import STRINGS
from word_tokenizers import of_words


def unigram():
    """Pieces with scores, some of which are equal."""
    vocab = [("<unk>", 0.0), *((c, -4.0) for c in "abcdefgh "), ("ab", -5.0), ("bc", -5.0)]
    inner = tokenizers.Tokenizer(models.Unigram([*vocab, ("abc", -6.0)], unk_id=0))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return json.loads(inner.to_str()), {}


KINDS = {
    "byte-level": lambda: trained(400),
    "with tokens around": lambda: whole_words(QWEN2_PATTERN, 400),
    "roberta": lambda: roberta(400),
    "pieces": lambda: pieces(500),
    "word pieces": lambda: bert(400),
    "unigram": unigram,
    "words": lambda: of_words("<unk>", "a", "b", "c", added=["<x>"]).to_json(),
}


@pytest.fixture(scope="module", params=KINDS)
def one(request):
    return Tokenizer.from_json(*KINDS[request.param]())


def test_other_numbers_make_no_difference(one):
    other, new = renumbered(one)
    assert not one.same_as(other)
    assert difference(one, other) is None
    ours, theirs = token_ids(one), token_ids(other)
    assert theirs == {token: new[number] for token, number in ours.items()}


def test_what_is_found_equal_cuts_every_text_alike(one):
    other, new = renumbered(one)
    for text in [*STRINGS, *texts()[-2:], "abcabc ab cab"]:
        assert np.array_equal(new[one.encode(text)], other.encode(text))


def changed(tokenizer: Tokenizer, change) -> Tokenizer:
    content, config = tokenizer.to_json()
    content = copy.deepcopy(content)
    change(content)
    return Tokenizer.from_json(content, config)


def _swap_merges(content):
    merges = content["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]


def _strip(content):
    content["added_tokens"][0]["rstrip"] = True


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_swap_merges, "merges differ"),
        (_strip, "added tokens differ"),
        (lambda c: c.update(normalizer={"type": "NFC"}), "normalizers differ"),
        (lambda c: c.update(pre_tokenizer={"type": "Whitespace"}), "pre-tokenizers differ"),
        (lambda c: c["model"].update(ignore_merges=True), "settings of the models differ"),
    ],
)
def test_what_takes_part_in_cutting_makes_a_difference(change, said):
    one = Tokenizer.from_json(*trained(300))
    assert difference(one, changed(renumbered(one)[0], change)) == said


def test_tokens_around_a_text_make_a_difference():
    one = Tokenizer.from_json(*whole_words(QWEN2_PATTERN, 300))
    other = changed(renumbered(one)[0], lambda c: c.update(post_processor=None))
    assert difference(one, other) == "tokens around a text differ"


def test_a_score_makes_a_difference():
    one = Tokenizer.from_json(*unigram())
    other = changed(one, lambda c: c["model"]["vocab"][3].__setitem__(1, -4.5))
    assert difference(one, other) == "scores of tokens differ"


def test_a_token_more_is_named():
    said = difference(of_words("<unk>", "a"), of_words("<unk>", "a", "b"))
    assert said == "1 tokens are in one and not in the other, such as 'b'"


def test_added_tokens_that_are_normalized_have_to_be_in_one_order():
    """Of two that look alike once they are in small letters, the first one is found."""
    lower = tokenizers.normalizers.Lowercase()
    made = [
        of_words("<unk>", "a", added=order, normalizer=lower) for order in (["X", "x"], ["x", "X"])
    ]
    assert difference(*made) == "orders of added tokens differ"
