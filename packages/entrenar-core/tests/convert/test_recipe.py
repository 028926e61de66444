"""Which format a tensor gets. That all of it is llama.cpp's choice, `make conformance` shows."""

import pytest

from entrenar_common.errors import UnsupportedError
from entrenar_core import models
from entrenar_core.convert.lattice import formats_of
from entrenar_core.convert.recipe import RECIPES, Shape, recipe_named
from model_files import CONFIGS

SIXTEEN = Shape("llama", 16, 8, 2, tied=False)


def formats(recipe, part, shape=(64, 256), model=SIXTEEN):
    chosen = recipe_named(recipe).format_of
    return [chosen(f"blk.{i}.{part}.weight", shape, model).name for i in range(model.blocks)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_vectors_norms_and_positions_stay_float32(recipe):
    chosen = recipe_named(recipe).format_of
    for name, shape in {
        "output_norm.weight": (256,),
        "blk.0.attn_q.bias": (256,),
        "blk.3.attn_norm.weight": (256,),
        "position_embd.weight": (128, 256),
        "token_types.weight": (2, 256),
        "rope_freqs.weight": (64,),
    }.items():
        assert chosen(name, shape, SIXTEEN).name == "f32"


def test_q4_k_m_gives_half_of_the_values_and_down_projections_more():
    better = {0, 1, 4, 7, 10, 13, 14, 15}  # an eighth at both ends, every third between
    for part in ("attn_v", "attn_qkv", "ffn_down"):
        found = formats("q4_k_m", part)
        assert {i for i, form in enumerate(found) if form == "q6_k"} == better
        assert set(found) == {"q4_k", "q6_k"}
    for part in ("attn_q", "attn_k", "attn_output", "ffn_up", "ffn_gate"):
        assert set(formats("q4_k_m", part)) == {"q4_k"}


def test_q4_k_s_gives_the_first_blocks_more():
    assert formats("q4_k_s", "attn_v").count("q5_k") == 4
    assert formats("q4_k_s", "ffn_down").count("q5_k") == 2


def test_values_of_few_heads_get_more_in_the_largest_models():
    large = Shape("llama", 80, 64, 8, tied=False)
    assert set(formats("q4_k_m", "attn_v", model=large)) == {"q5_k", "q6_k"}
    one_for_each = Shape("llama", 80, 64, 64, tied=False)
    assert set(formats("q4_k_m", "attn_v", model=one_for_each)) == {"q4_k", "q6_k"}


@pytest.mark.parametrize(
    ("recipe", "columns", "wanted"),
    [
        ("q4_0", 256, "q6_k"), ("q4_0", 64, "q8_0"), ("q8_0", 256, "q8_0"),
        ("q4_k_m", 256, "q6_k"), ("q4_k_m", 64, "q8_0"), ("q4_k_m", 60, "f16"),
        ("f16", 256, "f16"), ("f32", 256, "f32"),
    ],
)  # fmt: skip
def test_the_output_gets_a_better_format(recipe, columns, wanted):
    chosen = recipe_named(recipe).format_of
    assert chosen("output.weight", (500, columns), SIXTEEN).name == wanted
    tied = Shape("llama", 16, 8, 2, tied=True)
    assert chosen("token_embd.weight", (500, columns), tied).name == wanted


@pytest.mark.parametrize(
    ("recipe", "columns", "wanted"),
    [("q4_k_m", 96, "q5_0"), ("q5_k_m", 96, "q5_1"), ("q6_k", 96, "q8_0"), ("q4_0", 48, "f16")],
)
def test_rows_of_no_whole_blocks_get_smaller_ones(recipe, columns, wanted):
    assert recipe_named(recipe).format_of("blk.1.attn_q.weight", (64, columns), SIXTEEN).name == (
        wanted
    )


def test_an_unknown_recipe_is_refused_with_the_nearest():
    with pytest.raises(UnsupportedError, match="q4_k_l") as error:
        recipe_named("q4_k_l")
    assert "q4_k_s" in error.value.hint or "q4_k_m" in error.value.hint


def test_training_aims_at_the_formats_of_the_file():
    model = models.from_config(CONFIGS["llama, tied"], seed=0)
    found = formats_of(model, recipe_named("q4_0"))
    assert found.pop("model.embed_tokens.weight") == "q8_0"
    assert set(found.values()) == {"q4_0"}
    assert len(found) == 14  # seven matrices in each of two blocks
