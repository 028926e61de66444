"""Weights that contradict their config: an error that lists some, or records of all of them."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError
from entrenar_core import models
from entrenar_core.io.safetensors import SafetensorsFile, write_file
from entrenar_core.models.stored import SHOWN, Misfit, StoredModel
from entrenar_core.testing import tiny_llama


@pytest.fixture
def changed(tmp_path):
    """Writes a model of 2 blocks whose tensors were changed by a function."""

    def write(change, **config):
        models.save(tiny_llama(**config), tmp_path)
        path = tmp_path / "model.safetensors"
        with SafetensorsFile(path) as file:
            tensors = {name: np.array(file.read(name)) for name in file.names()}
        change(tensors)
        write_file(path, tensors)
        return tmp_path

    return write


def without_last_block(tensors):
    for name in [name for name in tensors if ".layers.1." in name]:
        del tensors[name]
    del tensors["model.norm.weight"], tensors["lm_head.weight"]


def misfits(folder):
    with StoredModel(folder, head=None, tolerant=True) as model:
        return model.misfits


def test_an_error_lists_some_of_them_and_says_how_many_more(changed):
    folder = changed(without_last_block)
    with pytest.raises(ConfigError, match="in 11 tensors") as caught:
        StoredModel(folder, head=None)
    assert len(caught.value.details) == SHOWN + 1
    assert caught.value.details[-1] == "and 1 more"


def test_tolerant_gives_all_of_them(changed):
    found = misfits(changed(without_last_block))
    assert len(found) == 11
    assert Misfit("lm_head.weight", None, (61, 24), None) in found


def test_a_tensor_too_many_and_one_of_another_shape(changed):
    def change(tensors):
        tensors["extra"] = np.ones(3, np.float32)
        tensors["model.norm.weight"] = np.ones(25, np.float32)

    assert set(misfits(changed(change))) == {
        Misfit("extra", "extra", None, (3,)),
        Misfit("model.norm.weight", "model.norm.weight", (24,), (25,)),
    }


def test_a_second_name_of_a_tied_parameter_with_other_values_is_told_as_such(changed):
    def change(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1

    (found,) = misfits(changed(change, tie_word_embeddings=True))
    assert (found.name, found.tied) == ("lm_head.weight", True)


def test_what_fits_has_none(changed):
    assert misfits(changed(lambda tensors: None)) == []
