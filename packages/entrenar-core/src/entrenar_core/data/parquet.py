"""Documents out of a Parquet file; needs pyarrow, imported when the first such file is read."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from entrenar_common.errors import FormatError, IntegrityError, UnsupportedError
from entrenar_core.data.readers import (
    Document,
    Item,
    Row,
    RowItem,
    Source,
    bad,
    decode,
    missing_field,
)

_ROWS_AT_ONCE = 1024


def read_parquet(source: Source, text_field: str) -> Iterator[Item]:
    """One document for each row; only the text column is read, a part of a row group at a time."""
    with _batches(source, {"text_field": text_field}) as (schema, batches):
        import pyarrow as arrow

        _check_text_type(schema.field(text_field).type, source.name, text_field)
        for first, share, batch in batches:
            column = batch.column(0)
            if arrow.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            for row, data in enumerate(column.cast(arrow.large_binary()).to_pylist(), first):
                yield _parquet_document(data, source.place(row), share)


def parquet_rows(source: Source, fields: Mapping[str, str]) -> Iterator[RowItem]:
    """The `fields` of each row, by the settings that name them."""
    with _batches(source, fields) as (_, batches):
        for first, share, batch in batches:
            for index in range(len(batch)):
                name = source.place(first + index)
                try:
                    values = {n: batch.column(n)[index].as_py() for n in fields.values()}
                except UnicodeDecodeError as error:
                    yield bad(f"{name}: byte {error.start} is not UTF-8 ({error.reason})")
                    continue
                yield Row(name, values, share)


def parquet_fields(source: Source) -> list[str]:
    """The columns of a table that have a name of their own."""
    with _batches(source, {}) as (schema, _):
        return [name for name in schema.names if schema.names.count(name) == 1]


@contextmanager
def _batches(source: Source, fields: Mapping[str, str]) -> Iterator[tuple[Any, Iterator[Any]]]:
    """The file's schema; and the number of the first row, the bytes of each, and the columns of
    some rows at a time."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UnsupportedError(
            f"{source.name}: reading Parquet needs pyarrow", hint="pip install pyarrow"
        ) from error
    with source.opened() as file, _parquet_errors(source.name, arrow.ArrowException):
        table = parquet.ParquetFile(file, page_checksum_verification=True)
        for setting, field in fields.items():
            if field not in table.schema_arrow.names:
                raise missing_field(source.name, field, table.schema_arrow.names, setting).error
        yield table.schema_arrow, _numbered(table, source.size, list(fields.values()))


def _numbered(table: Any, size: int, columns: list[str]) -> Iterator[tuple[int, int, Any]]:
    """A row group is read when the one before it is used up: whoever stops early has fetched no
    more than that."""
    share, row = size // max(1, table.metadata.num_rows), 1
    for group in range(table.num_row_groups):
        for batch in table.iter_batches(
            batch_size=_ROWS_AT_ONCE, row_groups=[group], columns=columns, use_threads=False
        ):
            yield row, share, batch
            row += len(batch)


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
