"""What one check came to, and how a list of them is shown."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from entrenar_common.errors import EntrenarError
from entrenar_common.tables import Text
from entrenar_common.text import escape_controls


class Status(StrEnum):
    """How a check ended; SKIPPED: it was not made, and says why."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "not checked"


@dataclass(frozen=True)
class Check:
    """One check: what holds when it passes, how it ended, and what was looked at.

    found, bound: the number that was measured and the largest that passes, where there are such;
    details: further lines, one for each thing that is wrong; code: that of the error, such as
    E-CONFIG, with which `run` would end.
    """

    name: str
    title: str
    status: Status
    note: str
    found: float | None = None
    bound: float | None = None
    details: tuple[str, ...] = ()
    hint: str | None = None
    code: str | None = None

    @classmethod
    def refused(cls, name: str, title: str, error: EntrenarError) -> "Check":
        """The check that `error` ended."""
        return cls(
            name, title, Status.PROBLEM, error.message,
            details=error.details, hint=error.hint, code=error.code,
        )  # fmt: skip

    @classmethod
    def skipped(cls, name: str, title: str, why: str) -> "Check":
        """A check that was not made."""
        return cls(name, title, Status.SKIPPED, why)

    @classmethod
    def measured(cls, name: str, title: str, found: float, bound: float, note: str) -> "Check":
        """A check of a number that must not exceed `bound`; NaN does not pass."""
        status = Status.OK if found <= bound else Status.PROBLEM
        return cls(name, title, status, note, found, bound)


_WIDTH = 80

MARKS = {Status.OK: "✓", Status.WARNING: "⚠", Status.PROBLEM: "✗", Status.SKIPPED: "·"}
ASCII_MARKS = {
    Status.OK: "ok", Status.WARNING: "warn", Status.PROBLEM: "FAIL", Status.SKIPPED: "-",
}  # fmt: skip
_STYLES = {
    Status.OK: "good", Status.WARNING: "warning", Status.PROBLEM: "bad", Status.SKIPPED: "note",
}  # fmt: skip


def marks_for(encoding: str | None) -> Mapping[Status, str]:
    """The marks that a stream of this encoding can show."""
    return MARKS if (encoding or "").lower().replace("-", "") == "utf8" else ASCII_MARKS


def lines_of(check: Check, marks: Mapping[Status, str]) -> Iterator[Text]:
    """A check as it is printed: a line with its mark and what was found, and further ones."""
    width = max(map(len, marks.values()))
    indent = " " * (width + 1)
    first = f"{marks[check.status]:<{width}} "
    yield Text(wrapped(first, indent, f"{check.title}: {_note(check)}"), _STYLES[check.status])
    for detail in check.details:
        yield Text(wrapped(indent, indent + "  ", detail))
    if check.hint:
        yield Text(wrapped(indent, indent + "  ", f"hint: {check.hint}"))


def _note(check: Check) -> str:
    if check.status is Status.SKIPPED:
        return f"not checked: {check.note}"
    if check.found is None or check.bound is None:
        return check.note
    allowed = f"at most {check.bound:.2g}" if check.bound else "must be 0"
    return f"{check.found:.2g}, {allowed} ({check.note})"


def wrapped(first: str, others: str, text: str) -> str:
    """`text`, escaped, in lines of 80 columns that begin with `first` and then with `others`."""
    return textwrap.fill(
        escape_controls(text), _WIDTH, initial_indent=first, subsequent_indent=others,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def count(checks: Iterable[Check], status: Status) -> int:
    """How many of the checks ended so."""
    return sum(check.status is status for check in checks)
