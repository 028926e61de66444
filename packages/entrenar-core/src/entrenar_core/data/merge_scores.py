"""Ranks of merges and scores of tokens: when BPE in llama.cpp's manner gives equal ids.

BPE as the `tokenizers` library does it joins the neighbours whose pair has the lowest rank in a
list. SentencePiece, and llama.cpp after it, joins the neighbours that form the token with the
highest score, whatever the two halves are. Of equal ones both take the leftmost.

Both give the same pieces of every text if they do of every token's own text: if each token is
merged from its characters by both, by the same last pair, or by neither. For let `l|r` be
neighbours that form a token t, at any time in any text. No merge has crossed the ends of t, so what
happened between them is what happens to the text t alone, and `l|r` is the last pair there. So each
token is only ever formed by one pair, the same in both manners, and minus the rank of this pair is
a score that decides as the rank does.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from math import inf

from entrenar_core.data.gguf_tokens import Source

__all__ = ["merges_of_scores", "scores_of_merges"]

_Pair = tuple[str, str]


def scores_of_merges(source: Source, found: list[str], *, cut_out: Sequence[str]) -> list[float]:
    """A score for each of the tokens `found`: 0, -1, -2 ... in the order of the merges, and lower
    ones for tokens that no merge forms.

    `cut_out` are the tokens that are taken out of a text before its pieces are merged, so that it
    does not matter how they, and tokens that contain one, are merged. Raises UnsupportedError, with
    an example, where llama.cpp would form a token otherwise than the list of merges does.
    """
    ranks = {(left, right): rank for rank, (left, right) in enumerate(source.model["merges"])}
    vocab = source.model["vocab"]
    pairs: dict[str, _Pair] = {}
    for token in found:
        if all(character in vocab for character in token):  # others are bytes before any merge
            pair = _last_pair(token, lambda left, right: ranks.get((left, right), inf))
            if pair is not None:
                pairs[token] = pair
    merged = sorted(pairs, key=lambda token: ranks[pairs[token]])
    rest = [token for token in found if token not in pairs]
    places = {token: place for place, token in enumerate([*merged, *rest])}
    _check(source, pairs, places, cut_out=cut_out)
    return [-float(places[token]) for token in found]


def merges_of_scores(scores: Mapping[str, float]) -> list[list[str]]:
    """The list of merges of tokens with scores: one for each token that is formed, by the pair
    that forms it, the highest score first.

    With it `tokenizers` gives llama.cpp's pieces if no two of these tokens have the same score, and
    if their characters are tokens too; SentencePiece's vocabularies are like that.
    """
    negated = {token: -score for token, score in scores.items()}
    pairs = {token: _last_pair(token, lambda a, b: negated.get(a + b, inf)) for token in scores}
    order = sorted(scores, key=negated.__getitem__)
    known = ((token, pairs[token]) for token in order)
    return [list(pair) for _, pair in known if pair and pair[0] in scores and pair[1] in scores]


def _check(
    source: Source, pairs: dict[str, _Pair], places: dict[str, int], *, cut_out: Sequence[str]
) -> None:
    for token in places:
        pair = _last_pair(token, lambda left, right: places.get(left + right, inf))
        if pair != pairs.get(token) and not any(special in token for special in cut_out):
            raise source.refusal(
                f"the token {token!a} is {_formed(pairs.get(token))} by its merges, and "
                f"{_formed(pair)} by llama.cpp",
                "it joins any two pieces that form a token: only tokenizers like those converted "
                "from SentencePiece can be written with this kind of model",
            )


def _formed(pair: _Pair | None) -> str:
    return f"formed of {pair[0]!a} and {pair[1]!a}" if pair else "never formed"


def _last_pair(text: str, rank: Callable[[str, str], float]) -> _Pair | None:
    """The pair that is joined last when `text` is merged from its characters, the lowest rank
    first; None where its characters do not all come together, and for one character."""
    parts = list(text)
    ranks = [rank(left, right) for left, right in itertools.pairwise(parts)]
    pair = None
    while ranks:
        best = min(ranks)
        if best == inf:
            return None
        place = ranks.index(best)
        pair = parts[place], parts[place + 1]
        parts[place : place + 2] = ["".join(pair)]
        del ranks[place]
        for changed in range(max(place - 1, 0), min(place + 1, len(ranks))):
            ranks[changed] = rank(parts[changed], parts[changed + 1])
    return pair
