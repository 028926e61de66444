"""Merges by rank and by score give the same pieces of every text that the checks let pass."""

import contextlib
import itertools
import random

import pytest
from tokenizers import models

from entrenar_common.errors import UnsupportedError
from entrenar_core.data.gguf_tokens import Source
from entrenar_core.data.merge_scores import merges_of_scores, scores_of_merges


def scores(vocab, merges, *, cut_out=()):
    content = {"model": {"vocab": {t: n for n, t in enumerate(vocab)}, "merges": merges}}
    return scores_of_merges(Source(content, {}, "toy"), vocab, cut_out=cut_out)


def by_score(text, score):
    """What SentencePiece and llama.cpp do: join the neighbours that form the best token."""
    parts = list(text)
    while True:
        pairs = [
            (score[a + b], -place)
            for place, (a, b) in enumerate(itertools.pairwise(parts))
            if a + b in score
        ]
        if not pairs:
            return parts
        place = -max(pairs)[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


def by_rank(text, vocab, merges):
    """What `tokenizers` does."""
    model = models.BPE({t: n for n, t in enumerate(vocab)}, [tuple(pair) for pair in merges])
    return [token.value for token in model.tokenize(text)]


def test_scores_fall_in_the_order_in_which_tokens_are_formed():
    merges = [["b", "c"], ["a", "b"], ["ab", "c"], ["a", "bc"]]
    vocab = ["a", "b", "c", "ab", "bc", "abc"]
    found = dict(zip(vocab, scores(vocab, merges), strict=True))
    assert [found[token] for token in ("bc", "ab", "abc")] == [0.0, -1.0, -2.0]


def test_a_token_that_its_merges_do_not_form_is_refused():
    vocab = ["a", "b", "c", "ab", "bc", "abc"]
    merges = [["b", "c"], ["a", "b"], ["ab", "c"]]
    assert by_rank("abc", vocab, merges) == ["a", "bc"]
    with pytest.raises(UnsupportedError, match=r"never formed .* of 'a' and 'bc' by llama"):
        scores(vocab, merges)


def test_a_token_with_a_character_that_is_none_is_refused():
    vocab = ["a", "b", "ab", "abc"]
    with pytest.raises(UnsupportedError, match="'abc' is never formed"):
        scores(vocab, [["a", "b"]])


def test_what_is_cut_out_before_need_not_be_merged_alike():
    vocab = ["a", "b", "c", "ab", "abc", "aabc"]
    assert len(scores(vocab, [["a", "b"]], cut_out=["abc"])) == len(vocab)


def test_merges_that_were_learned_may_do():
    vocab = ["a", "b", "c", "ab", "abc"]
    assert scores(vocab, [["a", "b"], ["ab", "c"]])[3:] == [0.0, -1.0]


def test_merges_of_scores_form_each_token_once():
    known = {"a": -9.0, "b": -9.0, "c": -9.0, "ab": 0.0, "bc": -1.0, "abc": -2.0}
    assert merges_of_scores(known) == [["a", "b"], ["b", "c"], ["ab", "c"]]


def toy(random):
    """Characters, and tokens made by joining two that are there, in any order; and for each token
    some of the pairs that form it."""
    tokens = ["a", "b"]
    for _ in range(random.randint(1, 12)):
        joined = random.choice(tokens) + random.choice(tokens)
        if joined not in tokens and len(joined) <= 9:
            tokens.append(joined)
    joined = random.sample(tokens[2:], len(tokens) - 2)
    merges = []
    for token in joined:
        cuts = [(token[:cut], token[cut:]) for cut in range(1, len(token))]
        pairs = [(left, right) for left, right in cuts if left in tokens and right in tokens]
        merges += random.sample(pairs, random.randint(1, len(pairs)))
    texts = ["".join(random.choices(tokens, k=random.randint(1, 9))) for _ in range(20)]
    texts += [random.choice(tokens) * 6 + random.choice(tokens) for _ in range(10)]
    return ["a", "b", *joined], merges, texts


@pytest.mark.tier2
def test_ranks_that_pass_give_the_pieces_of_their_scores():
    passed = 0
    for number in range(600):
        vocab, merges, texts = toy(random.Random(number))
        with contextlib.suppress(UnsupportedError):
            found = dict(zip(vocab, scores(vocab, merges), strict=True))
            passed += 1
            for text in texts:
                assert by_score(text, found) == by_rank(text, vocab, merges)
    assert 100 < passed < 600  # some pass and some do not


@pytest.mark.tier2
def test_merges_of_scores_give_the_pieces_of_the_scores():
    for number in range(300):
        vocab, _, texts = toy(random.Random(number))
        known = {token: -float(place) for place, token in enumerate(vocab)}
        merges = merges_of_scores(known)
        for text in texts:
            assert by_rank(text, vocab, merges) == by_score(text, known)
