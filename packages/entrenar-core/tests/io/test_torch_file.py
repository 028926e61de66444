"""Reading and writing files of torch.save: without PyTorch, and beside it."""

import errno
import io
import struct
import zipfile
import zlib
from operator import mul
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from entrenar_common.errors import (
    ConfigError,
    IntegrityError,
    NotFoundError,
    ShapeError,
    StorageError,
    UnsupportedError,
)
from entrenar_core.io.dtypes import DTYPES
from entrenar_core.io.faults import inject
from entrenar_core.io.torch_file import TorchFile
from entrenar_core.io.torch_write import write_torch
from entrenar_core.io.torch_zip import read_directory
from entrenar_core.io.torch_zip_write import ZipWriter
from torch_bytes import (
    FLOATS,
    ORDERED,
    archive,
    call,
    name,
    pickled,
    records,
    stacked,
    state,
    storage,
    tensor,
    text,
    value,
)

ARRAY_TYPES = [dtype for dtype in DTYPES if dtype.numpy is not None]


def some_tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {
        f"layer.{i}.{dtype.name}": rng.integers(0, 2, (2, i % 4 + 1)).astype(dtype.numpy)
        for i, dtype in enumerate(ARRAY_TYPES)
    }
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    return {
        **found,
        "scalar": np.array(3.5),
        "empty": np.zeros((2, 0, 3), np.float32),
        "ü": np.ones(3, np.int8),
        "transposed": base.T,
        "slices": base[::2, 1::2],
        "big": base.astype(">f4"),
    }


def opened(folder: Path, data: bytes) -> TorchFile:
    (folder / "a.pth").write_bytes(data)
    return TorchFile(folder / "a.pth")


def floats(shape, strides, offset=0) -> np.ndarray:
    """What the values are of a view of 0, 1, … 5 with these strides, element by element."""
    flat = np.arange(6, dtype=np.float32)
    return np.array(
        [flat[offset + sum(map(mul, index, strides))] for index in np.ndindex(shape)], np.float32
    ).reshape(shape)


@pytest.mark.parametrize("make", [archive, stacked], ids=["archive", "stacked"])
@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((2, 3), (3, 1), 0), ((3, 2), (1, 3), 0), ((2,), (2,), 1), ((), (), 5), ((1, 2), (9, 4), 1),
     ((0, 3), (3, 1), 6), ((2, 1, 2), (1, 7, 3), 1), ((1, 3), (2**61, 2), 0)],
)  # fmt: skip
def test_a_tensor_is_a_view_of_its_storage(tmp_path, make, shape, strides, offset):
    more = () if make is archive else (None,)
    of = storage("torch.FloatStorage", "0", 6, "cuda:1", *more)
    body = state({"w": tensor(of, offset, shape, strides)})
    with opened(tmp_path, archive(records(body)) if make is archive else stacked(body)) as file:
        assert file.info("w").shape == shape
        found = file.read("w")
        np.testing.assert_array_equal(found, floats(shape, strides, offset))
        assert found.dtype == np.float32
        assert not found.flags.writeable
        assert found.flags.aligned
        file.release("w")
        np.testing.assert_array_equal(found, floats(shape, strides, offset))


def test_a_tensor_that_is_aligned_is_not_copied(tmp_path):
    write_torch(tmp_path / "a", {"w": np.arange(1000.0)})
    with TorchFile(tmp_path / "a") as file:
        first, second = file.read("w"), file.read("w")
        assert np.shares_memory(first, second)
        with pytest.raises(ValueError, match="read-only"):
            first[0] = 1


def test_two_names_may_share_a_storage(tmp_path):
    body = state({"a": tensor(), "b": tensor(), "c": tensor(offset=3, shape=(3,), stride=(1,))})
    with opened(tmp_path, archive(records(body))) as file:
        assert file.parameter_count == 15
        np.testing.assert_array_equal(file.read("a"), file.read("b"))
        np.testing.assert_array_equal(file.read("c"), [3, 4, 5])


def test_names_of_python_2_are_text(tmp_path):
    body = pickled(ORDERED + b"(U\x01w" + tensor() + b"u")
    with opened(tmp_path, archive(records(body))) as file:
        assert file.names() == ["w"]


def test_a_parameter_is_a_tensor(tmp_path):
    body = state({"w": call("torch._utils._rebuild_parameter", tensor(), True, ORDERED)})
    with opened(tmp_path, archive(records(body))) as file:
        np.testing.assert_array_equal(file.read("w").ravel(), range(6))


def test_a_type_without_a_storage_of_its_own_is_read(tmp_path):
    of = storage("torch.storage.UntypedStorage", "0", 24)
    arguments = (of, 2, (2, 2), (4, 1), False, ORDERED, name("torch.uint16"))
    body = state({"w": call("torch._utils._rebuild_tensor_v3", *arguments)})
    with opened(tmp_path, archive(records(body))) as file:
        flat = np.frombuffer(FLOATS, "<u2")
        np.testing.assert_array_equal(file.read("w"), [flat[2:4], flat[6:8]])


def nested(**entries: bytes) -> bytes:
    body = b"".join(text(key) + found for key, found in entries.items())
    return archive(records(pickled(b"}(" + body + b"u")))


STATE = state()[2:-1]


@pytest.mark.parametrize(
    "data",
    [
        nested(state_dict=STATE, epoch=value(3)),
        nested(weights=STATE, optimizer=value({"state": {}, "lr": 0.1})),
        nested(ema=STATE, model=STATE),
        nested(model=STATE, optimizer=b"}" + value(0) + STATE + b"s", args=value(["x", None])),
    ],
)
def test_the_weights_of_a_checkpoint_are_found(tmp_path, data):
    with opened(tmp_path, data) as file:
        assert file.names() == ["a"]


def test_plain_values_beside_the_tensors_are_named(tmp_path):
    with opened(tmp_path, nested(a=tensor(), step=value(3))) as file:
        assert file.names() == ["a"]
        assert [w.rpartition(": ")[2] for w in file.warnings] == ["'step' is no tensor"]


def test_an_empty_dictionary_is_an_empty_file(tmp_path):
    with opened(tmp_path, archive(records(pickled(ORDERED)))) as file:
        assert file.names() == []
        assert file.metadata == {}


def test_a_missing_tensor_suggests_the_nearest(tmp_path):
    with opened(tmp_path, archive(records(state({"layer.0": tensor()})))) as file:
        with pytest.raises(NotFoundError) as caught:
            file.read("layers.0")
        assert caught.value.hint == "did you mean 'layer.0'?"


def test_a_file_changed_in_place_is_noticed_before_it_is_read(tmp_path):
    with opened(tmp_path, archive()) as file:
        (tmp_path / "a.pth").write_bytes(b"x")
        with pytest.raises(IntegrityError, match="changed"):
            file.read("a")


def test_arrays_stay_valid_after_close(tmp_path):
    with opened(tmp_path, archive()) as file:
        found = file.read("a")
    np.testing.assert_array_equal(found.ravel(), range(6))
    with pytest.raises(ValueError, match="after close"):
        file.read("a")


# --- writing

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


# --- beside PyTorch


def same(found: np.ndarray, wanted) -> bool:
    """Whether an array has type, shape and bits of a tensor of PyTorch."""
    import torch

    flat = wanted.detach().contiguous().reshape(-1)
    raw = flat.view(torch.uint8) if flat.numel() else flat.to(torch.uint8)
    kind = {dtype.torch_name: dtype.numpy for dtype in DTYPES}[str(wanted.dtype)[6:]]
    shape = tuple(wanted.shape)
    return (found.dtype, found.shape, found.tobytes()) == (kind, shape, raw.numpy().tobytes())


def pytorch_tensors(torch) -> dict:
    """Tensors of all types that arrays have, and of all layouts."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for dtype in ARRAY_TYPES:
        raw = torch.randint(0, 2, (3, 16 * dtype.bits // 8), dtype=torch.uint8, generator=generator)
        found[dtype.name] = raw.view(getattr(torch, dtype.torch_name))
    base = torch.randn(4, 6, generator=generator)
    module = torch.nn.Linear(3, 2)
    return {
        **found, "base": base, "row": base[1], "column": base[:, 1], "transposed": base.T,
        "steps": base[::2, 1::3], "scalar": torch.tensor(2.5), "empty": torch.zeros(2, 0),
        "empty slice": base[4:], "parameter": torch.nn.Parameter(torch.ones(2, 2)),
        "frozen": torch.nn.Parameter(torch.ones(3, dtype=torch.int32), requires_grad=False),
        "tied": base, **module.state_dict(prefix="module."),
    }  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize("new", [True, False], ids=["archive", "stacked"])
def test_what_pytorch_saves_is_read_bit_for_bit(tmp_path, new):
    torch = pytest.importorskip("torch")
    tensors = pytorch_tensors(torch)
    if not new:  # torch.load(weights_only=True) cannot read them either
        late = ("U16", "U32", "U64", "F8_")
        tensors = {k: v for k, v in tensors.items() if not k.startswith(late)}
    torch.save(tensors, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    with TorchFile(tmp_path / "a.pth") as file:
        assert set(file.names()) == set(tensors)
        for key, wanted in tensors.items():
            assert same(file.read(key), wanted), key
        assert file.info("tied").key == file.info("base").key


@pytest.mark.parity
@pytest.mark.parametrize("new", [True, False], ids=["archive", "stacked"])
def test_a_state_dict_with_metadata_in_a_checkpoint_is_read(tmp_path, new):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    saved = {"epoch": 3, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    saved |= {"device": torch.device("cpu"), "dtype": torch.float32, "bytes": b"\xff", "set": {1}}
    torch.save(saved, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    with TorchFile(tmp_path / "a.pth") as file:
        assert set(file.names()) == set(model.state_dict())
        for key, wanted in model.state_dict().items():
            assert same(file.read(key), wanted), key


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


@pytest.mark.parity
def test_bfloat16_has_the_values_that_pytorch_gives_it(tmp_path):
    torch = pytest.importorskip("torch")
    values = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)
    torch.save({"w": values}, tmp_path / "a.pth")
    with TorchFile(tmp_path / "a.pth") as file:
        found = file.read("w")
        assert found.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(found.astype(np.float32), values.float().numpy())
