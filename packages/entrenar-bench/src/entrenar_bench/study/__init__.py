"""Studies: runs of several arms over the same seeds, kept on a disk."""

from entrenar_bench.study.leases import LeaseLost
from entrenar_bench.study.mirror import read_mirror
from entrenar_bench.study.records import Arm, Asked, Attempt, Lease, Plan, Status, Trial
from entrenar_bench.study.run import Outcome, run_trials
from entrenar_bench.study.search import Search
from entrenar_bench.study.steps import Reporting, Step
from entrenar_bench.study.store import Study
from entrenar_bench.study.watch import Ended, Watch
from entrenar_bench.study.worker import Measured, Runner

__all__ = [
    "Arm",
    "Asked",
    "Attempt",
    "Ended",
    "Lease",
    "LeaseLost",
    "Measured",
    "Outcome",
    "Plan",
    "Reporting",
    "Runner",
    "Search",
    "Status",
    "Step",
    "Study",
    "Trial",
    "Watch",
    "read_mirror",
    "run_trials",
]
