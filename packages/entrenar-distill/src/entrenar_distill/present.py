"""How a report looks: one list of parts, shown on a terminal by common and as Markdown here."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from entrenar_common.cells import format_cell, is_numeric
from entrenar_common.panels import panels
from entrenar_common.plot import Points
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.text import escape_controls
from entrenar_common.units import format_count, format_duration
from entrenar_core.train.run_folder import DATASET_REVISION
from entrenar_core.train.stored_numbers import StoredNumbers
from entrenar_distill.report import (
    AdaptedStudent,
    Environment,
    ModelScore,
    PhaseTiming,
    Reproduction,
    RunReport,
    TaughtFeature,
    caveats,
)

__all__ = [
    "Block",
    "adapter_part",
    "closing_parts",
    "features_part",
    "loss_part",
    "machine_part",
    "parts",
    "phases_part",
    "quantization_part",
    "reproduction_parts",
    "to_markdown",
]

WIDTH = 78
_PROMPT_LINES, _SAMPLE_LINES = 3, 6
_WHOSE = {"teacher": "the teacher's", "teachers": "that of the teachers as one"}
_BEGUN = 30  # columns of the line in which a prompt ends, before each continuation
_PART_LINES = 5
_HASH = 16  # characters of a hash that are shown: report.json has all of them


@dataclass(frozen=True)
class Block:
    """Lines whose columns matter, under a title: a code block in Markdown."""

    title: str
    lines: Sequence[str]

    def __view__(self) -> list[Text]:
        return [Text(self.title, "title"), Text("\n".join(self.lines))]


def parts(report: RunReport) -> list[Any]:
    """The parts of the report's view, in the order in which a reader asks for them."""
    found = report.difference
    style = "" if found is None else "good" if found.high < 0 else "bad" if found.low > 0 else ""
    shown: list[Any] = [Text(report.verdict, style)]
    shown += [Text(f"Note: {text}", "warning") for text in caveats(report)]
    shown.append(_scores(report))
    if report.features:
        shown.append(features_part(report.features))
    if report.quantization:
        shown.append(quantization_part(report.quantization))
    if report.adapter:
        shown.append(adapter_part(report.adapter))
    if report.curve:
        shown.append(Block("Training cross-entropy by step", panels(report.curve, WIDTH)))
    if report.parts:
        shown.append(loss_part(report.parts))
    shown.append(phases_part(report.phases))
    if report.samples:
        shown.append(Block("Text that the models write", _samples(report)))
    shown += [_settings(report), machine_part(report.environment)]
    if report.reproduction:
        shown += reproduction_parts(report.reproduction)
    return shown + closing_parts(report.files, report.next_commands)


def to_markdown(report: Any) -> str:
    """A report as the text of report.md: the same parts as on a terminal."""
    sections = ["# Distillation report"]
    sections += [_MARKDOWN[type(part)](part) for part in report.__view__()]
    return "\n\n".join(sections) + "\n"


def closing_parts(files: Mapping[str, str], commands: Sequence[str]) -> list[Any]:
    """Where everything lies, and what can be done with it."""
    shown: list[Any] = [Fields("Files", list(files.items()))] if files else []
    if commands:
        lines = [line for text in commands for line in ("", *text.split("\n"))]
        shown.append(Block("Next", lines[1:]))
    return shown


# ---- parts -------------------------------------------------------------------------------------


def _scores(report: RunReport) -> Table:
    columns = ["Model", "Parameters", "Loss", "Perplexity", "Bits/byte", "Agreement"]
    rows = [_score_row(score) for score in report.scores]
    if report.baseline:
        rate = f"{report.baseline.bits_per_byte:.4f}"
        rows.append([report.baseline.name, None, None, None, rate, None])
    if report.difference:
        rate = f"{report.difference.bits_per_byte:+.4f}"
        rows.append(["student − control", None, None, None, rate, None])
    first = report.scores[0].name if report.scores else "teacher"
    caption = "Held-out documents. Loss in nats per token"
    if report.tokenizers:  # no token is another model's
        columns, rows = columns[:-1], [row[:-1] for row in rows]
        caption += " of the model's own tokenizer; bits per byte compare models."
    else:
        whose = _WHOSE.get(first, f"that of {first}")
        caption += f"; agreement: the likeliest next token is {whose}."
    if report.answers_only:
        caption += " All of answers alone, with the marks that end them."
    return Table("Quality", columns, rows, caption)


def _score_row(score: ModelScore) -> list[Any]:
    return [
        score.name,
        format_count(score.parameters),
        f"{score.loss:.4f}",
        f"{score.perplexity:.2f}" if score.perplexity < 1e5 else f"{score.perplexity:.3g}",
        f"{score.bits_per_byte:.4f}",
        None if score.agreement is None else f"{score.agreement * 100:.1f} %",
    ]


def features_part(found: Sequence[TaughtFeature]) -> Table:
    """The terms of the loss about the inside of the teacher, as they are in metrics.jsonl too."""
    rows = [
        [term.name, term.weight, term.pairs, term.active, _value(term.first), _value(term.last)]
        for term in found
    ]
    formulas = "; ".join(f"{term.name}: {term.formula}" for term in found)
    return Table(
        "Learned from inside the teacher",
        ["Term", "Weight", "Layers", "Active", "First", "Last"],
        rows,
        f"Means over pairs of layers, student←teacher, without the weight. {formulas}.",
    )


def _value(number: float | None) -> str | None:
    return None if number is None else f"{number:.4g}"


def adapter_part(found: AdaptedStudent) -> Fields:
    """The student was the model that it started from, with this."""
    numbers = f"{format_count(found.parameters)} numbers, {found.share:.2%} of all"
    return Fields(
        "Trained as an adapter",
        [
            ("rank, alpha", f"{found.rank}, {found.alpha:g}"),
            ("trained", f"{numbers}, in {found.modules} modules"),
            ("weights beside it", f"held as {found.held_as}" if found.held_as else "as they are"),
            ("written", "in the weights, and alone" if found.fused else "alone"),
        ],
    )


def quantization_part(found: StoredNumbers) -> Fields:
    """Student and control are scored above with the weights that are described here."""
    least = found.sqnr_db[found.worst]
    items: list[tuple[str, Any]] = [
        ("weights", f"{found.name}, {found.bits_per_weight:.2f} bits each"),
        ("matrices", f"{found.matrices} of {format_count(found.parameters)} numbers"),
        ("so from step", found.from_step),
        ("signal/noise", f"{least:.1f} dB at least, in {found.worst}"),
    ]
    if found.activations is not None:
        inputs = f"{found.activations} bits; with them the loss is {found.loss_with_inputs:.4f}"
        items.append(("inputs", inputs))
    return Fields("Trained on stored weights", items)


def phases_part(phases: Sequence[PhaseTiming]) -> Table:
    rows = [
        [
            phase.name,
            phase.steps or None,
            format_duration(phase.seconds),
            format_count(phase.tokens) if phase.tokens else None,
            format_count(phase.tokens_per_second) if phase.tokens else None,
        ]
        for phase in phases
    ]
    return Table("Phases", ["Phase", "Steps", "Time", "Tokens", "Tokens/s"], rows)


def loss_part(found: Mapping[str, Points]) -> Block:
    """A panel for each part, on a scale of its own."""
    drawn = [panels({name: points}, WIDTH // 2, _PART_LINES) for name, points in found.items()]
    lines: list[str] = []
    for left, right in itertools.zip_longest(drawn[::2], drawn[1::2], fillvalue=[]):
        beside = itertools.zip_longest(left, right, fillvalue="")
        lines += ["", *(f"{one:<{WIDTH // 2}}{other}".rstrip() for one, other in beside)]
    return Block("What the student's loss was made of, by step", lines[1:])


def reproduction_parts(found: Reproduction) -> list[Any]:
    hashes = {"configuration": found.config_hash, **found.inputs}
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    hashes.pop(DATASET_REVISION, None)  # a commit: it is shown whole, with the settings
    shown = [(name, value[:_HASH]) for name, value in hashes.items()]
    return [
        Fields("What the student follows from (SHA-256)", [*shown, ("versions", versions)]),
        Block("The same again", found.command.split("\n")),
    ]


def _settings(report: RunReport) -> Fields:
    commit = [("dataset", f"commit {report.dataset_revision}")] if report.dataset_revision else []
    weights = {"beta": report.beta, "skew": report.skew, "top_k": report.top_k}
    return Fields(
        "Run",
        [
            ("teacher", report.teacher),
            ("student", report.student),
            *commit,
            *([("vocabulary", "; ".join(report.vocabularies))] if report.vocabularies else []),
            *([("tokenizers", report.tokenizers)] if report.tokenizers else []),
            ("loss", report.formula),
            ("temperature T", report.temperature),
            ("alpha", report.alpha),
            *((name, value) for name, value in weights.items() if value is not None),
            ("normalised", report.normaliser),
            ("steps", report.steps),
            ("skipped steps", report.skipped_steps),
            ("seed", report.seed),
        ],
    )


def machine_part(machine: Environment) -> Fields:
    versions = f"Python {machine.python}, NumPy {machine.numpy}, Numba {machine.numba}"
    return Fields("Machine", [("cpu", machine.cpu), ("versions", versions), ("blas", machine.blas)])


def _samples(report: RunReport) -> list[str]:
    """Each prompt's last lines, and how every model went on from there."""
    lines: list[str] = []
    end = "up to its first answer" if report.answers_only else "up to its middle"
    for prompt, group in itertools.groupby(report.samples, lambda sample: sample.prompt):
        above, _, begun = prompt.rpartition("\n")
        lines += ["", f"  a held-out document, {end}"]
        lines += _quoted(above or begun)[-_PROMPT_LINES:]
        for sample in group:
            lines += [f"  {escape_controls(sample.model)} goes on"]
            lines += _quoted(_cut_left(begun, _BEGUN) + sample.text)[:_SAMPLE_LINES]
    return lines[1:]


def _quoted(text: str) -> list[str]:
    """The lines of `text` that are not blank."""
    lines = [line for line in text.expandtabs(4).splitlines() if line.strip()]
    return [f"  │ {_cut(escape_controls(line), WIDTH - 4)}" for line in lines or ["(nothing)"]]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def _cut_left(text: str, width: int) -> str:
    return text if len(text) <= width else "…" + text[1 - width :]


# ---- Markdown ----------------------------------------------------------------------------------


def _markdown_text(part: Text) -> str:
    return _escaped(part.text)


def _markdown_fields(part: Fields) -> str:
    lines = [f"- {name}: {_code(format_cell(value))}" for name, value in part.items]
    return "\n".join([f"## {part.title}", "", *lines])


def _markdown_table(part: Table) -> str:
    texts = [[format_cell(cell) for cell in row] for row in part.rows]
    aligned = [
        "---:" if is_numeric([row[i] for row in texts]) else "---" for i in range(len(part.columns))
    ]
    rows = [list(part.columns), aligned, *([_escaped(cell) for cell in row] for row in texts)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    caption = ["", part.caption] if part.caption else []
    return "\n".join([f"## {part.title}", "", *lines, *caption])


def _markdown_block(part: Block) -> str:
    body = "\n".join(part.lines)
    fence = _fence(body, 3)
    return f"## {_escaped(part.title)}\n\n{fence}text\n{body}\n{fence}"


def _fence(text: str, least: int) -> str:
    """More backticks than any run of them in `text`."""
    count = least
    while "`" * count in text:
        count += 1
    return "`" * count


def _code(text: str) -> str:
    fence = _fence(text, 1)
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"


def _escaped(text: str) -> str:
    """Text from outside as Markdown that shows it and does nothing else."""
    for mark in ("\\", "`", "*", "_", "[", "<", "|"):
        text = text.replace(mark, "\\" + mark)
    return escape_controls(text)


_MARKDOWN: dict[type, Callable[[Any], str]] = {
    Text: _markdown_text,
    Fields: _markdown_fields,
    Table: _markdown_table,
    Block: _markdown_block,
}
