"""A shell on the real prompt whose lines do little: what the prompt itself does can be seen."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from entrenar_common.output import Output
from entrenar_shell import job, start
from entrenar_shell.jobs import Jobs
from entrenar_shell.repl import Repl
from entrenar_shell.session import LoadedModel, Session
from entrenar_shell.start import Start


class PlainBench:
    """Says what it was given; `quit`, `fail` and `load NAME` do that, `sleep` waits for Ctrl-C,
    `set NAME` switches a setting off, and `start FILE` is a job that prints what is in a file."""

    def __init__(self) -> None:
        self.session = Session("here")
        self.jobs = Jobs()
        self.out = Output()
        self.ended = False
        self.recorded: list[int | None] = []

    def run(self, line: str) -> int:
        word, _, rest = line.partition(" ")
        if word == "quit":
            self.ended = True
        elif word == "sleep":
            return self._sleep()
        elif word == "set":
            self.session.settings[rest] = "off"
        elif word == "load":
            self.session.models[rest] = LoadedModel(rest, f"/models/{rest}")
        elif word == "start":
            job._process_words = lambda plain: list(plain[0])
            self.jobs.start(line, plain=[("cat", rest)], folder=os.getcwd())
        else:
            print(f"ran {line!r}")
        return 3 if word == "fail" else 0

    def _sleep(self) -> int:
        try:
            print("asleep", flush=True)  # whoever has read it may press Ctrl-C at once
            while True:
                time.sleep(0.05)  # a signal that comes just before a sleep is seen after it
        except KeyboardInterrupt:
            print("woken")
        return 130

    def record_job(self, ended: job.Job) -> None:
        self.recorded.append(ended.code)


def main() -> int:
    bench = PlainBench()
    code = Repl(bench, version="0.1.0").run(lambda tell: start._prompt(Start(), bench, tell))
    Path("saved").write_text(json.dumps([*bench.session.models, *bench.recorded]))
    return code


if __name__ == "__main__":
    sys.exit(main())
