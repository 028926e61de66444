"""Tensors from one kind of file to another, by their names and one at a time: for models whose
architecture nothing here knows, and files without a config."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.progress import NullProgress, Progress
from entrenar_core.convert.containers import CONTAINERS, PTH, SAFETENSORS
from entrenar_core.convert.content import Content
from entrenar_core.convert.exported import Exported
from entrenar_core.convert.floats import SHORT, cast_pieces
from entrenar_core.convert.verify import Differences, TensorLoss, different, finite, read_back
from entrenar_core.io.apr import APRFile, write_apr
from entrenar_core.io.dtypes import by_numpy
from entrenar_core.io.tensor_file import TensorFile
from entrenar_core.io.tensor_folder import TensorFolder
from entrenar_core.models.gguf_family import model_types

APR = "apr"


def convert_tensors(
    source: Path,
    output: Path,
    *,
    form: str,
    quantization: str | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write the tensors at `source`, a model folder or a file in safetensors, the APR format or
    torch.save's, to `output` as `form` ("safetensors", "pth", "apr"): under their names and with
    their types, or with those of floats as `quantization` ("f32", "f16", "bf16") says.

    `output` is a lone file where it is called so, else a folder (see `convert.export.export`), into
    which config and tokenizer go along. Names of one tensor in a file of torch.save stay so in
    another; elsewhere it is written once, and metadata say what else it is called. What was written
    is read again and compared bit by bit.

    Raises UnsupportedError for `form` "gguf", which needs an architecture, and for types that
    cannot be written or cast; NumericsError where a finite number would become infinite;
    ConfigError for a folder without a config; IntegrityError, and what reading and writing raise.
    """
    if form not in WRITERS:
        raise UnsupportedError(
            f"{source}: without a known architecture it cannot be written as {form!r}",
            hint=f"as GGUF, models with a config.json of {', '.join(model_types())} can; as "
            f"{', '.join(WRITERS)}, any tensors",
        )
    progress = progress or NullProgress()
    with Content(source, quantization, progress) as content:
        if output.resolve() in {path.resolve() for path in (source, *content.paths)}:
            raise ConfigError(f"{output}: is what is read", hint="give another output")
        progress.start("write", len(content))
        try:
            paths = WRITERS[form](content, output)
        finally:
            progress.finish()
        with _open(output, form) as written:
            losses = read_back(_losses(content, written), len(content), progress)
        return Exported(
            output,
            tuple(paths),
            sum(path.stat().st_size for path in paths),
            content.dtype_name or "as stored",
            losses,
            tuple(content.notes(form)),
        )


def _safetensors(content: Content, output: Path) -> list[Path]:
    return _container(content, output, SAFETENSORS)


def _pth(content: Content, output: Path) -> list[Path]:
    return _container(content, output, PTH)


def _container(content: Content, output: Path, form: str) -> list[Path]:
    container = CONTAINERS[form]
    container.check(output)
    if container.is_lone(output):
        return container.write(output, content, content.metadata, content.tied)
    with content.model_folder(output) as folder:
        written = container.write(folder, content, content.metadata, content.tied)
    return [output / path.name for path in written]


def _apr(content: Content, output: Path) -> list[Path]:
    if output.is_dir():
        raise ConfigError(
            f"{output}: a folder, and an APR file is to be written",
            hint=f"give a file, such as {output / 'model.apr'}",
        )
    write_apr(output, content.arrays(), metadata=content.apr_metadata())
    return [output]


WRITERS: dict[str, Callable[[Content, Path], list[Path]]] = {
    SAFETENSORS: _safetensors, PTH: _pth, APR: _apr,
}  # fmt: skip
"""Kind of file → what writes it."""


def _open(output: Path, form: str) -> TensorFile | TensorFolder:
    return APRFile(output) if form == APR else CONTAINERS[form].open(output)


def _losses(content: Content, written: TensorFile | TensorFolder) -> Iterator[TensorLoss]:
    for name, tensor in content.items():
        found = written.read(name)
        yield _loss(name, content.read(name), found, tensor.dtype)
        content.release(name)
        written.release(name)


def _loss(name: str, wanted: np.ndarray, found: np.ndarray, dtype: np.dtype) -> TensorLoss:
    """What the type has cost; IntegrityError where a bit is not as it was meant."""
    if (found.dtype, found.shape) != (dtype, wanted.shape):
        raise different(name, f"as {found.dtype}{list(found.shape)}")
    exact, stored, start = np.ascontiguousarray(wanted).reshape(-1), found.reshape(-1), 0
    differences = Differences()
    for meant in cast_pieces(exact, dtype, name):
        part = slice(start, start + meant.size)
        if meant.tobytes() != stored[part].tobytes():
            raise different(name, f"in elements {part.start} to {part.stop}")
        if wanted.dtype != dtype:
            before, after = finite(
                name, exact[part].astype(np.float64), stored[part].astype(np.float64)
            )
            differences.add(before, np.abs(after - before))
        start = part.stop
    form = SHORT.get(dtype) or by_numpy(dtype).name.lower()
    return differences.loss(name, form, elements=wanted.size, nbytes=found.nbytes)
