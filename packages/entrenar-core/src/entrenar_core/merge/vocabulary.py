"""The embeddings of models with different tokenizers, with the rows of one vocabulary."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from entrenar_common.errors import ConfigError, ShapeError
from entrenar_common.text import escape_controls, nearest
from entrenar_core.merge.gathered import MEAN, ZEROS, AsColumn, GatheredRows, gather
from entrenar_core.merge.group import Held, Rows, rounded_to, working_type
from entrenar_core.merge.token_choice import (
    ModelKey,
    ModelToken,
    TokenizerChoice,
    Zero,
)
from entrenar_core.merge.tokens import MergedTokens
from entrenar_core.quant.pieces import pieces, widened

_AVERAGE = -3
"""The origin of a token whose embedding is the average of those that models have."""


@dataclass(frozen=True)
class _Named:
    """Where a configured token's embedding comes from: row `row` of a model's table, or zeros."""

    model: ModelKey | None
    row: int


_FEW = 5_000
"""Tokens among which the nearest name is looked for: among more it takes seconds."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The rows of the result's embedding: of each the token, and where each model has that.

    `base` is preferred where several models have a token that another one lacks.

    Raises ConfigError where the embedding that a token is configured to have does not exist.
    """

    tokens: MergedTokens
    choice: TokenizerChoice
    base: ModelKey | None = None

    def __post_init__(self) -> None:
        _ = self._named  # what is wrong in the choice is an error before all work

    @cached_property
    def size(self) -> int:
        """Rows of the result: one more than the largest id, padded."""
        multiple = self.choice.pad_to_multiple_of or 1
        return -(-self._used // multiple) * multiple

    @cached_property
    def permutations(self) -> dict[ModelKey, np.ndarray]:
        """Of each model the row of its own table for each new id up to the largest, -1 where it
        lacks that token, or has no row for it."""
        ids = self._ids
        found = {}
        for key, vocabulary in self.tokens.models.items():
            place = np.full(self._used, -1, np.int64)
            old = (vocabulary.get(token, -1) for token in self.tokens.vocabulary)
            place[ids] = np.fromiter(old, np.int64, len(ids))
            place[place >= self.tokens.rows[key]] = -1
            found[key] = place
        return found

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What the user should know: the tokens whose embeddings are zeros for want of another."""
        known = np.zeros(self._used, bool)
        for place in self.permutations.values():
            known |= place >= 0
        vocabulary = self.tokens.vocabulary
        configured = {t for t, c in self.choice.tokens.items() if c.source is not None}
        lost = [t for t, n in vocabulary.items() if not known[n] and t not in configured]
        if not lost:
            return ()
        shown = ", ".join(repr(escape_controls(token)) for token in lost[:5])
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        return (f"no model has an embedding for {shown}{more}: it is zeros",)

    def aligned(self, tensors: Mapping[ModelKey, Rows]) -> dict[ModelKey, Rows]:
        """The tensors with the rows of this vocabulary: (size, columns), or (size,) for tensors of
        one axis, in the smallest type that holds all of theirs.

        A model's row is its own of that token. Where it lacks the token, it is the one that is
        configured, else that of the only model that has it, else the base's, else the average of
        all that have it, added up and divided in that type; zeros if none has it. Rows of no token
        are the mean of all others. Rows are gathered when they are read: averages alone are kept.
        As mergekit 0.1.5 does it.

        Raises ShapeError for tables that do not fit, and ConfigError where a configured embedding
        is of a model without this tensor.
        """
        if not tensors:
            return {}
        work = working_type([tensor.dtype for tensor in tensors.values()])
        flat = {len(tensor.shape) for tensor in tensors.values()} == {1}
        tables = {key: AsColumn(t) if flat else t for key, t in tensors.items()}
        self._check(tables)
        origin, row, forced = self._origins([*tables])
        averaged = np.flatnonzero(origin == _AVERAGE)
        averages = self._averages(tables, averaged, work)
        origin[averaged], row[averaged] = len(tables), np.arange(len(averaged))
        sources = [*tables.values(), Held(averages)]
        result: dict[ModelKey, Rows] = {}
        for index, key in enumerate(tensors):
            own = np.full(self.size, -1)
            own[: self._used] = self.permutations[key]
            has = (own >= 0) & ~forced
            places = np.where(has, index, origin), np.where(has, own, row)
            rows = GatheredRows(sources, *places, work)
            result[key] = Held(rows.read(slice(None))[:, 0]) if flat else rows
        return result

    @cached_property
    def _ids(self) -> np.ndarray:
        return np.fromiter(self.tokens.vocabulary.values(), np.int64, len(self.tokens.vocabulary))

    @cached_property
    def _used(self) -> int:
        return int(self._ids.max(initial=-1)) + 1

    def _origins(self, models: list[ModelKey]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each row of the result: where it comes from for the models that lack it (an index
        into `models`, or a negative origin), the row there, and whether all models get that."""
        origin = np.full(self.size, MEAN)
        row = np.zeros(self.size, np.int64)
        forced = np.zeros(self.size, bool)
        present = np.stack([self.permutations[key] for key in models])[:, self._ids]
        has = present >= 0  # (models, tokens)
        count = has.sum(axis=0)
        chosen = np.where(count == 0, ZEROS, np.where(count == 1, has.argmax(axis=0), _AVERAGE))
        if self.base in models:
            base = models.index(self.base)
            chosen[has[base] & (count > 1)] = base
        origin[self._ids] = chosen
        row[self._ids] = present[np.maximum(chosen, 0), np.arange(len(chosen))]
        complete = np.zeros(self.size, bool)
        complete[self._ids] = count == len(models)
        for token, choice in self.choice.tokens.items():
            number = self.tokens.vocabulary[token]
            forced[number] = choice.force
            if token in self._named and not (complete[number] and not choice.force):
                origin[number], row[number] = _place(token, self._named[token], models)
        origin[complete & ~forced] = ZEROS  # which nobody reads: no average is needed
        return origin, row, forced

    def _averages(
        self, tables: Mapping[ModelKey, Rows], averaged: np.ndarray, work: np.dtype
    ) -> np.ndarray:
        """The averages for the new ids `averaged`, (n, columns) of `work`."""
        columns = next(iter(tables.values())).shape[1]
        out = np.empty((len(averaged), columns), work)
        for part in pieces(*out.shape):
            total = np.zeros(out[part].shape, np.float32)
            count = np.zeros((len(total), 1), np.float32)
            for key, table in tables.items():
                place = self.permutations[key][averaged[part]]
                at = np.flatnonzero(place >= 0)
                found = np.empty((len(at), columns), work)
                gather(table, place[at], out=found, at=np.arange(len(at)))
                total[at] = rounded_to(total[at] + widened(found), work)
                count[at] += 1
            out[part] = total / count
        return out

    def _check(self, tables: Mapping[ModelKey, Rows]) -> None:
        columns = {table.shape[1:] for table in tables.values()}
        if len(columns) > 1:
            raise ShapeError(
                "embeddings of different widths are not merged: "
                + ", ".join(f"{_shown(key)} {table.shape}" for key, table in tables.items()),
                hint="merge models whose hidden states have the same size",
            )
        for key, table in tables.items():
            named = [found.row for found in self._named.values() if found.model == key]
            last = max([int(self.permutations[key].max(initial=-1)), *named])
            if last >= table.shape[0]:
                raise ShapeError(
                    f"{_shown(key)}: a token has the id {last}, and the tensor has "
                    f"{table.shape[0]} rows",
                    hint="the vocab_size of the model's config.json is that of another model",
                )

    @cached_property
    def _named(self) -> dict[str, _Named]:
        """The configured tokens that name a source."""
        sources = {token: choice.source for token, choice in self.choice.tokens.items()}
        return {
            token: self._resolved(token, source)
            for token, source in sources.items()
            if source is not None
        }

    def _resolved(self, token: str, source: ModelKey | ModelToken | Zero) -> _Named:
        if isinstance(source, Zero):
            return _Named(None, 0)
        wanted = source if isinstance(source, ModelToken) else ModelToken(source, token)
        if wanted.model not in self.tokens.models:
            raise ConfigError(
                f"tokens: {token!a} is to come from {_shown(wanted.model)}, which is no model of "
                "the merge",
                hint=f"there are {', '.join(map(_shown, self.tokens.models))}",
            )
        known, rows = self.tokens.models[wanted.model], self.tokens.rows[wanted.model]
        number = wanted.token_id
        if wanted.token is not None and (number := known.get(wanted.token)) is None:
            close = nearest(wanted.token, known) if len(known) < _FEW else None
            raise ConfigError(
                f"tokens: {token!a} is to come from the token {wanted.token!a} of "
                f"{_shown(wanted.model)}, which has no such token",
                hint=f"did you mean {close!a}?"
                if close
                else "name a token that it has, or {kind: zero}",
            )
        assert number is not None
        if not 0 <= number < rows:
            raise ConfigError(
                f"tokens: {token!a} is to come from the token {number} of {_shown(wanted.model)}, "
                f"whose embedding has {rows} rows",
                hint=f"use an id from 0 to {rows - 1}",
            )
        return _Named(wanted.model, number)


def _place(token: str, named: _Named, models: list[ModelKey]) -> tuple[int, int]:
    """The origin of a configured token, and the row there."""
    if named.model is None:
        return ZEROS, 0
    if named.model not in models:
        raise ConfigError(
            f"tokens: {token!a} is to come from {_shown(named.model)}, which has no such tensor, "
            "or is not merged here",
            hint=f"name one of {', '.join(map(_shown, models))}",
        )
    return models.index(named.model), named.row


def _shown(key: ModelKey) -> str:
    return escape_controls(str(key))
