"""What a training found: the record, its JSON, and its Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from entrenar_common.text import escape_controls
from entrenar_common.units import format_count, format_duration
from entrenar_core.environment import Environment
from entrenar_core.io import files
from entrenar_core.io.records import record_from_json
from entrenar_core.train.stored_numbers import StoredNumbers

__all__ = ["Measured", "TrainPlan", "TrainReport", "read_report", "to_json", "to_markdown"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Measured:
    """A model on what was held out: `figures` by name, see `FIGURES`."""

    name: str
    parameters: int
    figures: dict[str, float]


@dataclass(frozen=True)
class TrainPlan:
    """What a training would do; `why` says how text, label and task were found, `words` what is
    special about the model, and `done` are the steps in the output folder."""

    task: str
    why: tuple[str, ...]
    model: str
    parameters: int
    trained: int
    rows: int
    held_out: int
    tokens: int
    steps: int
    steps_per_epoch: int
    optimizer: str
    words: dict[str, str]
    output: str
    done: int

    def facts(self) -> list[tuple[str, str]]:
        """All of it as names and values, for people."""
        return [
            ("task", self.task),
            *_reasons(self.why),
            ("model", _model(self.model, self.parameters, self.trained)),
            *self.words.items(),
            ("training", f"{self.rows} texts, {format_count(self.tokens)} tokens"),
            ("held out", f"{self.held_out} texts"),
            ("optimizer", self.optimizer),
            ("steps", f"{self.steps}; an epoch has {self.steps_per_epoch}"),
            ("done so far", f"{self.done} steps" if self.done else "nothing"),
            ("output", self.output),
        ]


@dataclass(frozen=True)
class TrainReport:
    """Everything that a training has to say.

    `scores` are of the model before training, after it, and where there are such of the GGUF file
    and of the merged model. `why` and `words` are as in `TrainPlan`; `files` say what is where in
    the output folder. `stopped` is why it ended before all of its steps, empty where it did not.
    `quantization` is there where it was trained on the numbers that are stored.
    """

    task: str
    why: tuple[str, ...]
    model: str
    parameters: int
    trained: int
    rows: int
    held_out: int
    optimizer: str
    seed: int
    steps: int
    seconds: float
    tokens: int
    tokens_per_second: float
    skipped_steps: int
    stopped: str
    scores: tuple[Measured, ...]
    words: dict[str, str]
    environment: Environment
    config_hash: str
    inputs: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)
    quantization: StoredNumbers | None = None
    schema_version: int = SCHEMA_VERSION

    SCHEMA: ClassVar[str] = "entrenar.distill.train/1"

    def score(self, name: str) -> Measured | None:
        """What was measured of the model called `name`, None where it was not."""
        return next((each for each in self.scores if each.name == name), None)

    def facts(self) -> list[tuple[str, str]]:
        """How it was trained, as names and values, for people."""
        speed = f"{format_count(self.tokens_per_second)} tokens/s"
        stored = []
        if self.quantization is not None:
            bits, worst = self.quantization.bits_per_weight, self.quantization.worst
            least = self.quantization.sqnr_db[worst]
            stored = [("bits per weight", f"{bits:.2f}; least SQNR {least:.1f} dB, of {worst}")]
        return [
            ("task", self.task),
            *_reasons(self.why),
            ("model", _model(self.model, self.parameters, self.trained)),
            *self.words.items(),
            *stored,
            ("texts", f"{self.rows} to train on, {self.held_out} held out"),
            ("optimizer", self.optimizer),
            ("steps", f"{self.steps} in {format_duration(self.seconds)}, {speed}"),
            *([("stopped", self.stopped)] if self.stopped else []),
            *([("skipped", f"{self.skipped_steps} steps")] if self.skipped_steps else []),
            ("machine", self.environment.cpu),
        ]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The columns and rows of what was measured."""
        names = list(self.scores[0].figures)
        rows = [
            [each.name, *(_figure(each.figures.get(name)) for name in names)]
            for each in self.scores
        ]
        return ["model", *names], rows


def to_json(report: Any) -> dict[str, Any]:
    """The report as plain JSON data; NaN and infinity become null."""
    return _plain(asdict(report))


def read_report(path: Path) -> TrainReport:
    """The report in the file `path`. Raises UnsupportedError for one of another version,
    FormatError for what is no report, and what reading it raises."""
    return record_from_json(TrainReport, files.read_json(path), SCHEMA_VERSION, str(path))


def to_markdown(report: TrainReport) -> str:
    """The text of report.md."""
    columns, rows = report.table()
    lines = ["# Training", "", *_table(columns, rows), ""]
    lines += [f"- {name}: {_cell(value)}" for name, value in report.facts()]
    lines += ["", "## Files", "", *_table(["what", "where"], [*map(list, report.files.items())])]
    hashes = [[name, value] for name, value in report.inputs.items()]
    lines += ["", "## Inputs", "", *_table(["what", "SHA-256"], hashes)]
    return "\n".join(lines) + f"\n\nConfiguration: `{report.config_hash}`, seed {report.seed}.\n"


def _reasons(why: Sequence[str]) -> list[tuple[str, str]]:
    return [("found", text) for text in why]


def _model(name: str, parameters: int, trained: int) -> str:
    share = "" if trained == parameters else f", {format_count(trained)} of them trained"
    return f"{name}, {format_count(parameters)} parameters{share}"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if abs(value) < 1e4 else f"{value:.4g}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---"] * len(columns)
    return [f"| {' | '.join(map(_cell, row))} |" for row in (columns, rule, *rows)]


def _cell(text: str) -> str:
    return escape_controls(text).replace("|", r"\|")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
