"""A model folder's weights, in whichever format the folder has them."""

import json
from pathlib import Path

import numpy as np
import pytest

from entrenar_common.errors import FormatError, NotFoundError, RefusedError
from entrenar_core.io.apr import write_apr
from entrenar_core.io.safetensors import write_file, write_folder
from entrenar_core.io.torch_save import is_torch
from entrenar_core.io.torch_write import write_torch
from entrenar_core.io.weights import open_tensors, open_weights
from entrenar_core.models import load, save
from entrenar_core.testing import tiny_llama
from torch_bytes import archive, call, pickled, records

TENSORS = {f"layer.{i}": np.full((2, 2), i, np.float32) for i in range(5)}
SINGLE, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


def shards(folder: Path, tensors: dict[str, np.ndarray] = TENSORS) -> None:
    """The tensors in two files and an index, as Hugging Face writes them."""
    half = len(tensors) // 2
    weight_map = {}
    for number, names in enumerate((list(tensors)[:half], list(tensors)[half:]), 1):
        shard = f"pytorch_model-{number:05d}-of-00002.bin"
        write_torch(folder / shard, {name: tensors[name] for name in names})
        weight_map |= dict.fromkeys(names, shard)
    size = sum(array.nbytes for array in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index))


def assert_same(folder: Path, tensors: dict[str, np.ndarray] = TENSORS) -> None:
    with open_weights(folder) as weights:
        assert weights.warnings == []
        assert weights.names() == sorted(tensors)
        assert weights.parameter_count == sum(array.size for array in tensors.values())
        for name, array in tensors.items():
            np.testing.assert_array_equal(weights.read(name), array)


def test_pytorchs_file_is_read(tmp_path):
    write_torch(tmp_path / SINGLE, TENSORS)
    assert_same(tmp_path)
    assert open_weights(tmp_path).paths == [tmp_path / SINGLE]


def test_pytorchs_shards_are_read(tmp_path):
    shards(tmp_path)
    assert_same(tmp_path)


def test_safetensors_come_first(tmp_path):
    write_torch(tmp_path / SINGLE, {"other": np.zeros(1)})
    write_folder(tmp_path, TENSORS, max_shard_bytes=32)
    assert_same(tmp_path)


def test_the_single_file_comes_before_the_shards(tmp_path):
    shards(tmp_path)
    write_torch(tmp_path / SINGLE, {"layer": np.zeros(1)})
    assert_same(tmp_path, {"layer": np.zeros(1)})


def test_code_in_a_shard_is_refused_by_its_name(tmp_path):
    shards(tmp_path)
    evil = archive(records(pickled(call("os.system", "true"))))
    (tmp_path / "pytorch_model-00002-of-00002.bin").write_bytes(evil)
    with pytest.raises(RefusedError, match=r"00002-of-00002\.bin: .*os\.system"):
        open_weights(tmp_path)


def test_a_shard_outside_the_folder_is_refused(tmp_path):
    (tmp_path / INDEX).write_text('{"weight_map": {"a": "../x.bin"}}')
    with pytest.raises(RefusedError, match="not a plain file name"):
        open_weights(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    shards(tmp_path)
    (tmp_path / "pytorch_model-00001-of-00002.bin").unlink()
    with pytest.raises(NotFoundError, match=r"00001-of-00002\.bin: missing, though pytorch_model"):
        open_weights(tmp_path)


def test_the_name_of_a_file_does_not_choose_its_reader(tmp_path):
    write_torch(tmp_path / "model.safetensors", TENSORS)
    with pytest.raises(FormatError, match="this is a zip archive"):
        open_weights(tmp_path)


def test_a_folder_without_weights_says_what_was_looked_for(tmp_path):
    with pytest.raises(NotFoundError, match=r"model\.safetensors nor pytorch_model\.bin"):
        open_weights(tmp_path)
    with pytest.raises(NotFoundError, match="no such folder"):
        open_weights(tmp_path / "none")


def test_other_safetensors_in_the_folder_are_a_hint(tmp_path):
    (tmp_path / "adapter.safetensors").touch()
    with pytest.raises(NotFoundError) as caught:
        open_weights(tmp_path)
    assert "adapter.safetensors" in caught.value.hint


@pytest.mark.tier2
@pytest.mark.parametrize("tied", [False, True])
def test_a_model_in_pytorchs_shards_is_the_model_that_was_saved(tmp_path, tied):
    model = tiny_llama(tie_word_embeddings=tied)
    save(model, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    tensors = {name: parameter.data for name, parameter in model.named_parameters().items()}
    shards(tmp_path, tensors)
    ids = np.arange(6).reshape(1, 6)
    np.testing.assert_array_equal(load(tmp_path)(ids).numpy(), model(ids).numpy())


@pytest.mark.parity
@pytest.mark.parametrize("new", [True, False], ids=["archive", "stacked"])
def test_a_model_that_pytorch_saved_has_the_logits_of_transformers(tmp_path, new):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
        num_attention_heads=4, tie_word_embeddings=True,
    )  # fmt: skip
    theirs = transformers.LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), tmp_path / SINGLE, _use_new_zipfile_serialization=new)
    ids = np.arange(6).reshape(1, 6)
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(ids)).logits.numpy()
    np.testing.assert_allclose(load(tmp_path)(ids).numpy(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("write", [write_file, write_torch, write_apr])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".apr", ""])
def test_what_is_in_a_file_decides_how_it_is_read(tmp_path, write, suffix):
    write(tmp_path / f"a{suffix}", TENSORS)
    with open_tensors(tmp_path / f"a{suffix}") as found:
        for name, array in TENSORS.items():
            np.testing.assert_array_equal(found.read(name), array)


def test_what_begins_as_nothing_known_is_what_it_is_called(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"no weights")
    with pytest.raises(FormatError, match="not a file of torch"):
        open_tensors(tmp_path / "a.bin")
    assert not is_torch(tmp_path / "none.bin")
