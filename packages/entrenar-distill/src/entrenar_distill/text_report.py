"""What a run about whole texts found: records, and JSON there and back.

How a report looks is in `entrenar_distill.text_present`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from entrenar_core.environment import Environment
from entrenar_core.io.files import read_json
from entrenar_core.io.records import record_from_json
from entrenar_core.train.stored_numbers import StoredNumbers
from entrenar_distill.intervals import Figure, IntervalMethod
from entrenar_distill.report import (
    AdaptedStudent,
    PhaseTiming,
    Reproduction,
    TaughtFeature,
)

__all__ = ["TextReport", "TextScore", "read_text_report"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class TextScore:
    """One model on the held-out texts: its `figures` by name, None where one means nothing for it.

    Of embeddings: `cosine`, the mean of the cosine to the teacher's embedding (through the learned
    projection, where there is one); `spearman`, the rank correlation of the similarities between
    texts with the teacher's, which has no interval.
    Of hidden tokens: those of `MaskedFigures`.
    Of classes: `loss`, nats per text; `accuracy`; `macro_f1`, the mean of F1 over the classes that
    are there; `ece`, the expected calibration error; `agreement`, how often the class is the
    teacher's; `kl`, KL(teacher ‖ model).
    """

    name: str
    parameters: int
    figures: dict[str, Figure | None]
    texts_per_second: float


@dataclass(frozen=True)
class TextReport:
    """Everything that a run about whole texts has to say.

    `scores` hold one entry named teacher, one named student and, after a run with a control, one
    named control; of embeddings, one named "before training" too; where the student was quantized
    after training, one named "student in …" of the file. `difference` has student minus control,
    paired over texts. `parts` maps what the student's loss was made of to its (step, value) points.
    `settings` are what decides the loss, by name.
    """

    task: str
    teacher: str
    student: str
    formula: str
    normaliser: str
    settings: dict[str, str]
    steps: int
    seed: int
    training_texts: int
    shortened_texts: int
    scores: tuple[TextScore, ...]
    intervals: IntervalMethod
    verdict: str
    phases: tuple[PhaseTiming, ...]
    environment: Environment
    difference: dict[str, Figure] | None = None
    notes: tuple[str, ...] = ()
    curve: dict[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    skipped_steps: int = 0
    quantization: StoredNumbers | None = None
    adapter: AdaptedStudent | None = None
    features: tuple[TaughtFeature, ...] | None = None
    next_commands: tuple[str, ...] = ()
    reproduction: Reproduction | None = None
    parts: dict[str, tuple[tuple[int, float], ...]] | None = None
    schema_version: int = SCHEMA_VERSION

    SCHEMA: ClassVar[str] = "entrenar.distill.text-run/1"

    def score(self, name: str) -> TextScore | None:
        """The score of the model called `name`, or None when it was not measured."""
        return next((score for score in self.scores if score.name == name), None)

    def __view__(self) -> list[Any]:
        from entrenar_distill import text_present

        return text_present.parts(self)


def read_text_report(path: Path) -> TextReport:
    """The report in the file `path` (report.json).

    Raises UnsupportedError for a report of another version, FormatError for what is no report, and
    what `read_json` raises.
    """
    return record_from_json(TextReport, read_json(path), SCHEMA_VERSION, str(path))
