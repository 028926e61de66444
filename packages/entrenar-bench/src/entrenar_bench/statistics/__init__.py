"""Statistics of few runs: what can be said of them, and what cannot."""

from entrenar_bench.statistics.arms import Comparisons, compare_arms
from entrenar_bench.statistics.bootstrap import Bootstrap, bootstrap_mean
from entrenar_bench.statistics.comparison import Comparison, compare
from entrenar_bench.statistics.effects import Effect, d_av, d_z, hedges_g, superiority, wins
from entrenar_bench.statistics.equivalence import equivalence_p
from entrenar_bench.statistics.exact import ExactTest, mann_whitney, sign_flip
from entrenar_bench.statistics.expected_best import expected_best
from entrenar_bench.statistics.factorial import (
    FactorialEffect,
    FactorialEffects,
    factorial_effects,
)
from entrenar_bench.statistics.multiplicity import benjamini_hochberg, holm
from entrenar_bench.statistics.power import paired_power, paired_seeds, welch_power, welch_seeds
from entrenar_bench.statistics.sample import State, state_of
from entrenar_bench.statistics.t_tests import TTest, interval, paired_t, welch_t
from entrenar_bench.statistics.verdict import Goal, Verdict

__all__ = [
    "Bootstrap",
    "Comparison",
    "Comparisons",
    "Effect",
    "ExactTest",
    "FactorialEffect",
    "FactorialEffects",
    "Goal",
    "State",
    "TTest",
    "Verdict",
    "benjamini_hochberg",
    "bootstrap_mean",
    "compare",
    "compare_arms",
    "d_av",
    "d_z",
    "equivalence_p",
    "expected_best",
    "factorial_effects",
    "hedges_g",
    "holm",
    "interval",
    "mann_whitney",
    "paired_power",
    "paired_seeds",
    "paired_t",
    "sign_flip",
    "state_of",
    "superiority",
    "welch_power",
    "welch_seeds",
    "welch_t",
    "wins",
]
