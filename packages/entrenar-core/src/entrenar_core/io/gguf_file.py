"""One GGUF file, mapped into memory and read without copying."""

from entrenar_core.io.gguf_header import GGUFTensor, parse_header
from entrenar_core.io.gguf_metadata import Metadata
from entrenar_core.io.tensor_file import TensorFile
from entrenar_core.quant import BlockArray


class GGUFFile(TensorFile):
    """A GGUF file, checked whole at opening; tensors are read-only views of the mapped file.

    `metadata` has its keys and values, `tensors` a GGUFTensor for each name. The format has no
    checksum of the data. Arrays stay valid after `close`. A file that is one part of several opens
    too: GGUFFiles reads all of them as one.

    Raises NotFoundError (no such file), FormatError (malformed or truncated, with what and where),
    UnsupportedError (big-endian, or a tensor type that is not known).
    """

    kind = "GGUF"
    tensors: dict[str, GGUFTensor]
    metadata: Metadata

    def _open(self) -> None:
        data = self._file.map() if self._file.size else b""
        header = parse_header(data, self.path)
        # a copy: numbers in it are decoded later, and the file may have been cut by then
        self.metadata = Metadata(header.metadata, data[: header.data_start], self.path)
        self._file.check_unchanged()
        self.version: int = header.version
        self.alignment: int = header.alignment
        self.tensors = header.tensors
        self._data_start = header.data_start

    def read(self, name: str) -> BlockArray:
        """The tensor as it is stored, a view of the mapped file; `.dequantize()` gives floats.

        Raises IntegrityError when the file was changed in place since it was opened.
        """
        info = self.info(name)
        raw = self._file.view(self._data_start + info.begin, self._data_start + info.end)
        return info.form.wrap(raw, info.shape)

    def release(self, name: str) -> None:
        """Lets the kernel drop the tensor's pages from memory; a later read brings them back."""
        info = self.info(name)
        self._file.release(self._data_start + info.begin, self._data_start + info.end)
