"""What every section of a configuration is."""

import os
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

FilePath = Annotated[str, Field(min_length=1), AfterValidator(os.path.expanduser)]
"""Relative to the current directory; a leading `~` is the home folder."""


class StrictModel(BaseModel):
    """A section of a configuration: unknown keys, NaN, infinity and wrong types are errors.

    Nothing is converted: `"3"`, `3.0` and `true` are not the whole number 3. `later_keys` names
    keys that a coming version will understand: they are refused as such, not as misspelt.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        protected_namespaces=(),  # model_id is a name of ours, whatever pydantic's own are
    )

    later_keys: ClassVar[frozenset[str]] = frozenset()
