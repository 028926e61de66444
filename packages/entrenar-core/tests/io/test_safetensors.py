"""Reading and writing safetensors, against the `safetensors` library."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save_file

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
from entrenar_core.io.safetensors import SafetensorsFile, write_file

ARRAY_TYPES = [dtype.numpy for dtype in DTYPES if dtype.numpy is not None]
FLOATS = [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.float16]


def some_tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {
        f"layer.{i}.{dtype.name}": rng.integers(0, 2, (2, i % 4 + 1)).astype(dtype)
        for i, dtype in enumerate(ARRAY_TYPES)
    }
    return {
        **found,
        "scalar": np.array(3.5),
        "empty": np.zeros((2, 0), np.float32),
        "ü": np.ones(3, np.int8),
    }


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"k": 'é\n"\\\x01\x7f'}])
def test_bytes_are_those_of_the_library(tmp_path, metadata):
    tensors = some_tensors()
    save_file(tensors, tmp_path / "theirs", metadata)
    written = write_file(tmp_path / "ours", tensors, metadata)
    data = (tmp_path / "theirs").read_bytes()
    assert (tmp_path / "ours").read_bytes() == data
    assert written.size == len(data)


ARRAYS = st.sampled_from([t for t in ARRAY_TYPES if t.isbuiltin == 1]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=3))
)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8).filter(
    lambda name: name != "__metadata__"
)


@pytest.mark.tier2
@settings(max_examples=30, deadline=None)
@given(tensors=st.dictionaries(NAMES, ARRAYS, max_size=5))
def test_any_tensors_are_written_as_the_library_does_and_read_back(tensors):
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours", Path(folder) / "theirs"
        write_file(ours, tensors)
        save_file(tensors, theirs)
        assert ours.read_bytes() == theirs.read_bytes()
        with SafetensorsFile(theirs) as file:
            assert file.names() == sorted(tensors)
            for name, array in tensors.items():
                found = file.read(name)
                assert (found.dtype, found.shape) == (array.dtype, array.shape)
                assert found.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda t: np.dtype(t).name)
def test_small_floats_keep_every_bit_pattern(tmp_path, dtype):
    bits = 8 * np.dtype(dtype).itemsize
    array = np.arange(2**bits, dtype=f"u{bits // 8}").view(dtype)
    write_file(tmp_path / "a", {"w": array})
    with SafetensorsFile(tmp_path / "a") as file:
        found = file.read("w")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.view(f"u{bits // 8}"), array.view(f"u{bits // 8}"))
    np.testing.assert_array_equal(found.astype(np.float32), array.astype(np.float32))


def test_bfloat16_means_the_upper_half_of_float32(tmp_path):
    values = np.array([1.0, -2.5, 3.140625, np.inf], np.float32)  # exact in 8 bits
    write_file(tmp_path / "a", {"w": values.astype(ml_dtypes.bfloat16)})
    data = (tmp_path / "a").read_bytes()[-8:]
    assert data == (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    assert load_file(tmp_path / "a")["w"].dtype == ml_dtypes.bfloat16


def test_arrays_in_other_layouts_are_written_by_value(tmp_path):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    tensors = {
        "t": base.T,
        "s": base[::2, 1::2],
        "big": base.astype(">f4"),
        "f": np.asfortranarray(base),
    }
    write_file(tmp_path / "a", tensors)
    for name, found in load_file(tmp_path / "a").items():
        np.testing.assert_array_equal(found, tensors[name].astype("<f4"))


def test_info_and_count_are_those_of_the_header(tmp_path):
    write_file(tmp_path / "a", {"w": np.zeros((2, 3), np.float16), "b": np.zeros(4)}, {"k": "v"})
    with SafetensorsFile(tmp_path / "a") as file:
        assert file.parameter_count == 10
        assert file.metadata == {"k": "v"}
        assert file.names() == ["b", "w"]
        info = file.info("w")
        assert (info.dtype.name, info.shape, info.size, info.begin, info.end) == (
            "F16", (2, 3), 6, 32, 44,
        )  # fmt: skip


def test_reading_is_a_view_of_the_mapped_file(tmp_path):
    write_file(tmp_path / "a", {"w": np.arange(1000.0)})
    with SafetensorsFile(tmp_path / "a") as file:
        first, second = file.read("w"), file.read("w")
        assert np.shares_memory(first, second)
        with pytest.raises(ValueError, match="read-only"):
            first[0] = 1


def test_a_tensor_that_is_not_aligned_is_copied(tmp_path):
    header = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
    header += b'"w":{"dtype":"F64","shape":[2],"data_offsets":[1,17]}}'
    values = np.array([1.5, -2.5])
    data = len(header).to_bytes(8, "little") + header + b"x" + values.tobytes()
    (tmp_path / "a").write_bytes(data)
    with SafetensorsFile(tmp_path / "a") as file:
        found = file.read("w")
    assert found.flags.aligned
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, values)


def test_arrays_stay_valid_after_close_and_replacement(tmp_path):
    write_file(tmp_path / "a", {"w": np.arange(5000.0)})
    with SafetensorsFile(tmp_path / "a") as file:
        found = file.read("w")
        write_file(tmp_path / "a", {"w": np.zeros(5000)})  # saving over a mapped file
        np.testing.assert_array_equal(file.read("w"), np.arange(5000.0))
    np.testing.assert_array_equal(found, np.arange(5000.0))


def test_released_pages_come_back(tmp_path):
    write_file(tmp_path / "a", {"w": np.arange(100_000.0)})
    with SafetensorsFile(tmp_path / "a") as file:
        found = file.read("w")
        file.release("w")
        np.testing.assert_array_equal(found, np.arange(100_000.0))


@pytest.mark.parametrize("change", ["cut", "grow", "rewrite"])
def test_a_file_changed_in_place_is_noticed_before_it_is_read(tmp_path, change):
    path = tmp_path / "a"
    write_file(path, {"w": np.arange(5000.0)})
    with SafetensorsFile(path) as file:
        if change == "rewrite":
            os.utime(path, ns=(0, 0))
        else:
            os.truncate(path, path.stat().st_size + (-100 if change == "cut" else 100))
        with pytest.raises(IntegrityError, match="changed"):
            file.read("w")


def test_a_missing_tensor_suggests_the_nearest(tmp_path):
    write_file(tmp_path / "a", {"layer.0.weight": np.zeros(1)})
    with SafetensorsFile(tmp_path / "a") as file, pytest.raises(NotFoundError) as caught:
        file.read("layer.0.wieght")
    assert caught.value.hint == "did you mean 'layer.0.weight'?"


@pytest.mark.parametrize("name", ["__metadata__", "a\nb", "a" * 1025])
def test_a_name_the_reader_would_refuse_is_not_written(tmp_path, name):
    with pytest.raises(ConfigError):
        write_file(tmp_path / "a", {name: np.zeros(1)})
    assert list(tmp_path.iterdir()) == []


def test_an_array_type_without_counterpart_names_the_tensor(tmp_path):
    with pytest.raises(UnsupportedError, match=r"tensor 'w': .*complex128"):
        write_file(tmp_path / "a", {"w": np.zeros(1, np.complex128)})


def test_a_mapping_that_changes_its_mind_is_refused(tmp_path):
    class Fickle(dict[str, np.ndarray]):
        def __getitem__(self, name):
            self.size = getattr(self, "size", 0) + 1
            return np.zeros(self.size)

    with pytest.raises(ShapeError, match="tensor 'w'"):
        write_file(tmp_path / "a", Fickle(w=np.zeros(1)))
    assert list(tmp_path.iterdir()) == []


def test_a_failing_disk_keeps_the_old_file(tmp_path):
    write_file(tmp_path / "a", {"w": np.zeros(3)})
    old = (tmp_path / "a").read_bytes()
    with inject(3, errno=errno.ENOSPC), pytest.raises(StorageError, match="ENOSPC"):
        write_file(tmp_path / "a", {"w": np.ones(3)})
    assert (tmp_path / "a").read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.tier2
def test_saving_100_mb_takes_no_second_copy(tmp_path):
    script = (
        "import resource, sys; import numpy as np\n"
        "from entrenar_core.io.safetensors import write_file\n"
        "array = np.ones(25_000_000, np.float32)\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak(); write_file(sys.argv[1], {'w': array}); print(peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 5_000_000
    assert (tmp_path / "a").stat().st_size > 100_000_000


@pytest.mark.tier2
def test_opening_100_mb_reads_only_the_header(tmp_path):
    write_file(tmp_path / "a", {"w": np.ones(25_000_000, np.float32), "b": np.zeros(3)})
    script = (
        "import resource, sys\n"
        "from entrenar_core.io.safetensors import SafetensorsFile\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "before = peak(); file = SafetensorsFile(sys.argv[1]); file.read('w')[:10].sum()\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 5_000_000
