"""What a user points at: tensors as their files have them, and what lies beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from entrenar_core.io.closing import Closing

if TYPE_CHECKING:  # who looks at headers only waits for neither
    import numpy as np

    from entrenar_core.quant import BlockArray

SAFETENSORS, GGUF, PYTORCH, APR = "safetensors", "GGUF", "PyTorch", "APR"
"""What an artifact's files may be."""


@dataclass(frozen=True)
class Entry:
    """A tensor as a header describes it.

    dtype: the type of its elements in capitals, such as BF16, or of its blocks, such as Q4_K;
    file: the name of the file that has it; begin: where its data begins among that file's;
    same_as: the tensor before it that is the same memory (torch.save keeps tied tensors so).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    file: str
    begin: int
    same_as: str | None = None

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)


@dataclass(frozen=True)
class WeightFile:
    """A file that holds tensors."""

    name: str
    nbytes: int


class Reader(Protocol):
    """What reads the values of tensors: one of `entrenar_core.io`'s files or folders."""

    def read(self, name: str) -> np.ndarray | BlockArray:
        """A tensor as it is stored."""
        ...

    def release(self, name: str) -> None:
        """Let the pages of a tensor that was read go."""
        ...

    def close(self) -> None:
        """Close the files."""
        ...


class Artifact(Closing):
    """A model, an adapter or any other set of tensors, known by its headers alone.

    spec: as the user wrote it; kind: what its files are; path: the file or the folder that was
    opened, None where it is on the hub; model: what `entrenar_core.models` opens as this model, a
    folder or a file, None where it is no whole model (a shard, an adapter, tensors without a
    config); tensors: an Entry by name, in the files' order; files: what holds them; config: the
    keys of config.json or of an APR file's metadata, {} where there are none; metadata: what the
    weights' file says besides tensors, for GGUF an `io.gguf.Metadata`; notes: what is odd, in
    words; fetched: the bytes that came over the network, None for what lies on this machine.
    """

    def __init__(
        self,
        spec: str,
        kind: str,
        reader: Reader,
        *,
        tensors: Iterable[Entry],
        files: Iterable[WeightFile],
        path: Path | None = None,
        model: Path | None = None,
        config: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        beside: Callable[[str], bytes | None] | None = None,
        notes: Iterable[str] = (),
        fetched: Callable[[], int] | None = None,
    ) -> None:
        self.spec, self.kind, self.path, self.model = spec, kind, path, model
        self.tensors: dict[str, Entry] = {entry.name: entry for entry in tensors}
        self.files = tuple(files)
        self.config: Mapping[str, Any] = config or {}
        self.metadata: Mapping[str, Any] = {} if metadata is None else metadata
        self.notes = list(notes)
        self._reader, self._beside, self._fetched = reader, beside, fetched

    @property
    def fetched(self) -> int | None:
        return None if self._fetched is None else self._fetched()

    @property
    def is_remote(self) -> bool:
        return self._fetched is not None

    @cached_property
    def nbytes(self) -> int:
        """The bytes of the files that hold the tensors."""
        return sum(file.nbytes for file in self.files)

    def beside(self, name: str) -> bytes | None:
        """The content of a file beside the weights, such as README.md; None where there is none.

        On the hub a file above 1 MB counts as none, and fetching may raise HubError.
        """
        return None if self._beside is None else self._beside(name)

    def read(self, name: str) -> np.ndarray | BlockArray:
        """The values of a tensor as they are stored.

        Raises what its file raises; UnsupportedError for what lies on the hub.
        """
        return self._reader.read(name)

    def release(self, name: str) -> None:
        """Lets the kernel drop the tensor's pages from memory; a later read brings them back."""
        self._reader.release(name)

    def close(self) -> None:
        """Closes the files; arrays that were read stay valid."""
        self._reader.close()
