"""Studies: runs of several arms over the same seeds, kept on a disk."""

from entrenar_bench.study.leases import LeaseLost
from entrenar_bench.study.mirror import read_mirror
from entrenar_bench.study.records import Arm, Attempt, Lease, Plan, Status, Trial
from entrenar_bench.study.run import Ended, Outcome, run_trials
from entrenar_bench.study.search import Search
from entrenar_bench.study.store import Study
from entrenar_bench.study.worker import Measured, Runner

__all__ = [
    "Arm",
    "Attempt",
    "Ended",
    "Lease",
    "LeaseLost",
    "Measured",
    "Outcome",
    "Plan",
    "Runner",
    "Search",
    "Status",
    "Study",
    "Trial",
    "read_mirror",
    "run_trials",
]
