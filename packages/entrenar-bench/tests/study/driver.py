"""Drives a study as its own process: python driver.py STUDY RUNNER JOBS [LEASE_SECONDS]."""

import sys

import study_runners
from entrenar_bench.study import Study, run_trials

if __name__ == "__main__":
    path, runner, jobs, seconds = [*sys.argv[1:], "120"][:4]
    with Study.open(path, lease_seconds=float(seconds)) as study:
        sys.stdout.write("open\n")
        sys.stdout.flush()
        print(run_trials(study, getattr(study_runners, runner), jobs=int(jobs)))
