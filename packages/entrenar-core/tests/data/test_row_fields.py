"""A field of each row, beside the text."""

import pytest

from entrenar_common.errors import ConfigError, FormatError
from entrenar_core.data.row_fields import field_values
from entrenar_core.data.sources import DatasetSpec, iter_documents


def spec(folder, name):
    return DatasetSpec((name,), root=folder)


def test_values_are_found_by_the_names_of_the_documents(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x", "k": "one"}\n\n{"text": "y", "k": "two"}\n')
    (tmp_path / "b.csv").write_text("k,text\none,x\n")
    both = DatasetSpec((".",), root=tmp_path)
    values = field_values(both, "k")
    assert [values[d.name] for d in iter_documents(both)] == ["one", "two", "one"]


def test_rows_without_the_field_or_with_no_text_in_it_are_left_out(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"text": "y", "k": 3}\n{"k": ""}\n')
    assert field_values(spec(tmp_path, "a.jsonl"), "k") == {"a.jsonl:3": ""}


def test_a_table_without_the_column_is_an_error(tmp_path):
    (tmp_path / "b.csv").write_text("text\nx\n")
    with pytest.raises(FormatError, match="there is no field 'k'") as caught:
        field_values(spec(tmp_path, "b.csv"), "k")
    assert "text_field" not in caught.value.hint


def test_a_parquet_file_has_fields_too(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"text": ["x", "y"], "k": ["a", "b"]}), tmp_path / "c.parquet")
    found = field_values(spec(tmp_path, "c.parquet"), "k")
    assert list(found.values()) == ["a", "b"]
    assert list(found) == [d.name for d in iter_documents(spec(tmp_path, "c.parquet"))]


def test_a_text_file_has_no_fields(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ConfigError, match="is one text, and has no field 'k'"):
        field_values(spec(tmp_path, "a.txt"), "k")
