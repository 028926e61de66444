"""A field of each row of a dataset, besides its text."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from entrenar_common.errors import ConfigError, FormatError
from entrenar_core.data.readers import BadDocument, kind_of
from entrenar_core.data.sources import READERS, ROW_READERS, DatasetSpec, list_files

__all__ = ["field_numbers", "field_values"]


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


def field_numbers(
    spec: DatasetSpec, name: str, documents: Sequence[str], *, setting: str = "field"
) -> npt.NDArray[np.float64]:
    """The number in the field `name` of the row of each of `documents`, by their names: float64,
    in their order. In CSV, where all is text, it is written out; `setting` is what chose the field.

    Raises ConfigError for a file that has no fields and a document without a finite number there,
    FormatError for a table without such a column, and what `iter_documents` raises about files.
    """
    found: dict[str, Any] = {}
    for source in list_files(spec):
        if source.format not in ROW_READERS:
            raise ConfigError(
                f"{source.name}: is one text, and has no field {name!a}",
                hint="give rows with fields: JSON lines, CSV or Parquet",
            )
        for row in ROW_READERS[source.format](source, {setting: name}):
            if not isinstance(row, BadDocument):
                found[row.name] = row.values[name]
    return np.array([_number(found, document, name, setting) for document in documents])


def _number(found: dict[str, Any], document: str, name: str, setting: str) -> float:
    value = found.get(document)
    number = _as_float(value)
    if number is None or not math.isfinite(number):
        shown = kind_of(value) if number is None else str(number)
        if isinstance(value, str):
            shown = f"{value!a:.80}"
        elif document not in found:
            shown = "missing"
        raise ConfigError(
            f"{document}: the field {name!a} is {shown}, wanted a finite number",
            hint=f"set {setting} to a field with a number in every row",
        )
    return number


def _as_float(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and "_" in value:  # which Python reads as a number
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
