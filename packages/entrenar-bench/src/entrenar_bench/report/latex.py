"""A report as LaTeX: the class article, T1 letters and booktabs; figures are `picture`s."""

from __future__ import annotations

import math
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
from entrenar_bench.report.latex_figures import curves_picture, dots_picture, sweep_picture
from entrenar_bench.report.latex_text import breakable, latex_text

__all__ = ["latex"]

_HEAD = r"""\documentclass[10pt]{article}
\usepackage[utf8]{inputenc}
\usepackage[T1]{fontenc}
\usepackage{textcomp}
\usepackage{booktabs}
\setlength{\textwidth}{17cm}
\setlength{\oddsidemargin}{-0.5cm}
\setlength{\textheight}{24cm}
\setlength{\topmargin}{-1.5cm}
\setlength{\parindent}{0pt}
\setlength{\parskip}{4pt}
\setlength{\tabcolsep}{3pt}
\setlength{\unitlength}{1mm}
\sloppy
\date{}
"""
_LINES = 28  # of a table in one piece, which is not broken across pages: they end half empty
_NARROW = 18  # characters of a cell that need no line break
_SIZES = (("footnotesize", 112, 0.3), ("scriptsize", 132, 0.14))
"""Of letters: characters of a table beside each other, and the least share for its long texts."""

Cells = Sequence[str]


def latex(document: Document) -> str:
    """The report as one file."""
    title = breakable(document.title)
    lines = [_HEAD, f"\\title{{{title}}}", r"\begin{document}", r"\maketitle", ""]
    for section in document.sections:
        lines += _section(section)
    return "\n".join([*lines, r"\end{document}", ""])


def _section(section: Section) -> list[str]:
    body = [f"\\section{{{latex_text(section.title)}}}", ""]
    for part in section.parts:
        body += [*_PARTS[type(part)](part), ""]
    if section.name != TIMINGS:
        return body
    return [f"% {TIMINGS}: begin", *body, f"% {TIMINGS}: end", ""]


def _titled(title: str) -> str:
    return f"\\subsection*{{{breakable(title)}}}"


def _paragraph(part: Paragraph) -> Iterator[str]:
    yield f"\\emph{{Note:}} {breakable(part.text)}" if part.note else breakable(part.text)


def _facts(part: Facts) -> Iterator[str]:
    yield _titled(part.title)
    if not part.items:
        return
    yield r"\begin{description}"
    for name, value in part.items:
        yield f"\\item[{{{breakable(name)}}}] {breakable(value)}"
    yield r"\end{description}"


def _items(part: Items) -> Iterator[str]:
    if not part.texts:
        return
    yield r"\begin{itemize}"
    yield from (f"\\item {breakable(text)}" for text in part.texts)
    yield r"\end{itemize}"


def _code(part: Code) -> Iterator[str]:
    yield r"\begin{quote}\ttfamily\raggedright"
    yield from (f"{breakable(line)}\\par" for line in part.lines)
    yield r"\end{quote}"


def _grid(part: Grid) -> Iterator[str]:
    yield _titled(part.title)
    size, widths = _widths(part)
    kinds = "".join(
        "r" if right else "l" if width is None else f"p{{{width:.2f}\\textwidth}}"
        for right, width in zip(part.numeric, widths, strict=True)
    )
    head = _row(part.columns, part.numeric)
    for rows in _pages(part.rows, widths) or [[]]:
        yield f"\\par{{\\{size}\\noindent"
        yield f"\\begin{{tabular}}{{{kinds}}}"
        yield r"\toprule"
        yield head
        yield r"\midrule"
        yield from (_row(row, part.numeric) for row in rows)
        yield r"\bottomrule"
        yield r"\end{tabular}\par}"
    if part.caption:
        yield f"{{\\small {breakable(part.caption)}\\par}}"


def _row(cells: Cells, numeric: Sequence[bool]) -> str:
    shown = [
        _number(cell) if right else f"\\raggedright {breakable(cell)}"
        for cell, right in zip(cells, numeric, strict=True)
    ]
    return " & ".join(shown) + r" \tabularnewline"


def _number(cell: str) -> str:
    """A hyphen in a number is a minus."""
    digits = re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", cell)
    return cell.replace("-", "$-$") if digits else latex_text(cell)


def _widths(part: Grid) -> tuple[str, list[float | None]]:
    """The size of letters, and the share of the page that each column of long texts gets of what
    the others leave: letters are as large as leaves enough."""
    longest = [
        max(len(cell) for cell in column) for column in zip(part.columns, *part.rows, strict=True)
    ]
    long = [
        size if size > _NARROW and not right else 0
        for size, right in zip(longest, part.numeric, strict=True)
    ]
    taken = sum(size + 2 for size, wide in zip(longest, long, strict=True) if not wide)
    rooms = [(name, 0.97 - taken / across, least) for name, across, least in _SIZES]
    name, room, least = next((each for each in rooms if each[1] >= each[2]), rooms[-1])
    room = max(least, room)
    # by the root of their lengths: a column of sentences leaves room for one of names
    total = sum(size**0.5 for size in long)
    return name, [min(size / 75, room * size**0.5 / total) if size else None for size in long]


def _pages(rows: Sequence[Cells], widths: Sequence[float | None]) -> list[list[Cells]]:
    """The rows in groups of about as many lines, which find room on a page."""
    heights = [
        max(
            1 if width is None else 1 + int(len(cell) / (width * 90))
            for cell, width in zip(row, widths, strict=True)
        )
        for row in rows
    ]
    whole = sum(heights)
    most = math.ceil(whole / max(1, math.ceil(whole / _LINES)))
    pages: list[list[Cells]] = []
    left = 0
    for row, lines in zip(rows, heights, strict=True):
        if lines > left:
            pages.append([])
            left = most
        pages[-1].append(row)
        left -= lines
    return pages


def _figure(draw: Callable[[Any], Iterator[str]]) -> Callable[[Any], Iterator[str]]:
    def shown(part: Dots | Curves | Sweep) -> Iterator[str]:
        yield _titled(part.title)
        yield from draw(part)

    return shown


_PARTS: dict[type, Callable[[Any], Iterator[str]]] = {
    Paragraph: _paragraph,
    Facts: _facts,
    Grid: _grid,
    Items: _items,
    Code: _code,
    Dots: _figure(dots_picture),
    Curves: _figure(curves_picture),
    Sweep: _figure(sweep_picture),
}
