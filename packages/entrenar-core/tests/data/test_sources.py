"""Which files a dataset finds, and what it says of the bad ones."""

import csv
import json
import os

import pytest

from entrenar_common.errors import (
    ConfigError,
    FormatError,
    IntegrityError,
    NotFoundError,
    UnsupportedError,
)
from entrenar_core.data.readers import MAX_LINE_BYTES
from entrenar_core.data.sources import (
    DatasetSpec,
    Skips,
    iter_documents,
    list_files,
    read_documents,
)


@pytest.fixture
def tree(tmp_path):
    """Writes files given as name=bytes and returns the function that does it."""

    def write(**contents):
        for name, data in contents.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return tmp_path

    return write


def names(root, *paths, exclude=()):
    return [file.name for file in list_files(DatasetSpec(paths, exclude=exclude, root=root))]


def texts(root, *paths, **options):
    return [doc.text for doc in iter_documents(DatasetSpec(paths, root=root, **options))]


# --- listing -----------------------------------------------------------------------------------


@pytest.fixture
def project(tree):
    return tree(
        a_dot_py=b"a", b_dot_txt=b"b", sub__c_dot_py=b"c", sub__deep__d_dot_py=b"d",
        sub__test__e_dot_py=b"e", _dot_hidden__f_dot_py=b"f",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*.py", ["a.py"]),
        ("**/*.py", ["a.py", "sub/c.py", "sub/deep/d.py", "sub/test/e.py"]),
        ("sub", ["sub/c.py", "sub/deep/d.py", "sub/test/e.py"]),
        ("sub/", ["sub/c.py", "sub/deep/d.py", "sub/test/e.py"]),
        ("sub/**", ["sub/c.py", "sub/deep/d.py", "sub/test/e.py"]),
        ("sub/*/?.py", ["sub/deep/d.py", "sub/test/e.py"]),
        ("**/[!a-d].py", ["sub/test/e.py"]),
        ("./sub/../b.txt", ["b.txt"]),
        (".hidden/*.py", [".hidden/f.py"]),
    ],
)
def test_a_path_finds_the_files_its_glob_describes(project, pattern, wanted):
    assert names(project, pattern) == wanted


@pytest.mark.parametrize(
    ("exclude", "wanted"),
    [
        ("test", ["a.py", "sub/c.py", "sub/deep/d.py"]),
        ("**/test/**", ["a.py", "sub/c.py", "sub/deep/d.py"]),
        ("sub/deep", ["a.py", "sub/c.py", "sub/test/e.py"]),
        ("sub/*/*.py", ["a.py", "sub/c.py"]),
        ("[ac].py", ["sub/deep/d.py", "sub/test/e.py"]),
    ],
)
def test_excluded_files_and_folders_are_left_out(project, exclude, wanted):
    assert names(project, "**/*.py", exclude=(exclude,)) == wanted


def test_exclude_is_matched_below_root_too_and_by_full_path(project):
    assert names(project, "sub/**/*.py", exclude=("sub/test",)) == ["sub/c.py", "sub/deep/d.py"]
    full = f"{project}/sub/deep/*"
    assert names(project, "sub/**/*.py", exclude=(full,)) == ["sub/c.py", "sub/test/e.py"]


def test_a_file_found_twice_is_listed_once(project):
    assert names(project, "a.py", "*.py", str(project / "a.py")) == ["a.py"]


def test_a_leading_tilde_is_the_home_folder(project, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("HOME", str(project))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert names(elsewhere, "~/sub/c.py") == [str(project / "sub/c.py")]


def test_a_name_with_a_bracket_is_found_literally(tree):
    root = tree()
    (root / "a[1].txt").write_text("x")
    assert names(root, "a[1].txt") == ["a[1].txt"]


def test_a_circular_link_is_not_followed(project):
    (project / "sub" / "loop").symlink_to(project)
    assert len(names(project, "**/*.py")) == 4


def test_line_breaks_in_file_names_are_shown_escaped(tree):
    root = tree()
    (root / "a\nb.txt").write_text("x")
    assert names(root, "*.txt") == ["a\\nb.txt"]


@pytest.mark.parametrize("path", ["nothing/*.txt", "a.py/x", "missing", "sub/test/*.txt"])
def test_a_path_that_matches_nothing_is_named(project, path):
    with pytest.raises(NotFoundError, match="matches no file") as caught:
        list_files(DatasetSpec(("a.py", path), root=project))
    assert path in str(caught.value)


def test_a_fifo_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotFoundError):
        list_files(DatasetSpec(("pipe",), root=tmp_path))


@pytest.mark.parametrize(
    "options", [{"paths": ()}, {"format": "xml"}, {"max_documents": 0}, {"paths": ("[z-a]*",)}]
)
def test_settings_that_make_no_sense_are_config_errors(tmp_path, options):
    with pytest.raises(ConfigError):
        list_files(DatasetSpec(**{"paths": ("x",), "root": tmp_path, **options}))


# --- text --------------------------------------------------------------------------------------


def test_documents_come_by_name_without_byte_order_mark_and_empty_ones(tree):
    root = tree(b_dot_txt=b"\xef\xbb\xbfbeta\r\n", a_dot_txt="ä".encode(), c_dot_txt=b"")
    documents = list(iter_documents(DatasetSpec(("*.txt",), root=root)))
    assert [(doc.name, doc.text, doc.utf8_bytes) for doc in documents] == [
        ("a.txt", "ä", 2),
        ("b.txt", "beta\r\n", 6),
    ]


def test_bytes_that_are_not_utf8_are_located(tree):
    root = tree(a_dot_txt=b"abc\xff")
    with pytest.raises(FormatError, match=r"^a\.txt: byte 3 is not UTF-8") as caught:
        texts(root, "a.txt")
    assert "skip_bad" in str(caught.value.hint)


def test_bad_documents_are_left_out_and_counted_when_asked(tree):
    root = tree(a_dot_txt=b"\xff", b_dot_txt=b"b")
    skips = Skips()
    spec = DatasetSpec(("*.txt",), skip_bad=True, root=root)
    assert [doc.text for doc in iter_documents(spec, skips=skips)] == ["b"]
    assert skips.count == 1
    assert "a.txt" in skips.problems[0]


@pytest.mark.parametrize("data", [b"", b"\xff"])
def test_a_dataset_without_documents_is_a_config_error(tree, data):
    with pytest.raises(ConfigError, match="no documents"):
        texts(tree(a_dot_txt=data), "a.txt", skip_bad=True)


def test_max_documents_takes_the_first_ones(tree):
    root = tree(a_dot_txt=b"a", b_dot_txt=b"b", c_dot_txt=b"\xff")
    assert texts(root, "*.txt", max_documents=2) == ["a", "b"]


def test_a_file_that_changed_after_it_was_listed_is_noticed(tree):
    root = tree(a_dot_txt=b"a")
    spec = DatasetSpec(("a.txt",), root=root)
    sources = list_files(spec)
    (root / "a.txt").write_bytes(b"longer")
    with pytest.raises(IntegrityError, match="changed"):
        list(read_documents(sources, spec))


# --- JSON lines --------------------------------------------------------------------------------


def test_jsonl_accepts_byte_order_mark_crlf_blank_lines_and_no_last_newline(tree):
    data = b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"text": "\\u00e4", "n": 1}'
    documents = list(iter_documents(DatasetSpec(("x.jsonl",), root=tree(x_dot_jsonl=data))))
    assert [(doc.name, doc.text) for doc in documents] == [("x.jsonl:1", "a"), ("x.jsonl:3", "ä")]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"text": "x"', "not valid JSON"),
        (b'{"a":1}{"b":2}', "column 8: not valid JSON"),
        (b'["text"]', "not a JSON object"),
        (b'{"body": "x"}', "there is no field 'text'"),
        (b'{"text": 12}', "is a number"),
        (b'{"text": 12, "id": "12"}', "is a number"),
        (b'{"text": null}', "is null"),
        (b'{"text": "\\ud800"}', "surrogate"),
        (b'{"text": "\xff"}', "byte 10 is not UTF-8"),
        (b'{"text": "x", "n": NaN}', "NaN is not JSON"),
        (b'{"text": "a\x00b"}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_a_bad_json_line_is_named_with_its_number_and_can_be_skipped(tree, line, problem):
    root = tree(x_dot_jsonl=b'{"text": "one"}\n' + line + b'\n{"text": "three"}\n')
    with pytest.raises(FormatError, match=r"^x\.jsonl:2: ") as caught:
        texts(root, "x.jsonl")
    assert problem in str(caught.value)
    assert texts(root, "x.jsonl", skip_bad=True) == ["one", "three"]


def test_numbers_of_any_size_beside_the_text_are_accepted(tree):
    line = b'{"n": ' + b"9" * 10_000 + b', "text": "x"}'
    assert texts(tree(x_dot_jsonl=line), "x.jsonl") == ["x"]


def test_a_missing_field_lists_the_fields_there_are(tree):
    with pytest.raises(FormatError) as caught:
        texts(tree(x_dot_jsonl=b'{"body": "x", "title": "y"}'), "x.jsonl")
    assert "body, title" in str(caught.value.hint)


@pytest.mark.tier2
def test_a_line_over_the_limit_is_an_error_and_the_next_line_is_still_read(tree):
    long = b'{"text": "' + b"x" * MAX_LINE_BYTES + b'"}'
    root = tree(x_dot_jsonl=long + b'\n{"text": "short"}\n')
    with pytest.raises(FormatError, match=r"^x\.jsonl:1: longer than"):
        texts(root, "x.jsonl")
    assert texts(root, "x.jsonl", skip_bad=True) == ["short"]


# --- CSV ---------------------------------------------------------------------------------------


def test_csv_rows_are_documents_with_quotes_line_breaks_and_long_fields(tree):
    long = "y" * 200_000  # longer than the csv module accepts on its own
    data = f'id,text\r\n1,"a ""quoted"", b"\r\n2,"two\nlines"\n\n3,{long}\n'.encode()
    documents = list(iter_documents(DatasetSpec(("x.csv",), root=tree(x_dot_csv=data))))
    assert [doc.text for doc in documents] == ['a "quoted", b', "two\nlines", long]
    assert [doc.name for doc in documents] == ["x.csv:2", "x.csv:3", "x.csv:6"]


def test_reading_csv_leaves_the_limit_of_the_process_alone(tree):
    before = csv.field_size_limit()
    for _ in iter_documents(DatasetSpec(("x.csv",), root=tree(x_dot_csv=b"text\na\nb\n"))):
        assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("row", "problem"),
    [(b"1", "1 fields, the header has 2"), (b'1,"a"b', "not valid CSV"), (b"1,\xff", "not UTF-8")],
)
def test_a_bad_csv_row_is_named_with_its_line_and_can_be_skipped(tree, row, problem):
    root = tree(x_dot_csv=b"id,text\n0,zero\n" + row + b"\n2,two\n")
    with pytest.raises(FormatError, match=r"^x\.csv:3: ") as caught:
        texts(root, "x.csv")
    assert problem in str(caught.value)
    assert texts(root, "x.csv", skip_bad=True) == ["zero", "two"]


def test_an_unfinished_quote_is_an_error(tree):
    with pytest.raises(FormatError, match=r"^x\.csv:2: not valid CSV"):
        texts(tree(x_dot_csv=b'text\n"never closed'), "x.csv")


@pytest.mark.parametrize("header", [b"", b"id,body\n1,x\n", b"text,text\n1,2\n"])
def test_a_csv_without_exactly_one_text_column_is_an_error_even_when_skipping(tree, header):
    with pytest.raises(FormatError, match="no field 'text'"):
        texts(tree(x_dot_csv=header), "x.csv", skip_bad=True)


# --- Parquet -----------------------------------------------------------------------------------


def write_parquet(path, columns, **options):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), path, **options)


def test_parquet_rows_come_from_all_row_groups(tmp_path):
    rows = [f"row {i} ä" for i in range(10)]
    write_parquet(tmp_path / "x.parquet", {"n": range(10), "text": rows}, row_group_size=3)
    assert texts(tmp_path, "x.parquet") == rows


def test_parquet_null_text_is_a_bad_document(tmp_path):
    write_parquet(tmp_path / "x.parquet", {"text": ["a", None]})
    with pytest.raises(FormatError, match=r"^x\.parquet:2: the text is null"):
        texts(tmp_path, "x.parquet")
    assert texts(tmp_path, "x.parquet", skip_bad=True) == ["a"]


def test_parquet_text_as_a_dictionary_column(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    column = arrow.array(["a", "b", "a"]).dictionary_encode()
    write_parquet(tmp_path / "x.parquet", {"text": column})
    assert texts(tmp_path, "x.parquet") == ["a", "b", "a"]


def test_a_missing_parquet_column_names_those_there_are(tmp_path):
    write_parquet(tmp_path / "x.parquet", {"body": ["a"], "n": [1]})
    with pytest.raises(FormatError, match="no field 'text'") as caught:
        texts(tmp_path, "x.parquet", skip_bad=True)
    assert "body, n" in str(caught.value.hint)


def test_a_parquet_column_of_numbers_is_refused(tmp_path):
    write_parquet(tmp_path / "x.parquet", {"text": [1]})
    with pytest.raises(FormatError, match="is int64, wanted text"):
        texts(tmp_path, "x.parquet")


@pytest.mark.parametrize("keep", [0, 3, 60, -8])
def test_a_cut_parquet_file_is_a_format_error(tmp_path, keep):
    write_parquet(tmp_path / "x.parquet", {"text": ["a"] * 50})
    data = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(data[:keep])
    with pytest.raises(FormatError, match="not a readable Parquet file"):
        texts(tmp_path, "x.parquet")


def test_a_parquet_page_with_a_wrong_checksum_is_an_integrity_error(tmp_path):
    path = tmp_path / "x.parquet"
    write_parquet(
        path, {"text": ["needle in the page"]},
        write_page_checksum=True, compression="none", use_dictionary=False, write_statistics=False,
    )  # fmt: skip
    data = path.read_bytes()
    at = data.index(b"needle in")
    path.write_bytes(data[:at] + b"N" + data[at + 1 :])
    with pytest.raises(IntegrityError, match="checksum"):
        texts(tmp_path, "x.parquet")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UnsupportedError) as caught:
        texts(tmp_path, "x.parquet")
    assert "pip install pyarrow" in str(caught.value.hint)


def test_the_format_can_be_set_against_the_suffix(tree):
    line = json.dumps({"body": "x"}).encode()
    assert texts(tree(x_dot_txt=line), "x.txt", format="jsonl", text_field="body") == ["x"]
