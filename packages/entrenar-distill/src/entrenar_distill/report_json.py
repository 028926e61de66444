"""A run's report as JSON, there and back."""

import os
from typing import Any

from entrenar_common.tables import to_plain
from entrenar_core.io.files import read_json
from entrenar_core.io.records import record_from_json
from entrenar_distill.report import SCHEMA_VERSION, RunReport

__all__ = ["from_json", "read_report", "to_json"]


def to_json(report: Any) -> dict[str, Any]:
    """The report as plain JSON data; NaN and infinity become null."""
    return to_plain(report)


def read_report(path: str | os.PathLike[str]) -> RunReport:
    """The report in the file `path` (report.json). Raises what `read_json` and `from_json` do."""
    return from_json(read_json(path), os.fspath(path))


def from_json(data: Any, name: str = "report.json") -> RunReport:
    """The report that `to_json` made `data` from; where a number was null, it is NaN.

    Raises UnsupportedError for a report of another version and FormatError for what is no report.
    """
    return record_from_json(RunReport, data, SCHEMA_VERSION, name)
