"""Malformed and malicious files of torch.save, built from bytes: each ends in one typed error."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from canary import refuses_and_only_reads
from entrenar_common.errors import (
    EntrenarError,
    FormatError,
    IntegrityError,
    NotFoundError,
    RefusedError,
)
from entrenar_core.io.torch_file import TorchFile
from torch_bad_cases import BAD, GOOD, WARPED, Evil, at, one, patched, saved
from torch_bytes import FLOATS, archive, stacked, tensor


def write(folder: Path, data: bytes) -> Path:
    path = folder / "pytorch_model.bin"
    path.write_bytes(data)
    return path


def read_all(path: Path) -> dict[str, np.ndarray]:
    with TorchFile(path) as file:
        return {name: file.read(name) for name in file.names()}


LARGE = {case for case in BAD if len(BAD[case][0]) > 100_000}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.tier2] * (case in LARGE)) for case in BAD]
)
def test_a_bad_file_is_a_typed_error_that_says_what_and_where(ram_path, case):
    data, said, kind = BAD[case]
    path = write(ram_path, data)
    with pytest.raises(kind, match=said) as caught:
        TorchFile(path)
    message = str(caught.value)
    assert type(caught.value) is kind
    assert message.startswith(f"{path}: ")
    assert caught.value.hint
    assert message.isprintable()
    assert len(message) < 400
    assert list(ram_path.iterdir()) == [path]


def test_the_good_files_that_the_bad_ones_are_made_of_are_read(ram_path):
    for data in (archive(), stacked()):
        found = read_all(write(ram_path, data))
        assert list(found) == ["a"]
        np.testing.assert_array_equal(found["a"], np.arange(6, dtype=np.float32).reshape(2, 3))


@pytest.mark.parametrize("case", WARPED)
def test_an_archive_that_contradicts_itself_is_refused(ram_path, case):
    data, kind, said = WARPED[case]
    path = write(ram_path, data)
    with pytest.raises(kind, match=said) as caught:
        TorchFile(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.hint


def test_a_wrong_checksum_is_found_when_the_tensor_is_read(ram_path):
    path = write(ram_path, patched(GOOD, at(GOOD, FLOATS) + 5, b"\x01"))
    with TorchFile(path) as file, pytest.raises(IntegrityError, match=r"data/0 is wrong"):
        file.read("a")


def test_the_refusal_of_a_name_says_what_to_do(ram_path):
    with pytest.raises(RefusedError, match=r"posix.system.*at byte \d+") as caught:
        TorchFile(write(ram_path, saved(pickle.dumps(Evil(), 2))))
    assert "safetensors" in caught.value.hint


def test_a_refused_expanded_view_says_how_to_save_it(ram_path):
    with pytest.raises(RefusedError) as caught:
        TorchFile(write(ram_path, one(tensor(shape=(4, 6), stride=(0, 1)))))
    assert ".contiguous()" in caught.value.hint


@pytest.mark.tier2
def test_no_bad_file_makes_the_process_do_anything_but_read_it(ram_path):
    bad = [found[0] for cases in (BAD, WARPED) for found in cases.values()]
    refuses_and_only_reads(TorchFile, bad, [archive(), stacked()], ram_path)


@pytest.mark.parametrize("data", [archive(), stacked()], ids=["archive", "stacked"])
def test_truncation_at_every_length_is_a_format_error(ram_path, data):
    for length in range(len(data)):
        with pytest.raises(FormatError):
            TorchFile(write(ram_path, data[:length]))


def mutations(data: bytes) -> list[bytes]:
    found = []
    for place, before in enumerate(data):
        new = {0, 1, 0x7F, 0x80, 0xFF} | {before ^ (1 << bit) for bit in range(8)}
        found += [patched(data, place, bytes([byte])) for byte in sorted(new - {before})]
    return found


@pytest.mark.tier2
def test_every_changed_byte_of_an_archive_is_refused_or_changes_nothing(ram_path):
    wanted = read_all(write(ram_path, GOOD))["a"].tobytes()
    accepted = 0
    for data in mutations(GOOD):
        try:
            found = read_all(write(ram_path, data))
        except EntrenarError:
            continue
        accepted += 1
        assert list(found) == ["a"]
        assert found["a"].tobytes() == wanted
    assert accepted  # times of day, for instance


@pytest.mark.tier2
def test_every_changed_byte_of_stacked_pickles_is_refused_or_read(ram_path):
    """They have no checksum: what a changed value means is compared with PyTorch elsewhere."""
    for data in mutations(stacked()):
        try:
            found = read_all(write(ram_path, data))
        except EntrenarError:
            continue
        assert sum(array.nbytes for array in found.values()) <= len(FLOATS)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("data", [archive(), stacked()], ids=["archive", "stacked"])
def test_every_changed_byte_is_refused_or_read_as_pytorch_reads_it(ram_path, data):
    torch = pytest.importorskip("torch")
    accepted = 0
    for changed_data in mutations(data):
        path = write(ram_path, changed_data)
        try:
            found = read_all(path)
        except EntrenarError:
            continue
        accepted += 1
        theirs = torch.load(path, map_location="cpu", weights_only=True)
        assert list(found) == list(theirs)
        for key, array in found.items():
            flat = theirs[key].clone(memory_format=torch.contiguous_format).reshape(-1)
            assert array.shape == tuple(theirs[key].shape)
            assert array.tobytes() == flat.view(torch.uint8).numpy().tobytes()
    assert accepted


def test_what_is_not_a_file_is_not_found(ram_path):
    os.mkfifo(ram_path / "pipe")
    for path in (ram_path / "none", ram_path, ram_path / "pipe", Path("/dev/null")):
        with pytest.raises(NotFoundError, match=path.name):
            TorchFile(path)


def test_leaks_no_descriptor(ram_path):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FormatError):
        TorchFile(write(ram_path, GOOD[:-1]))
    read_all(write(ram_path, GOOD))
    assert len(os.listdir("/proc/self/fd")) == before
