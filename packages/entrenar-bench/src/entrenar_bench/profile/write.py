"""A profile in files: its page, and its spans for other programs."""

import json
from pathlib import Path

from entrenar_bench.profile.chrome import chrome_trace
from entrenar_bench.profile.measure import Profiled
from entrenar_bench.profile.page import Shown, profile_page
from entrenar_common.errors import ConfigError
from entrenar_core.io import files

__all__ = ["check_files", "write"]


def check_files(*paths: str | None) -> None:
    """Raise ConfigError for a file that could not be written after all steps were taken."""
    given = [Path(path) for path in paths if path is not None]
    for path in given:
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder", hint="give the name of a file in it")
        if not path.absolute().parent.is_dir():
            raise ConfigError(
                f"{path}: there is no folder {path.parent}", hint="make it, or give another file"
            )
    if len({path.absolute() for path in given}) < len(given):
        raise ConfigError(f"{given[0]}: is named for two files", hint="give two names")


def write(found: Profiled, *, page: str | None, trace: str | None, also: Shown) -> None:
    """Write the page and the trace, as far as they are asked for."""
    if page is not None:
        files.write_text(page, profile_page(found.profile, also))
    if trace is not None:
        document = chrome_trace(found.spans, name=found.profile.subject)
        files.write_text(trace, json.dumps(document, allow_nan=False) + "\n")
