"""A report as GitHub-flavoured Markdown; its figures are drawn with characters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from entrenar_bench.report.document import (
    TIMINGS,
    Code,
    Curves,
    Document,
    Dots,
    Facts,
    Grid,
    Items,
    Paragraph,
    Section,
    Sweep,
)
from entrenar_bench.report.text_figures import curves_lines, dots_lines, sweep_lines
from entrenar_common.text import escape_controls

__all__ = ["markdown"]

_MEANING = re.compile(
    r"[\\`*{}\[\]<>#|~$&@]"
    r"|(?<!\w)_|_(?!\w)"  # within a word it means nothing
    r"|(?<!\S)[-+=](?!\d)"  # of a list or a line below a title
    r"|:(?=//|\w+:)"  # of a link or a small picture
)
"""What has a meaning in GitHub's Markdown, where it has it."""
_NUMBERED = re.compile(r"^(\d+)([.)])")


def markdown(document: Document) -> str:
    """The report as one file."""
    lines = [f"# {_escaped(document.title)}", ""]
    for section in document.sections:
        lines += _section(section)
    return "\n".join(lines).rstrip("\n") + "\n"


def _section(section: Section) -> list[str]:
    body = [f"## {_escaped(section.title)}", ""]
    for part in section.parts:
        body += [*_PARTS[type(part)](part), ""]
    if section.name != TIMINGS:
        return body
    return [f"<!-- {TIMINGS}: begin -->", "", *body, f"<!-- {TIMINGS}: end -->", ""]


def _escaped(text: str) -> str:
    return _NUMBERED.sub(r"\1\\\2", _MEANING.sub(r"\\\g<0>", escape_controls(text)))


def _paragraph(part: Paragraph) -> Iterator[str]:
    yield f"**Note:** {_escaped(part.text)}" if part.note else _escaped(part.text)


def _facts(part: Facts) -> Iterator[str]:
    yield f"### {_escaped(part.title)}"
    yield ""
    yield from _table(["", ""], part.items, [False, False])


def _grid(part: Grid) -> Iterator[str]:
    yield f"### {_escaped(part.title)}"
    yield ""
    yield from _table(part.columns, part.rows, part.numeric)
    if part.caption:
        yield ""
        yield _escaped(part.caption)


def _table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]
) -> Iterator[str]:
    yield _row(columns)
    yield "".join(f"| {'--:' if right else ':--'} " for right in numeric) + "|"
    yield from map(_row, rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_escaped, cells)) + " |"


def _items(part: Items) -> Iterator[str]:
    for text in part.texts:
        yield f"- {_escaped(text)}"


def _code(part: Code) -> list[str]:
    return _fenced([escape_controls(line) for line in part.lines], "sh")


def _fenced(lines: Sequence[str], language: str) -> list[str]:
    """Within more backticks than any of the lines has on end."""
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *lines, fence]


def _figure(draw: Callable[[Any], Sequence[str]]) -> Callable[[Any], Iterator[str]]:
    def shown(part: Dots | Curves | Sweep) -> Iterator[str]:
        yield f"### {_escaped(part.title)}"
        yield ""
        yield from _fenced([escape_controls(line) for line in draw(part)], "text")

    return shown


_PARTS: dict[type, Callable[[Any], Any]] = {
    Paragraph: _paragraph,
    Facts: _facts,
    Grid: _grid,
    Items: _items,
    Code: _code,
    Dots: _figure(dots_lines),
    Curves: _figure(curves_lines),
    Sweep: _figure(sweep_lines),
}
