"""Names of tensors as a tree, in which parts that are alike are one line."""

import pytest

from entrenar_inspect.artifact import Entry
from entrenar_inspect.tree import ORDERS, natural, ranges, rows_of, tree_of


def entry(name, *shape, dtype="F32", same_as=None):
    nbytes = 4
    for n in shape:
        nbytes *= n
    return Entry(name, dtype, shape, nbytes, "model.safetensors", 0, same_as)


def block(number, **changed):
    return [
        entry(f"model.layers.{number}.norm.weight", 8),
        entry(f"model.layers.{number}.mlp.up.weight", 16, 8, **changed),
        entry(f"model.layers.{number}.mlp.down.weight", 8, 16),
    ]


def lines(entries, *, order=None, collapse=True):
    rows = rows_of(tree_of(entries), order=ORDERS.get(order or ""), collapse=collapse)
    return [(row.depth, row.name, row.count, row.elements) for row in rows]


def test_blocks_that_are_alike_are_one_line_with_one_of_them_below():
    entries = [entry("model.embed.weight", 10, 8), *block(0), *block(1), *block(2)]
    assert lines(entries) == [
        (0, "model", 1, 80 + 3 * (8 + 256)),
        (1, "embed.weight", 1, 80),
        (1, "layers.[0-2]", 3, 3 * (8 + 256)),
        (2, "norm.weight", 1, 8),
        (2, "mlp", 1, 256),
        (3, "up.weight", 1, 128),
        (3, "down.weight", 1, 128),
    ]


def test_blocks_of_other_types_are_lines_of_their_own():
    entries = [*block(0, dtype="BF16"), *block(1), *block(2, dtype="BF16"), *block(3)]
    found = [(name, count) for _, name, count, _ in lines(entries) if "[" in name]
    assert found == [("[0, 2]", 2), ("[1, 3]", 2)]


def test_experts_within_blocks_are_told_by_one_expert_of_one_block():
    entries = [
        entry(f"layers.{i}.experts.{j}.w{k}.weight", 4, 4)
        for i in range(3)
        for j in range(8)
        for k in (1, 2)
    ]
    assert lines(entries) == [
        (0, "layers.[0-2]", 3, 3 * 8 * 32),
        (1, "experts.[0-7]", 8, 8 * 32),
        (2, "w1.weight", 1, 16),
        (2, "w2.weight", 1, 16),
    ]


def test_a_line_stands_for_the_tensors_of_all_modules_that_are_alike():
    entries = [*block(0), *block(1)]
    rows = list(rows_of(tree_of(entries), order=None, collapse=True))
    members = {row.name: [e.name for e in row.members] for row in rows}
    assert members["up.weight"] == [f"model.layers.{i}.mlp.up.weight" for i in (0, 1)]
    assert sum(len(names) for names in members.values()) == len(entries)


@pytest.mark.parametrize("collapse", [True, False])
def test_every_tensor_is_in_exactly_one_line(collapse):
    entries = [entry("wte.weight", 4, 4), *block(0), *block(1, dtype="F16"), *block(10)]
    rows = list(rows_of(tree_of(entries), order=None, collapse=collapse))
    assert sorted(e.name for row in rows for e in row.members) == sorted(e.name for e in entries)


def test_without_collapsing_every_block_has_its_lines():
    found = lines([*block(0), *block(1)], collapse=False)
    assert [name for depth, name, *_ in found if depth == 1] == ["0", "1"]


def test_what_is_another_ones_memory_is_not_counted():
    tied = [entry("wte.weight", 10, 8), entry("lm_head.weight", 10, 8, same_as="wte.weight")]
    assert tree_of(tied).elements == 80


def test_siblings_are_ordered_as_asked():
    entries = [entry("b.weight", 2), entry("a.weight", 3), entry("c.weight", 1)]
    assert [name for _, name, *_ in lines(entries, order="name")] == [
        "a.weight", "b.weight", "c.weight"
    ]  # fmt: skip
    assert [n for *_, n in lines(entries, order="params")] == [3, 2, 1]
    assert [n for *_, n in lines(entries)] == [2, 3, 1]


def test_numbers_in_names_are_ordered_by_their_size():
    names = ["blk.10.w", "blk.2.w", "blk.2.a"]
    assert sorted(names, key=natural) == ["blk.2.a", "blk.2.w", "blk.10.w"]


def test_numbers_are_told_as_ranges():
    assert ranges([3, 1, 2, 7, 9, 10]) == "1-3, 7, 9-10"


def test_a_name_that_is_a_tensor_and_a_module_has_both():
    found = lines([entry("a", 5), entry("a.b", 2)])
    assert found == [(0, "a", 1, 7), (1, "b", 1, 2)]
