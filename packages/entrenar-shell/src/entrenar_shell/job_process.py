"""The process of a job: `python -m entrenar_shell.job_process LINES` runs the plain command lines
of the JSON text until one fails, and ends with its code."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from entrenar_shell.job import GRACE
from entrenar_shell.tools import tool

__all__ = ["run"]


def run(plain: Sequence[Sequence[str]]) -> int:
    """Run command lines of the tools in this process, and give the first code that is not 0."""
    for name, *words in plain:
        code = tool(name).main(words, prog_name=name, standalone_mode=False)
        if code:
            return code
    return 0


def _main() -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored below a `nohup shell &`
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log is read while it is written
    _end_with_the_shell()
    return run(json.loads(sys.argv[1]))


def _end_with_the_shell() -> None:
    """End this process and its children when the pipe that was its input does, and give it another
    input."""
    shell = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        os.read(shell, 1)
        for number, seconds in GRACE:
            os.killpg(os.getpgrp(), number)
            time.sleep(seconds)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    raise SystemExit(_main())
