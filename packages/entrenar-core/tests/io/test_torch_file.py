"""Reading files of torch.save: without PyTorch, and beside it."""

from operator import mul
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from entrenar_common.errors import (
    IntegrityError,
    NotFoundError,
)
from entrenar_core.io.torch_file import TorchFile
from entrenar_core.io.torch_write import write_torch
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
from torch_tensors import ARRAY_TYPES, same


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
def test_bfloat16_has_the_values_that_pytorch_gives_it(tmp_path):
    torch = pytest.importorskip("torch")
    values = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)
    torch.save({"w": values}, tmp_path / "a.pth")
    with TorchFile(tmp_path / "a.pth") as file:
        found = file.read("w")
        assert found.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(found.astype(np.float32), values.float().numpy())
