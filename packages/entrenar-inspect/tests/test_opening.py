"""What a user points at, and what is said of what is none of it."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, FormatError, NotFoundError
from entrenar_core.io.safetensors import write_file
from entrenar_core.io.torch_save import write_torch
from entrenar_inspect.opening import open_artifact

TENSOR = {"w": np.ones((2, 3), np.float32)}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.md", b"# Notes on things\n", "begins with '# Notes on thing'"),
        ("config.json", b'{"model_type": "llama"}', "a config, without weights"),
        ("data.bin", b"", "empty file"),
        ("nothing", b"", "begins with ''"),
        ("image.png", b"\x89PNG\r\n\x1a\n0000000", "no file of weights"),
    ],
)
def test_a_file_that_has_no_weights_is_called_what_it_is(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=message):
        open_artifact(str(tmp_path / name))


def test_what_is_in_a_file_decides_and_not_its_name(tmp_path):
    write_file(tmp_path / "weights.dat", TENSOR)
    write_torch(tmp_path / "other.dat", TENSOR)
    for name, kind in (("weights.dat", "safetensors"), ("other.dat", "PyTorch")):
        with open_artifact(str(tmp_path / name)) as artifact:
            assert artifact.kind == kind
            assert np.array_equal(artifact.read("w"), TENSOR["w"])


def test_the_only_file_of_weights_in_a_folder_is_meant(tmp_path):
    write_file(tmp_path / "some.safetensors", TENSOR)
    with open_artifact(str(tmp_path)) as artifact:
        assert list(artifact.tensors) == ["w"]


def test_of_two_files_one_has_to_be_named(tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        write_file(tmp_path / name, TENSOR)
    with pytest.raises(ConfigError, match="2 files of weights") as caught:
        open_artifact(str(tmp_path))
    assert "a.safetensors" in caught.value.hint


def test_a_name_that_may_be_on_the_hub_is_told_how_to_be_written():
    with pytest.raises(NotFoundError) as caught:
        open_artifact("some/model")
    assert "hf://some/model" in caught.value.hint


def test_a_folder_without_weights_says_so(tmp_path):
    with pytest.raises(NotFoundError, match="no weights in it"):
        open_artifact(str(tmp_path))
