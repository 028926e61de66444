"""A child of the tests: merges that are killed at a given moment, each in a process of its own.

    python killed_merge.py CONFIG OUTPUT SHARD_BYTES MOMENT [MOMENT ...]

A moment is the number of the file operation before which it is killed, or 0: never. Prints how
each ended: `killed`, or its exit code.
"""

import os
import signal
import sys
from pathlib import Path

from entrenar_core.io import faults
from entrenar_core.io.os_calls import os_calls
from entrenar_core.merge import output
from entrenar_core.merge.models import merge, read


def main(config: str, target: str, shard_bytes: str, *moments: str) -> None:
    os_calls.fsync = lambda _fd: None
    output.MAX_SHARD_BYTES = int(shard_bytes)
    for moment in moments:
        # No kernel has run in this process yet, so it has no threads that a fork would lose.
        child = os.fork()
        if child == 0:
            with faults.inject(int(moment), kill=True):
                merge(*read(Path(config)), Path(target))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print("killed" if killed else os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
