"""Documents out of a Parquet file; needs pyarrow, imported when the first such file is read."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from entrenar_common.errors import FormatError, IntegrityError, UnsupportedError
from entrenar_core.data.readers import (
    BadDocument,
    Document,
    Item,
    Source,
    Value,
    bad,
    decode,
    missing_field,
    opened,
)

_ROWS_AT_ONCE = 1024


def read_parquet(source: Source, text_field: str, beside: Sequence[str] = ()) -> Iterator[Item]:
    """One document for each row; only the columns asked for are read, a part of a row group at a
    time."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UnsupportedError(
            f"{source.name}: reading Parquet needs pyarrow", hint="pip install pyarrow"
        ) from error
    fields = [text_field, *beside]
    with opened(source) as file, _parquet_errors(source.name, arrow.ArrowException):
        table = parquet.ParquetFile(file, page_checksum_verification=True)
        for field in fields:
            if field not in table.schema_arrow.names:
                raise missing_field(source.name, field, table.schema_arrow.names).error
        _check_text_type(table.schema_arrow.field(text_field).type, source.name, text_field)
        for field in beside:
            _check_value_type(arrow, table.schema_arrow.field(field).type, source.name, field)
        share = source.size // max(1, table.metadata.num_rows)
        row = 0
        for batch in table.iter_batches(
            batch_size=_ROWS_AT_ONCE, columns=fields, use_threads=False
        ):
            columns = [_column(arrow, batch.column(batch.schema.names.index(f))) for f in fields]
            for data, *others in zip(*columns, strict=True):
                row += 1
                yield _parquet_document(data, others, f"{source.name}:{row}", share)


def _column(arrow: Any, column: Any) -> list[Any]:
    """The values of a column: bytes of texts, whole numbers, None where there is none."""
    if arrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if arrow.types.is_integer(column.type):
        return column.to_pylist()
    return column.cast(arrow.large_binary()).to_pylist()


def _check_text_type(kind: Any, name: str, text_field: str) -> None:
    value = getattr(kind, "value_type", kind)
    if str(value) not in ("string", "large_string", "string_view"):
        raise FormatError(
            f"{name}: column {text_field!a} is {kind}, wanted text",
            hint="set text_field of the dataset to a column of strings",
        )


def _check_value_type(arrow: Any, kind: Any, name: str, field: str) -> None:
    if not arrow.types.is_integer(getattr(kind, "value_type", kind)):
        _check_text_type(kind, name, field)


def _parquet_document(data: bytes | None, others: Sequence[Any], where: str, share: int) -> Item:
    if data is None:
        return bad(f"{where}: the text is null")
    if any(other is None for other in others):
        return bad(f"{where}: a value beside the text is null")
    text, found = decode(data, where), list[Value]()
    for other in others:
        value = decode(other, where) if isinstance(other, bytes) else other
        if isinstance(value, BadDocument):
            return value
        found.append(value)
    return Document(where, text, share, tuple(found)) if isinstance(text, str) else text


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
