"""Shapes of models without their memory: counts against the published ones, and where from."""

import json
import math
import tracemalloc

import pytest

from entrenar_common.errors import ConfigError, NotFoundError
from entrenar_core import models
from entrenar_core.convert.gguf import GGUFPlan
from entrenar_core.convert.recipe import recipe_named
from entrenar_core.estimate import find_shape
from entrenar_core.estimate.targets import adapter_size, matching, usual_targets
from entrenar_core.models.reference import reference_names
from entrenar_core.testing import tiny_config, tiny_model
from model_files import CONFIGS, write_model

# from the models' own pages (of encoders, with the head of masked language modelling)
PUBLISHED = {
    "tinyllama-1.1b": 1_100_048_384, "llama-2-7b": 6_738_415_616, "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192, "llama-3-8b": 8_030_261_248, "llama-3-70b": 70_553_706_496,
    "llama-3.1-8b": 8_030_261_248, "llama-3.1-70b": 70_553_706_496, "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824, "smollm2-135m": 134_515_008, "smollm2-360m": 361_821_120,
    "smollm2-1.7b": 1_711_376_384, "mistral-7b": 7_241_732_096, "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304, "qwen2.5-3b": 3_085_938_688, "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664, "qwen2.5-32b": 32_763_876_352, "qwen2.5-72b": 72_706_203_648,
    "qwen3-0.6b": 596_049_920, "qwen3-1.7b": 1_720_574_976, "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360, "qwen3-14b": 14_768_307_200, "qwen3-32b": 32_762_123_264,
    "gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200, "bert-base": 109_514_298, "bert-large": 335_174_458,
    "distilbert-base": 66_985_530, "roberta-base": 124_697_433, "roberta-large": 355_412_057,
    "llama-124m": 123_551_232,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_name_has_the_published_number_of_parameters(name):
    shape = find_shape(name)
    assert shape.parameters == sum(shape.sizes) == PUBLISHED[name]
    assert shape.origin == "published config"


def test_every_published_name_is_among_those():
    assert set(reference_names()) == set(PUBLISHED)


@pytest.mark.parametrize(
    ("size", "name"), [("7B", "llama-2-7b"), ("13b", "llama-2-13b"), ("70B", "llama-2-70b")]
)
def test_a_size_alone_is_the_model_that_most_mean(size, name):
    assert find_shape(size).name == name


# what PEFT 0.20 prints for these configurations of Llama 2
@pytest.mark.parametrize(
    ("rank", "targets", "count"),
    [
        (16, ("q_proj", "k_proj", "v_proj", "o_proj"), 16_777_216),
        (16, ("all-linear",), 39_976_960),
        (64, ("q_proj", "k_proj", "v_proj", "o_proj"), 67_108_864),
    ],
)
def test_adapters_of_llama_2_have_the_known_sizes(rank, targets, count):
    shape = find_shape("llama-2-7b")
    assert adapter_size(shape.linears, matching(shape.linears, targets), rank) == count


def test_grouped_keys_have_smaller_adapters():
    shape = find_shape("llama-3-8b")
    found = adapter_size(shape.linears, matching(shape.linears, ["k_proj"]), 8)
    assert found == 32 * 8 * (4096 + 1024)


FAMILIES = ["llama-2-7b", "qwen3-4b", "gpt2", "bert-base", "roberta-base", "distilbert-base"]


@pytest.mark.parametrize("name", FAMILIES)
def test_linear_layers_head_and_tables_are_all_matrices(name):
    raw, shape = models.reference_config(name), find_shape(name)
    matrices = [s for n, s in models.parameter_shapes(raw).items() if len(s) == 2]
    counted = shape.in_linears + sum(r * w for r, w in shape.tables.values())
    if shape.head and not shape.head_is_tied:
        counted += math.prod(shape.head[1])
    assert counted == sum(math.prod(s) for s in matrices)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_head_is_no_target_of_all_linear(name):
    shape = find_shape(name)
    assert shape.head is not None
    assert shape.head[0] not in matching(shape.linears, ["all-linear"])
    assert all(matching(shape.linears, targets) for targets in usual_targets(shape.model_type))


def test_targets_are_names_ends_or_a_regular_expression():
    linears = find_shape("tinyllama-1.1b").linears
    full = "model.layers.3.self_attn.q_proj"
    assert matching(linears, [full]) == (full,)
    assert len(matching(linears, ["self_attn.q_proj"])) == 22
    assert matching(linears, [r".*\.3\..*(q|v)_proj"]) == (full, full.replace("q_proj", "v_proj"))


@pytest.mark.parametrize("wanted", [["q_prj"], ["layers.[0-9"], [r".*nothing.*"]])
def test_targets_that_mean_no_module_are_refused(wanted):
    with pytest.raises(ConfigError, match="LoRA"):
        matching(find_shape("tinyllama-1.1b").linears, wanted)


def test_describing_the_largest_model_allocates_next_to_nothing():
    tracemalloc.start()
    find_shape("qwen2.5-72b")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.tier2
def test_a_gguf_file_has_the_shape_of_the_folder_it_was_made_of(tmp_path):
    folder, path = write_model(tmp_path, CONFIGS["llama"]), tmp_path / "model.gguf"
    with GGUFPlan(folder, recipe_named("q8_0")) as plan:
        plan.write(path)
    of_folder, of_file = find_shape(folder), find_shape(path)
    assert (of_file.linears, of_file.parameters) == (of_folder.linears, of_folder.parameters)


def test_a_folder_and_its_config_have_one_shape(tmp_path):
    model = tiny_model("llama")
    models.save(model, tmp_path)
    of_folder, of_config = find_shape(tmp_path), find_shape(tmp_path / "config.json")
    assert of_folder.linears == of_config.linears
    assert of_folder.parameters == of_config.parameters == model.parameter_count()


def test_weights_that_contradict_the_config_are_refused(tmp_path):
    models.save(tiny_model("llama"), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 7}))
    with pytest.raises(ConfigError, match="contradict"):
        find_shape(tmp_path)


def test_a_folder_without_weights_is_planned_by_its_config(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(tiny_config("llama")))
    assert find_shape(tmp_path).model_type == "llama"


def test_an_unknown_name_is_refused_with_the_nearest_ones():
    with pytest.raises(NotFoundError, match=r"'tinyllama-1\.2b'") as caught:
        find_shape("tinyllama-1.2b")
    assert "did you mean tinyllama-1.1b?" in caught.value.hint


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(NotFoundError, match=r"notes\.txt"):
        find_shape(tmp_path / "notes.txt")
