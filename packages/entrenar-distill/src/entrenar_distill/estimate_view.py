"""What `entrenar-distill estimate` shows: both models, a row for each precision of the teacher, the
terms of the chosen one, what fits, disk, and what a probe has measured."""

from dataclasses import dataclass
from typing import Any

from entrenar_common.tables import Bar, Fields, Table, Text
from entrenar_common.units import format_binary, format_duration
from entrenar_core.estimate.rows import COLUMNS, TermRow, caption, term_cells

PHASES = {
    "teacher": "while the teacher reads a batch",
    "loss": "while the loss is computed",
    "features": "while features are compared",
    "backward": "while gradients are computed",
    "control": "in a step of the control",
    "reading": "while the student is read again",
    "measuring": "while all models are measured",
}


@dataclass(frozen=True)
class ModelRow:
    """A model, where its shape is from, and what its weights are held in."""

    name: str
    origin: str
    parameters: int
    precision: str


@dataclass(frozen=True)
class TeacherRow:
    """The whole with the teacher in one precision; run_with: the setting that a run has it by."""

    precision: str
    teacher_bytes: int
    total_bytes: int
    peak_phase: str
    fits: bool | None
    chosen: bool
    run_with: str


@dataclass(frozen=True)
class DiskRow:
    """Files of one kind, in the output folder."""

    what: str
    bytes: int
    how: str


@dataclass(frozen=True)
class ProbeResult:
    """What some steps really took: memory beside what was predicted (error: predicted / measured
    − 1), the seconds of a step, and those of all steps where their number is known."""

    predicted_bytes: int
    measured_bytes: int
    error: float
    student_seconds: float
    control_seconds: float | None
    tokens_per_second: float
    steps: int | None
    seconds: float | None


@dataclass(frozen=True)
class EstimateReport:
    """What a distillation takes at one size."""

    teacher: ModelRow
    student: ModelRow
    trained_parameters: int
    method: str
    loss: str
    batch_size: int
    accumulation: int
    seq_len: int
    control: bool
    total_bytes: int
    peak_phase: str
    computed: str
    terms: tuple[TermRow, ...]
    teachers: tuple[TeacherRow, ...]
    limit_bytes: int | None
    limit_stated: bool
    fits: bool | None
    largest_batch: int | None
    disk: tuple[DiskRow, ...]
    probe: ProbeResult | None = None

    @property
    def exceeds(self) -> bool:
        """Whether a limit was stated that is not kept."""
        return self.limit_stated and self.fits is False

    def __view__(self) -> list[Any]:
        parts: list[Any] = [Fields(None, self._settings()), self._by_teacher(), *self._by_term()]
        parts.append(Table("On the disk", ["files", "size", "how"], _disk(self.disk)))
        if self.probe is not None:
            parts.append(Fields("Tried on this machine", _tried(self.probe)))
        return parts

    def _settings(self) -> list[tuple[str, Any]]:
        share = 100 * self.trained_parameters / self.student.parameters
        more = f", × {self.accumulation} a step" if self.accumulation > 1 else ""
        trained = f"{self.method}: {self.trained_parameters:,} parameters ({share:.2f}%)"
        return [
            ("teacher", _named(self.teacher)),
            ("student", _named(self.student)),
            ("trained", trained + (", and a control" if self.control else "")),
            ("loss", self.loss),
            ("batch", f"{self.batch_size:,} × {self.seq_len:,} tokens{more}"),
            *self._fitting(),
        ]

    def _fitting(self) -> list[tuple[str, Any]]:
        if self.limit_bytes is None:
            return []
        limit = format_binary(self.limit_bytes)
        whose = limit if self.limit_stated else f"the {limit} of this machine"
        largest = f"{self.largest_batch:,}" if self.largest_batch else "none"
        fits = Text(f"fits in {whose}", "good") if self.fits else Text(f"exceeds {whose}", "bad")
        return [
            ("memory", Text(f"{format_binary(self.total_bytes)}, {fits.text}", fits.style)),
            ("largest batch", f"{largest} of {self.seq_len:,} tokens in {whose}"),
        ]

    def _by_teacher(self) -> Table:
        rows = [
            [
                Text(row.precision, "good") if row.chosen else row.precision,
                format_binary(row.teacher_bytes),
                format_binary(row.total_bytes),
                row.peak_phase,
                *_fit(row.fits),
                row.run_with,
            ]
            for row in self.teachers
        ]
        fits = [] if self.limit_bytes is None else ["fits"]
        columns = ["teacher in", "its weights", "total", "peak", *fits, "by"]
        caption = "By: training.mixed_precision or teacher.quantize of the configuration."
        return Table("By the precision of the teacher", columns, rows, caption)

    def _by_term(self) -> list[Any]:
        cells = term_cells(self.terms, self.total_bytes)
        total = format_binary(self.total_bytes)
        return [
            Text(f"Memory: {total}; the peak is {PHASES[self.peak_phase]}", "title"),
            Bar([(row.name, row.share) for row in self.terms if row.at_peak]),
            Table(None, list(COLUMNS), cells, caption(self.terms, self.computed)),
        ]


def _named(model: ModelRow) -> str:
    where = f"{model.name} ({model.origin})"
    return f"{where}, {model.parameters:,} parameters in {model.precision}"


def _fit(fits: bool | None) -> list[Any]:
    if fits is None:
        return []
    return [Text("yes", "good") if fits else Text("no", "bad")]


def _disk(rows: tuple[DiskRow, ...]) -> list[list[Any]]:
    total = sum(row.bytes for row in rows)
    shown: list[list[Any]] = [[row.what, format_binary(row.bytes), row.how] for row in rows]
    return [*shown, ["total", format_binary(total), "in the output folder, at most"]]


def _tried(found: ProbeResult) -> list[tuple[str, Any]]:
    memory = f"{format_binary(found.measured_bytes)}, predicted "
    memory += f"{format_binary(found.predicted_bytes)} ({100 * found.error:+.1f}%)"
    rows: list[tuple[str, Any]] = [
        ("peak memory", memory),
        ("a step", f"{found.student_seconds:.3g} s"),
        ("tokens/s", f"{found.tokens_per_second:,.0f}"),
    ]
    if found.control_seconds is not None:
        rows.append(("a step of the control", f"{found.control_seconds:.3g} s"))
    whole = "the number of steps is not known: give a configuration with its data"
    if found.seconds is not None:
        whole = f"{format_duration(found.seconds)} for {found.steps:,} steps, without measuring"
    return [*rows, ("all steps", whole)]
