"""Whole texts as rows of ids: cut, paired, labelled, and put into batches."""

import json

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, FormatError
from entrenar_core.data.documents import TokenizedDocuments, split
from entrenar_core.data.row_kinds import TextsBeside
from entrenar_core.data.sources import DatasetSpec, iter_documents, list_files, read_documents
from entrenar_core.data.text_batches import TextBatches
from entrenar_core.data.texts import read_texts, split_texts
from text_cases import sentences, texts_of, word_tokenizer

CLS, SEP = 2, 3


@pytest.fixture
def rows(tmp_path):
    """Writes rows as JSON lines, and reads them as texts."""

    def read(values, *, max_length=16, **options):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(value) + "\n" for value in values))
        spec = DatasetSpec((str(path),))
        return read_texts(spec, word_tokenizer(), max_length=max_length, **options)

    return read


def ids_of(texts, row):
    return texts.tokens[texts.starts[row] :][: texts.lengths[row]].tolist()


# --- rows -------------------------------------------------------------------------------------


def test_a_text_stands_between_its_special_tokens(rows):
    texts = rows([{"text": "the red fox"}, {"text": "runs"}])
    assert ids_of(texts, 0) == [CLS, 5, 7, 11, SEP]
    assert ids_of(texts, 1) == [CLS, 15, SEP]
    assert texts.types is None
    assert texts.labels is None


def test_a_long_text_is_cut_before_its_closing_token_and_said_to_be(rows):
    texts = rows([{"text": "the red fox runs"}, {"text": "the red fox"}], max_length=5)
    assert ids_of(texts, 0) == ids_of(texts, 1) == [CLS, 5, 7, 11, SEP]
    assert texts.shortened.tolist() == [True, False]


def test_of_a_pair_the_longer_text_is_cut_first(rows):
    texts = rows([{"text": "the red fox runs", "other": "a dog"}], max_length=7, pair="other")
    assert ids_of(texts, 0) == [CLS, 5, 7, SEP, 6, 12, SEP]
    assert texts.types.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_special_tokens_that_do_not_fit_are_an_error(rows):
    with pytest.raises(ConfigError, match="max_length 3 leaves no room beside 3 special tokens"):
        rows([{"text": "a", "other": "b"}], max_length=3, pair="other")


def test_labels_are_numbered_in_the_order_of_the_rows(rows):
    seen = []

    def number(values):
        seen.extend(values)
        return np.arange(len(values))

    values = [{"text": "a", "kind": "x"}, {"text": "the", "kind": 7}]
    texts = rows(values, label="kind", number=number)
    assert seen == ["x", 7]
    assert texts.labels.tolist() == [0, 1]


def test_a_fingerprint_tells_texts_with_other_labels_apart(rows):
    values = [{"text": "a", "kind": 0}, {"text": "the", "kind": 1}]
    one, two = (
        rows(values, label="kind", number=lambda v, s=sign: s * np.array(v)) for sign in (1, -1)
    )
    assert one.fingerprint != two.fingerprint


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"text": "a"}, "no field 'kind'"),
        ({"text": "a", "kind": None}, "'kind' is null, wanted text or a whole number"),
        ({"text": "a", "kind": 0.5}, "'kind' is a number, wanted text or a whole number"),
        ({"text": "a", "kind": True}, "'kind' is a boolean"),
    ],
)
def test_a_row_without_a_usable_label_is_an_error_with_its_line(rows, value, said):
    with pytest.raises(FormatError, match=rf"rows\.jsonl:2: .*{said}"):
        rows([{"text": "a", "kind": 1}, value], label="kind", number=np.array)


def test_texts_are_held_out_as_documents_are():
    documents = TokenizedDocuments.from_arrays(
        [f"text {i}" for i in range(41)], [np.arange(4, dtype=np.int32)] * 41, [1] * 41
    )
    texts = texts_of([4] * 41)
    for found, wanted in zip(split_texts(texts, 0.2, 5), split(documents, 0.2, 5), strict=True):
        assert list(found.names) == list(wanted.names)


# --- files ------------------------------------------------------------------------------------


def test_each_line_of_a_text_file_is_a_document(tmp_path):
    (tmp_path / "x.txt").write_bytes("\ufeffone\r\n\n  \ntwo  \nthree".encode())
    spec = DatasetSpec((str(tmp_path / "x.txt"),), format="lines")
    found = list(iter_documents(spec))
    assert [document.text for document in found] == ["one", "two  ", "three"]
    assert [document.name.rpartition(":")[2] for document in found] == ["1", "4", "5"]


def test_a_text_file_has_no_further_fields(tmp_path):
    (tmp_path / "x.txt").write_text("one\n")
    spec = DatasetSpec((str(tmp_path / "x.txt"),), format="lines")
    with pytest.raises(ConfigError, match="a file of text has no fields text, kind"):
        read_texts(spec, word_tokenizer(), max_length=9, label="kind", number=np.array)


def beside(path, *fields):
    """The texts of a file, and the values of further fields."""
    kind = TextsBeside("text", tuple((f"field_{i}", name) for i, name in enumerate(fields)))
    spec = DatasetSpec((str(path),), rows=kind)
    with kind.opened(word_tokenizer()) as convert:
        found = list(read_documents(list_files(spec), spec, convert=convert))
    return [(document.text, document.beside) for document in found]


def test_csv_gives_further_columns_as_text(tmp_path):
    (tmp_path / "x.csv").write_text('kind,text,other\n1,"a, b",yes\nx,c,\n')
    found = beside(tmp_path / "x.csv", "other", "kind")
    assert found == [("a, b", ("yes", "1")), ("c", ("", "x"))]


def test_parquet_gives_further_columns_of_text_and_whole_numbers(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"kind": [1, 2], "other": ["x", "y"], "text": ["one", "two"]}
    parquet.write_table(arrow.table(columns), tmp_path / "x.parquet")
    found = beside(tmp_path / "x.parquet", "kind", "other")
    assert found == [("one", (1, "x")), ("two", (2, "y"))]


# --- batches ----------------------------------------------------------------------------------


def batches_of(texts, *, batch_size=4, accumulation=1, seed=1):
    return TextBatches(texts, batch_size=batch_size, accumulation=accumulation, seed=seed, fill=0)


def test_a_batch_has_the_ids_of_its_rows_and_padding_behind_them():
    texts = texts_of([5, 3, 9, 7, 4, 6], labels=range(6), pairs=True)
    for position in range(3):
        batch = batches_of(texts, batch_size=2).batch(position)
        assert batch.ids.shape[1] == texts.lengths[batch.row_ids].max()
        for place, row in enumerate(batch.row_ids):
            length = texts.lengths[row]
            assert batch.ids[place, :length].tolist() == ids_of(texts, row)
            assert not batch.ids[place, length:].any()
            assert batch.mask[place].tolist() == [i < length for i in range(batch.ids.shape[1])]
            assert batch.types[place].tolist() == [
                int(length // 2 <= i < length) for i in range(batch.ids.shape[1])
            ]
        assert batch.labels.tolist() == batch.row_ids.tolist()
        assert (batch.targets, batch.tokens) == (2, texts.lengths[batch.row_ids].sum())


def test_an_epoch_has_every_row_once_and_the_next_another_order():
    batches = batches_of(texts_of(np.arange(4, 28)))
    orders = [
        [row for i in range(6) for row in batches.batch(6 * epoch + i).row_ids.tolist()]
        for epoch in range(2)
    ]
    assert all(sorted(order) == list(range(24)) for order in orders)
    assert orders[0] != orders[1]
    assert orders[1] == [
        row for i in range(6, 12) for row in batches_of(texts_of(np.arange(4, 28))).batch(i).row_ids
    ]


@pytest.mark.parametrize(("batch_size", "accumulation"), [(8, 1), (4, 2), (1, 8)])
def test_the_rows_of_a_step_do_not_depend_on_how_it_is_cut(batch_size, accumulation):
    texts = texts_of(np.tile(np.arange(4, 24), 5))
    whole = batches_of(texts, batch_size=8)
    cut = batches_of(texts, batch_size=batch_size, accumulation=accumulation)
    assert cut.steps_per_epoch == whole.steps_per_epoch * accumulation
    for step in range(2 * whole.steps_per_epoch):
        found = [cut.batch(step * accumulation + i).row_ids for i in range(accumulation)]
        assert np.concatenate(found).tolist() == whole.batch(step).row_ids.tolist()


def test_texts_of_like_length_are_in_a_batch_together():
    texts = texts_of(np.random.default_rng(0).integers(3, 60, 640))
    batches = batches_of(texts, batch_size=16)
    padded = sum(batches.batch(i).ids.size for i in range(batches.steps_per_epoch))
    assert padded < 1.1 * texts.total_tokens


def test_too_few_texts_for_a_step_are_an_error():
    with pytest.raises(ConfigError, match="7 texts are fewer than the 8 of one optimizer step"):
        batches_of(texts_of([4] * 7), accumulation=2)


def test_sentences_are_as_many_as_asked_for():
    assert len(set(sentences(50))) == 50
