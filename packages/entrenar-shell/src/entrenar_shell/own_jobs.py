"""The commands about what runs in the background."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from entrenar_common.cli import Command as ClickCommand
from entrenar_common.cli import Output, common_options
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.text import escape_controls
from entrenar_common.units import format_duration
from entrenar_core.io.os_calls import read_errors
from entrenar_shell.command import Command
from entrenar_shell.job import Job
from entrenar_shell.own import workbench

__all__ = ["COMMANDS", "JobLine", "Jobs", "Log"]

_POLL = 0.2
_LOG_BYTES = 4 * 2**20


@dataclass(frozen=True)
class JobLine:
    """A job: `code` is how it ended, None while it runs; `progress` the last line it printed."""

    number: int
    line: str
    code: int | None
    cancelled: bool
    seconds: float
    progress: str
    log: Path

    def __view__(self) -> list[Any]:
        return [
            Fields(
                f"Job {self.number}",
                [
                    ("command", self.line),
                    ("status", _status(self)),
                    ("duration", format_duration(self.seconds)),
                    ("progress", self.progress),
                    ("log", self.log),
                ],
            )
        ]


@dataclass(frozen=True)
class Jobs:
    """The jobs of this shell, in the order in which they were started."""

    jobs: tuple[JobLine, ...]

    def __view__(self) -> list[Any]:
        rows = [
            [job.number, job.line, _status(job), format_duration(job.seconds), job.progress]
            for job in self.jobs
        ]
        return [Table("Jobs", ["#", "command", "status", "duration", "progress"], rows)]


@dataclass(frozen=True)
class Log:
    """The last lines that a job printed."""

    number: int
    log: Path
    lines: tuple[str, ...]

    def __view__(self) -> list[Any]:
        return [Text("\n".join(self.lines))]


def _status(job: JobLine) -> Text:
    if job.code is None:
        return Text("ending" if job.cancelled else "runs")
    if job.code == 0:
        return Text("ok", "good")
    return Text(f"{'cancelled, ' if job.cancelled else ''}exit {job.code}", "bad")


def _described(job: Job) -> JobLine:
    return JobLine(
        job.number, job.line, job.code, job.cancelled, job.seconds, job.progress(), job.log
    )


_NUMBER = click.argument("number", type=click.IntRange(1), required=False)


@click.command("jobs", cls=ClickCommand)
@common_options
def _jobs(out: Output) -> None:
    """List the jobs in the background: how far each has come, or how it ended.

    A command that ends in & is one. Its exit code and what it wrote are in the history when it has
    ended.
    """
    out.emit(Jobs(tuple(map(_described, workbench().jobs))), schema="entrenar.shell.jobs/1")


@click.command("cancel", cls=ClickCommand)
@_NUMBER
@common_options
def _cancel(out: Output, number: int | None) -> None:
    """Tell a job to end, by default the one that was started last.

    It is interrupted, as by Ctrl-C: a training saves its checkpoint first. What has not ended after
    a minute is terminated; cancelling once more does that at once.
    """
    job = workbench().jobs.find(number)
    if not job.running:
        out.note(f"job {job.number} has ended already")
        return
    job.cancel()
    out.note(f"job {job.number} is told to end: {job.line}")


@click.command("wait", cls=ClickCommand)
@_NUMBER
@common_options
def _wait(out: Output, number: int | None) -> int:
    """Wait for a job, by default for all, and show what it prints meanwhile.

    It ends with the exit code of the job: of several, the first that is not 0. Ctrl-C ends the
    waiting; the jobs go on.
    """
    jobs = workbench().jobs
    waited = [jobs.find(number)] if number is not None else jobs.running() or [jobs.find()]
    for job in waited:
        for line in _printed(job):
            if not out.quiet:
                sys.stderr.write(f"{escape_controls(line)}\n")
                sys.stderr.flush()
    found = Jobs(tuple(map(_described, waited)))
    out.emit(found.jobs[0] if number is not None else found, schema="entrenar.shell.wait/1")
    return next((job.code for job in found.jobs if job.code), 0)


def _printed(job: Job) -> Iterator[str]:
    """The lines that a job prints from now on until it has ended."""
    with read_errors(job.log), job.log.open("rb") as log:
        log.seek(0, os.SEEK_END)
        rest, ended = b"", False
        while not ended:
            ended = job.wait(_POLL) is not None
            *lines, rest = (rest + log.read()).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)


@click.command("log", cls=ClickCommand)
@_NUMBER
@click.option("--lines", type=click.IntRange(1), default=40, help="How many of the last lines.")
@common_options
def _log(out: Output, number: int | None, lines: int) -> None:
    """Show what a job has printed, by default the one that was started last."""
    job = workbench().jobs.find(number)
    with read_errors(job.log), job.log.open("rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_BYTES))
        printed = log.read(_LOG_BYTES).decode(errors="replace").splitlines()
    shown = Log(job.number, job.log, tuple(printed[-lines:]))
    out.emit(shown, schema="entrenar.shell.log/1")


COMMANDS: tuple[Command, ...] = (
    Command(("jobs",), "train", "List what runs in the background.", lambda: _jobs),
    Command(
        ("cancel",), "train", "Tell a job to end.", lambda: _cancel, values=(("number", "job"),)
    ),
    Command(("wait",), "train", "Wait for a job.", lambda: _wait, values=(("number", "job"),)),
    Command(
        ("log",), "train", "Show what a job printed.", lambda: _log, values=(("number", "job"),)
    ),
)
