"""A model in another file format: written, compared with what it was, and measured on text."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError
from entrenar_common.losses import loss_table
from entrenar_common.progress import NullProgress, Progress
from entrenar_common.tables import Fields, Text
from entrenar_common.units import format_bytes, format_count, format_duration
from entrenar_core import models
from entrenar_core.convert.containers import CONTAINERS
from entrenar_core.convert.export import export as write
from entrenar_core.convert.export import export_within
from entrenar_core.convert.exported import Exported
from entrenar_core.convert.verify import FormatLoss
from entrenar_core.data.batches import Batch, Batches
from entrenar_core.data.load_tokenizer import load_tokenizer
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.tokens import tokenize
from entrenar_core.io.hub import resolve_model
from entrenar_core.train.evaluate import score
from entrenar_distill.provenance import write_provenance
from entrenar_distill.texts import BATCH_TOKENS, load_language_model, load_separating_tokenizer

CALIBRATION_BATCHES = 64
"""Rows of text at most whose gradients say which weights matter."""


@dataclass(frozen=True)
class Perplexity:
    """What a model makes of text, before it was exported and read back from the export.

    `change` is after / before − 1.
    """

    documents: int
    tokens: int
    before: float
    after: float

    @property
    def change(self) -> float:
        return self.after / self.before - 1


@dataclass(frozen=True)
class ExportReport:
    """What was written, how large it is, and what was lost; `provenance` is the file that says
    where it comes from, None where none was asked for."""

    input: str
    output: str
    format: str
    quantization: str
    parameters: int
    bytes_before: int
    bytes_after: int
    bits_per_weight: float
    losses: tuple[FormatLoss, ...]
    notes: tuple[str, ...]
    perplexity: Perplexity | None
    seconds: float
    provenance: str | None = None

    def __view__(self) -> list[Any]:
        items = [
            ("file", f"{self.output} ({self.format}, {self.quantization})"),
            ("size", f"{format_bytes(self.bytes_before)} before, {self._after()}"),
            ("weights", f"{format_count(self.parameters)}, {self.bits_per_weight:.2f} bits each"),
            ("time", format_duration(self.seconds)),
        ]
        if self.perplexity:
            found = self.perplexity
            items.insert(
                3,
                (
                    "perplexity",
                    f"{found.before:.4g} before, {found.after:.4g} after ({found.change:+.2%}), on "
                    f"{format_count(found.tokens)} tokens",
                ),
            )
        if self.provenance is not None:
            items.insert(1, ("provenance", self.provenance))
        parts: list[Any] = [Fields("Exported", items), loss_table(self.losses)]
        return parts + [Text(f"Note: {note}.") for note in self.notes]

    def _after(self) -> str:
        share = self.bytes_after / self.bytes_before if self.bytes_before else 0.0
        return f"{format_bytes(self.bytes_after)} after ({share:.0%})"


def export(
    source: str,
    output: str,
    *,
    form: str,
    quantization: str | None = None,
    pre: str | None = None,
    max_bytes: int | None = None,
    calibrate: Sequence[str] = (),
    eval_data: Sequence[str] = (),
    seq_len: int = 512,
    include_metadata: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write the model `source`, a folder, a GGUF file or a name on the hub, to `output`.

    With `max_bytes`, the formats of a GGUF file are chosen so that it is no larger, by what the
    loss on the text at the paths `calibrate` feels. With `eval_data`, paths of text too, the
    perplexity of the model on it is measured before and after. With `include_metadata`, where it
    comes from is written beside it (see `provenance`). Raises ConfigError for options that
    do not go together, and what `entrenar_core.convert.export.export` raises.
    """
    started = time.monotonic()
    progress = progress or NullProgress()
    path = resolve_model(source)
    _check_options(form, quantization, max_bytes, calibrate)
    if eval_data and form in CONTAINERS and CONTAINERS[form].is_lone(Path(output)):
        raise ConfigError(
            f"{output}: a file of tensors alone is no model that could be measured",
            hint="give a folder as the output, or leave --eval-data out",
        )
    measure = _measure_on(eval_data, path, seq_len, progress) if eval_data else None
    before = measure(path) if measure else None
    if max_bytes is None:
        done = write(
            path, Path(output), form=form, quantization=quantization, pre=pre, progress=progress
        )
    else:
        batches = _batches(calibrate, path, seq_len, progress)
        done = export_within(
            path, Path(output), max_bytes=max_bytes, batches=batches, pre=pre, progress=progress
        )
    after = measure(done.path) if measure else None
    provenance = write_provenance(source, path, done, form=form) if include_metadata else None
    report = _report(source, path, form, done, before, after, time.monotonic() - started)
    return report if provenance is None else replace(report, provenance=str(provenance))


def _check_options(
    form: str, quantization: str | None, max_bytes: int | None, calibrate: Sequence[str]
) -> None:
    if (max_bytes is None) != (not calibrate):
        raise ConfigError(
            "a largest size and text to calibrate on go together",
            hint="give --max-size and --calibrate, or neither",
        )
    if max_bytes is not None and (form != "gguf" or quantization is not None):
        raise ConfigError(
            "with a largest size the formats are chosen, in a GGUF file",
            hint="use --format gguf, and leave --quantize out",
        )


def _batches(
    calibrate: Sequence[str], path: Path, seq_len: int, progress: Progress
) -> Iterator[Batch]:
    tokenizer = load_tokenizer(path)
    documents = tokenize(DatasetSpec(tuple(calibrate)), tokenizer, progress=progress)
    length = min(seq_len, models.read_config(path).max_position_embeddings)
    found = Batches(
        documents,
        seq_len=length,
        batch_size=1,
        seed=0,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
    )
    count = min(found.steps_per_epoch, CALIBRATION_BATCHES)
    return (found.batch(i) for i in range(count))


def _report(
    source: str,
    path: Path,
    form: str,
    done: Exported,
    before: tuple[int, int, float] | None,
    after: tuple[int, int, float] | None,
    seconds: float,
) -> ExportReport:
    parameters = sum(loss.elements for loss in done.losses)
    stored = sum(loss.nbytes for loss in done.losses)
    return ExportReport(
        input=source,
        output=str(done.path),
        format=form,
        quantization=done.quantization,
        parameters=parameters,
        bytes_before=models.stored_bytes(path),
        bytes_after=done.nbytes,
        bits_per_weight=8 * stored / max(parameters, 1),
        losses=done.losses,
        notes=done.notes,
        perplexity=Perplexity(*before, after[2]) if before and after else None,
        seconds=seconds,
    )


def _measure_on(
    eval_data: Sequence[str], path: Path, seq_len: int, progress: Progress
) -> Callable[[Path], tuple[int, int, float]]:
    """A function from a model to documents, tokens and its perplexity on them."""
    tokenizer = load_separating_tokenizer(path)
    documents = tokenize(DatasetSpec(tuple(eval_data)), tokenizer, progress=progress)

    def measure(found: Path) -> tuple[int, int, float]:
        model = load_language_model(found, hint="leave --eval-data out")
        length = min(seq_len, model.config.max_position_embeddings)
        scores = score(
            {"model": model},
            documents,
            seq_len=length,
            batch_size=max(1, BATCH_TOKENS // length),
            eos_id=tokenizer.eos_id or 0,
            progress=progress,
        )["model"]
        return len(documents), int(scores.tokens.sum()), scores.perplexity

    return measure
