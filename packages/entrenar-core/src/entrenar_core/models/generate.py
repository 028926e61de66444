"""Continuing sequences of tokens, one token at a time, with a key-value cache."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from entrenar_common.errors import ConfigError, NumericsError
from entrenar_core.autograd import no_grad, ops
from entrenar_core.models.cache import KVCache
from entrenar_core.models.network import LanguageModel
from entrenar_core.models.sampling import Sampling
from entrenar_core.rng import stream

CONTEXT = 8
"""Tokens of a prompt that its continuation is decoded with: how a token is written can depend on
what stands before it."""


class Decodes(Protocol):
    """What a tokenizer is needed for here."""

    @property
    def vocab_size(self) -> int: ...

    def decode(self, ids: Iterable[int]) -> str: ...


def generate(
    model: LanguageModel,
    prompts: Any,
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    stop: str | Sequence[str] = (),
    tokenizer: Decodes | None = None,
    seed: int = 0,
    first_row: int = 0,
    eos_ids: int | Iterable[int] | None = None,
    each: Callable[[int, Sequence[int]], None] | None = None,
) -> Any:
    """The ids of a prompt (time,) with up to `max_new_tokens` ids appended; or a list of such
    arrays for a list of prompts, which may differ in length.

    Temperature 0 takes the most likely token. Otherwise one is drawn from
    softmax(logits / temperature), cut to the `top_k` most likely tokens, then to the smallest set
    whose probability reaches `top_p`, then to those at least `min_p` times as likely as the most
    likely one. `repetition_penalty` divides the positive logits of tokens that are already there,
    and multiplies the negative ones. Token number `i` of row `r` is a function of (seed, r, i);
    rows are numbered from `first_row`, so that prompts can be cut into batches.

    A row ends after one of `eos_ids` (None for those of the model's config, `()` for none), or
    after the token that completes one of the strings `stop` in the text of the new tokens, which
    needs a `tokenizer` (`new_text` cuts the text before that string). Greedily, each row is what
    its prompt gives alone. `each` is called with a row's index and its ids, the prompt's included,
    after each token that it gets.

    Raises ConfigError for options out of range, with the value and the range, for an empty prompt,
    and for more positions than a model with learned positions has; NumericsError for logits that
    are not finite.
    """
    rows, single = _as_rows(prompts)
    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
    )
    ends = model.config.eos_token_id if eos_ids is None else eos_ids
    end = _End(_as_set(() if ends is None else ends), _stops(stop, tokenizer), tokenizer)
    _check_room(model, rows, max_new_tokens)
    with no_grad():
        chance = _Chance(seed, first_row)
        _continue(model, rows, max_new_tokens, sampling, end, chance, each or _ignore)
    found = [np.array(row, np.int64) for row in rows]
    return found[0] if single else found


def new_text(
    tokenizer: Decodes,
    ids: Sequence[int] | np.ndarray,
    prompt: int,
    *,
    stop: str | Sequence[str] = (),
    include_stop: bool = False,
    eos_ids: int | Iterable[int] = (),
) -> str:
    """The text of what `ids` have after their first `prompt` tokens.

    It ends before the first of the strings `stop`, or after it with `include_stop`, and before a
    last token that is one of `eos_ids`.
    """
    end = _End(_as_set(eos_ids), _stops(stop, tokenizer), tokenizer)
    kept = [int(i) for i in ids]
    if len(kept) > prompt and kept[-1] in end.eos_ids:
        kept.pop()
    text = end.text(kept, prompt)
    found = [(text.find(string), len(string)) for string in end.stops if string in text]
    if not found:
        return text
    at, length = min(found)
    return text[: at + length] if include_stop else text[:at]


@dataclass(frozen=True)
class _End:
    """What ends a row."""

    eos_ids: frozenset[int]
    stops: tuple[str, ...]
    tokenizer: Decodes | None

    def reached(self, ids: Sequence[int], prompt: int) -> bool:
        if ids[-1] in self.eos_ids:
            return True
        if not self.stops:
            return False
        text = self.text(ids, prompt)
        return any(string in text for string in self.stops)

    def text(self, ids: Sequence[int], prompt: int) -> str:
        """What the ids after the first `prompt` add to the text."""
        start = max(prompt - CONTEXT, 0)
        before, whole = self._decode(ids[start:prompt]), self._decode(ids[start:])
        return whole[len(before) :] if whole.startswith(before) else self._decode(ids[prompt:])

    def _decode(self, ids: Sequence[int]) -> str:
        assert self.tokenizer is not None
        # a padded vocabulary has ids that stand for no text, and a model can choose one
        size = self.tokenizer.vocab_size
        return self.tokenizer.decode(i for i in ids if i < size)


@dataclass(frozen=True)
class _Chance:
    """What decides where the most likely token does not."""

    seed: int
    first_row: int

    def uniform(self, row: int, position: int) -> float:
        return stream(self.seed, "sample", self.first_row + row, position).random()


def _continue(
    model: LanguageModel,
    rows: list[list[int]],
    count: int,
    sampling: Sampling,
    end: _End,
    chance: _Chance,
    each: Callable[[int, Sequence[int]], None],
) -> None:
    """Append up to `count` ids to each of `rows`."""
    prompts = [len(row) for row in rows]
    batch = _Batch(model, rows, count)
    running = list(range(len(rows)))
    for position in range(count):
        logits = batch.logits()  # (running, V)
        for r, scores in zip(running, logits, strict=True):
            if not np.isfinite(scores).all():
                raise NumericsError(
                    f"generate: the logits after {len(rows[r])} tokens of row "
                    f"{chance.first_row + r} are not finite",
                    hint="look at the model's weights for NaN and infinity",
                )
            uniform = chance.uniform(r, position) if sampling.draws else 0.0
            rows[r].append(sampling.choose(scores, rows[r], uniform))
            each(r, rows[r])
        kept = [i for i, r in enumerate(running) if not end.reached(rows[r], prompts[r])]
        running = [running[i] for i in kept]
        if not running:
            break
        batch.append(kept, [rows[r][-1] for r in running])


def _ignore(_row: int, _ids: Sequence[int]) -> None:
    """For whom the whole is enough."""


class _Batch:
    """Rows of different lengths, padded on the left so that their last tokens stand together."""

    def __init__(self, model: LanguageModel, prompts: list[list[int]], room: int):
        longest = max(map(len, prompts))
        self.model = model
        self.cache = KVCache(model.config, len(prompts), longest + room, model.dtype)
        self.ids = np.zeros((len(prompts), longest), np.int64)
        mask = np.ones((len(prompts), longest + room), bool)
        for i, prompt in enumerate(prompts):
            self.ids[i, longest - len(prompt) :] = prompt
            mask[i, : longest - len(prompt)] = False
        # rows of one length need neither a mask nor positions of their own
        self.mask = None if mask.all() else mask
        self.positions = None
        if self.mask is not None:
            self.positions = np.maximum(np.cumsum(mask[:, :longest], axis=1) - 1, 0)

    def logits(self) -> np.ndarray:
        """Those of the token after the last one of each row, (rows, V)."""
        stop = self.cache.length + self.ids.shape[1]
        mask = None if self.mask is None else self.mask[:, :stop]
        hidden = self.model.hidden(self.ids, mask, cache=self.cache, positions=self.positions)
        last = np.ascontiguousarray(hidden.data[:, -1])  # (rows, D)
        return ops.linear(last, self.model.output_weight).data

    def append(self, kept: list[int], tokens: list[int]) -> None:
        """Go on with the rows numbered `kept` only, each with one more token."""
        if len(kept) < len(self.ids):
            self.cache.keep(kept)
            self.mask = None if self.mask is None else self.mask[kept]
        if self.positions is not None:
            self.positions = self.positions[kept, -1:] + 1
        self.ids = np.array(tokens, np.int64)[:, None]


def _as_rows(prompts: Any) -> tuple[list[list[int]], bool]:
    """The prompts as lists of ids, and whether it was one prompt alone."""
    single = len(prompts) == 0 or np.ndim(prompts[0]) == 0
    rows = [np.asarray(row) for row in ([prompts] if single else prompts)]
    for number, row in enumerate(rows):
        if row.ndim != 1 or len(row) == 0 or row.dtype.kind not in "iu":
            raise ConfigError(
                f"generate: prompt {number} is {row.dtype} {row.shape}",
                hint="a prompt is at least one token: integers of shape (time,)",
            )
    return [row.tolist() for row in rows], single


def _as_set(ids: int | Iterable[int]) -> frozenset[int]:
    return frozenset([int(ids)] if isinstance(ids, int | np.integer) else map(int, ids))


def _stops(stop: str | Sequence[str], tokenizer: Decodes | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if "" in stops:
        raise ConfigError("generate: a stop string is empty", hint="give at least one character")
    if stops and tokenizer is None:
        raise ConfigError(
            f"generate: stop {stops} without a tokenizer",
            hint="stop strings are looked for in the text, so give tokenizer=",
        )
    return stops


def _check_room(model: LanguageModel, rows: list[list[int]], count: int) -> None:
    if type(count) is not int or count < 0:
        raise ConfigError(
            f"generate: max_new_tokens {count!r} is not an integer of at least 0",
            hint="give how many tokens to add",
        )
    limit, longest = model.position_limit, max(map(len, rows))
    # the last new token is not read again
    if limit is not None and longest + max(count - 1, 0) > limit:
        raise ConfigError(
            f"generate: {longest} prompt tokens and max_new_tokens {count} for a model that has "
            f"learned {limit} positions",
            hint=f"give at most {max(limit + 1 - longest, 0)} new tokens, or a shorter prompt",
        )
