"""Models on the hub, known by their headers."""

from typing import NoReturn

from entrenar_common.errors import UnsupportedError


def open_remote(spec: str) -> NoReturn:
    """Nothing on the hub can be opened yet."""
    raise UnsupportedError(f"{spec}: on the hub", hint="give a local copy")
