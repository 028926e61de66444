"""A shell on the real prompt whose lines do little: what the prompt itself does can be seen."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from entrenar_common.output import Output
from entrenar_shell.history_file import HistoryFile, history_path
from entrenar_shell.job import Job
from entrenar_shell.jobs import Jobs
from entrenar_shell.prompt_terminal import Prompt
from entrenar_shell.prompt_world import SessionWorld
from entrenar_shell.repl import Repl
from entrenar_shell.session import LoadedModel, Session


class PlainBench:
    """Says what it was given; `quit`, `sleep` (until Ctrl-C), `fail` and `load NAME` do that."""

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
        elif word == "load":
            self.session.models[rest] = LoadedModel(rest, f"/models/{rest}")
        elif word == "start":
            self.jobs.start(line, plain=json.loads(rest), folder=os.getcwd())
        else:
            print(f"ran {line!r}")
        return 3 if word == "fail" else 0

    def _sleep(self) -> int:
        print("asleep", flush=True)
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            print("woken")
        return 130

    def record_job(self, job: Job) -> None:
        self.recorded.append(job.code)


def main() -> int:
    bench = PlainBench()
    history = HistoryFile(history_path(), warn=bench.out.warn)

    def prompt(tell):
        return Prompt(
            lambda: bench.session,
            world=SessionWorld(lambda: bench.session, bench.jobs),
            jobs=bench.jobs,
            tell=tell,
            history=history,
            keep=lambda: "unkept" not in bench.session.models,
            color=not os.environ.get("NO_COLOR"),
        )

    code = Repl(bench, version="0.1.0").run(prompt)
    Path("saved").write_text(json.dumps([*bench.session.models, *bench.recorded]))
    return code


if __name__ == "__main__":
    sys.exit(main())
