"""What a folder or a file of tensors has, as another one will have it: names, types, what is said
beside them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_common.progress import Progress
from entrenar_common.text import escape_controls
from entrenar_core.convert.containers import PTH
from entrenar_core.convert.floats import cast, cast_pieces, dtype_named
from entrenar_core.data.load_tokenizer import TOKENIZER, TOKENIZER_CONFIG
from entrenar_core.io import files
from entrenar_core.io.apr import APRFile
from entrenar_core.io.closing import Closing
from entrenar_core.io.dtypes import DTYPES, DType
from entrenar_core.io.new_folder import new_folder
from entrenar_core.io.tensor_folder import TensorFolder
from entrenar_core.io.torch_save import TorchFile
from entrenar_core.io.weights import open_tensors
from entrenar_core.lora.merge import copy_files
from entrenar_core.models.quantized import KEY as QUANTIZATION

CONFIG = "config.json"
METADATA = "metadata"
"""Where the metadata of an APR file have those of a safetensors file."""

CAST = ("F64", "F32", "F16", "BF16")
"""Types that are brought into another one. Floats of 8 bits have scales somewhere beside them."""

_EIGHT_BITS = {dtype.name for dtype in DTYPES if dtype.name.startswith("F8_")}

SHOWN = 5
"""Names that a note has at most."""


class Content(Mapping[str, "ContentTensor"], Closing):
    """The tensors at `source`, each read when it is written; floats as `quantization` if given.

    `tied` are further names → the first name of the same elements, `metadata` what a safetensors
    file says of itself, `config` the keys of config.json, None for tensors alone.
    """

    def __init__(self, source: Path, quantization: str | None, progress: Progress) -> None:
        self.path, self.progress = source, progress
        self.dtype_name, self._dtype = None, None
        if quantization is not None:
            self.dtype_name, self._dtype = dtype_named(quantization)
        self._source = open_tensors(source)
        try:
            self._stored: dict[str, Any] = self._source.tensors
            self.config = self._config()
            self.metadata = self._metadata()
            self.tied = self._tied()
            self._tensors = {
                name: ContentTensor(self, name, tuple(info.shape), self._type(name, info))
                for name, info in self._stored.items()
                if name not in self.tied
            }
        except BaseException:
            self.close()
            raise

    def _config(self) -> dict[str, Any] | None:
        if isinstance(self._source, APRFile):
            found = self._source.metadata.get("config")
        else:
            path = self.path / CONFIG
            found = files.read_json(path) if self.path.is_dir() and path.exists() else None
        if not isinstance(found, dict):
            return None
        if self._dtype is not None and QUANTIZATION in found:
            raise UnsupportedError(
                f"{self.path}: its weights are quantized, and {QUANTIZATION} says how: another "
                "type would change what they mean",
                hint="leave the types as they are",
            )
        return found

    def _metadata(self) -> dict[str, str]:
        found = self._source.metadata
        if isinstance(self._source, APRFile):
            found = found.get(METADATA)
        if not isinstance(found, dict) or not found:
            return {"format": "pt"}
        return {key: text for key, text in found.items() if isinstance(text, str)}

    def _tied(self) -> dict[str, str]:
        """Names for the same elements of one storage, and those that metadata speak of."""
        stored = self._stored
        tied = {
            further: first
            for further, first in self.metadata.items()
            if further not in stored and first in stored
        }
        for file in self._torch_files():
            tied |= {n: first for n, first in _same_elements(file).items() if n in stored}
        return tied

    def _parts(self) -> list[str]:
        """Tensors of which others have elements too, but not the same ones."""
        found: list[str] = []
        for file in self._torch_files():
            by_key: dict[str, list[str]] = {}
            for info in file.tensors.values():
                if info.name in self._tensors and info.size:
                    by_key.setdefault(info.key, []).append(info.name)
            found += [name for names in by_key.values() if len(names) > 1 for name in names]
        return found

    def _torch_files(self) -> list[TorchFile]:
        source = self._source
        opened = source.files if isinstance(source, TensorFolder) else [source]
        return [file for file in opened if isinstance(file, TorchFile)]

    def _type(self, name: str, info: Any) -> np.dtype:
        if not isinstance(info.dtype, DType):  # blocks, which are read as floats
            return self._dtype or np.dtype(np.float32)
        if info.dtype.numpy is None:
            raise UnsupportedError(
                f"{self.path}: tensor '{escape_controls(name)}' is {info.dtype}, "
                f"{info.dtype.bits} bits per element, which no array holds",
                hint="use the model's float version",
            )
        is_cast = self._dtype is not None and info.dtype.name in CAST
        return self._dtype if self._dtype is not None and is_cast else info.dtype.numpy

    def __getitem__(self, name: str) -> "ContentTensor":
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def paths(self) -> list[Path]:
        """The files that are read."""
        return self._source.paths

    def read(self, name: str) -> np.ndarray:
        """A tensor as it is stored; the floats that it stands for where it is in blocks."""
        return self._source.read(name)

    def release(self, name: str) -> None:
        """Lets the kernel drop the tensor's pages from memory."""
        self._source.release(name)

    def arrays(self) -> Mapping[str, np.ndarray]:
        """The tensors whole, each made when it is looked up."""
        return _Arrays(self)

    def apr_metadata(self) -> dict[str, Any]:
        """What an APR file says beside the tensors."""
        if isinstance(self._source, APRFile):
            found = dict(self._source.metadata)
        else:
            found = {METADATA: {**self.metadata, **self.tied}}
            for key in (TOKENIZER, TOKENIZER_CONFIG):
                path = self.path / f"{key}.json"
                if self.config is not None and path.exists():
                    found[key] = files.read_json(path)
        return found if self.config is None else {**found, "config": self._written_config()}

    @contextmanager
    def model_folder(self, output: Path) -> Iterator[Path]:
        """A folder for the body to put the weights into, which then gets all else.

        Raises ConfigError where there is no config, RefusedError for a folder with something in it.
        """
        if self.config is None:
            raise ConfigError(
                f"{output}: a model folder needs a {CONFIG}, and {self.path} has tensors alone",
                hint=f"give a file as the output, such as {output}.safetensors or {output}.pth",
            )
        with new_folder(output) as folder:
            yield folder
            if self.path.is_dir():
                copy_files(self.path, folder, but={CONFIG})
            else:
                for key in {TOKENIZER, TOKENIZER_CONFIG} & self._source.metadata.keys():
                    files.write_json(folder / f"{key}.json", self._source.metadata[key])
            files.write_json(folder / CONFIG, self._written_config())

    def _written_config(self) -> dict[str, Any]:
        assert self.config is not None
        if self.dtype_name is None:
            return self.config
        key = "torch_dtype" if "torch_dtype" in self.config else "dtype"
        return {**self.config, key: self.dtype_name}

    def notes(self, form: str) -> Iterator[str]:
        """What the reader of a file of kind `form` should know."""
        yield from getattr(self._source, "warnings", ())
        if self.tied and form != PTH:
            names = [f"{further} is {first}" for further, first in self.tied.items()]
            yield f"written once, as the same numbers: {_shown(names)}"
        parts = self._parts()
        if parts:
            yield f"lie in one memory in part, and apart in the file: {_shown(parts)}"
        said = {key for key in self.metadata if key not in self.tied} - {"format"}
        if said and form == PTH:
            yield f"a file of torch.save has no place for the metadata: {_shown(sorted(said))}"
        kinds = Counter(
            info.dtype.name for info in self._stored.values() if not isinstance(info.dtype, DType)
        )
        for kind, count in kinds.items():
            yield f"{count} tensors in {kind} are written as the floats that they stand for"
        if self._dtype is not None:
            kept = {str(i.dtype) for i in self._stored.values()} & _EIGHT_BITS
            if kept:
                yield f"tensors of type {', '.join(sorted(kept))} stay as they are"

    def close(self) -> None:
        """Closes the files."""
        self._source.close()


@dataclass(frozen=True)
class ContentTensor:
    """A tensor as it will be written; see `io.streamed`."""

    content: Content
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    @property
    def where(self) -> str:
        return f"{self.content.path}: {escape_controls(self.name)}"

    def pieces(self) -> Iterator[np.ndarray]:
        """Its elements in order; NumericsError where one does not fit its type."""
        yield from cast_pieces(self.content.read(self.name), self.dtype, self.where)
        self.content.release(self.name)
        self.content.progress.advance()


class _Arrays(Mapping[str, np.ndarray]):
    def __init__(self, content: Content) -> None:
        self._content = content

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self._content[name]
        found = cast(self._content.read(name), tensor.dtype, tensor.where)
        self._content.release(name)
        self._content.progress.advance()
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)


def _same_elements(file: TorchFile) -> dict[str, str]:
    """Further names of the same elements of one storage → the first one."""
    first: dict[Any, str] = {}
    found = {}
    for info in file.tensors.values():
        place = info.key, info.offset, info.shape, info.stride, info.dtype
        if info.size and first.setdefault(place, info.name) != info.name:
            found[info.name] = first[place]
    return found


def _shown(names: list[str]) -> str:
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return escape_controls(", ".join(names[:SHOWN])) + more
