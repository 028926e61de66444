"""Ranks of merges and scores of tokens: when BPE in llama.cpp's manner gives equal ids.

BPE as the `tokenizers` library does it joins the neighbours whose pair has the lowest rank in a
list. SentencePiece, and llama.cpp after it, joins the neighbours that form the token with the
highest score, whatever the two halves are; in both, of equal ones the leftmost. The score here is
minus the place of the token in the order of merges. The ids of every text are equal when

1. every way to split a token into two parts that can occur is in the list of merges. A part can
   occur if it is one character, or a token that merges lead to. (Lists that were made from a
   SentencePiece model have all splits; lists that were learned as merges do not.)
2. all merges to the same token have neighbouring ranks: then one score can stand for them.
3. two different splits of one token are never side by side in an overlap, as in `c|cc|c` for the
   token `ccc`, where the list's order and the leftmost contradict each other. Such a token repeats
   a unit, and an overlap arises among repetitions of it; this is looked for by merging them.

The first two are checked for all tokens, the third on repetitions of each unit that could do it.
"""

import heapq
import itertools
from collections.abc import Container, Iterator, Mapping

from entrenar_core.data.gguf_tokens import Source

__all__ = ["merges_of_scores", "scores_of_merges", "splits"]

_NO_MERGES = 0.0
_Pair = tuple[str, str]


def scores_of_merges(source: Source, found: list[str], *, inside: Container[str]) -> list[float]:
    """A score for each of the tokens `found`, under the three conditions above.

    `inside` are the tokens that can be in a text when pieces are merged: not the special ones,
    which were cut out before.

    Raises UnsupportedError, with an example, where one of them does not hold.
    """
    ranks = {tuple(pair): rank for rank, pair in enumerate(source.model["merges"])}
    order = {token: place for place, token in enumerate(dict.fromkeys(a + b for a, b in ranks))}
    active = _active_splits([token for token in found if token in inside])
    _check_complete(source, active, ranks)
    _check_neighbours(source, active, ranks, order)
    _check_overlaps(source, active, ranks, {token: order[token] for token in active})
    return [-float(order[token]) if token in order else _NO_MERGES for token in found]


def merges_of_scores(vocab: Mapping[str, float]) -> list[list[str]]:
    """The list of merges of tokens with scores: all splits into two tokens, the highest score
    first, of equal ones the longer left part, as transformers makes it of SentencePiece models.

    With it `tokenizers` gives llama.cpp's ids if no two merged tokens have the same score and the
    three conditions hold, which all vocabularies do that SentencePiece learned as BPE.
    """
    pairs = [
        (-score, -len(left), left, right)
        for token, score in vocab.items()
        for left, right in splits(token)
        if left in vocab and right in vocab
    ]
    return [[left, right] for _, _, left, right in sorted(pairs)]


def splits(token: str) -> Iterator[_Pair]:
    """All ways to cut a token in two."""
    return ((token[:cut], token[cut:]) for cut in range(1, len(token)))


def _active_splits(found: list[str]) -> dict[str, list[_Pair]]:
    """The splits of each token whose parts can occur: shorter tokens first, as they are the parts.

    Characters that are no tokens count as parts: llama.cpp would join them too.
    """
    active: dict[str, list[_Pair]] = {}
    for token in sorted(found, key=len):
        ways = [
            (left, right)
            for left, right in splits(token)
            if (len(left) == 1 or left in active) and (len(right) == 1 or right in active)
        ]
        if ways:
            active[token] = ways
    return active


def _check_complete(
    source: Source, active: dict[str, list[_Pair]], ranks: dict[_Pair, int]
) -> None:
    missing = [pair for ways in active.values() for pair in ways if pair not in ranks]
    if missing:
        left, right = missing[0]
        raise source.refusal(
            f"{len(missing)} pairs form a token and are not in the merges, the first "
            f"{left!a} and {right!a}",
            "llama.cpp joins any two pieces that form a token, so it would give other ids; only "
            "tokenizers converted from SentencePiece have all the pairs",
        )


def _check_neighbours(
    source: Source,
    active: dict[str, list[_Pair]],
    ranks: dict[_Pair, int],
    order: dict[str, int],
) -> None:
    occurring = sorted(
        (ranks[pair], order[token]) for token, ways in active.items() for pair in ways
    )
    for (_, before), (rank, after) in itertools.pairwise(occurring):
        if after < before:
            left, right = source.model["merges"][rank]
            raise source.refusal(
                f"merge {rank}, {left!a} and {right!a}, comes after merges to later tokens",
                "llama.cpp has one score for a token: all merges to it have to be neighbours",
            )


# --- the third condition -----------------------------------------------------------------------


def _check_overlaps(
    source: Source,
    active: dict[str, list[_Pair]],
    ranks: dict[_Pair, int],
    order: dict[str, int],
) -> None:
    longest: dict[str, tuple[int, str]] = {}
    for token, ways in active.items():
        for unit in _repeated_units(ways, ranks):
            longest[unit] = max(longest.get(unit, (0, "")), (len(token), token))
    for unit, (length, token) in longest.items():
        for begin in range(len(unit)):
            text = (unit * (2 * length // len(unit) + 2))[begin:]
            for end in range(2, 2 * length + 1):
                if _overlap_arises(text[:end], order, ranks):
                    raise source.refusal(
                        f"splits of a token such as {token!a} overlap in {text[:end]!a:.80}",
                        "there the order of the merges decides, and llama.cpp takes the leftmost",
                    )


def _repeated_units(ways: list[_Pair], ranks: dict[_Pair, int]) -> Iterator[str]:
    """What the token repeats, where two of its splits can overlap and the right one comes first."""
    parts = {right: left for left, right in ways}
    for left, right in ways:
        # [first][left][right], where first + left is this token too
        first = parts.get(left)
        if first is not None and first != left and ranks[left, right] < ranks[first, left]:
            yield first


def _overlap_arises(text: str, order: dict[str, int], ranks: dict[_Pair, int]) -> bool:
    """Merges `text` from its characters as llama.cpp does; whether two splits of one token are ever
    side by side such that the list's order and the leftmost one differ. `order` is that of the
    tokens that can be merged."""
    chain = _Chain(text, order)
    while (pair := chain.best()) is not None:
        left, right = pair
        third = chain.following[right]
        if third >= 0:
            one = chain.parts[left], chain.parts[right]
            two = chain.parts[right], chain.parts[third]
            if "".join(one) == "".join(two) and ranks[two] < ranks[one]:
                return True
        chain.join(left, right)
    return False


class _Chain:
    """The parts of a text, each in the place of its first character; a merged part is empty."""

    def __init__(self, text: str, order: dict[str, int]) -> None:
        self.order = order
        self.parts = list(text)
        self.before = list(range(-1, len(text) - 1))
        self.following = [*range(1, len(text)), -1]
        self.queue: list[tuple[int, int, str]] = []
        for place in range(len(text)):
            self.offer(place)

    def offer(self, left: int) -> None:
        """Notes the pair that begins at `left`, if it forms a token."""
        if left < 0 or self.following[left] < 0:
            return
        joined = self.parts[left] + self.parts[self.following[left]]
        if joined in self.order:
            heapq.heappush(self.queue, (self.order[joined], left, joined))

    def best(self) -> tuple[int, int] | None:
        """The places of the pair that is to be joined next."""
        while self.queue:
            _, left, joined = heapq.heappop(self.queue)
            right = self.following[left]
            if self.parts[left] and right >= 0 and self.parts[left] + self.parts[right] == joined:
                return left, right
        return None

    def join(self, left: int, right: int) -> None:
        """Joins two neighbours."""
        self.parts[left] += self.parts[right]
        self.parts[right] = ""
        self.following[left] = self.following[right]
        if self.following[left] >= 0:
            self.before[self.following[left]] = left
        self.offer(self.before[left])
        self.offer(left)
