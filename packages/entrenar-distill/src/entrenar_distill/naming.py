"""Saying in an error which of several things it is about."""

from collections.abc import Iterator
from contextlib import contextmanager

from entrenar_common.errors import EntrenarError

__all__ = ["about"]


@contextmanager
def about(name: str) -> Iterator[None]:
    """Begins the message of an error that comes out of the block with `name`."""
    try:
        yield
    except EntrenarError as error:
        raise type(error)(
            f"{name}: {error.message}", hint=error.hint, details=error.details
        ) from error
