"""A field of each row of a dataset, besides its text."""

from entrenar_common.errors import ConfigError, FormatError
from entrenar_core.data.readers import BadDocument
from entrenar_core.data.sources import READERS, DatasetSpec, list_files

__all__ = ["field_values"]


def field_values(spec: DatasetSpec, name: str) -> dict[str, str]:
    """The text in the field `name` of each row that has one, by the name of the row's document.

    Rows without it, or with something that is no text there, are left out. Raises ConfigError for
    a file that has no fields, FormatError for a table without such a column, and what
    `iter_documents` raises about files.
    """
    found: dict[str, str] = {}
    for source in list_files(spec):
        if source.format == "text":
            raise ConfigError(
                f"{source.name}: is one text, and has no field {name!a}",
                hint="give rows with fields: JSON lines, CSV or Parquet",
            )
        try:
            items = READERS[source.format](source, name)
            rows = [item for item in items if not isinstance(item, BadDocument)]
        except FormatError as error:
            raise FormatError(
                error.message, hint=f"every file needs the field {name!a}, with text in it"
            ) from error
        found |= {row.name: row.text for row in rows}
    return found
