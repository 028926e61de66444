"""A verdict in lines: one for each check, with a mark, a count and what was found first."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from entrenar_common.tables import Text
from entrenar_common.text import escape_controls
from entrenar_inspect.finding import RULES, Check, Finding, Status
from entrenar_inspect.validate import Verdict

MARKS: Mapping[Status, str] = {
    Status.OK: "✓", Status.PROBLEM: "✗", Status.WARNING: "⚠", Status.SKIPPED: "·",
}  # fmt: skip
ASCII_MARKS: Mapping[Status, str] = {
    Status.OK: "ok", Status.PROBLEM: "FAIL", Status.WARNING: "warn", Status.SKIPPED: "-",
}  # fmt: skip
_STYLES = {
    Status.OK: "good", Status.PROBLEM: "bad", Status.WARNING: "warning", Status.SKIPPED: "note",
}  # fmt: skip
_MANY = 50
"""So many findings of a check are shown with --verbose; JSON has all."""


def marks_for(encoding: str | None) -> Mapping[Status, str]:
    """The marks that a stream of this encoding can show."""
    return MARKS if (encoding or "").lower().replace("-", "") == "utf8" else ASCII_MARKS


@dataclass(frozen=True)
class Shown:
    """A verdict as it is printed; whole: with more than the first finding of each check."""

    verdict: Verdict
    marks: Mapping[Status, str]
    whole: bool

    def __view__(self) -> list[Any]:
        lines = [line for check in self.verdict.checks for line in self._of_check(check)]
        return [*lines, self._summary()]

    def _of_check(self, check: Check) -> Iterator[Text]:
        width = max(map(len, self.marks.values()))
        note = check.note
        if check.findings:
            note = _counted(check.findings)
        line = f"{self.marks[check.status]:<{width}} {check.title}: {note}"
        yield Text(line, _STYLES[check.status])
        shown = check.findings[: _MANY if self.whole else 1]
        indent = " " * (width + 1)
        for finding in shown:
            yield Text(f"{indent}{finding.rule} {escape_controls(finding.message)}")
        left = len(check.findings) - len(shown)
        if left:
            how = "--json has all" if self.whole else "--verbose shows more"
            yield Text(f"{indent}and {left} more: {how}", "note")

    def _summary(self) -> Text:
        found = self.verdict
        status = Status.OK
        if found.problems or found.warnings:
            status = Status.PROBLEM if found.problems else Status.WARNING
        said = {Status.OK: "nothing wrong found", Status.WARNING: "usable, look at the warnings"}
        counts = _numbers(found.problems, found.warnings)
        text = said.get(status, "not sound")
        shown = escape_controls(found.model)
        line = f"{self.marks[status]} {shown}: {text}" + (f": {counts}" if counts else "")
        return Text("\n" + line, _STYLES[status])


def _counted(findings: tuple[Finding, ...]) -> str:
    """How many there are, and the rule of the worst."""
    first = max(findings, key=lambda finding: finding.status is Status.PROBLEM)
    count = len(findings)
    return f"{count} finding{'' if count == 1 else 's'}: {RULES[first.rule][1]}"


def _numbers(problems: int, warnings: int) -> str:
    every = ((problems, "problem"), (warnings, "warning"))
    return ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in every if n)
