"""Merges by rank and by score give the same pieces exactly where the checks say so."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models

from entrenar_common.errors import UnsupportedError
from entrenar_core.data.gguf_tokens import Source
from entrenar_core.data.merge_scores import merges_of_scores, scores_of_merges


def source(vocab, merges):
    content = {"model": {"vocab": {t: n for n, t in enumerate(vocab)}, "merges": merges}}
    return Source(content, {}, "toy")


def scores(vocab, merges):
    return scores_of_merges(source(vocab, merges), vocab, inside=vocab)


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


def test_scores_fall_with_the_ranks():
    merges = [["a", "b"], ["b", "c"], ["ab", "c"], ["a", "bc"]]
    vocab = ["a", "b", "c", "ab", "bc", "abc"]
    assert scores(vocab, merges)[3:] == [0.0, -1.0, -2.0]


def test_a_pair_that_is_not_in_the_merges_is_refused():
    vocab = ["a", "b", "c", "ab", "bc", "abc"]
    merges = [["a", "b"], ["b", "c"], ["ab", "c"]]
    with pytest.raises(UnsupportedError, match=r"1 pairs form a token .* 'a' and 'bc'"):
        scores(vocab, merges)


def test_a_character_that_is_no_token_counts_as_a_part():
    vocab = ["a", "b", "ab", "abc"]
    with pytest.raises(UnsupportedError, match="'ab' and 'c'"):
        scores(vocab, [["a", "b"]])


def test_merges_to_one_token_with_another_one_between_are_refused():
    vocab = ["a", "b", "c", "d", "ab", "bc", "abc", "cd"]
    merges = [["a", "b"], ["b", "c"], ["ab", "c"], ["c", "d"], ["a", "bc"]]
    with pytest.raises(UnsupportedError, match="merge 4, 'a' and 'bc'"):
        scores(vocab, merges)


TOKENS = st.lists(st.text("ab", min_size=2, max_size=6), min_size=1, max_size=12, unique=True)


@settings(max_examples=400, deadline=None)
@given(tokens=TOKENS, texts=st.lists(st.text("ab", max_size=30), min_size=5, max_size=5))
def test_what_is_accepted_gives_the_same_pieces(tokens, texts):
    vocab = ["a", "b", *tokens]
    merges = merges_of_scores({token: -float(place) for place, token in enumerate(vocab)})
    try:
        made = scores(vocab, merges)
    except UnsupportedError:
        return
    reachable = {left + right for left, right in merges}
    ours = {t: s for t, s in zip(vocab, made, strict=True) if t in reachable}
    for text in texts:
        assert by_score(text, ours) == by_rank(text, vocab, merges)
