"""One file of torch.save (.pth, .pt, .bin), read without PyTorch and without running anything."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from entrenar_common.errors import FormatError
from entrenar_common.text import escape_controls
from entrenar_core.io.dtypes import DType
from entrenar_core.io.safetensors_header import check_name
from entrenar_core.io.tensor_file import TensorFile
from entrenar_core.io.torch_contents import check_crc, read_contents
from entrenar_core.io.torch_records import TensorRef

STATE_KEYS = ("state_dict", "model_state_dict", "model", "module")
"""Under which of its keys a training checkpoint has the weights, if more than one could be."""


_PLAIN = (str, int, float, bool, complex, bytes, type(None), DType)


@dataclass(frozen=True)
class TorchTensor:
    """A tensor of the file: the elements of storage `key` from `offset` on, `stride` apart."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    key: str
    offset: int
    stride: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of its elements."""
        return self.size * self.dtype.bits // 8

    @property
    def span(self) -> tuple[int, int]:
        """Where it begins and ends in its storage, in bytes."""
        item = self.dtype.bits // 8
        if 0 in self.shape:
            return self.offset * item, self.offset * item
        last = sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))
        return self.offset * item, (self.offset + last + 1) * item


class TorchFile(TensorFile):
    """The tensors of a file of torch.save; arrays are read-only views of the mapped file.

    The saved object is a dictionary of names and tensors (a state dict), or has exactly one such
    dictionary among its values; of several, the one under `state_dict`, `model_state_dict`, `model`
    or `module`. `tensors` has a TorchTensor for each name; two names may share a storage. Plain
    values beside the tensors are left out, and `warnings` names them. `metadata` is empty.

    Both the zip archives and the older stacked pickles are read. The pickle inside is interpreted
    by `torch_pickle`, which has no way to run anything. The archive's checksums are compared at
    opening for the pickle and when a tensor is first read for its storage.

    Raises NotFoundError (no such file), FormatError (malformed or truncated, with what and where),
    RefusedError (code or anything else that weights have no use for), UnsupportedError (other
    containers and kinds of tensors), IntegrityError (a wrong checksum).
    """

    kind = "PyTorch"
    tensors: dict[str, TorchTensor]
    metadata: dict[str, Any]

    def _open(self) -> None:
        if not self._file.size:
            raise FormatError(f"{self.path}: empty file", hint="fetch or write it again")
        self._data = self._file.map()
        contents = read_contents(self._data, self.path)
        self._file.check_unchanged()
        self._places = contents.places
        self._checked: set[str] = set()
        self.metadata = {}
        self.warnings: list[str] = []
        state = self._state(contents.value)
        self.tensors = {name: self._tensor(name, state[name]) for name in self._named(state)}

    def _state(self, value: Any) -> dict[Any, Any]:
        if isinstance(value, dict) and (not value or _is_state(value)):
            return value
        nested = {}
        if isinstance(value, dict):
            nested = {k: v for k, v in value.items() if isinstance(v, dict) and v and _is_state(v)}
        known = [key for key in STATE_KEYS if key in nested]
        chosen = known or list(nested)
        if len(chosen) == 1:
            return nested[chosen[0]]
        if not nested:
            raise FormatError(
                f"{self.path}: has no dictionary of tensors, but {_described(value)}",
                hint="save the model's state_dict()",
            )
        shown = ", ".join(escape_controls(str(key)[:40]) for key in chosen[:5])
        raise FormatError(
            f"{self.path}: has {len(chosen)} dictionaries of tensors: {shown}",
            hint="save the one that is wanted to a file of its own",
        )

    def _named(self, state: dict[Any, Any]) -> list[str]:
        left_out = [key for key, value in state.items() if type(value) is not TensorRef]
        for key in left_out[:5]:
            self.warnings.append(f"{self.path}: '{escape_controls(str(key)[:80])}' is no tensor")
        return [name for name in state if type(state[name]) is TensorRef]

    def _tensor(self, name: str, found: TensorRef) -> TorchTensor:
        if problem := check_name(name):
            raise FormatError(
                f"{self.path}: tensor '{escape_controls(name[:80])}': the name {problem}",
                hint="rename the tensor",
            )
        return TorchTensor(
            name, found.dtype, found.shape, found.storage.key, found.offset, found.stride
        )

    def read(self, name: str) -> np.ndarray:
        """The tensor as a read-only array: a view of the mapped file where it is aligned, with the
        strides that it was saved with.

        Raises IntegrityError when the file was changed in place since it was opened, or the
        storage's checksum is wrong.
        """
        info: TorchTensor = self.info(name)
        begin, end = self._span(info)
        raw = self._file.view(begin, end)
        if info.key not in self._checked:
            check_crc(self._data, self._places[info.key], self.path, f"data/{info.key}")
            self._checked.add(info.key)
        assert info.dtype.numpy is not None  # every type that PyTorch names has an array
        item = info.dtype.numpy.itemsize
        if raw.ctypes.data % item:
            raw = raw.copy()
            raw.flags.writeable = False
        # the stride of a single element says nothing, and may be more than numpy takes
        strides = tuple(
            item * step if n > 1 else item for n, step in zip(info.shape, info.stride, strict=True)
        )
        if 0 in info.shape:
            return raw.view(info.dtype.numpy).reshape(info.shape)
        return np.ndarray(info.shape, info.dtype.numpy, buffer=raw, strides=strides)

    def release(self, name: str) -> None:
        """Lets the kernel drop the tensor's pages from memory; a later read brings them back."""
        self._file.release(*self._span(self.info(name)))

    def _span(self, info: TorchTensor) -> tuple[int, int]:
        place = self._places[info.key]
        begin, end = info.span
        assert place.begin + end <= place.end  # the record of the view checked it
        return place.begin + begin, place.begin + end


def _is_state(value: dict[Any, Any]) -> bool:
    """Whether it is a dictionary of tensors by name, perhaps with plain values between them."""
    kinds = {type(item) for item in value.values()}
    return (
        TensorRef in kinds
        and kinds <= {TensorRef, *_PLAIN}
        and all(type(name) is str for name in value)
    )


def _described(value: Any) -> str:
    if isinstance(value, dict):
        keys = [f"{escape_controls(str(k)[:40])}: {type(v).__name__}" for k, v in value.items()]
        return f"a dictionary of {', '.join(keys[:8])}{' …' if len(keys) > 8 else ''}"
    return f"a {type(value).__name__}"
