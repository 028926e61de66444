"""What a distillation run found: records, their verdict, and JSON there and back.

How a report looks is in `entrenar_distill.present`.
"""

import dataclasses
import math
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from entrenar_common.errors import FormatError, UnsupportedError
from entrenar_common.tables import to_plain
from entrenar_core.environment import Environment
from entrenar_core.io.files import read_json

__all__ = [
    "NORMALISER",
    "CompressionBaseline",
    "Difference",
    "Environment",
    "ModelScore",
    "PhaseTiming",
    "QuantizedStudent",
    "RunReport",
    "Sample",
    "TaughtFeature",
    "caveats",
    "from_json",
    "read_report",
    "to_json",
    "verdict",
]

SCHEMA_VERSION = 1
NORMALISER = "per valid token of the whole optimizer step"

_FEW_DOCUMENTS = 20


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
    which the likeliest next token is the teacher's (None for the teacher itself, and for students
    with another tokenizer).
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
class QuantizedStudent:
    """The student's weights as they are stored, after training on these numbers.

    `name` is the recipe or the format; `from_step` the step, counted from 0, from which on all
    `matrices`, of `parameters` numbers, were so. `sqnr_db` has 10·log10(Σw² / Σ(w − stored)²) of
    each, w being the weights in full precision, and `worst` names the least. `activations` are the
    bits that inputs are rounded to, and `loss_with_inputs` the held-out loss with those.
    """

    name: str
    from_step: int
    matrices: int
    parameters: int
    bits_per_weight: float
    sqnr_db: dict[str, float]
    worst: str
    activations: int | None = None
    loss_with_inputs: float | None = None


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
class RunReport:
    """Everything that a run has to say; `curve` maps a phase to its (step, loss) points.

    `scores` hold one entry named teacher, one named student and, after a run with a control, one
    named control; where the student was quantized after training, also one named "student in …" of
    the file. `formula` is the loss; `beta`, `skew` and `top_k` are given where it has them.
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
    quantization: QuantizedStudent | None = None
    adapter: AdaptedStudent | None = None
    features: tuple[TaughtFeature, ...] | None = None
    next_commands: tuple[str, ...] = ()
    normaliser: str = NORMALISER
    formula: str = ""
    beta: float | None = None
    skew: float | None = None
    top_k: int | None = None
    tokenizers: str | None = None
    verdict: str = ""
    schema_version: int = SCHEMA_VERSION

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
    """What the run shows about distillation, in one sentence that claims no more than it can."""
    found = report.difference
    if found is None:
        return "Cannot tell whether distillation helped: run with --control."
    if not all(map(math.isfinite, (found.bits_per_byte, found.low, found.high))):
        return (
            "Cannot tell whether distillation helped: the difference to the control has no "
            f"interval ({found.documents} held-out documents)."
        )
    size = f"{abs(found.bits_per_byte):.4f} bits per byte"
    interval = (
        f"{found.confidence * 100:g} % interval of student minus control {found.low:+.4f} to "
        f"{found.high:+.4f}, paired over {found.documents} held-out documents"
    )
    if found.high < 0:
        return f"Distillation helped by {size} ({interval})."
    if found.low > 0:
        return f"Distillation hurt by {size}: train without the teacher ({interval})."
    return f"No difference shown between student and control ({interval}; it contains 0)."


def caveats(report: RunReport) -> list[str]:
    """What a reader should know before trusting the figures; empty when there is nothing."""
    found: list[str] = []
    teacher, control, baseline = report.score("teacher"), report.score("control"), report.baseline
    if teacher and baseline and not teacher.bits_per_byte < baseline.bits_per_byte:
        found.append(
            f"The teacher predicts the held-out text no better than {baseline.name}: "
            "it has little to teach."
        )
    if teacher and control and not teacher.bits_per_byte < control.bits_per_byte:
        found.append("The teacher is no better than the control: it has nothing to teach.")
    if report.skipped_steps:
        found.append(
            f"{report.skipped_steps} optimizer steps were skipped: loss or gradient not finite."
        )
    if report.difference and report.difference.documents < _FEW_DOCUMENTS:
        found.append(
            f"Only {report.difference.documents} held-out documents: the interval is rough."
        )
    return found


# ---- JSON --------------------------------------------------------------------------------------


def to_json(report: RunReport) -> dict[str, Any]:
    """The report as plain JSON data; NaN and infinity become null."""
    return to_plain(report)


def read_report(path: str | os.PathLike[str]) -> RunReport:
    """The report in the file `path` (report.json). Raises what `read_json` and `from_json` do."""
    return from_json(read_json(path), os.fspath(path))


def from_json(data: Any, name: str = "report.json") -> RunReport:
    """The report that `to_json` made `data` from; where a number was null, it is NaN.

    Raises UnsupportedError for a report of another version and FormatError for what is no report.
    """
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version != SCHEMA_VERSION:
        raise UnsupportedError(
            f"{name}: a report of version {version}; version {SCHEMA_VERSION} is understood",
            hint="use the release of entrenar-distill that wrote it",
        )
    try:
        return _decode(RunReport, data, "report")
    except (TypeError, ValueError, OverflowError) as error:
        raise FormatError(
            f"{name}: not a report of a distillation: {error}",
            hint="name the report.json of a finished run",
        ) from error


def _decode(kind: Any, value: Any, where: str) -> Any:
    """`value` from JSON as the type `kind`; TypeError or ValueError when it is not one."""
    if dataclasses.is_dataclass(kind):
        return _decode_record(kind, value, where)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # X | None is the only union in the records
        return None if value is None else _decode(args[0], value, where)
    if origin is tuple:
        return _decode_tuple(args, value, where)
    if origin is dict:
        items = _expect(dict, value, where).items()
        return {key: _decode(args[1], item, f"{where}.{key}") for key, item in items}
    if kind is float:
        return math.nan if value is None else float(_expect((int, float), value, where))
    return _expect(kind, value, where)


def _decode_record(kind: Any, value: Any, where: str) -> Any:
    data: Mapping[str, Any] = _expect(dict, value, where)
    hints = typing.get_type_hints(kind)
    # what may be None is not in reports from before there was such a thing
    optional = {field.name for field in dataclasses.fields(kind) if field.default is None}
    if missing := sorted(hints.keys() - data.keys() - optional):
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    if data.keys() - hints.keys():
        raise ValueError(f"{where} has unknown keys")
    # The names are those of our own record, never the file's.
    return kind(
        **{
            name: _decode(hint, data[name], f"{where}.{name}")
            for name, hint in hints.items()
            if name in data
        }
    )


def _decode_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    items = _expect(list, value, where)
    kinds = [args[0]] * len(items) if args[-1] is Ellipsis else args
    if len(kinds) != len(items):
        raise ValueError(f"{where} must have {len(kinds)} values")
    pairs = zip(kinds, items, strict=True)
    return tuple(_decode(kind, item, f"{where}.{i}") for i, (kind, item) in enumerate(pairs))


def _expect(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{where} is of the wrong type")
    return value
