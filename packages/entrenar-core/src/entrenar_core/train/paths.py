"""Paths in a configuration: relative to the current directory, a leading `~` is the home folder."""

from typing import Annotated, Any

from pydantic import BeforeValidator

from entrenar_core.train.strict import FilePath

__all__ = ["FilePath", "FilePaths"]


def _paths(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple):
        return tuple(value)
    raise ValueError("must be a path or a list of paths")


FilePaths = Annotated[
    tuple[FilePath, ...],
    BeforeValidator(_paths, json_schema_input_type=str | list[FilePath]),
]
