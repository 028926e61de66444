"""Easy rows first: how many at which step, which, and that a batch depends on nothing else."""

import itertools
import math

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, NumericsError, ShapeError
from entrenar_core.data.array_batches import ArrayBatches
from entrenar_core.data.batches import Batches
from entrenar_core.data.curriculum import Curriculum, CurriculumBatches, _drawn, competence
from entrenar_core.data.documents import TokenizedDocuments
from entrenar_core.data.row_fields import field_numbers
from entrenar_core.data.sources import DatasetSpec, iter_documents
from entrenar_core.train.curriculum import CurriculumSection

ROWS = 100
HARDNESS = np.random.default_rng(0).permutation(ROWS).astype(float)


def easy_first(
    *, start_share=0.2, steps=50, batch_size=4, seed=0, accumulation=1, hardness=HARDNESS
):
    rows = ArrayBatches(hardness[:, None], np.arange(len(hardness)), batch_size=batch_size, seed=1)
    plan = Curriculum(start_share=start_share, steps=steps)
    return CurriculumBatches(rows, hardness, plan, seed=seed, accumulation=accumulation)


def test_competence_grows_by_the_root_from_its_start_to_one():
    """c² is a line from c₀² at step 0 to 1 at step T."""
    values = [competence(step, start=0.3, steps=40) for step in range(41)]
    np.testing.assert_allclose(np.square(values), np.linspace(0.09, 1.0, 41), rtol=1e-12)
    assert values[0] == pytest.approx(0.3)
    assert competence(1000, start=0.3, steps=40) == 1.0


@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_batch_is_of_the_easiest_rows_of_its_step_each_once(accumulation):
    batches = easy_first(accumulation=accumulation)
    hardest = []
    for position in range(50 * accumulation):
        found = batches.batch(position).inputs[:, 0]
        step = position // accumulation
        limit = math.floor(ROWS * math.sqrt(step * (1 - 0.04) / 50 + 0.04))
        assert len(set(found)) == 4
        assert found.max() < limit  # difficulties are 0, 1, 2 ...
        hardest.append(found.max())
    assert np.mean(hardest[-30:]) > 1.5 * np.mean(hardest[:30])


def test_fewer_rows_than_a_batch_are_never_in_play():
    batches = easy_first(start_share=0.01, batch_size=8)
    assert sorted(batches.batch(0).inputs[:, 0]) == list(range(8))


def test_from_the_last_step_on_epochs_are_those_without_a_curriculum():
    batches = easy_first(steps=7, seed=5, accumulation=2)
    plain = ArrayBatches(HARDNESS[:, None], np.arange(ROWS), batch_size=4, seed=5)
    for position in (14, 15, 24, 25, 26, 60):
        np.testing.assert_array_equal(batches.row_ids(position), plain.batch(position).row_ids)


def test_batches_do_not_depend_on_the_order_of_calls_but_on_the_seed():
    one, other, reseeded = easy_first(), easy_first(), easy_first(seed=1)
    backwards = {p: other.row_ids(p).tolist() for p in reversed(range(60))}
    assert [one.row_ids(p).tolist() for p in range(60)] == [backwards[p] for p in range(60)]
    assert any(one.row_ids(p).tolist() != reseeded.row_ids(p).tolist() for p in range(5))


def test_every_set_of_rows_is_drawn_equally_often():
    """All draws of 3 numbers below 5, one for each value that the raw bits can have."""
    counts = {}
    for bits in itertools.product(range(3), range(4), range(5)):
        found = _drawn(np.array(bits, np.uint64), 5)
        assert len(found) == 3
        counts[frozenset(found.tolist())] = counts.get(frozenset(found.tolist()), 0) + 1
    assert counts == {frozenset(c): 6 for c in itertools.combinations(range(5), 3)}


def test_among_equal_difficulties_chance_decides():
    batches = easy_first(hardness=np.zeros(ROWS), start_share=0.5)
    assert batches.curriculum.count(0, ROWS, least=4) == 50
    first = {int(row) for row in batches._easiest_first[:50]}
    assert set(batches.row_ids(0).tolist()) <= first
    assert {row < 50 for row in first} == {True, False}


def test_names_and_rows_are_those_of_the_source():
    batches = easy_first()
    assert (batches.rows, batches.batch_size, batches.steps_per_epoch) == (100, 4, 25)
    assert batches.names(np.array([3])) == ["row 3"]
    assert batches.gather(np.array([3, 1])).wanted.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"start_share": 0.0}, ConfigError, "a share of 0 of the rows"),
        ({"start_share": 1.1}, ConfigError, "a share of 1.1 of the rows"),
        ({"steps": 0}, ConfigError, "a curriculum of 0 steps"),
        ({"hardness": np.array([1.0, 2, 3, np.nan])}, NumericsError, "row 3, of row 3: its diff"),
    ],
)
def test_what_makes_no_sense_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        easy_first(**change)


def test_another_number_of_difficulties_than_rows_is_refused():
    rows = ArrayBatches(np.zeros((6, 1)), np.zeros(6), batch_size=2)
    with pytest.raises(ShapeError, match=r"difficulties \(5,\) of 6 rows"):
        CurriculumBatches(rows, np.zeros(5), Curriculum(start_share=1, steps=1), seed=0)


def test_a_position_before_the_first_is_refused():
    with pytest.raises(ConfigError, match="batch position -1 is negative"):
        easy_first().batch(-1)


# --- difficulties of rows ------------------------------------------------------------------------


def documents(lengths):
    ids = [np.full(length, 1 + number, np.int32) for number, length in enumerate(lengths)]
    return TokenizedDocuments.from_arrays([f"d{i}" for i in range(len(ids))], ids, lengths)


@pytest.mark.parametrize("packing", [True, False])
def test_a_row_has_the_mean_of_its_documents_each_counted_once(packing):
    lengths, values = [3, 9, 1, 5, 14], np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    batches = Batches(
        documents(lengths), seq_len=6, batch_size=1, seed=0, eos_id=0, packing=packing
    )
    found = batches.means(values)
    assert found.shape == (batches.rows,)
    assert len(set(found)) > 3
    for row, mean in enumerate(found):
        inside = [int(name[1:]) for name in batches.names(np.array([row]))]
        assert mean == pytest.approx(values[inside].mean(), rel=1e-15)


def test_rows_in_which_nothing_is_trained_on_have_no_place_in_the_means():
    ids = [np.arange(1, 7, dtype=np.int32)] * 3
    trained = [np.ones(6, bool), np.zeros(6, bool), np.ones(6, bool)]
    docs = TokenizedDocuments.from_arrays(list("abc"), ids, [6] * 3, trained=trained, closed=True)
    batches = Batches(docs, seq_len=5, batch_size=1, seed=0, eos_id=0, packing=False)
    assert batches.means(np.array([1.0, 2.0, 3.0])).tolist() == [1.0, 3.0]


def test_another_number_of_values_than_documents_is_refused():
    batches = Batches(documents([9, 9]), seq_len=4, batch_size=1, seed=0, eos_id=0)
    with pytest.raises(ShapeError, match=r"values \(3,\) of 2 documents"):
        batches.means(np.zeros(3))


def test_numbers_are_read_by_the_names_of_the_documents(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x", "h": 2}\n\n{"text": "y", "h": -1.5e3}\n')
    (tmp_path / "b.csv").write_text("h,text\n0.25,x\n")
    spec = DatasetSpec((".",), root=tmp_path)
    names = [document.name for document in iter_documents(spec)]
    assert field_numbers(spec, "h", names).tolist() == [2.0, -1500.0, 0.25]
    assert field_numbers(spec, "h", names[::-1]).tolist() == [0.25, -1500.0, 2.0]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('"hard"', "is 'hard', wanted a finite number"),
        ('"1_0"', "is '1_0', wanted"),
        ("true", "is a boolean, wanted"),
        ("null", "is null, wanted"),
        ('"nan"', "is 'nan', wanted"),
        ("1e999", "is inf, wanted"),
    ],
)
def test_what_is_no_number_is_refused_with_its_document(tmp_path, value, said):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "x", "h": {value}}}\n')
    with pytest.raises(ConfigError, match=f"a.jsonl:1: the field 'h' {said}") as caught:
        field_numbers(DatasetSpec(("a.jsonl",), root=tmp_path), "h", ["a.jsonl:1"], setting="s")
    assert caught.value.hint == "set s to a field with a number in every row"


def test_a_document_without_the_field_and_a_text_file_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n')
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"a\.jsonl:1: the field 'h' is missing"):
        field_numbers(DatasetSpec(("a.jsonl",), root=tmp_path), "h", ["a.jsonl:1"])
    with pytest.raises(ConfigError, match="is one text, and has no field 'h'"):
        field_numbers(DatasetSpec(("a.txt",), root=tmp_path), "h", ["a.txt"])


# --- the section ---------------------------------------------------------------------------------


def test_the_section_makes_the_batches_that_it_describes():
    rows = ArrayBatches(HARDNESS[:, None], np.arange(ROWS), batch_size=4)
    section = CurriculumSection.model_validate({"field": "h", "start_share": 0.2, "steps": 50})
    found = section.batches(rows, HARDNESS, seed=0, accumulation=3)
    wanted = easy_first(accumulation=3)
    assert all((found.row_ids(p) == wanted.row_ids(p)).all() for p in range(160))


@pytest.mark.parametrize("given", [{"steps": 0}, {"start_share": 0.0}, {"field": ""}, {"end": 3}])
def test_the_section_refuses_what_makes_no_sense(given):
    from pydantic import ValidationError

    with pytest.raises(ValidationError):
        CurriculumSection.model_validate({"field": "h", "steps": 5, **given})
