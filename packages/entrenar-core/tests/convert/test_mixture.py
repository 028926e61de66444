"""Formats chosen for a size."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError
from entrenar_core import models
from entrenar_core.convert.export import export, export_within
from entrenar_core.convert.mixture import Mixture, mixture_within
from entrenar_core.data.batches import Batch
from entrenar_core.io.gguf import GGUFFile
from model_files import CONFIGS, ENCODERS, SMALL, write_model

pytestmark = pytest.mark.tier2


def batches(count=3):
    rng = np.random.default_rng(1)
    for row in range(count):
        ids, labels = rng.integers(0, 290, (2, 1, 32))
        yield Batch(ids, labels, np.array([row]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"), SMALL)


@pytest.fixture(scope="module")
def sizes(folder, tmp_path_factory):
    """The bytes of files in one format each."""
    path = tmp_path_factory.mktemp("sizes") / "a.gguf"
    return {
        name: export(folder, path, form="gguf", quantization=name).nbytes
        for name in ("q4_0", "q8_0", "f16")
    }


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_file_is_no_larger_and_nearly_as_large(folder, sizes, tmp_path, share):
    limit = int(sizes["q4_0"] + share * (sizes["f16"] - sizes["q4_0"]))
    found = export_within(folder, tmp_path / "a.gguf", max_bytes=limit, batches=batches())
    largest_step = 300 * 64 * 2  # one matrix from four bits to sixteen, and padding
    assert limit - largest_step <= found.nbytes <= limit
    assert found.nbytes == (tmp_path / "a.gguf").stat().st_size


def test_more_room_costs_less(folder, sizes):
    limits = np.linspace(sizes["q4_0"] + 2000, sizes["f16"], 5).astype(int)
    costs = [mixture_within(folder, int(n), batches())[1].cost for n in limits]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0] / 10


def test_with_room_for_everything_everything_is_float16(folder, sizes):
    mixture, _ = mixture_within(folder, 2 * sizes["f16"], batches())
    assert set(mixture.formats.values()) == {"f16"}
    assert mixture.file_type == 1


def test_what_matters_to_the_loss_gets_more(tmp_path, sizes):
    """A matrix whose output is multiplied by nothing need not be stored well."""
    source = write_model(tmp_path / "model", SMALL)
    model = models.load(source)
    # the second block's inner layer is switched off: nothing of up_proj reaches the loss
    model.model.layers[1].mlp.down_proj.weight.data[...] = 0
    models.save(model, source)
    limit = (sizes["q4_0"] + sizes["q8_0"]) // 2
    mixture, _ = mixture_within(source, limit, batches())
    unfelt = {mixture.formats[f"blk.1.ffn_{part}.weight"] for part in ("up", "gate")}
    assert unfelt == {"q4_0"}
    assert set(mixture.formats.values()) > {"q4_0"}


def test_the_matrices_of_gpt2_are_turned_before_they_are_stored(tmp_path, sizes):
    source = write_model(tmp_path / "model", CONFIGS["gpt2"])
    found = export_within(source, tmp_path / "a.gguf", max_bytes=120_000, batches=batches())
    assert found.nbytes <= 120_000
    with GGUFFile(tmp_path / "a.gguf") as file:
        assert file.info("position_embd.weight").form.name == "f32"


def test_too_small_a_size_says_what_the_smallest_is(folder, sizes, tmp_path):
    with pytest.raises(ConfigError, match=r"10\.0 kB are too few") as error:
        export_within(folder, tmp_path / "a.gguf", max_bytes=10_000, batches=batches())
    assert "kB" in error.value.message.partition("file has")[2]
    assert not list(tmp_path.iterdir())


def test_an_encoder_has_no_loss_on_text(tmp_path):
    source = write_model(tmp_path / "model", ENCODERS["bert"])
    with pytest.raises(ConfigError, match="not a language model"):
        mixture_within(source, 10**6, batches())


def test_a_mixture_is_named_after_what_it_has_most_of():
    assert Mixture({"a": "q4_0", "b": "q4_0", "c": "q8_0"}).file_type == 2
    assert Mixture({"a": "q4_k", "b": "q4_k", "c": "q8_0"}).file_type == 15
