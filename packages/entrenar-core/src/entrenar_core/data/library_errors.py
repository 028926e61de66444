"""Errors of the `tokenizers` library as errors of ours."""

from types import TracebackType

from entrenar_common.errors import FormatError

__all__ = ["LibraryErrors"]


class LibraryErrors:
    """Turns the errors of `tokenizers` into FormatError; `where` names the file.

    The library raises the plain Exception, and a panic of its Rust code as a BaseException of a
    class that cannot be imported: neither can be named in an `except` clause without catching more.
    """

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and (kind is Exception or kind.__name__ == "PanicException"):
            raise FormatError(
                f"{self._where}: the tokenizer cannot be used: {error}",
                hint="the tokenizer file is damaged or was edited: fetch or write it again",
            ) from error
