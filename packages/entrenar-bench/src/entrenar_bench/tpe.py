"""Points by a tree-structured Parzen estimator, through optuna.

Source: Bergstra, Bardenet, Bengio and Kégl, "Algorithms for Hyper-Parameter Optimization" (2011).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from entrenar_bench.space import Axis, Point, Span
from entrenar_bench.statistics import Goal
from entrenar_common.errors import UnsupportedError

__all__ = ["TpeSampler", "value_of"]


class TpeSampler:
    """optuna's TPE sampler with a seed and its own defaults, in a study that is in memory.

    A list of numbers is an axis of places in it, in ascending order, so steps and log grids keep
    the order that they have; other lists are categories. Numbers of a span are rounded as random
    ones are. Raises UnsupportedError where optuna is not installed.
    """

    def __init__(self, axes: Sequence[Axis], *, goal: Goal, seed: int) -> None:
        self._optuna = optuna = _optuna()
        self._axes = {axis.name: _ordered(axis) for axis in axes}
        self._space = {name: _distribution(optuna, axis) for name, axis in self._axes.items()}
        plain = {a.name: asdict(a.values) if isinstance(a.values, Span) else list(a.values)
                 for a in axes}  # fmt: skip
        self.rule: Mapping[str, Any] = {"sampler": "tpe", "axes": plain, "goal": goal, "seed": seed}
        with _quiet(optuna):
            self._study = optuna.create_study(
                sampler=optuna.samplers.TPESampler(seed=seed),
                direction="minimize" if goal == "lower" else "maximize",
            )
        self._trial: Any = None

    @property
    def described(self) -> str:
        """The method and its version."""
        return (
            f"a tree-structured Parzen estimator (optuna {self._optuna.__version__}), which asks "
            "for each point by the results of those before it; the first ones are random"
        )

    def ask(self) -> Point:
        """The next point: a value for each axis."""
        self._trial = self._study.ask(self._space)
        params = self._trial.params
        return {name: value_of(axis, params[name]) for name, axis in self._axes.items()}

    def tell(self, value: float | None) -> None:
        """What the last point is worth; None where it failed, which the estimator leaves out."""
        failed = self._optuna.trial.TrialState.FAIL
        self._study.tell(self._trial, value, state=failed if value is None else None)


def value_of(axis: Axis, found: float) -> Any:
    """The value of an axis for what was drawn: a number of its span, or a place in its list."""
    values = axis.values
    return values.rounded(found) if isinstance(values, Span) else values[int(found)]


def _ordered(axis: Axis) -> Axis:
    if isinstance(axis.values, Span) or not _is_numeric(axis.values):
        return axis
    return Axis(axis.name, tuple(sorted(axis.values)))


def _is_numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _distribution(optuna: Any, axis: Axis) -> Any:
    values, kinds = axis.values, optuna.distributions
    if isinstance(values, Span):
        kind: Callable[..., Any] = (
            kinds.IntDistribution if values.whole else kinds.FloatDistribution
        )
        return kind(values.low, values.high, log=values.log)
    if _is_numeric(values):
        return kinds.IntDistribution(0, len(values) - 1)
    return kinds.CategoricalDistribution(range(len(values)))


def _optuna() -> Any:
    try:
        return importlib.import_module("optuna")
    except ModuleNotFoundError:
        raise UnsupportedError(
            "the sampler tpe needs the package optuna, which is not installed",
            hint="pip install 'entrenar-bench[tpe]', or use --sampler random",
        ) from None


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Keeps optuna from writing that it has made a study."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
