"""A child of the tests: runs that are killed at a given moment, each in a process of its own.

    python killed.py CONFIG OUTPUT MOMENT [MOMENT ...]

A moment is `op:N` (before the N-th file operation), `score:N` (in the N-th evaluation, the last of
which is the report's) or `end` (never). Each is a run with `--resume auto` into OUTPUT. Prints how
each run ended: `killed`, or its exit code.
"""

import os
import signal
import sys

from entrenar_core.io import faults
from entrenar_core.io.os_calls import os_calls
from entrenar_distill import causal, measure, pipeline
from entrenar_distill.config import resolve


def run_until(config: str, output: str, moment: str) -> None:
    kind, _, number = moment.partition(":")
    os_calls.fsync = lambda _fd: None
    if kind == "score":
        for module in (causal, measure):
            module.score = counted(module.score, int(number))
    resolved = resolve(config, output=output)
    with faults.inject(int(number) if kind == "op" else 0, kill=True):
        pipeline.run(resolved, resume="auto")


scores = 0


def counted(score, fatal):
    def scoring(*args, **kwargs):
        global scores
        scores += 1
        if scores == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return score(*args, **kwargs)

    return scoring


def main(config: str, output: str, *moments: str) -> None:
    for moment in moments:
        # No kernel has run in this process yet, so it has no threads that a fork would lose.
        child = os.fork()
        if child == 0:
            run_until(config, output, moment)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print("killed" if killed else os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
