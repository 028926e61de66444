"""Dropout that happens only while training, decided by counters and not by a hidden state."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from entrenar_common.errors import ConfigError
from entrenar_core.autograd import Tensor, ops
from entrenar_core.nn.module import Module
from entrenar_core.rng import stream


class _Place(NamedTuple):
    """Where in a run the next key is drawn. Immutable, so that a copy of the context, which
    activation checkpointing takes, gives the same keys again."""

    seed: int
    step: int
    calls: int


_place: ContextVar[_Place | None] = ContextVar("dropout_place", default=None)


@contextmanager
def dropout(seed: int, step: int) -> Iterator[None]:
    """Inside, `Dropout` modules drop: a pure function of `seed`, `step` and the order of calls.

    `step` is the number of the micro-batch. Outside, and so in evaluation, nothing is dropped.
    """
    token = _place.set(_Place(seed, step, 0))
    try:
        yield
    finally:
        _place.reset(token)


@contextmanager
def no_dropout() -> Iterator[None]:
    """Inside, nothing is dropped: for a model that is only asked while another is trained."""
    token = _place.set(None)
    try:
        yield
    finally:
        _place.reset(token)


class Dropout(Module):
    """Zeroes elements with probability p and divides the others by 1 − p, inside `dropout`."""

    def __init__(self, p: float):
        if not 0 <= p < 1:
            raise ConfigError(f"dropout of {p}", hint="give a probability of at least 0, below 1")
        self.p = p

    def next_key(self) -> int | None:
        """The key of the next call, for what drops by itself (attention); None for no dropout."""
        place = _place.get()
        if place is None or self.p == 0:
            return None
        _place.set(place._replace(calls=place.calls + 1))
        return int(stream(place.seed, "dropout", place.step, place.calls).integers(2**63))

    def __call__(self, x: Tensor) -> Tensor:
        key = self.next_key()
        return x if key is None else ops.dropout(x, p=self.p, key=key)
