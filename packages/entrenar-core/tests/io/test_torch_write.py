"""Writing files of torch.save: what we, the standard library and PyTorch read in them."""

import errno
import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, ShapeError, StorageError, UnsupportedError
from entrenar_core.io.faults import inject
from entrenar_core.io.torch_file import TorchFile
from entrenar_core.io.torch_write import write_torch
from entrenar_core.io.torch_zip import read_directory
from entrenar_core.io.torch_zip_write import ZipWriter
from torch_tensors import same, some_tensors

EXPECTED_RECORDS = ["data.pkl", ".format_version", ".storage_alignment", "byteorder", "data/0"]


def test_what_is_written_is_read_back_bit_for_bit(tmp_path):
    tensors = some_tensors()
    written = write_torch(tmp_path / "a", tensors, tied={"again": "scalar"})
    assert written.size == (tmp_path / "a").stat().st_size
    with TorchFile(tmp_path / "a") as file:
        assert set(file.names()) == {*tensors, "again"}
        for key, array in tensors.items():
            found = file.read(key)
            assert found.shape == array.shape
            assert found.dtype == array.dtype.newbyteorder("=")
            assert found.tobytes() == np.ascontiguousarray(array).astype(found.dtype).tobytes()
        assert file.info("again").key == file.info("scalar").key


def test_the_archive_is_one_for_the_standard_library_too(tmp_path):
    write_torch(tmp_path / "a", {"w": np.arange(3.0)})
    data = (tmp_path / "a").read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        assert found.testzip() is None
        assert [i.filename for i in found.infolist()] == [
            f"archive/{record}" for record in [*EXPECTED_RECORDS, "version"]
        ]
        assert found.read("archive/data/0") == np.arange(3.0).tobytes()
        for entry in found.infolist():
            lengths = struct.unpack("<2H", data[entry.header_offset + 26 :][:4])
            assert (entry.header_offset + 30 + sum(lengths)) % 64 == 0


def test_a_mapping_that_changes_its_mind_is_refused(tmp_path):
    class Fickle(dict[str, np.ndarray]):
        def __getitem__(self, key):
            self.size = getattr(self, "size", 0) + 1
            return np.zeros(self.size)

    with pytest.raises(ShapeError, match="tensor 'w'"):
        write_torch(tmp_path / "a", Fickle(w=np.zeros(1)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tied", [{"w": "w"}, {"x": "y"}, {"a\n": "w"}])
def test_a_further_name_needs_a_first_one(tmp_path, tied):
    with pytest.raises(ConfigError, match="cannot be a further name"):
        write_torch(tmp_path / "a", {"w": np.zeros(1)}, tied=tied)


def test_what_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ConfigError, match="control characters"):
        write_torch(tmp_path / "a", {"w\n": np.zeros(1)})
    with pytest.raises(UnsupportedError, match=r"tensor 'w': .*complex128"):
        write_torch(tmp_path / "a", {"w": np.zeros(1, np.complex128)})
    assert list(tmp_path.iterdir()) == []


def test_a_failing_disk_keeps_the_old_file(tmp_path):
    write_torch(tmp_path / "a", {"w": np.zeros(3)})
    old = (tmp_path / "a").read_bytes()
    with inject(5, errno=errno.ENOSPC), pytest.raises(StorageError, match="ENOSPC"):
        write_torch(tmp_path / "a", {"w": np.ones(3)})
    assert (tmp_path / "a").read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 1


class Zeros:
    """Stands for many zero bytes: has a length, and no memory."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size


class Sparse:
    """An output that keeps what is small, and of zeros only how many there are."""

    def __init__(self) -> None:
        self.size = 0
        self.parts: list[tuple[int, bytes]] = []

    def write(self, data) -> None:
        if not isinstance(data, Zeros):
            self.parts.append((self.size, bytes(data)))
        self.size += len(data)

    def __getitem__(self, place: slice) -> bytes:
        found = bytearray(place.stop - place.start)
        for begin, part in self.parts:
            low, high = max(begin, place.start), min(begin + len(part), place.stop)
            if low < high:
                found[low - place.start : high - place.start] = part[low - begin : high - begin]
        return bytes(found)


GIB = 2**30
SIZES = {"data/0": 5 * GIB, "data/1": 100, "data/2": 0, "data/3": 2**32 - 1, "data/4": 2**32 - 2}


@pytest.fixture
def large(monkeypatch) -> Sparse:
    """An archive of 13 GiB of zeros; the checksum of so many is not computed."""
    real = zlib.crc32
    monkeypatch.setattr(
        "entrenar_core.io.torch_zip_write.zlib.crc32",
        lambda part, crc: 7 if isinstance(part, Zeros) else real(part, crc),
    )
    output = Sparse()
    writer = ZipWriter(output)
    for record, size in SIZES.items():
        writer.add(record, size, [Zeros(size)] if size else [])
    writer.finish()
    return output


def test_records_and_offsets_beyond_4_gib_are_found_again(large):
    found = read_directory(large, large.size, Path("large"))
    assert {record: place.size for record, place in found.items()} == SIZES
    assert found["data/1"].begin > 2**32
    assert all(place.begin % 64 == 0 for place in found.values())


def test_the_standard_library_finds_them_too(large):
    """It reads 64-bit directories by itself, from anything that can seek."""

    class File(io.RawIOBase):
        def __init__(self) -> None:
            self.at = 0

        def seekable(self) -> bool:
            return True

        def tell(self) -> int:
            return self.at

        def seek(self, offset: int, whence: int = 0) -> int:
            self.at = offset + {0: 0, 1: self.at, 2: large.size}[whence]
            return self.at

        def read(self, size: int = -1) -> bytes:
            end = large.size if size < 0 else min(large.size, self.at + size)
            data = large[self.at : end]
            self.at = end
            return data

    with zipfile.ZipFile(File()) as found:
        sizes = {i.filename.removeprefix("archive/"): i.file_size for i in found.infolist()}
        assert sizes == SIZES
        theirs = [i.header_offset for i in found.infolist()]
    assert theirs == [at for at, part in large.parts if part.startswith(b"PK\x03\x04")]


@pytest.mark.parity
@pytest.mark.parametrize("mapped", [False, True], ids=["read", "mapped"])
def test_pytorch_reads_what_is_written(tmp_path, monkeypatch, mapped):
    torch = pytest.importorskip("torch")
    serialization = pytest.importorskip("torch.utils.serialization")
    monkeypatch.setenv("TORCH_SERIALIZATION_DEBUG", "1")  # compares computed offsets with real ones
    serialization.config.load.calculate_storage_offsets = mapped
    tensors = some_tensors()
    write_torch(tmp_path / "a.pth", tensors, tied={"again": "scalar"})
    found = torch.load(tmp_path / "a.pth", weights_only=True, mmap=mapped)
    serialization.config.load.calculate_storage_offsets = False
    assert type(found).__name__ == "OrderedDict"
    assert list(found) == [*tensors, "again"]
    for key, array in tensors.items():
        assert found[key].is_contiguous()
        assert same(array.astype(array.dtype.newbyteorder("="), order="C"), found[key])
    assert found["again"].data_ptr() == found["scalar"].data_ptr()
