"""What `entrenar-lora merge` does with whole models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from entrenar_common.errors import UsageError
from entrenar_common.progress import Progress
from entrenar_common.tables import Fields, Table, Text
from entrenar_common.text import escape_controls
from entrenar_common.units import format_bytes, format_duration
from entrenar_core.io.yaml_file import parse_value
from entrenar_core.merge.models import MergeResult, described, merge, read
from entrenar_core.merge.report import Figures

SHOWN = 10
"""Tensors that are shown of those that were merged."""

LONG_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


class Asked(NamedTuple):
    """A merge as a command line asks for it: by a config, or by models, method and settings, of
    which `settings` are texts NAME=VALUE."""

    config: str | None
    models: tuple[str, ...]
    base: str | None
    method: str | None
    weights: tuple[float, ...] | None
    density: float | None
    t: float | None
    semantics: str | None
    settings: tuple[str, ...]
    dtype: str | None
    tokenizer_source: str | None


@dataclass(frozen=True)
class ModelMergeReport:
    """A merge of models; see `entrenar_core.merge.models.MergeResult`."""

    merge: MergeResult

    def __view__(self) -> list[Any]:
        done = self.merge
        items: list[tuple[str, Any]] = [("method", done.method)]
        if done.base is not None:
            items.append(("base", done.base))
        items += [("model", source) for source in done.sources]
        items.append(("tensors", len(done.names)))
        if done.written:
            items += [
                ("output", f"{done.output} ({format_bytes(done.nbytes)})"),
                ("memory", f"{format_bytes(done.peak)}, expected {format_bytes(done.forecast)}"),
                ("time", format_duration(done.seconds)),
            ]
        else:
            items += [
                ("would be written", format_bytes(done.nbytes)),
                ("memory", f"at most {format_bytes(done.forecast)}"),
                ("time", f"about {format_duration(done.estimate or 0.0)}, and what the disk takes"),
            ]
        title = "Merged" if done.written else "Merge, not done"
        return [Fields(title, items), *self._tables(), *self._texts()]

    def _tables(self) -> list[Table]:
        done = self.merge
        if done.total is None:
            rows = [(name,) for name in done.names[:SHOWN]]
            more = len(done.names) - len(rows)
            caption = f"and {more} more; all of them with --json" if more else ""
            return [Table("Tensors that would be mixed", ("Tensor",), rows, caption)]
        return [*_models_table(done, done.total), *_disagreement_table(done)]

    def _texts(self) -> list[Text]:
        return [
            *(Text(f"Warning: {escape_controls(w)}", "warning") for w in self.merge.warnings),
            *(Text(f"Note: {escape_controls(n)}", "warning") for n in self.merge.notes),
        ]


def _models_table(done: MergeResult, total: Figures) -> list[Table]:
    if len(done.sources) < 2 and total.base_norm is None:
        return []
    columns = ["Model", "Effective weight"]
    columns.insert(1, "Differs from base" if total.base_norm else "Norm")
    rows = []
    for i, source in enumerate(done.sources):
        norm = total.norms[i]
        size = f"{norm / total.base_norm:.2%}" if total.base_norm else f"{norm:.4g}"
        rows.append((source, size, f"{total.weights[i]:.3f}"))
    pairs = list(combinations(range(len(done.sources)), 2))
    cosines = ", ".join(
        f"{i + 1}–{k + 1} {cosine:.3f}" for (i, k), cosine in zip(pairs, total.cosines, strict=True)
    )
    what = "what they differ by" if total.base_norm else "their weights"
    caption = f"Cosines between {what}: {cosines}." if pairs else ""
    return [Table("Models", tuple(columns), rows, caption)]


def _disagreement_table(done: MergeResult) -> list[Table]:
    if done.total is None or done.total.base_norm is None or len(done.sources) < 2:
        return []
    worst = sorted(done.tensors.items(), key=lambda found: -found[1].disagreement)[:SHOWN]
    rows = [(name, f"{figures.disagreement:.1%}") for name, figures in worst]
    caption = f"Of all elements {done.total.disagreement:.1%}; every tensor with --json."
    return [Table("Where signs disagree most", ("Tensor", "Elements"), rows, caption)]


def merge_by(
    asked: Asked,
    output: str | None,
    *,
    quantization: str | None = None,
    to: str | None = None,
    seed: int = 0,
    memory_limit: int | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    announce: Callable[[str], None] | None = None,
) -> ModelMergeReport:
    """Merge models as they are asked for. `announce` is told how much memory it will take.

    Raises UsageError for what contradicts itself, and what `merge_models` of core raises.
    """
    target = None if output is None else _target(Path(output), to)
    if asked.config is not None:
        _only_config(asked)
        config, text = read(Path(asked.config))
    else:
        if asked.method is None:
            raise UsageError("how are the models merged?", hint="give --method, such as linear")
        config, text = described(
            asked.models, method=asked.method, base=asked.base, parameters=_parameters(asked),
            others={
                "out_dtype": LONG_NAMES.get(asked.dtype or "", asked.dtype),
                "tokenizer_source": asked.tokenizer_source,
            },
        )  # fmt: skip

    def told(size: int) -> None:
        if announce is not None:
            announce(f"takes at most {format_bytes(size)} of memory")

    found = merge(
        config, text, target, seed=seed, memory_limit=memory_limit, quantization=quantization,
        dry_run=dry_run, progress=progress, announce=told,
    )  # fmt: skip
    return ModelMergeReport(found)


def _target(output: Path, to: str | None) -> Path:
    if to == "gguf" and output.suffix.lower() != ".gguf":
        return output.with_name(f"{output.name}.gguf")
    if to == "safetensors" and output.suffix.lower() == ".gguf":
        raise UsageError(
            f"{output}: called as a GGUF file, and safetensors are to be written",
            hint="give another output, or leave --to out",
        )
    return output


def _only_config(asked: Asked) -> None:
    given = {
        "--model": asked.models, "--base": asked.base, "--method": asked.method,
        "--weights": asked.weights, "--density": asked.density, "--t": asked.t,
        "--semantics": asked.semantics, "--set": asked.settings, "--dtype": asked.dtype,
        "--tokenizer-source": asked.tokenizer_source,
    }  # fmt: skip
    names = [name for name, value in given.items() if value not in (None, ())]
    if names:
        raise UsageError(
            f"{', '.join(names)} besides --config",
            hint="write it into the config, or leave --config out",
        )


def _parameters(asked: Asked) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in asked.settings:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(
                f"--set {escape_controls(text)!r} is no NAME=VALUE", hint="write --set lambda=0.8"
            )
        found[name.strip()] = parse_value(value)
    named = {"density": asked.density, "t": asked.t, "semantics": asked.semantics}
    weights: Sequence[float] | float | None = asked.weights
    if weights is not None and len(weights) == 1:
        weights = weights[0]
    named["weight"] = list(weights) if isinstance(weights, tuple) else weights
    return {**found, **{name: value for name, value in named.items() if value is not None}}
