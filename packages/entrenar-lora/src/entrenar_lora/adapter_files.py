"""What `entrenar-lora convert`, `resize` and `extract` do."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError, NotFoundError
from entrenar_common.progress import Progress
from entrenar_common.tables import Fields, Table
from entrenar_common.units import format_bytes, format_duration
from entrenar_core.convert.adapter import write_gguf_adapter
from entrenar_core.lora.extract import Extracted, extract
from entrenar_core.lora.joined import Fitted, as_content, resize
from entrenar_core.lora.merge import check_output
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.lora.write import AdapterContent, check_adapter_output, write_adapter
from entrenar_lora.merging import fitted_table, lost

GGUF = "gguf"


@dataclass(frozen=True)
class ConvertReport:
    """An adapter in another form."""

    input: str
    output: str
    form: str
    modules: int
    parameters: int
    nbytes: int

    def __view__(self) -> list[Any]:
        items = [
            ("input", self.input),
            ("output", f"{self.output} ({self.form}, {format_bytes(self.nbytes)})"),
            ("modules", self.modules),
            ("parameters", f"{self.parameters:,}"),
        ]
        return [Fields("Converted", items)]


@dataclass(frozen=True)
class ResizeReport:
    """An adapter of another rank; `fitted` says what each module lost."""

    input: str
    output: str
    ranks: tuple[int, int]
    parameters_before: int
    parameters_after: int
    worst_error: float
    fitted: tuple[Fitted, ...]

    def __view__(self) -> list[Any]:
        low, high = self.ranks
        items = [
            ("input", self.input),
            ("output", self.output),
            ("rank", low if low == high else f"{low} to {high} by module"),
            ("parameters", f"{self.parameters_before:,} before, {self.parameters_after:,} after"),
            ("lost", lost(self.worst_error)),
        ]
        return [Fields("Resized", items), *fitted_table(self.fitted)]


@dataclass(frozen=True)
class ExtractReport:
    """An adapter that makes one model of another, and how well tensor by tensor."""

    base: str
    tuned: str
    output: str
    rank: int
    parameters: int
    whole: int
    tensors: tuple[Extracted, ...]
    seconds: float

    def __view__(self) -> list[Any]:
        low_rank = [t for t in self.tensors if t.rank is not None]
        items = [
            ("base", self.base),
            ("tuned", self.tuned),
            ("output", self.output),
            ("rank", self.rank),
            ("tensors that differ", len(self.tensors)),
            ("as updates", len(low_rank)),
            ("kept whole", self.whole),
            ("parameters", f"{self.parameters:,}"),
            ("time", format_duration(self.seconds)),
        ]
        rows = [
            (
                t.tensor,
                t.rank if t.rank is not None else "whole",
                f"{t.difference:.2%}",
                f"{t.error:.2%}",
            )
            for t in self.tensors
        ]
        caption = "Difference: of the tuned from the base, of ‖W‖. Lost: of that difference."
        columns = ("Tensor", "Rank", "Difference", "Lost")
        return [
            Fields("Extracted", items),
            Table("Tensors that differ", columns, rows, caption),
        ]


def convert_adapter(
    source: str,
    output: str,
    *,
    form: str,
    base: str | None = None,
    alpha: float | None = None,
) -> ConvertReport:
    """Write the adapter at `source` to `output` as `form`: "safetensors", "pth", "json" or "gguf",
    which needs the config of the model at `base`; by default that is the folder that the adapter
    names.

    Raises ConfigError for a base that is not needed or not known, and what reading and writing
    raise.
    """
    target = Path(output)
    check_output(target, [Path(source)])
    if form != GGUF and base is not None:
        raise ConfigError(f"a base, for {form}", hint="leave it out: only GGUF needs the model")
    with StoredAdapter(source, alpha=alpha) as adapter:
        if form == GGUF:
            if target.is_dir():
                raise ConfigError(f"{output}: a folder", hint="give a file, such as adapter.gguf")
            paths = [target]
            write_gguf_adapter(adapter, _base(adapter, base), target)
        else:
            check_adapter_output(target)
            paths = write_adapter(target, as_content(adapter), form=form)
        modules, parameters = len(adapter.modules), adapter.parameter_count()
    size = sum(path.stat().st_size for path in paths)
    return ConvertReport(source, output, form, modules, parameters, size)


def _base(adapter: StoredAdapter, given: str | None) -> Path:
    named = given or adapter.settings.base_model
    if named is None or not Path(named).exists():
        if given is not None:
            raise NotFoundError(f"{given}: no such model", hint="check the path")
        raise ConfigError(
            f"{adapter.path}: its model is not here, and a GGUF file has its order of rows",
            hint="give the model's folder, or one with its config.json, as --base",
        )
    return Path(named)


def resize_adapter(
    source: str,
    output: str,
    *,
    rank: int | None = None,
    energy: float | None = None,
    alpha: float | None = None,
    progress: Progress | None = None,
) -> ResizeReport:
    """Write the adapter at `source` with a smaller rank; see `entrenar_core.lora.joined.resize`."""
    target = Path(output)
    check_output(target, [Path(source)])
    check_adapter_output(target)
    with StoredAdapter(source, alpha=alpha) as adapter:
        content, fitted = resize(adapter, rank=rank, energy=energy, progress=progress)
        write_adapter(target, content)
        before = adapter.parameter_count()
    ranks = [found.rank for found in fitted]
    return ResizeReport(
        source,
        output,
        (min(ranks), max(ranks)),
        before,
        _count(content),
        max(found.error for found in fitted),
        tuple(fitted),
    )


def extract_adapter(
    base: str, tuned: str, output: str, *, rank: int, progress: Progress | None = None
) -> ExtractReport:
    """Write the adapter that makes the model at `tuned` of the one at `base`; see
    `entrenar_core.lora.extract`."""
    started = time.monotonic()
    target = Path(output)
    check_output(target, [Path(base), Path(tuned)])
    check_adapter_output(target)
    content, found = extract(Path(base), Path(tuned), rank=rank, progress=progress)
    write_adapter(target, content)
    return ExtractReport(
        base,
        tuned,
        output,
        rank,
        _count(content),
        sum(tensor.rank is None for tensor in found),
        tuple(found),
        time.monotonic() - started,
    )


def _count(content: AdapterContent) -> int:
    return sum(array.size for array in content.tensors.values())
