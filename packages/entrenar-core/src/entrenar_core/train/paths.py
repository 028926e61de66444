"""Paths in a configuration: relative to the current directory, a leading `~` is the home folder."""

import os
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field


def _paths(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple):
        return tuple(value)
    raise ValueError("must be a path or a list of paths")


FilePath = Annotated[str, Field(min_length=1), AfterValidator(os.path.expanduser)]
FilePaths = Annotated[
    tuple[FilePath, ...],
    BeforeValidator(_paths, json_schema_input_type=str | list[FilePath]),
]
