"""What a distillation run found: records, and their verdict.

How a report looks is in `entrenar_distill.present`, and in `report_json` what it is in a file.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from entrenar_core.environment import Environment
from entrenar_core.train.stored_numbers import StoredNumbers
from entrenar_distill.verdicts import UNKNOWN, Measure, verdict_on

__all__ = [
    "NORMALISER",
    "CompressionBaseline",
    "Difference",
    "Environment",
    "ModelScore",
    "PhaseTiming",
    "Reproduction",
    "RunReport",
    "Sample",
    "TaughtFeature",
    "caveats",
    "verdict",
]

SCHEMA_VERSION = 1
NORMALISER = "per valid token of the whole optimizer step"

_FEW_DOCUMENTS = 20
_BITS = Measure("bits per byte", "held-out documents")


@dataclass(frozen=True)
class PhaseTiming:
    """What one phase of the run took; `tokens_per_second` counts the tokens trained on."""

    name: str
    seconds: float
    tokens: int
    tokens_per_second: float
    steps: int


@dataclass(frozen=True)
class ModelScore:
    """One model on the held-out documents.

    `loss` is in nats per token; `perplexity` is exp(loss); `bits_per_byte` is loss·tokens /
    (ln 2 · bytes), which does not depend on the tokenizer; `agreement` is the share of tokens for
    which the likeliest next token is that of the first model in the report: the teacher, several
    mixed ones as one, or the first of routed ones (None for itself, and for students with another
    tokenizer).
    """

    name: str
    parameters: int
    loss: float
    perplexity: float
    bits_per_byte: float
    agreement: float | None


@dataclass(frozen=True)
class Difference:
    """Student minus control in bits per byte, with an interval paired over held-out documents."""

    bits_per_byte: float
    low: float
    high: float
    confidence: float = 0.95
    documents: int = 0
    resamples: int = 0


@dataclass(frozen=True)
class CompressionBaseline:
    """A compressor of the same held-out documents, each on its own: what any model must beat."""

    name: str
    bits_per_byte: float


@dataclass(frozen=True)
class TaughtFeature:
    """A term of the loss about what is inside the teacher.

    The loss had `weight` times the mean of `formula` over the `pairs` of layers, student's and
    teacher's, while they were `active`. `projections` numbers were trained beside the student for
    it. `first` and `last` are that mean in the first and in the last step with the term, None where
    there was none.
    """

    name: str
    formula: str
    weight: float
    pairs: str
    active: str
    projections: int
    first: float | None = None
    last: float | None = None


@dataclass(frozen=True)
class AdaptedStudent:
    """The adapter that was trained instead of the student's weights.

    `parameters` numbers, a `share` of all, in `modules`; the weights beside it were `held_as` a
    format of few bits, or as they are (None). `fused`: it is in the weights that were written.
    """

    rank: int
    alpha: float
    modules: int
    parameters: int
    share: float
    held_as: str | None
    fused: bool


@dataclass(frozen=True)
class Sample:
    """Text that a model wrote after a prompt (the prompt is not in `text`)."""

    prompt: str
    model: str
    text: str


@dataclass(frozen=True)
class Reproduction:
    """What it takes to get the same student again.

    `command` runs the whole configuration anew in another folder; `config_hash` is that of what
    decides the student; `inputs` are the hashes of the files that were read, by what they are;
    `versions` those of the packages whose change could change a bit.
    """

    command: str
    config_hash: str
    inputs: dict[str, str]
    versions: dict[str, str]


@dataclass(frozen=True)
class RunReport:
    """Everything that a run has to say; `curve` maps a phase to its (step, loss) points, and
    `parts` does so for what the student's loss was made of.

    `scores` hold one entry named teacher, or of several one named teachers where they are mixed and
    those named teacher 1 and so on, the first of which is agreed with or not; one named student
    and, after a run with a control, one named control; where the student was quantized after
    training, also one named "student in …" of the file. `vocabularies` say how the ids of each
    teacher are related to the student's. `formula` is the loss; `beta`, `skew` and `top_k` are
    given where it has them. `dataset_revision` is the commit of a dataset on the hub.
    `answers_only`: tokens of answers alone were scored, and bytes of answers counted; None for all.
    `verdict` is written from the figures when it is left empty.
    """

    teacher: str
    student: str
    temperature: float
    alpha: float
    steps: int
    seed: int
    scores: tuple[ModelScore, ...]
    phases: tuple[PhaseTiming, ...]
    environment: Environment
    difference: Difference | None = None
    baseline: CompressionBaseline | None = None
    curve: dict[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    skipped_steps: int = 0
    quantization: StoredNumbers | None = None
    adapter: AdaptedStudent | None = None
    features: tuple[TaughtFeature, ...] | None = None
    parts: dict[str, tuple[tuple[int, float], ...]] | None = None
    reproduction: Reproduction | None = None
    vocabularies: tuple[str, ...] | None = None
    answers_only: bool | None = None
    next_commands: tuple[str, ...] = ()
    normaliser: str = NORMALISER
    formula: str = ""
    beta: float | None = None
    skew: float | None = None
    top_k: int | None = None
    dataset_revision: str | None = None
    tokenizers: str | None = None
    verdict: str = ""
    schema_version: int = SCHEMA_VERSION

    SCHEMA: ClassVar[str] = "entrenar.distill.run/1"

    def __post_init__(self) -> None:
        if not self.verdict:
            object.__setattr__(self, "verdict", verdict(self))

    def score(self, name: str) -> ModelScore | None:
        """The score of the model called `name`, or None when it was not measured."""
        return next((score for score in self.scores if score.name == name), None)

    def __view__(self) -> list[Any]:
        from entrenar_distill import present

        return present.parts(self)


def verdict(report: RunReport) -> str:
    """What the run shows about distillation."""
    found = report.difference
    if found is None:
        return UNKNOWN
    return verdict_on(
        _BITS, found.bits_per_byte, found.low, found.high,
        confidence=found.confidence, count=found.documents,
    )  # fmt: skip


def caveats(report: RunReport) -> list[str]:
    """What a reader should know before trusting the figures; empty when there is nothing."""
    found: list[str] = []
    control, baseline = report.score("control"), report.baseline
    teacher, mixed = report.score("teacher"), report.score("teachers")
    name = "The teacher" if teacher else "The mixture of the teachers"
    teacher = teacher or mixed
    if teacher and baseline and not teacher.bits_per_byte < baseline.bits_per_byte:
        found.append(
            f"{name} predicts the held-out text no better than {baseline.name}: "
            "it has little to teach."
        )
    if teacher and control and not teacher.bits_per_byte < control.bits_per_byte:
        found.append(f"{name} is no better than the control: it has nothing to teach.")
    if report.skipped_steps:
        found.append(
            f"{report.skipped_steps} optimizer steps were skipped: loss or gradient not finite."
        )
    if report.difference and report.difference.documents < _FEW_DOCUMENTS:
        found.append(
            f"Only {report.difference.documents} held-out documents: the interval is rough."
        )
    return found
