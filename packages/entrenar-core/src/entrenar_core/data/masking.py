"""Rows of token ids of which some are hidden, for models that predict what is behind a mask.

Of every hundred hidden tokens, eighty become the mask, ten another token and ten stay what they
are, so that a model has to understand all of its input.
Source: Devlin et al. 2018, arXiv:1810.04805, §3.1 and appendix A.1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from entrenar_common.errors import ConfigError
from entrenar_core.data.batches import IGNORED, Batch, Int64, epoch_order
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.rng import stream

__all__ = [
    "BECOME_ANOTHER",
    "BECOME_MASK",
    "MaskTokens",
    "MaskedBatches",
    "MaskedRows",
]

BECOME_MASK, BECOME_ANOTHER = 0.8, 0.1
"""Shares of the hidden tokens; the rest stays."""


@dataclass(frozen=True, eq=False)
class MaskTokens:
    """What a tokenizer puts around a text, and what can stand in the place of a token.

    before, after: ids around every text, (n,); mask, pad: ids; text: the ids that stand for text,
    of which alone tokens are hidden and others drawn, (K,)
    """

    before: Int64
    after: Int64
    mask: int
    pad: int
    text: Int64

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "MaskTokens":
        """Those of a tokenizer. Raises ConfigError for one without a mask or padding token."""
        mask, pad = tokenizer.mask_id, tokenizer.pad_id
        if mask is None:
            raise ConfigError(
                "the tokenizer has no mask token: nothing can stand for a hidden token",
                hint="use a model that was trained on masks, or name the token as mask_token in "
                "tokenizer_config.json",
            )
        if pad is None:
            raise ConfigError(
                "the tokenizer has no padding token to fill rows with",
                hint="name one as pad_token in its tokenizer_config.json",
            )
        # the template's tokens are those around a text that is one token
        found = tokenizer.encode(tokenizer.decode([mask]))
        places = np.flatnonzero(found == mask)
        if len(places) != 1 or mask not in tokenizer.special_ids:
            raise ConfigError(
                f"the tokenizer reads its mask token, id {mask}, as the ids {found.tolist()}",
                hint="list the token in added_tokens of tokenizer.json, as special",
            )
        special = np.isin(found, list(tokenizer.special_ids))
        place = np.arange(len(found))
        before, after = (
            found[special & side].astype(np.int64) for side in (place < places, place > places)
        )
        return cls(before, after, mask, pad, tokenizer.text_ids.astype(np.int64))


class MaskedRows:
    """Documents cut into rows of at most `seq_len` ids, those around them included, and hidden in
    part: `share` of a row's tokens, and at least one.

    What is hidden in a row, and by what, is a function of the numbers that it is asked for with and
    of the row, not of the rows beside it. Rows are counted in the order of the documents; one
    without a token that stands for text has nothing to predict.
    """

    def __init__(
        self, docs: TokenizedDocuments, *, seq_len: int, tokens: MaskTokens, share: float
    ) -> None:
        self._width = seq_len - len(tokens.before) - len(tokens.after)
        if self._width < 1:
            raise ConfigError(
                f"seq_len {seq_len} leaves no token between the {seq_len - self._width} that the "
                "tokenizer puts around a text",
                hint="typical are 128 to 512 tokens",
            )
        if not 0 < share < 1:
            raise ConfigError(
                f"the share of hidden tokens is {share}, wanted a number between 0 and 1",
                hint="models are mostly trained with 0.15",
            )
        self._docs, self._tokens, self._share = docs, tokens, share
        self._starts, self._lengths = _contents(docs, tokens)
        rows = -(-self._lengths // self._width)  # (N,)
        self._firsts = np.cumsum(rows) - rows
        self.count = int(rows.sum())
        self._text = np.zeros(max(docs.max_id, int(tokens.text.max(initial=-1))) + 1, bool)
        self._text[tokens.text] = True

    def owners(self, row_ids: Int64) -> Int64:
        """The number of the document that each row is of."""
        # Of documents without rows, which start where the next one does, this finds the next one.
        return np.searchsorted(self._firsts, row_ids, side="right") - 1

    def gather(self, row_ids: Int64, *, seed: int, purpose: str, epoch: int = 0) -> Batch:
        """Some rows, padded to the longest of them."""
        contents = [self._content(int(row)) for row in row_ids]
        around = len(self._tokens.before) + len(self._tokens.after)
        width = around + max(map(len, contents), default=0)
        ids = np.full((len(contents), width), self._tokens.pad, np.int64)
        labels, mask = np.full(ids.shape, IGNORED, np.int64), np.zeros(ids.shape, bool)
        start = len(self._tokens.before)
        for b, (row, content) in enumerate(zip(row_ids, contents, strict=True)):
            end = start + len(content)
            source = stream(seed, purpose, epoch, int(row))
            hidden, labels[b, start:end] = self._hide(content, source)
            mask[b, : around + len(content)] = True
            ids[b, mask[b]] = np.concatenate([self._tokens.before, hidden, self._tokens.after])
        return Batch(ids, labels, row_ids, mask=mask)

    def in_order(self, batch_size: int, *, seed: int) -> Iterator[Batch]:
        """All rows, hidden in the same way each time: what models are measured on."""
        for start in range(0, self.count, batch_size):
            rows = np.arange(start, min(start + batch_size, self.count))
            yield self.gather(rows, seed=seed, purpose="held-out masks")

    def _content(self, row: int) -> Int64:
        document = int(self.owners(np.asarray(row)))
        skipped = (row - int(self._firsts[document])) * self._width
        start = int(self._starts[document]) + skipped
        size = min(self._width, int(self._lengths[document]) - skipped)
        return self._docs.tokens[start : start + size].astype(np.int64)

    def _hide(self, ids: Int64, source: np.random.Generator) -> tuple[Int64, Int64]:
        """What a model sees of `ids` (n,), and the labels (n,)."""
        labels, seen = np.full(len(ids), IGNORED, np.int64), ids.copy()
        places = np.flatnonzero(self._text[ids])
        count = len(places)
        if count == 0:
            return seen, labels
        # Raw bits are the same in every version of numpy; what it makes of them need not be.
        raw = source.bit_generator.random_raw(3 * count + 1)
        drawn = (raw >> np.uint64(11)) * 2.0**-53  # from 0 to below 1
        # rounded by chance, so that short rows too have `share` of their tokens on average
        hidden = max(1, int(self._share * count + drawn[0]))
        order, fate, word = np.split(drawn[1:], 3)
        chosen = places[np.argsort(order, kind="stable")[:hidden]]
        fate, text = fate[:hidden], self._tokens.text
        another = text[(word[:hidden] * len(text)).astype(np.int64)]
        labels[chosen] = ids[chosen]
        seen[chosen] = np.select(
            [fate < BECOME_MASK, fate < BECOME_MASK + BECOME_ANOTHER],
            [self._tokens.mask, another],
            ids[chosen],
        )
        return seen, labels


class MaskedBatches:
    """Training batches of masked rows, in the manner of `Batches`: position 0, 1, 2 … counts them
    from the start, across epochs. Each epoch has its own order and hides other tokens.

    With `accumulation` the batches of a step are kept together: the rows of an epoch that do not
    fill a step are left out, so a step has the same rows and masks however it is cut.

    Raises ConfigError when there are not enough rows for one step.
    """

    def __init__(
        self,
        docs: TokenizedDocuments,
        *,
        seq_len: int,
        batch_size: int,
        seed: int,
        tokens: MaskTokens,
        share: float,
        accumulation: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(
                f"batch_size {batch_size} must be at least 1", hint="typical are 4 to 64 rows"
            )
        self._docs, self._seed = docs, seed
        self._source = MaskedRows(docs, seq_len=seq_len, tokens=tokens, share=share)
        self.rows, self.batch_size, self.seq_len = self._source.count, batch_size, seq_len
        self.steps_per_epoch = self.rows // (batch_size * accumulation) * accumulation
        self._order: tuple[int, Int64] | None = None
        if self.steps_per_epoch == 0:
            raise ConfigError(
                f"{docs.total_tokens} tokens in {len(docs)} documents make {self.rows} rows "
                f"of {seq_len}, fewer than the {batch_size * accumulation} of one step",
                hint="use more data, a smaller batch_size or a smaller seq_len",
            )

    def batch(self, position: int) -> Batch:
        """The batch at `position`, the same in every process and in any order of calls."""
        if position < 0:
            raise ConfigError(f"batch position {position} is negative", hint="positions start at 0")
        epoch, step = divmod(position, self.steps_per_epoch)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, epoch_order(self.rows, self._seed, epoch)
        start = step * self.batch_size
        rows = self._order[1][start : start + self.batch_size]
        return self._source.gather(rows, seed=self._seed, purpose="masks", epoch=epoch)

    def names(self, row_ids: Int64) -> list[str]:
        """The documents that the rows are made of, in order, each once."""
        return [self._docs.names[int(index)] for index in np.unique(self._source.owners(row_ids))]


def _contents(docs: TokenizedDocuments, tokens: MaskTokens) -> tuple[Int64, Int64]:
    """Where the documents start and how long they are without the ids around them."""
    starts, lengths = docs.starts.copy(), docs.lengths.copy()
    found = _has(docs, starts, lengths, tokens.before)
    starts += found
    lengths -= found
    lengths -= _has(docs, starts + lengths - len(tokens.after), lengths, tokens.after)
    return starts, lengths


def _has(
    docs: TokenizedDocuments, places: Int64, lengths: Int64, ids: Int64
) -> npt.NDArray[np.int64]:
    """len(ids) for each document that has `ids` at its place and is as long, 0 for the others."""
    found = np.zeros(len(lengths), np.int64)
    long = np.flatnonzero(lengths >= len(ids))
    there = docs.tokens[places[long][:, None] + np.arange(len(ids))]  # (n, len(ids))
    found[long] = np.where((there == ids).all(axis=1), len(ids), 0)
    return found
