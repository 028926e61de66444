"""A model on disk as Hugging Face's libraries read it, written and compared: a folder, or a lone
file of its tensors, in safetensors or as torch.save writes a state dict."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from entrenar_common.progress import Progress
from entrenar_core.convert.apr import as_blocks
from entrenar_core.convert.containers import CONTAINERS, Container
from entrenar_core.convert.exported import Exported
from entrenar_core.convert.floats import DTYPES, SHORT, dtype_named
from entrenar_core.convert.folder import CastTensors, write_model_folder, write_weights
from entrenar_core.convert.verify import FormatLoss, TensorLoss, compared, read_back
from entrenar_core.io.new_folder import new_folder
from entrenar_core.io.tensor_file import TensorFile
from entrenar_core.lora.merge import copy_files
from entrenar_core.models.source import is_model_file, stored_type
from entrenar_core.models.stored import StoredModel

METADATA = {"format": "pt"}
"""What transformers wants a safetensors file to say of itself."""


def write_hugging_face(
    source: Path, output: Path, *, form: str, quantization: str | None, progress: Progress
) -> Exported:
    """Write the model at `source` to `output` in the container `form`: a lone file where it is
    called so, else a folder with config and tokenizer, which must not exist or be empty. What else
    lies in the source's folder goes along.

    `quantization` is a float type; by default each tensor keeps the one that it has in a folder,
    and all get the one that most of a GGUF or APR file is stored in. A state dict has the names of
    tied weights as the model's own has. Raises what `convert.export.export` raises.
    """
    container = CONTAINERS[form]
    container.check(output)
    if quantization is not None:
        dtype_named(quantization)
    chosen = quantization or stored_type(source)
    keeps = quantization is None and not is_model_file(source)
    own = _own_types(source) if keeps else {}

    def write(target: Path, tensors: CastTensors) -> list[Path]:
        return container.write(target, tensors, METADATA, tensors.model.model.tied_names())

    if container.is_lone(output):
        with StoredModel(source, head=None) as model:
            paths = write_weights(
                output, CastTensors(model, DTYPES[chosen][1], own, progress), write
            )
    else:
        with new_folder(output) as folder:
            written = write_model_folder(
                source, folder, dtype=chosen, own_types=own, write=write, progress=progress
            )
            if source.is_dir():
                copy_files(source, folder, but={path.name for path in folder.iterdir()})
        paths = [output / path.name for path in written]
    size = sum(path.stat().st_size for path in paths)
    losses = _read_back(source, output, container, progress)
    return Exported(output, tuple(paths), size, DTYPES[chosen][0], losses, ())


def _own_types(source: Path) -> dict[str, np.dtype]:
    """The types of those tensors that are stored in one of DTYPES."""
    by_name = {short.upper(): dtype for short, (_, dtype) in DTYPES.items()}
    with StoredModel(source, head=None) as model:
        stored = {name: model.stored_as(name) for name in model.model.named_parameters()}
    return {name: by_name[kind] for name, kind in stored.items() if kind in by_name}


def _read_back(
    source: Path, output: Path, container: Container, progress: Progress
) -> tuple[FormatLoss, ...]:
    with StoredModel(source, head=None) as wanted, _opened(output, container) as found:
        names = wanted.model.named_parameters()

        def losses() -> Iterator[TensorLoss]:
            for name in names:
                array = found.read(name)
                yield compared(name, wanted.read(name), as_blocks(array, SHORT[array.dtype]))
                wanted.release(name)
                found.release(name)

        return read_back(losses(), len(names), progress)


def _opened(output: Path, container: Container) -> StoredModel | TensorFile:
    """What was written: as a model, where there is a config to check it against."""
    return StoredModel(output, head=None) if output.is_dir() else container.open_file(output)
