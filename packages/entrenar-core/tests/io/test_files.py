"""The seam for writes: whole or absent, typed errors, nothing left behind."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from entrenar_common.errors import CheckpointError, FormatError, NotFoundError, StorageError
from entrenar_core.io import files, sync_ahead
from entrenar_core.io.faults import inject


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_only_when_the_body_ends(tmp_path):
    with files.open_atomic(tmp_path / "a") as file:
        file.write(b"one ")
        assert "a" not in names(tmp_path)
        file.write(memoryview(b"two"))
    assert (tmp_path / "a").read_bytes() == b"one two"
    assert names(tmp_path) == ["a"]


def test_hash_and_size_are_those_of_the_file(tmp_path):
    data = np.random.default_rng(0).bytes(300_000)
    with files.open_atomic(tmp_path / "a") as file:
        file.write(data[:7])
        file.write(bytearray(data[7:]))
    assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert files.sha256_file(tmp_path / "a") == file.sha256


def test_arrays_of_any_shape_are_written_as_their_memory(tmp_path):
    with files.open_atomic(tmp_path / "a") as file:
        file.write(np.arange(6, dtype="<i2").reshape(2, 3).data)
        file.write(np.zeros((0, 3)).data)
    assert (tmp_path / "a").read_bytes() == np.arange(6, dtype="<i2").tobytes()


def test_exception_in_the_body_keeps_the_old_file(tmp_path):
    files.write_bytes(tmp_path / "a", b"old")
    with pytest.raises(KeyboardInterrupt), files.open_atomic(tmp_path / "a") as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_an_oserror_of_the_body_is_not_renamed(tmp_path):
    with pytest.raises(OSError, match="mine"), files.open_atomic(tmp_path / "a"):
        raise OSError("mine")


def test_short_writes_are_completed(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os_calls, "write", lambda fd, data: os.write(fd, data[:3]))
    files.write_bytes(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_new_files_have_the_mode_of_the_umask(tmp_path):
    files.write_bytes(tmp_path / "a", b"")
    (tmp_path / "plain").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_symbolic_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "target").write_bytes(b"keep")
    (tmp_path / "a").symlink_to("target")
    files.write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "target").read_bytes() == b"keep"
    assert not (tmp_path / "a").is_symlink()


def test_long_names_work(tmp_path):
    name = "ä" * 125
    files.write_bytes(tmp_path / name, b"x")
    assert names(tmp_path) == [name]


def test_no_descriptor_leaks(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    files.write_bytes(tmp_path / "a", b"x")
    with inject(at=3, errno=errno.EIO), pytest.raises(StorageError):
        files.write_bytes(tmp_path / "a", b"y")
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("every", [sync_ahead.EVERY, 1])
@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG, errno.EROFS])
def test_any_failing_operation_leaves_old_or_new(tmp_path, monkeypatch, code, forever, every):
    monkeypatch.setattr(sync_ahead, "EVERY", every)
    path = tmp_path / "a"
    with inject() as count:
        files.write_bytes(path, b"old")
    for at in range(1, len(count.calls) + 1):
        path.write_bytes(b"old")
        failed = False
        with inject(at, errno=code, forever=forever):
            try:
                files.write_bytes(path, b"new")
            except StorageError as error:
                failed = True
                assert errno.errorcode[code] in str(error)
                assert error.hint
        assert path.read_bytes() in ([b"old", b"new"] if failed else [b"new"])
        if not forever:
            assert names(tmp_path) == ["a"]
        for left in tmp_path.glob(".a.tmp-*"):
            left.unlink()


def test_a_failed_fsync_is_not_tried_again(tmp_path):
    with inject() as count:
        files.write_bytes(tmp_path / "a", b"x")
    at = count.calls.index("fsync") + 1
    with inject(at, errno=errno.EIO) as faults, pytest.raises(StorageError):
        files.write_bytes(tmp_path / "a", b"y")
    assert faults.calls.count("fsync") == 1


def test_a_large_file_is_synced_while_it_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(sync_ahead, "EVERY", 1000)
    synced = threading.Event()

    def fsync(fd: int) -> None:
        os.fsync(fd)
        synced.set()

    monkeypatch.setattr(files.os_calls, "fsync", fsync)
    with files.open_atomic(tmp_path / "a") as file:
        file.write(bytes(999))
        assert not synced.wait(0.01)
        file.write(bytes(1))
        assert synced.wait(10)
        file.write(b"end")
    assert (tmp_path / "a").read_bytes() == bytes(1000) + b"end"


def test_a_sync_that_failed_meanwhile_fails_the_file(tmp_path, monkeypatch):
    """The kernel reports a lost page once: the fsync at the end would succeed."""
    monkeypatch.setattr(sync_ahead, "EVERY", 1)
    files_synced = []

    def fsync(fd: int) -> None:
        files_synced.append(fd)
        if len(files_synced) == 1:
            raise OSError(errno.EIO, "lost")

    monkeypatch.setattr(files.os_calls, "fsync", fsync)
    with pytest.raises(StorageError, match="EIO"), files.open_atomic(tmp_path / "a") as file:
        file.write(b"x")
    assert len(files_synced) == 1
    assert names(tmp_path) == []


def test_a_file_is_not_closed_while_it_is_synced(tmp_path, monkeypatch):
    monkeypatch.setattr(sync_ahead, "EVERY", 1)
    failed, sizes = threading.Event(), []

    def fsync(fd: int) -> None:
        failed.wait(10)
        time.sleep(0.05)  # for whoever would close it
        sizes.append(os.fstat(fd).st_size)

    monkeypatch.setattr(files.os_calls, "fsync", fsync)
    with pytest.raises(KeyboardInterrupt), files.open_atomic(tmp_path / "a") as file:
        file.write(b"x")
        failed.set()
        raise KeyboardInterrupt
    assert sizes == [1]


def test_a_real_full_disk_is_a_storage_error(tmp_path):
    """RLIMIT_FSIZE gives a short write first and EFBIG next, as a disk that runs full does."""
    script = (
        "import resource, signal, sys; from entrenar_core.io import files\n"
        "from entrenar_common.errors import StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: files.write_bytes(sys.argv[1], b'x' * 3000)\n"
        "except StorageError as error: print('EFBIG' in str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
    assert names(tmp_path) == []


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"none/a.*ENOENT"):
        files.write_text(tmp_path / "none" / "a", "x")


def test_json_is_written_in_order_and_read_back(tmp_path):
    value = {"b": [1, 2.5, None], "a": {"é": "ü"}}
    files.write_json(tmp_path / "a.json", value)
    assert (tmp_path / "a.json").read_text("utf-8").startswith('{\n  "b"')
    assert files.read_json(tmp_path / "a.json") == value


def test_json_refuses_to_write_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a": 1, "a": 2}', "duplicate key 'a'"),
        (b'{"x": {"a": 1, "a": 1}}', "duplicate key 'a'"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a":\n 1,}', "line 2"),
        (b"", "line 1"),
        (b'"a\xff"', "byte 2 is not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b'{"a": "\\ud800"}', "lone surrogate"),
        (b'{"\\udfff": 1}', "lone surrogate"),
        (b"[" * 65 + b"]" * 65, "nested"),
        (b"[" * 200_000, "nested"),
        (b'{"a":' * 200_000, "nested"),
        (b"1" * 5000, "digits"),
        (b"-" + b"1" * 4000, "digits"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    ],
)
def test_json_that_is_not_strict_is_refused(tmp_path, data, said):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(FormatError, match=said) as caught:
        files.read_json(tmp_path / "a.json")
    assert str(caught.value).startswith(str(tmp_path / "a.json"))


def test_json_of_the_allowed_depth_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes(b"[" * 64 + b"]" * 64)
    files.read_json(tmp_path / "a.json")


def test_text_longer_than_the_limit_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    with pytest.raises(FormatError, match="4 bytes"):
        files.read_text(tmp_path / "a", max_bytes=4)
    assert files.read_text(tmp_path / "a", max_bytes=5) == "12345"


def test_newlines_are_not_translated(tmp_path):
    files.write_text(tmp_path / "a", "1\r\n2\n")
    assert files.read_text(tmp_path / "a") == "1\r\n2\n"


@pytest.mark.parametrize("read", [files.read_text, files.read_json, files.sha256_file])
def test_reading_what_is_missing_or_a_folder_is_not_found(tmp_path, read):
    for path in (tmp_path / "none", tmp_path, Path(__file__) / "below"):
        with pytest.raises(NotFoundError):
            read(path)


def test_lines_are_appended(tmp_path):
    files.append_line(tmp_path / "log", "one")
    files.append_line(tmp_path / "log", "zwölf")
    assert (tmp_path / "log").read_text("utf-8") == "one\nzwölf\n"


def test_a_line_has_no_newline(tmp_path):
    with pytest.raises(ValueError, match="newline"):
        files.append_line(tmp_path / "log", "a\nb")


def test_a_line_that_does_not_fit_is_not_appended_at_all(tmp_path, monkeypatch):
    files.append_line(tmp_path / "log", "one")
    monkeypatch.setattr(files.os_calls, "write", lambda fd, data: os.write(fd, data[:2]))
    with pytest.raises(StorageError):
        files.append_line(tmp_path / "log", "two")
    assert (tmp_path / "log").read_bytes() == b"one\n"


def test_folders_are_made_with_their_parents(tmp_path):
    files.make_folder(tmp_path / "a" / "b")
    files.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_file_in_the_way_of_a_folder_is_reported(tmp_path):
    (tmp_path / "a").touch()
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(StorageError, match="cannot create the folder"):
            files.make_folder(path)


def test_a_published_folder_never_replaces(tmp_path):
    for name in ("new", "there"):
        (tmp_path / name).mkdir()
    with pytest.raises(StorageError, match="exists already"):
        files.publish_folder(tmp_path / "new", tmp_path / "there")
    files.publish_folder(tmp_path / "new", tmp_path / "final")
    assert names(tmp_path) == ["final", "there"]


def test_a_removed_tree_does_not_follow_links(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "keep").touch()
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "file").touch()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "outside")
    files.remove_tree(tmp_path / "tree")
    assert names(tmp_path) == ["outside"]
    assert names(tmp_path / "outside") == ["keep"]


def test_a_half_removed_tree_has_lost_its_name(tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").touch()
    with inject(2, errno=errno.EIO), pytest.raises(StorageError):
        files.remove_tree(tmp_path / "tree")
    (left,) = names(tmp_path)
    assert left.startswith(".trash-")
    files.remove_tree(tmp_path / left)
    assert names(tmp_path) == []


def test_probe_leaves_nothing_and_returns_free_bytes(tmp_path):
    assert files.probe_writable(tmp_path) > 0
    assert names(tmp_path) == []


def test_probe_reports_too_little_space(tmp_path):
    with pytest.raises(StorageError, match="are needed"):
        files.probe_writable(tmp_path, need_bytes=2**62)


def test_probe_reports_every_failing_operation(tmp_path):
    with inject() as count:
        files.probe_writable(tmp_path)
    closes = {i + 1 for i, name in enumerate(count.calls) if name == "close"}
    for at in set(range(1, len(count.calls) + 1)) - closes:
        with inject(at, errno=errno.EROFS), pytest.raises(StorageError, match="EROFS"):
            files.probe_writable(tmp_path)


def test_a_held_lock_names_its_owner(tmp_path):
    script = (
        "import sys; from entrenar_core.io import files\n"
        "with files.lock(sys.argv[1]): print('held', flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / ".lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        message = rf"{tmp_path}: .*pid {child.pid} "
        with pytest.raises(CheckpointError, match=message), files.lock(tmp_path / ".lock"):
            pass
        child.send_signal(signal.SIGKILL)
    with files.lock(tmp_path / ".lock"):  # the kernel released it
        pass


def test_a_lock_is_released(tmp_path):
    for _ in range(2):
        with files.lock(tmp_path / ".lock"):
            pass


def test_a_filesystem_without_locks_is_a_storage_error(tmp_path):
    with inject() as count, files.lock(tmp_path / ".lock"):
        pass
    at = count.calls.index("flock_exclusive") + 1
    with (
        inject(at, errno=errno.ENOLCK),
        pytest.raises(StorageError, match="ENOLCK"),
        files.lock(tmp_path / ".lock"),
    ):
        pass


def test_a_file_and_a_folder_can_be_the_users_alone(tmp_path):
    files.make_folder(tmp_path / "a" / "b", mode=0o700)
    files.write_bytes(tmp_path / "a" / "b" / "c", b"x", mode=0o600)
    files.write_bytes(tmp_path / "a" / "b" / "c", b"y", mode=0o600)
    modes = [(tmp_path / path).stat().st_mode & 0o777 for path in ("a/b", "a/b/c")]
    assert modes == [0o700, 0o600]
    files.set_mode(tmp_path / "a" / "b" / "c", 0o644)
    assert (tmp_path / "a" / "b" / "c").stat().st_mode & 0o777 == 0o644


def test_a_file_is_moved_and_takes_no_other_ones_place(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "taken").write_bytes(b"b")
    with pytest.raises(StorageError, match="exists already"):
        files.move(tmp_path / "a", tmp_path / "taken")
    files.move(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path) == ["b", "taken"]
    assert (tmp_path / "b").read_bytes() == b"a"
