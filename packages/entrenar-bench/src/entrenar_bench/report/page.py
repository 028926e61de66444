"""A report as one HTML page, which loads nothing and runs nothing.

Its figures are SVG of our own (`svg_figures.py`) and not a plotting library's: they weigh a tenth,
follow the page from a telephone to a desk and from light to dark, and equal studies give equal
bytes whatever is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from entrenar_bench.report.svg_figures import FIGURE_STYLE, curves_svg, dots_svg, sweep_svg
from entrenar_core.train.chart import escaped
from entrenar_core.train.page_parts import framed, shown
from entrenar_core.train.page_style import STYLE

__all__ = ["page"]

_STYLE = "\n".join(
    [
        STYLE,
        FIGURE_STYLE,
        "nav { display: flex; flex-wrap: wrap; gap: 0 1.25rem; font-size: .875rem; }",
        "a { color: var(--line); }",
        "ul { padding-left: 1.25rem; max-width: 45rem; }",
        "pre { white-space: pre-wrap; font-size: .875rem; }",
    ]
)


def page(document: Document) -> str:
    """The report as one file."""
    links = [f'<a href="#{s.name}">{escaped(s.title)}</a>' for s in document.sections]
    body = [f"<h1>{escaped(document.title)}</h1>", "<nav>", *links, "</nav>"]
    for section in document.sections:
        body += _section(section)
    return framed(document.title, body, style=_STYLE)


def _section(section: Section) -> Iterator[str]:
    if section.name == TIMINGS:
        yield f"<!-- {TIMINGS}: begin -->"
    yield f'<section id="{section.name}"><h2>{escaped(section.title)}</h2>'
    yield from (_PARTS[type(part)](part) for part in section.parts)
    yield "</section>"
    if section.name == TIMINGS:
        yield f"<!-- {TIMINGS}: end -->"


def _paragraph(part: Paragraph) -> str:
    return shown(part) if part.note else f"<p>{escaped(part.text)}</p>"


def _items(part: Items) -> str:
    return "\n".join(["<ul>", *(f"<li>{escaped(text)}</li>" for text in part.texts), "</ul>"])


def _code(part: Code) -> str:
    lines = "\n".join(map(escaped, part.lines))
    return f"<pre><code>{lines}</code></pre>"


_PARTS: dict[type, Callable[[Any], str]] = {
    Paragraph: _paragraph,
    Facts: shown,
    Grid: shown,
    Items: _items,
    Code: _code,
    Dots: dots_svg,
    Curves: curves_svg,
    Sweep: sweep_svg,
}
