"""Drives a sweep that grows as its own process: STUDY RUNNER JOBS TRIALS LEASE_SECONDS."""

import sys

import growing
import study_runners
from entrenar_bench.study import Study, run_trials

if __name__ == "__main__":
    path, runner, jobs, trials, seconds = sys.argv[1:]
    growth = growing.walk(int(trials), step=0.125)
    with Study.open(path, growth.plan, lease_seconds=float(seconds)) as study:
        sys.stdout.write("open\n")
        sys.stdout.flush()
        done = run_trials(
            study,
            getattr(study_runners, runner),
            jobs=int(jobs),
            more=growth.more,
        )
        print(f"finished={done.finished}")
