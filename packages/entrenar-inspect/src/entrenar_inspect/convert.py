"""What `entrenar-inspect convert` does: a model, or any tensors, in another kind of file."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError, UnsupportedError, UsageError
from entrenar_common.losses import loss_table
from entrenar_common.progress import Progress
from entrenar_common.tables import Fields, Text
from entrenar_common.text import escape_controls
from entrenar_common.units import format_bytes, format_count, format_duration
from entrenar_core.convert.export import export
from entrenar_core.convert.exported import Exported
from entrenar_core.convert.tensors import convert_tensors
from entrenar_core.convert.verify import FormatLoss
from entrenar_core.io.hub import fetch_model
from entrenar_core.lora.merge import check_output
from entrenar_core.models.architectures import model_class
from entrenar_core.models.quantized import without_quantization
from entrenar_inspect.artifact import APR, GGUF, PYTORCH, SAFETENSORS, Artifact
from entrenar_inspect.hub_place import HUB, parse_place
from entrenar_inspect.opening import ADAPTER_WEIGHTS, SUFFIXES, open_artifact

FORMS = {SAFETENSORS: "safetensors", GGUF: "gguf", PYTORCH: "pth", APR: "apr"}
"""A kind of file as `entrenar_core.convert` calls it."""

MODEL, TENSORS = "model", "tensors"
"""By which way a conversion went: with regard to an architecture, or tensor by tensor."""

_OF_ADAPTERS = (".lora_A.", ".lora_B.", ".lora_embedding_A", ".lora_embedding_B")


@dataclass(frozen=True)
class ConvertReport:
    """What was written and what it has lost. `route` is "model" or "tensors"; `quantization` is the
    type of most weights, or the recipe; `ratio` is bytes after to bytes before."""

    input: str
    output: str
    format: str
    route: str
    architecture: str | None
    quantization: str
    tensors: int
    parameters: int
    bytes_before: int
    bytes_after: int
    ratio: float
    bits_per_weight: float
    losses: tuple[FormatLoss, ...]
    notes: tuple[str, ...]
    seconds: float

    def __view__(self) -> list[Any]:
        before, after = format_bytes(self.bytes_before), format_bytes(self.bytes_after)
        how = f"as a {self.architecture} model" if self.architecture else "tensor by tensor"
        items = [
            ("file", f"{self.output} ({self.format}, {self.quantization})"),
            ("converted", how),
            ("size", f"{before} before, {after} after ({self.ratio:.0%})"),
            ("tensors", self.tensors),
            ("weights", f"{format_count(self.parameters)}, {self.bits_per_weight:.2f} bits each"),
            ("time", format_duration(self.seconds)),
        ]
        parts: list[Any] = [Fields("Converted", items), loss_table(self.losses)]
        return parts + [Text(f"Note: {escape_controls(note)}.") for note in self.notes]


def convert(
    source: str,
    output: str,
    *,
    to: str | None = None,
    quantization: str | None = None,
    pre: str | None = None,
    progress: Progress | None = None,
) -> ConvertReport:
    """Write what `source` means (see `open_artifact`) to `output` as `to` ("safetensors", "gguf",
    "pth", "apr"; by default what `output` is called), and compare it with what it was.

    A whole model of a known architecture goes through `entrenar_core.convert.export`, anything else
    tensor by tensor through `entrenar_core.convert.tensors`. A model on the hub is downloaded.

    Raises UsageError where nothing says the format, ConfigError for an output that is called as
    another or is what is read, UnsupportedError for an adapter, and what these raise.
    """
    started = time.monotonic()
    form = _form(output, to)
    quantization = None if quantization is None else quantization.lower()
    with open_artifact(_local(source)) as artifact:
        _check(artifact, Path(output))
        architecture, why = _architecture(artifact)
        if architecture is None:
            done = _by_tensors(artifact, Path(output), form, quantization, pre, progress)
        else:
            assert artifact.model is not None
            done = export(
                artifact.model, Path(output), form=form, quantization=quantization, pre=pre,
                progress=progress,
            )  # fmt: skip
        parameters = sum(loss.elements for loss in done.losses)
        stored = sum(loss.nbytes for loss in done.losses)
        return ConvertReport(
            input=source,
            output=output,
            format=form,
            route=TENSORS if architecture is None else MODEL,
            architecture=architecture,
            quantization=done.quantization,
            tensors=sum(loss.tensors for loss in done.losses),
            parameters=parameters,
            bytes_before=artifact.nbytes,
            bytes_after=done.nbytes,
            ratio=done.nbytes / max(artifact.nbytes, 1),
            bits_per_weight=8 * stored / max(parameters, 1),
            losses=done.losses,
            notes=tuple(dict.fromkeys([*artifact.notes, *why, *done.notes])),
            seconds=time.monotonic() - started,
        )


def _form(output: str, to: str | None) -> str:
    kind = SUFFIXES.get(Path(output).suffix.lower())
    called = None if kind is None else FORMS[kind]
    if to is None and called is None:
        raise UsageError(
            f"{output}: nothing says what to write",
            hint=f"give --to, one of {', '.join(FORMS.values())}, or an output such as "
            f"{output}.gguf",
        )
    if to is not None and called not in (None, to):
        raise ConfigError(
            f"{output}: called as {called}, and {to} is to be written",
            hint="give it another name, or leave --to out",
        )
    return to or str(called)


def _local(source: str) -> str:
    """What `source` means on this machine; a model on the hub is fetched."""
    if not source.startswith(HUB):
        return source
    place = parse_place(source)
    if place.path:
        raise UnsupportedError(
            f"{escape_controls(source)}: one file of a repository, and models are fetched whole",
            hint=f"give {place.spec('')}, or download the file and convert that",
        )
    return str(fetch_model(place.model, place.revision or None))


def _check(artifact: Artifact, output: Path) -> None:
    if _is_adapter(artifact):
        raise UnsupportedError(
            f"{artifact.spec}: an adapter, not a model",
            hint="use entrenar-lora convert, or entrenar-lora merge to put it into its model",
        )
    assert artifact.path is not None  # what is on the hub was fetched
    folder = artifact.path if artifact.path.is_dir() else artifact.path.parent
    read = {artifact.path, artifact.model or artifact.path}
    check_output(output, [*read, *(folder / file.name for file in artifact.files)])


def _is_adapter(artifact: Artifact) -> bool:
    if artifact.kind == GGUF:
        return artifact.metadata.get("general.type") == "adapter"
    return any(file.name in ADAPTER_WEIGHTS for file in artifact.files) or any(
        part in name for name in artifact.tensors for part in _OF_ADAPTERS
    )


def _architecture(artifact: Artifact) -> tuple[str | None, list[str]]:
    """The architecture that a conversion goes by, None for tensor by tensor, and why so."""
    if artifact.kind == GGUF:  # its tensors have other names and places than everyone else's
        return str(artifact.metadata.get("general.architecture")), []
    if artifact.model is None:
        return None, []
    try:
        raw, _ = without_quantization(artifact.config)
        model_class(raw, None)
    except UnsupportedError as error:
        return None, [f"converted tensor by tensor: {error.message}"]
    return str(raw["model_type"]), []


def _by_tensors(
    artifact: Artifact,
    output: Path,
    form: str,
    quantization: str | None,
    pre: str | None,
    progress: Progress | None,
) -> Exported:
    if pre is not None:
        raise ConfigError(f"a pre-tokenizer ({pre}) is for GGUF files alone", hint="leave it out")
    source = artifact.model or artifact.path
    assert source is not None
    return convert_tensors(source, output, form=form, quantization=quantization, progress=progress)
