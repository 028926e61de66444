"""A model folder's weights: one file or shards with an index, good and bad."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from entrenar_common.errors import FormatError, NotFoundError, RefusedError
from entrenar_core.io.safetensors import SafetensorsFolder, write_file, write_folder

TENSORS = {f"layer.{i}": np.full((2, 2), i, np.float32) for i in range(5)}
INDEX = "model.safetensors.index.json"


@pytest.fixture
def shards(tmp_path):
    write_folder(tmp_path, TENSORS, max_shard_bytes=32)
    return tmp_path


def edit(folder: Path, change) -> None:
    index = json.loads((folder / INDEX).read_text())
    change(index)
    (folder / INDEX).write_text(json.dumps(index))


def assert_same(folder: Path) -> None:
    with SafetensorsFolder(folder) as weights:
        assert weights.warnings == []
        assert weights.names() == sorted(TENSORS)
        assert weights.parameter_count == 20
        assert weights.info("layer.3").shape == (2, 2)
        for name, array in TENSORS.items():
            np.testing.assert_array_equal(weights.read(name), array)


def test_a_small_model_is_one_file(tmp_path):
    assert write_folder(tmp_path, TENSORS) == [tmp_path / "model.safetensors"]
    assert_same(tmp_path)
    assert SafetensorsFolder(tmp_path).metadata == {"format": "pt"}


def test_a_large_model_is_sharded_as_hugging_face_does(shards):
    names = sorted(path.name for path in shards.iterdir())
    assert names == [*(f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)), INDEX]
    assert_same(shards)
    index = json.loads((shards / INDEX).read_text())
    assert index["metadata"]["total_size"] == 80
    for name, shard in index["weight_map"].items():
        np.testing.assert_array_equal(load_file(shards / shard)[name], TENSORS[name])


def test_a_tensor_larger_than_a_shard_has_one_of_its_own(tmp_path):
    tensors = {"a": np.zeros(2), "b": np.zeros(100), "c": np.zeros(2)}
    write_folder(tmp_path, tensors, max_shard_bytes=40)
    index = json.loads((tmp_path / INDEX).read_text())
    assert [index["weight_map"][name][6:11] for name in "abc"] == ["00001", "00002", "00003"]


@pytest.mark.parametrize(("before", "after"), [(32, 10**9), (10**9, 32), (32, 48), (32, 32)])
def test_a_folder_is_written_over_without_a_trace(tmp_path, before, after):
    write_folder(tmp_path, {"old": np.zeros(9), "older": np.zeros(9)}, max_shard_bytes=before)
    (tmp_path / "config.json").touch()
    paths = write_folder(tmp_path, TENSORS, max_shard_bytes=after)
    assert_same(tmp_path)
    assert set(tmp_path.iterdir()) == {*paths, tmp_path / "config.json"}


def test_shards_may_be_links_as_in_the_hubs_cache(shards, tmp_path_factory):
    blobs = tmp_path_factory.mktemp("blobs")
    for path in shards.glob("*.safetensors"):
        shutil.move(path, blobs / path.name)
        path.symlink_to(blobs / path.name)
    assert_same(shards)


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/passwd", "a/b", "..\\x", "C:x", "", "..", "a\0b"]
)
def test_a_shard_outside_the_folder_is_refused(shards, name):
    edit(shards, lambda index: index["weight_map"].update({"layer.0": name}))
    with pytest.raises(RefusedError, match="not a plain file name") as caught:
        SafetensorsFolder(shards)
    assert str(caught.value).isprintable()


def test_a_missing_shard_is_named(shards):
    (shards / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(NotFoundError, match=r"model-00002-of-00003\.safetensors: missing"):
        SafetensorsFolder(shards)


def test_a_pointer_among_the_shards_is_named(shards):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 9\n" % (b"0" * 64)
    (shards / "model-00002-of-00003.safetensors").write_bytes(pointer)
    with pytest.raises(FormatError, match=r"model-00002-of-00003\.safetensors.*LFS") as caught:
        SafetensorsFolder(shards)
    assert caught.value.hint == "run: git lfs pull"


def test_a_truncated_shard_is_named(shards):
    path = shards / "model-00003-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match=r"model-00003-of-00003\.safetensors.*truncated"):
        SafetensorsFolder(shards)


def test_a_tensor_in_two_shards_is_refused(shards):
    write_file(
        shards / "model-00003-of-00003.safetensors", {n: TENSORS[n] for n in ("layer.4", "layer.0")}
    )
    with pytest.raises(FormatError, match=r"'layer\.0' is in two shards, model-00001.*model-00003"):
        SafetensorsFolder(shards)


def test_a_tensor_that_is_not_in_its_shard_is_refused(shards):
    edit(shards, lambda i: i["weight_map"].update(extra="model-00001-of-00003.safetensors"))
    with pytest.raises(FormatError, match="'extra' is not in model-00001"):
        SafetensorsFolder(shards)


def test_an_unlisted_tensor_is_a_warning(shards):
    edit(shards, lambda index: index["weight_map"].pop("layer.1"))
    weights = SafetensorsFolder(shards)
    assert "layer.1" not in weights.names()
    assert any("1 tensors in the shards are not listed" in w for w in weights.warnings)


def test_a_wrong_total_size_is_a_warning(shards):
    edit(shards, lambda index: index["metadata"].update(total_size=81))
    (warning,) = SafetensorsFolder(shards).warnings
    assert "total_size says 81, the tensors take 80 bytes" in warning


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "x", "a": "y"}}',
        "{",
        "",
    ],
)
def test_a_malformed_index_is_a_format_error(tmp_path, text):
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(FormatError, match=INDEX):
        SafetensorsFolder(tmp_path)


def test_a_folder_without_weights_says_what_was_looked_for(tmp_path):
    with pytest.raises(NotFoundError, match=r"no model\.safetensors"):
        SafetensorsFolder(tmp_path)
    with pytest.raises(NotFoundError, match="no such folder"):
        SafetensorsFolder(tmp_path / "none")


def test_a_missing_tensor_suggests_the_nearest(shards):
    with SafetensorsFolder(shards) as weights, pytest.raises(NotFoundError) as caught:
        weights.read("layers.0")
    assert caught.value.hint == "did you mean 'layer.0'?"


@pytest.mark.parity
def test_torch_reads_the_same_values(shards):
    torch_io = pytest.importorskip("safetensors.torch")
    torch = pytest.importorskip("torch")
    for path in shards.glob("*.safetensors"):
        for name, found in torch_io.load_file(path).items():
            assert torch.equal(found, torch.from_numpy(TENSORS[name]))
