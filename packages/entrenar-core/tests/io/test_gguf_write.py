"""What GGUF files are refused, and what is left when writing one fails half-way."""

import errno
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, ShapeError, StorageError
from entrenar_core.io import gguf, streamed
from entrenar_core.io.faults import inject
from entrenar_core.io.files import AtomicWriter
from entrenar_core.io.gguf import GGUFFile, Planned, ValueType, write_gguf
from entrenar_core.quant import BY_NUMBER, BlockArray

F32, Q8_0 = BY_NUMBER[0], BY_NUMBER[8]


def zeros(*shape: int) -> BlockArray:
    return F32.quantize(np.zeros(shape, np.float32))


def write(path: Path, metadata: dict | None = None, **tensors: BlockArray):
    planned = [Planned(name, array.form, array.shape) for name, array in tensors.items()]
    return write_gguf(path, metadata or {}, planned, tensors.__getitem__)


def array(kind: ValueType, *values: object):
    return gguf.array(kind, np.array(values))


BAD_VALUES = {
    "u8 of 256": (lambda: gguf.scalar(ValueType.U8, 256), "256 does not fit in u8"),
    "u32 of -1": (lambda: gguf.u32(-1), "-1 does not fit in u32"),
    "u32 of 2^32": (lambda: gguf.u32(2**32), "does not fit in u32"),
    "i32 of 2^31": (lambda: gguf.i32(2**31), "does not fit in i32"),
    "u32 of a float": (lambda: gguf.u32(2.0), "2.0 does not fit in u32"),  # pyright: ignore
    "u32 of a flag": (lambda: gguf.u32(True), "True is not of type u32"),
    "f32 of a flag": (lambda: gguf.f32(False), "False is not of type f32"),
    "flag of a number": (lambda: gguf.flag(1), "1 is not of type bool"),  # pyright: ignore
    "f32 of 1e300": (lambda: gguf.f32(1e300), "does not fit in f32"),
    "f32 of text": (lambda: gguf.f32("1"), "does not fit in f32"),  # pyright: ignore
    "scalar of text": (lambda: gguf.scalar(ValueType.TEXT, 1), "not a type of numbers"),
    "array of text": (lambda: gguf.array(ValueType.TEXT, []), "not a type of numbers"),
    "text of bytes": (lambda: gguf.text(b"x"), "is not text"),  # pyright: ignore
    "text of half a pair": (lambda: gguf.text("a\ud800"), "half a surrogate pair"),
    "texts of numbers": (lambda: gguf.texts([1]), "1 is not text"),  # pyright: ignore
    "list that does not fit": (lambda: gguf.array(ValueType.U8, [0, 256]), "256 does not fit"),
    "integers of floats": (lambda: gguf.array(ValueType.I32, [0.5]), "0.5 does not fit in i32"),
    "array that does not fit": (lambda: array(ValueType.I8, 0, 200), "0 to 200 do not fit in i8"),
    "array of floats": (lambda: array(ValueType.I32, 0.5), "float64 is not one of i32"),
    "flags of integers": (lambda: array(ValueType.BOOL, 0, 1), "is not one of bool"),
    "floats of flags": (lambda: array(ValueType.F32, True), "bool is not one of f32"),
    "array of two dimensions": (lambda: array(ValueType.U8, [0]), "flat ones"),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_a_value_that_its_type_does_not_hold_is_refused(case):
    build, said = BAD_VALUES[case]
    with pytest.raises(ConfigError, match=said) as caught:
        build()
    assert caught.value.hint


@pytest.mark.parametrize("key", ["", "a\0", "a\n", "\x7f", "k" * 65_536])
def test_a_key_the_reader_would_refuse_is_not_written(tmp_path, key):
    with pytest.raises(ConfigError, match="metadata key"):
        write(tmp_path / "a", {key: gguf.u32(1)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [gguf.u32(0), gguf.u32(4), gguf.u32(48), gguf.i32(32)])
def test_an_alignment_the_reader_would_refuse_is_not_written(tmp_path, value):
    with pytest.raises(ConfigError, match=r"general\.alignment"):
        write(tmp_path / "a", {"general.alignment": value})


@pytest.mark.parametrize("name", ["", "a\nb", "a" * 64, "ü" * 32, "a\0b"])
def test_a_name_the_reader_would_refuse_is_not_written(tmp_path, name):
    with pytest.raises(ConfigError, match="the name"):
        write(tmp_path / "a", **{name: zeros(1)})
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_63_bytes_is_written(tmp_path):
    write(tmp_path / "a", **{"ü" * 31 + "x": zeros(1)})
    with GGUFFile(tmp_path / "a") as file:
        assert file.names() == ["ü" * 31 + "x"]


def test_a_name_twice_is_refused(tmp_path):
    planned = [Planned("w", F32, (1,))] * 2
    with pytest.raises(ConfigError, match="tensor 'w' is there twice"):
        write_gguf(tmp_path / "a", {}, planned, lambda name: zeros(1))


@pytest.mark.parametrize(
    ("form", "shape", "said"),
    [
        (F32, (1, 1, 1, 1, 1), "at most 4 dimensions"),
        (F32, (-1,), "at most 4 dimensions"),
        (Q8_0, (2, 33), "tensor 'w': a row of 33 elements is no whole number of q8_0 blocks"),
        (Q8_0, (), "tensor 'w': a row of 1 elements"),
        (F32, (2**62,), "too large to exist"),
    ],
)
def test_a_shape_that_cannot_be_stored_is_refused(tmp_path, form, shape, said):
    with pytest.raises(ShapeError, match=said):
        write_gguf(tmp_path / "a", {}, [Planned("w", form, shape)], lambda name: zeros(1))


@pytest.mark.parametrize(
    "given", [zeros(3), zeros(2, 1), Q8_0.wrap(np.zeros(34, np.uint8), (32,))], ids=str
)
def test_a_tensor_that_was_not_announced_is_refused(tmp_path, given):
    with pytest.raises(ShapeError, match=r"tensor 'w' .* was to be f32\[2\] of 8"):
        write_gguf(tmp_path / "a", {}, [Planned("w", F32, (2,))], lambda name: given)
    assert list(tmp_path.iterdir()) == []


def test_bytes_in_other_layouts_are_written_by_value(tmp_path):
    whole = np.arange(48, dtype=np.uint8).reshape(4, 12)
    array = F32.wrap(np.zeros(24, np.uint8), (2, 3))
    strided = BlockArray(F32, (2, 3), whole[::2])
    assert array.nbytes == strided.nbytes
    write(tmp_path / "a", w=strided)
    with GGUFFile(tmp_path / "a") as file:
        assert file.read("w").data.tobytes() == whole[::2].tobytes()


def test_large_tensors_are_asked_for_once_in_order_and_at_most_one_ahead(tmp_path, monkeypatch):
    """While one is being written the next is made, and no other is."""
    asked: list[str] = []
    written: list[int] = []
    ahead: list[int] = []
    names = [f"t{number}" for number in range(6)]

    def read(name: str) -> BlockArray:
        assert threading.current_thread() is threading.main_thread()
        asked.append(name)
        ahead.append(len(asked) - len(written))
        return zeros(8)

    original = AtomicWriter.write

    def slow(self, memory) -> None:
        time.sleep(0.01)
        original(self, memory)
        if isinstance(memory, memoryview):  # a tensor, no head and no padding
            written.append(memory.nbytes)

    monkeypatch.setattr(AtomicWriter, "write", slow)
    monkeypatch.setattr(streamed, "WAITING_BYTES", 0)
    write_gguf(tmp_path / "a", {}, [Planned(name, F32, (8,)) for name in names], read)
    assert asked == names
    assert max(ahead) == 2


def test_an_error_of_the_source_keeps_the_old_file(tmp_path):
    write(tmp_path / "a", w=zeros(3))
    old = (tmp_path / "a").read_bytes()

    def read(name: str) -> BlockArray:
        if name == "b":
            raise KeyboardInterrupt
        return zeros(1000)

    planned = [Planned(name, F32, (1000,)) for name in "abc"]
    with pytest.raises(KeyboardInterrupt):
        write_gguf(tmp_path / "a", {}, planned, read)
    assert (tmp_path / "a").read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert threading.active_count() == 1


@pytest.mark.parametrize("forever", [False, True])
def test_any_failing_operation_leaves_old_or_new(tmp_path, forever):
    path = tmp_path / "a"
    tensors = {"a": zeros(3), "b": zeros(7, 2)}
    with inject() as count:
        write(path, None, **tensors)
    new = path.read_bytes()
    for at in range(1, len(count.calls) + 1):
        path.write_bytes(b"old")
        failed = False
        with inject(at, errno=errno.ENOSPC, forever=forever):
            try:
                write(path, None, **tensors)
            except StorageError as error:
                failed = True
                assert "ENOSPC" in str(error)
        assert path.read_bytes() in ([b"old", new] if failed else [new])
        if not forever:
            assert [p.name for p in tmp_path.iterdir()] == ["a"]
        for left in tmp_path.glob(".a.tmp-*"):
            left.unlink()


@pytest.mark.tier2
def test_a_process_killed_at_any_operation_leaves_old_or_new(tmp_path):
    script = (
        "import sys; import numpy as np\n"
        "from entrenar_core.io.faults import inject\n"
        "from entrenar_core.io.gguf import Planned, write_gguf\n"
        "from entrenar_core.quant import BY_NUMBER\n"
        "array = BY_NUMBER[0].quantize(np.ones(40, np.float32))\n"
        "planned = [Planned(n, array.form, array.shape) for n in 'ab']\n"
        "with inject(int(sys.argv[2]), kill=True):\n"
        "    write_gguf(sys.argv[1], {}, planned, lambda name: array)\n"
    )
    path, at, codes = tmp_path / "a", 0, []
    while not codes or codes[-1]:
        at += 1
        path.write_bytes(b"old")
        codes.append(subprocess.run([sys.executable, "-c", script, path, str(at)]).returncode)
        if path.read_bytes() != b"old":
            with GGUFFile(path) as file:
                assert file.names() == ["a", "b"]
    assert set(codes) == {-signal.SIGKILL, 0}
    assert len(codes) > 5


@pytest.mark.tier2
def test_writing_holds_two_tensors_at_most(tmp_path):
    script = (
        "import resource, sys; import numpy as np\n"
        "from entrenar_core.io.gguf import Planned, write_gguf\n"
        "from entrenar_core.quant import BY_NUMBER\n"
        "form = BY_NUMBER[0]\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "planned = [Planned(f'w{i}', form, (5_000_000,)) for i in range(8)]\n"
        "read = lambda name: form.wrap(np.ones(20_000_000, np.uint8), (5_000_000,))\n"
        "before = peak(); write_gguf(sys.argv[1], {}, planned, read); print(peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 2.2 * 20_000_000
    assert (tmp_path / "a").stat().st_size > 160_000_000
