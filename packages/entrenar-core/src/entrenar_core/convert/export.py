"""A model on disk in another file format: written, read again, and compared with what it was."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.convert.apr import APRPlan
from entrenar_core.convert.containers import PTH, SAFETENSORS
from entrenar_core.convert.exported import Exported
from entrenar_core.convert.gguf import GGUFPlan
from entrenar_core.convert.hugging_face import write_hugging_face
from entrenar_core.convert.mixture import mixture_within
from entrenar_core.convert.recipe import FormatChoice, recipe_named
from entrenar_core.convert.verify import TensorLoss, compared, read_back
from entrenar_core.data.batches import Batch
from entrenar_core.io.apr import APRFile
from entrenar_core.io.gguf import GGUFFile
from entrenar_core.models.source import model_files, stored_type

GGUF, APR = "gguf", "apr"


class Asked(NamedTuple):
    """What the numbers are to be stored as, and llama.cpp's name of the pre-tokenizer; None where
    the source decides."""

    quantization: str | None
    pre: str | None


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
    "pth", "apr").

    In safetensors and as torch.save writes it, `output` is a lone file of tensors where it is
    called so (.safetensors; .pth, .pt, .bin), else a folder, which must not exist or be empty.
    `quantization` is a float type ("f32", "f16", "bf16"), for GGUF also a recipe such as "q4_k_m",
    and for APR the name of a block format such as "q4_0"; by default the type that most of the
    source is stored in, or, from a folder to safetensors or torch.save's files, that of each
    tensor. `pre` names llama.cpp's pre-tokenizer for a tokenizer that is not recognised. What was
    written is opened again and compared, tensor by tensor, with the source.

    Raises UnsupportedError for what the format cannot hold, RefusedError for a folder that has
    something in it, IntegrityError when the comparison fails, and what reading and writing raise.
    """
    if form not in WRITERS:
        raise UnsupportedError(
            f"models cannot be written as {form!r}", hint=f"formats: {', '.join(WRITERS)}"
        )
    _check_not_itself(source, output)
    return WRITERS[form](source, output, Asked(quantization, pre), progress or NullProgress())


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


def _gguf(source: Path, output: Path, asked: Asked, progress: Progress) -> Exported:
    _check_gguf_path(source, output)
    recipe = recipe_named(asked.quantization or stored_type(source))
    return _write_gguf(source, output, recipe, asked.pre, progress)


def _check_gguf_path(source: Path, output: Path) -> None:
    _check_not_itself(source, output)
    if output.is_dir():
        raise ConfigError(
            f"{output}: a folder, and a GGUF file is to be written",
            hint=f"give a file, such as {output / 'model.gguf'}",
        )


def _check_not_itself(source: Path, output: Path) -> None:
    if not output.exists() or not source.exists():
        return
    written = output.resolve()
    if written == source.resolve():
        raise ConfigError(f"{output}: is the model itself", hint="give another output")
    if written in {path.resolve() for path in model_files(source)}:
        raise ConfigError(f"{output}: is a file of the model", hint="give another output")


def _write_gguf(
    source: Path, output: Path, recipe: FormatChoice, pre: str | None, progress: Progress
) -> Exported:
    with GGUFPlan(source, recipe, pre=pre) as plan:
        written = plan.write(output, progress=progress)
        with GGUFFile(output) as file:

            def losses() -> Iterator[TensorLoss]:
                for tensor in plan.tensors:
                    yield compared(tensor.name, plan.floats(tensor.name), file.read(tensor.name))
                    plan.release(tensor.name)
                    file.release(tensor.name)

            found = read_back(losses(), len(plan.tensors), progress)
        return Exported(output, (output,), written.size, plan.recipe.name, found, plan.notes)


def _apr(source: Path, output: Path, asked: Asked, progress: Progress) -> Exported:
    _refuse_pre(asked.pre)
    if output.is_dir():
        raise ConfigError(
            f"{output}: a folder, and an APR file is to be written",
            hint=f"give a file, such as {output / 'model.apr'}",
        )
    quantization = asked.quantization or stored_type(source)
    with APRPlan(source, quantization) as plan:
        written = plan.write(output, progress=progress)
        with APRFile(output) as file:

            def losses() -> Iterator[TensorLoss]:
                for name in plan.formats:
                    yield compared(name, plan.floats(name), plan.read_back(file, name))
                    plan.release(name)
                    file.release(name)

            found = read_back(losses(), len(plan.formats), progress)
        return Exported(output, (output,), written.size, quantization, found, ())


def _safetensors(source: Path, output: Path, asked: Asked, progress: Progress) -> Exported:
    _refuse_pre(asked.pre)
    return write_hugging_face(
        source, output, form=SAFETENSORS, quantization=asked.quantization, progress=progress
    )


def _pth(source: Path, output: Path, asked: Asked, progress: Progress) -> Exported:
    _refuse_pre(asked.pre)
    return write_hugging_face(
        source, output, form=PTH, quantization=asked.quantization, progress=progress
    )


def _refuse_pre(pre: str | None) -> None:
    if pre is not None:
        raise ConfigError(f"a pre-tokenizer ({pre}) is for GGUF files alone", hint="leave it out")


Writer = Callable[[Path, Path, Asked, Progress], Exported]

WRITERS: dict[str, Writer] = {GGUF: _gguf, SAFETENSORS: _safetensors, PTH: _pth, APR: _apr}
"""File format → what writes it, and reads it again."""
