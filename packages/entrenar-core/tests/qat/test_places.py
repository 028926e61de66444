"""Where the matrices of models are."""

import pytest

from entrenar_core.qat import matrices
from entrenar_core.qat.places import projections
from entrenar_core.testing import tiny_llama, tiny_model


def test_every_matrix_is_found_once_in_the_order_of_the_parameters():
    model = tiny_llama()
    wanted = [n for n, p in model.named_parameters().items() if p.ndim == 2]
    assert list(matrices(model)) == wanted


def test_a_tied_head_is_one_matrix_in_two_places():
    model = tiny_llama(tie_word_embeddings=True)
    found = matrices(model)
    table = found["model.embed_tokens.weight"]
    assert "lm_head.weight" not in found
    assert (table.embedding, table.head) == (True, True)
    assert table.places == [(model.model.embed_tokens, "weight"), (model.lm_head, "weight")]


def test_tables_and_output_weights_are_told_from_other_matrices():
    found = matrices(tiny_llama())
    assert [n for n, m in found.items() if m.embedding] == ["model.embed_tokens.weight"]
    assert [n for n, m in found.items() if m.head] == ["lm_head.weight"]


def test_the_axis_of_the_outputs_is_that_of_the_layer():
    found = matrices(tiny_model("gpt2"))
    axes = {n: m.output_axis for n, m in found.items()}
    assert {axes[n] for n in axes if ".attn." in n or ".mlp." in n} == {1}
    assert axes["transformer.wte.weight"] == 0


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen3"])
def test_projections_are_all_but_the_one_that_makes_logits(kind):
    model = tiny_model(kind)
    wanted = {n for n, m in matrices(model).items() if not m.embedding and not m.head}
    assert projections(model).keys() == wanted
