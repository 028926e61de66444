"""A model on disk in another file format: written, read again, and compared with what it was."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.convert.apr import APRPlan, as_blocks
from entrenar_core.convert.folder import dtype_named, write_model_folder
from entrenar_core.convert.gguf import GGUFPlan
from entrenar_core.convert.mixture import mixture_within
from entrenar_core.convert.recipe import FormatChoice, recipe_named
from entrenar_core.convert.verify import FormatLoss, TensorLoss, by_format, compared
from entrenar_core.data.batches import Batch
from entrenar_core.io.apr import APRFile
from entrenar_core.io.gguf import GGUFFile
from entrenar_core.models.source import stored_type
from entrenar_core.models.stored import StoredModel

GGUF, SAFETENSORS, APR = "gguf", "safetensors", "apr"


@dataclass(frozen=True)
class Exported:
    """What was written: `losses` say what each format did to the tensors stored in it, `notes` what
    the reader of the file should know."""

    path: Path
    files: tuple[Path, ...]
    nbytes: int
    quantization: str
    losses: tuple[FormatLoss, ...]
    notes: tuple[str, ...]


def export(
    source: Path,
    output: Path,
    *,
    form: str,
    quantization: str | None = None,
    pre: str | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write the model at `source` to `output` in the file format `form` ("gguf", "safetensors",
    "apr").

    `quantization` is a float type ("f32", "f16", "bf16"), for GGUF also a recipe such as "q4_k_m",
    and for APR the name of a block format such as "q4_0"; by default the type that most of the
    source is stored in. `pre` names llama.cpp's pre-tokenizer for a tokenizer that is not
    recognised. What was written is opened again and compared, tensor by tensor, with the source.

    Raises UnsupportedError for what the format cannot hold, IntegrityError when the comparison
    fails, and what reading and writing raise.
    """
    if form not in WRITERS:
        raise UnsupportedError(
            f"models cannot be written as {form!r}", hint=f"formats: {', '.join(WRITERS)}"
        )
    _check_not_itself(source, output)
    chosen = quantization or stored_type(source)
    return WRITERS[form](source, output, chosen, pre, progress or NullProgress())


def export_within(
    source: Path,
    output: Path,
    *,
    max_bytes: int,
    batches: Iterable[Batch],
    pre: str | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write the language model at `source` as a GGUF file of at most `max_bytes`, in the formats
    that hurt its loss on `batches` least: see `mixture_within`. Otherwise as `export`.
    """
    _check_gguf_path(source, output)
    mixture, choice = mixture_within(source, max_bytes, batches, pre=pre)
    found = _write_gguf(source, output, mixture, pre, progress or NullProgress())
    bound = choice.lower_bound / choice.cost if choice.cost else 1.0
    note = (
        "formats were chosen by what the loss feels; no choice of this size can cost less than "
        f"{bound:.0%} of this one, by that estimate"
    )
    return replace(found, notes=(*found.notes, note))


def _gguf(
    source: Path, output: Path, quantization: str, pre: str | None, progress: Progress
) -> Exported:
    _check_gguf_path(source, output)
    return _write_gguf(source, output, recipe_named(quantization), pre, progress)


def _check_gguf_path(source: Path, output: Path) -> None:
    _check_not_itself(source, output)
    if output.is_dir():
        raise ConfigError(
            f"{output}: a folder, and a GGUF file is to be written",
            hint=f"give a file, such as {output / 'model.gguf'}",
        )


def _check_not_itself(source: Path, output: Path) -> None:
    if output.exists() and source.exists() and output.resolve() == source.resolve():
        raise ConfigError(f"{output}: is the model itself", hint="give another output")


def _write_gguf(
    source: Path, output: Path, recipe: FormatChoice, pre: str | None, progress: Progress
) -> Exported:
    with GGUFPlan(source, recipe, pre=pre) as plan:
        written = plan.write(output, progress=progress)
        losses = _read_back(output, plan, progress)
        return Exported(output, (output,), written.size, plan.recipe.name, losses, plan.notes)


def _read_back(output: Path, plan: GGUFPlan, progress: Progress) -> tuple[FormatLoss, ...]:
    with GGUFFile(output) as file:

        def losses() -> Iterator[TensorLoss]:
            for tensor in plan.tensors:
                yield compared(tensor.name, plan.floats(tensor.name), file.read(tensor.name))
                plan.release(tensor.name)
                file.release(tensor.name)
                progress.advance()

        progress.start("compare", len(plan.tensors))
        try:
            return tuple(by_format(losses()))
        finally:
            progress.finish()


def _safetensors(
    source: Path, output: Path, quantization: str, pre: str | None, progress: Progress
) -> Exported:
    if pre is not None:
        raise ConfigError(f"a pre-tokenizer ({pre}) is for GGUF files alone", hint="leave it out")
    if output.exists() and not output.is_dir():
        raise ConfigError(
            f"{output}: a file, and a folder is to be written", hint="give another output"
        )
    _, dtype = dtype_named(quantization)
    paths = write_model_folder(source, output, dtype=quantization, progress=progress)
    with StoredModel(source, head=None) as wanted, StoredModel(output, head=None) as found:

        def losses() -> Iterator[TensorLoss]:
            for name in wanted.model.named_parameters():
                stored = as_blocks(found.read(name), quantization)
                yield compared(name, wanted.read(name), stored)
                wanted.release(name)
                found.release(name)
                progress.advance()

        progress.start("compare", len(wanted.model.named_parameters()))
        try:
            return Exported(
                output,
                tuple(paths),
                sum(path.stat().st_size for path in paths),
                np.dtype(dtype).name,
                tuple(by_format(losses())),
                (),
            )
        finally:
            progress.finish()


def _refuse_pre(pre: str | None) -> None:
    if pre is not None:
        raise ConfigError(f"a pre-tokenizer ({pre}) is for GGUF files alone", hint="leave it out")


def _apr(
    source: Path, output: Path, quantization: str, pre: str | None, progress: Progress
) -> Exported:
    _refuse_pre(pre)
    if output.is_dir():
        raise ConfigError(
            f"{output}: a folder, and an APR file is to be written",
            hint=f"give a file, such as {output / 'model.apr'}",
        )
    with APRPlan(source, quantization) as plan:
        written = plan.write(output, progress=progress)
        with APRFile(output) as file:

            def losses() -> Iterator[TensorLoss]:
                for name in plan.formats:
                    yield compared(name, plan.floats(name), plan.read_back(file, name))
                    plan.release(name)
                    file.release(name)
                    progress.advance()

            progress.start("compare", len(plan.formats))
            try:
                found = tuple(by_format(losses()))
            finally:
                progress.finish()
        return Exported(output, (output,), written.size, quantization, found, ())


Writer = Callable[[Path, Path, str, str | None, Progress], Exported]

WRITERS: dict[str, Writer] = {GGUF: _gguf, SAFETENSORS: _safetensors, APR: _apr}
"""File format → what writes it, and reads it again."""
