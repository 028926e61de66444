"""The history of typed lines for the line editor, read in a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prompt_toolkit.history import History, ThreadedHistory

from entrenar_shell.history_file import HistoryFile, keeps

__all__ = ["PromptHistory"]


class PromptHistory(ThreadedHistory):
    """What can be recalled: the lines of the file, and those of this shell. Lines with secrets, and
    all while `keep` says no, are neither written nor remembered."""

    def __init__(self, file: HistoryFile, *, keep: Callable[[], bool]) -> None:
        super().__init__(_Stored(file))
        self._keep = keep

    def append_string(self, string: str) -> None:
        """Keep what was typed, unless it is what was typed before."""
        latest = self._loaded_strings[0] if self._loaded_strings else None
        if self._keep() and keeps(string) and string != latest:
            super().append_string(string)


class _Stored(History):
    def __init__(self, file: HistoryFile) -> None:
        super().__init__()
        self._file = file

    def load_history_strings(self) -> Iterable[str]:
        return self._file.texts()

    def store_string(self, string: str) -> None:
        self._file.append(string)
