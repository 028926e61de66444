"""Documents out of a Parquet file; needs pyarrow, imported when the first such file is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from entrenar_common.errors import FormatError, IntegrityError, UnsupportedError
from entrenar_core.data.readers import Document, Item, Source, bad, decode, missing_field

_ROWS_AT_ONCE = 1024


def read_parquet(source: Source, text_field: str) -> Iterator[Item]:
    """One document for each row; only the text column is read, one row group after the other."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UnsupportedError(
            f"{source.name}: reading Parquet needs pyarrow", hint="pip install pyarrow"
        ) from error
    with source.opened() as file, _parquet_errors(source.name, arrow.ArrowException):
        table = parquet.ParquetFile(file, page_checksum_verification=True)
        if text_field not in table.schema_arrow.names:
            raise missing_field(source.name, text_field, table.schema_arrow.names).error
        _check_text_type(table.schema_arrow.field(text_field).type, source.name, text_field)
        share = source.size // max(1, table.metadata.num_rows)
        row = 0
        for column in _columns(table, text_field):
            if arrow.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            for data in column.cast(arrow.large_binary()).to_pylist():
                row += 1
                yield _parquet_document(data, source.place(row), share)


def _columns(table: Any, text_field: str) -> Iterator[Any]:
    """The text column, some rows at a time. A row group is read when the one before it is used up:
    whoever stops early has fetched no more than that."""
    for group in range(table.num_row_groups):
        for batch in table.iter_batches(
            batch_size=_ROWS_AT_ONCE, row_groups=[group], columns=[text_field], use_threads=False
        ):
            yield batch.column(0)


def _check_text_type(kind: Any, name: str, text_field: str) -> None:
    value = getattr(kind, "value_type", kind)
    if str(value) not in ("string", "large_string", "string_view"):
        raise FormatError(
            f"{name}: column {text_field!a} is {kind}, wanted text",
            hint="set text_field of the dataset to a column of strings",
        )


def _parquet_document(data: bytes | None, where: str, share: int) -> Item:
    if data is None:
        return bad(f"{where}: the text is null")
    text = decode(data, where)
    return Document(where, text, share) if isinstance(text, str) else text


@contextmanager
def _parquet_errors(name: str, kinds: type[Exception]) -> Iterator[None]:
    try:
        yield
    except (kinds, OSError) as error:
        if "checksum" in str(error).lower():
            raise IntegrityError(
                f"{name}: a page does not match its checksum: {error}", hint="fetch the file again"
            ) from error
        raise FormatError(
            f"{name}: not a readable Parquet file: {error}", hint="fetch or write the file again"
        ) from error
