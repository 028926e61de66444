"""Tensors in pieces, written behind what makes them: the same bytes as arrays give."""

import errno
import threading
from dataclasses import dataclass

import numpy as np
import pytest

from entrenar_common.errors import ShapeError, StorageError
from entrenar_core.io import files
from entrenar_core.io.faults import inject
from entrenar_core.io.safetensors import write_file
from entrenar_core.io.streamed import WAITING_BYTES, written_behind
from entrenar_core.io.torch_save import TorchFile, write_torch


@dataclass
class InPieces:
    array: np.ndarray
    rows: int = 3
    seen: int = 0

    @property
    def dtype(self):
        return self.array.dtype

    @property
    def shape(self):
        return self.array.shape

    @property
    def nbytes(self):
        return self.array.nbytes

    def pieces(self):
        self.seen += 1
        return (self.array[i : i + self.rows] for i in range(0, len(self.array), self.rows))


ARRAYS = {
    "a": np.arange(70, dtype=np.float32).reshape(10, 7),
    "b": np.arange(5, dtype=np.int16),
    "c": np.zeros((0, 4), np.float16),
}


def test_pieces_give_the_bytes_of_the_whole(tmp_path):
    streamed = {name: InPieces(array) for name, array in ARRAYS.items()}
    write_file(tmp_path / "one", ARRAYS)
    write_file(tmp_path / "two", streamed)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert {tensor.seen for tensor in streamed.values()} == {1}


def test_files_of_torch_take_pieces_too(tmp_path):
    write_torch(tmp_path / "a.pth", {n: InPieces(array) for n, array in ARRAYS.items()})
    with TorchFile(tmp_path / "a.pth") as file:
        assert all(np.array_equal(file.read(name), array) for name, array in ARRAYS.items())


def test_a_tensor_that_changes_between_looks_is_refused(tmp_path):
    class Changing(dict):
        def __getitem__(self, name):
            self["n"] = self.get("n", 0) + 1
            return InPieces(np.zeros((self.get("n"), 2), np.float32))

        def __iter__(self):
            return iter(["a"])

        def __len__(self):
            return 1

    with pytest.raises(ShapeError, match="was F32"):
        write_file(tmp_path / "a", Changing())
    assert not list(tmp_path.iterdir())


def test_writing_happens_in_another_thread_and_in_order(tmp_path, monkeypatch):
    threads, write = set(), files.os_calls.write

    def watched(fd, data):
        threads.add(threading.current_thread().name)
        return write(fd, data)

    monkeypatch.setattr(files.os_calls, "write", watched)
    with files.open_atomic(tmp_path / "a") as file, written_behind(file) as put:
        for number in range(50):
            put(bytes([number]) * 1000)
    assert (tmp_path / "a").read_bytes() == b"".join(bytes([n]) * 1000 for n in range(50))
    assert threading.main_thread().name not in threads


def test_little_waits_to_be_written(tmp_path, monkeypatch):
    """While a large piece is being written, the next one is not taken."""
    gate, write, taken = threading.Event(), files.os_calls.write, []

    def slow(fd, data):
        gate.wait(10)
        return write(fd, data)

    monkeypatch.setattr(files.os_calls, "write", slow)
    large = bytes(WAITING_BYTES)

    def fill():
        with files.open_atomic(tmp_path / "a") as file, written_behind(file) as put:
            for _ in range(3):
                put(large)
                taken.append(len(large))

    thread = threading.Thread(target=fill)
    thread.start()
    thread.join(0.3)
    assert len(taken) == 1
    gate.set()
    thread.join()
    assert (tmp_path / "a").stat().st_size == 3 * WAITING_BYTES


def test_what_fails_in_the_other_thread_is_raised(tmp_path):
    with (
        inject(2, errno=errno.ENOSPC),
        pytest.raises(StorageError, match="ENOSPC"),
        files.open_atomic(tmp_path / "a") as file,
        written_behind(file) as put,
    ):
        put(b"one")
    assert not list(tmp_path.iterdir())
