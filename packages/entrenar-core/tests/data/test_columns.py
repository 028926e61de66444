"""What columns are taken for, by a sample of their values."""

import json

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from entrenar_core.data.columns import columns_of, judged
from entrenar_core.data.sources import DatasetSpec, list_files

WORDS = [f"a sentence with the number {i} in it" for i in range(10)]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (WORDS, "text"),
        (["pos", "neg"] * 5, "categorical"),
        ([0, 1, 2, 0, 1, 2], "categorical"),
        ([True, False, True], "categorical"),
        ([0.0, 1.0, 0.0, 1.0], "numeric"),
        ([3, 141, 59, 26, 535, 897], "numeric"),
        ([5, 6, 7, 8, 9], "identifier"),
        (["a1", "b2", "c3", "d4"], "identifier"),
        ([None, None], "empty"),
        ([[1], [2]], "other"),
        ([1.0, float("nan")], "other"),
        (["one", 2, "three"], "other"),
    ],
)
def test_what_values_are(values, kind):
    assert judged("name", values).kind == kind


def test_missing_values_say_nothing():
    assert judged("name", ["pos", None, "neg", None, "pos", "neg"]).kind == "categorical"


def test_numbers_that_are_written_are_numbers_only_where_all_is_text():
    assert judged("name", ["1.5", "2", "8"], written=True).kind == "numeric"
    assert judged("name", ["1.5", "2", "8"]).kind == "identifier"


def test_text_that_comes_again_and_again_is_text_where_it_is_long():
    assert judged("name", ["a long text " * 20, "another one " * 20] * 5).kind == "text"


TABLE = {"text": WORDS, "stars": [i / 2 for i in range(10)], "side": ["left", "right"] * 5}


def jsonl(path):
    rows = [dict(zip(TABLE, row, strict=True)) for row in zip(*TABLE.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def csv(path):
    lines = [",".join(map(str, row)) for row in zip(*TABLE.values(), strict=True)]
    path.write_text("\n".join([",".join(TABLE), *lines]))


def parquet_file(path):
    parquet.write_table(arrow.table(TABLE), path)


WRITERS = {"jsonl": jsonl, "csv": csv, "parquet": parquet_file}


@pytest.mark.parametrize("form", WRITERS)
def test_columns_are_the_same_in_every_format(tmp_path, form):
    WRITERS[form](tmp_path / f"table.{form}")
    (source,) = list_files(DatasetSpec(paths=(f"table.{form}",), root=tmp_path))
    found = {column.name: column.kind for column in columns_of(source, form)}
    assert found == {"text": "text", "stars": "numeric", "side": "categorical"}


def test_no_more_rows_are_looked_at_than_are_asked_for(tmp_path):
    values = [*WORDS, *(["only one"] * 90)]
    parquet.write_table(arrow.table({"text": values, "n": np.arange(100)}), tmp_path / "t.parquet")
    (source,) = list_files(DatasetSpec(paths=("t.parquet",), root=tmp_path))
    few, _ = columns_of(source, "parquet", rows=10)
    assert few.length == np.mean([len(word) for word in WORDS])
