"""One APR file, scanned once and decoded a tensor at a time."""

import binascii
from typing import Any, NoReturn

import numpy as np

from entrenar_common.errors import FormatError
from entrenar_common.text import escape_controls
from entrenar_core.io.apr_scan import APRTensor, scan
from entrenar_core.io.dtypes import DType
from entrenar_core.io.other_kinds import (
    HEAD_BYTES,
    refuse_as_something_else,
    refuse_safetensors,
)
from entrenar_core.io.tensor_file import TensorFile
from entrenar_core.quant import BlockArray

_CHUNK = 4 * 2**20  # characters of base64, whole groups of 4
_FETCH_AGAIN = "the file is damaged or incomplete: fetch or write it again"


class APRFile(TensorFile):
    """An APR file (docs/apr.md); all of it is checked at opening, but for the base64 of the data.

    `tensors` has an APRTensor for each name, `metadata` what the file has under that key. Arrays
    are decoded when they are read, into memory of their own.

    Raises NotFoundError (no such file), FormatError (malformed or truncated, with what and where),
    UnsupportedError (an unknown version or type of elements).
    """

    kind = "APR"
    tensors: dict[str, APRTensor]
    metadata: dict[str, Any]

    def _open(self) -> None:
        if not self._file.size:
            raise FormatError(f"{self.path}: empty file", hint=_FETCH_AGAIN)
        head = self._file.head(HEAD_BYTES)
        if not head.lstrip(b" \t\r\n").startswith(b"{"):
            refuse_safetensors(head, self.path)
            refuse_as_something_else(head, self.path, "APR")
        document = scan(self._file.map(), self.path)
        self._file.check_unchanged()
        self.tensors = document.tensors
        self.metadata = document.metadata

    def read(self, name: str) -> np.ndarray:
        """The tensor as a read-only array; the float32 that it stands for where it is in blocks.

        Raises FormatError where its base64 is malformed or not canonical, IntegrityError when the
        file was changed in place since it was opened, UnsupportedError for blocks that nothing
        here decodes.
        """
        info: APRTensor = self.info(name)
        if isinstance(info.dtype, DType):
            assert info.dtype.numpy is not None  # the scanner takes no others
            found = self._decoded(info).view(info.dtype.numpy).reshape(info.shape)
        else:
            found = self.read_blocks(name).dequantize()
        found.flags.writeable = False
        return found

    def read_blocks(self, name: str) -> BlockArray:
        """A tensor in blocks, as it is stored; FormatError where it is not in blocks."""
        info: APRTensor = self.info(name)
        if isinstance(info.dtype, DType):
            raise FormatError(
                f"{self.path}: tensor '{escape_controls(name)}' is {info.dtype}, not in blocks",
                hint="read it as an array",
            )
        return info.dtype.wrap(self._decoded(info), info.shape)

    def _decoded(self, info: APRTensor) -> np.ndarray:
        text = self._file.view(info.begin, info.end)
        found = np.empty(info.nbytes, np.uint8)
        for start in range(0, len(text), _CHUNK):
            part = text[start : start + _CHUNK].data
            place = start // 4 * 3
            room = min(len(part) // 4 * 3, info.nbytes - place)
            try:
                raw = binascii.a2b_base64(part, strict_mode=True)
            except binascii.Error as error:
                self._fail(info, f"its base64 is malformed: {error}", start)
            if len(raw) != room:
                self._fail(info, "its base64 is padded in the middle, or not at the end", start)
            tail = binascii.b2a_base64(raw[-(room % 3) :], newline=False) if room % 3 else b""
            if tail and tail != bytes(part[-4:]):
                self._fail(info, "its base64 is not canonical: unused bits are set", start)
            found[place : place + room] = np.frombuffer(raw, np.uint8)
        return found

    def _fail(self, info: APRTensor, what: str, start: int) -> NoReturn:
        end = min(info.begin + start + _CHUNK, info.end)
        raise FormatError(
            f"{self.path}: tensor '{escape_controls(info.name)}': {what} "
            f"(in bytes {info.begin + start} to {end})",
            hint=_FETCH_AGAIN,
        )

    def release(self, name: str) -> None:
        """Lets the kernel drop the tensor's pages from memory; a later read brings them back."""
        info = self.info(name)
        self._file.release(info.begin, info.end)
