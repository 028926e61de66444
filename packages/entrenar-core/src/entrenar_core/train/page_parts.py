"""What pages are made of: sentences, facts and tables as HTML, and the frame around them (pure)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from entrenar_core.train.chart import escaped
from entrenar_core.train.page_style import STYLE

__all__ = ["Facts", "Grid", "Paragraph", "Part", "framed", "shown"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Paragraph:
    """A sentence or two; a `note` is marked as one."""

    text: str
    note: bool = False


@dataclass(frozen=True)
class Facts:
    """Names and values below each other; `folded` until a reader asks for them."""

    title: str
    items: Sequence[tuple[str, str]]
    folded: bool = False


@dataclass(frozen=True)
class Grid:
    """A table of texts. `numeric`: which columns read as numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[bool]
    caption: str = ""
    folded: bool = False


Part = Paragraph | Facts | Grid


def framed(title: str, body: Iterable[str], *, style: str = STYLE) -> str:
    """A whole page: one file that loads nothing and runs nothing."""
    return "\n".join([_head(title, style), *body, "</body>", "</html>", ""])


def shown(part: Part) -> str:
    """A part as HTML."""
    return _PARTS[type(part)](part)


def _head(title: str, style: str) -> str:
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escaped(title)}</title>",
            f"<style>\n{style}\n</style>",
            "</head>",
            "<body>",
        ]
    )


def _paragraph(part: Paragraph) -> str:
    kind = "note" if part.note else "lead"
    return f'<p class="{kind}">{escaped(part.text)}</p>'


def _facts(part: Facts) -> str:
    items = "\n".join(f"<dt>{escaped(n)}</dt><dd>{escaped(v)}</dd>" for n, v in part.items)
    return _titled(part, f"<dl>\n{items}\n</dl>")


def _grid(part: Grid) -> str:
    kinds = [' class="number"' if numeric else "" for numeric in part.numeric]
    head = "".join(
        f'<th scope="col"{kind}>{escaped(name)}</th>'
        for kind, name in zip(kinds, part.columns, strict=True)
    )
    rows = [
        "<tr>"
        + "".join(f"<td{kind}>{escaped(c)}</td>" for kind, c in zip(kinds, row, strict=True))
        + "</tr>"
        for row in part.rows
    ]
    lines = [
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>',
        "<tbody>",
        *rows,
        "</tbody></table></div>",
        # not a <caption>, of which a narrow screen would show the beginning alone
        *([f'<p class="caption">{escaped(part.caption)}</p>'] if part.caption else []),
    ]
    return _titled(part, "\n".join(lines))


def _titled(part: Facts | Grid, body: str) -> str:
    if part.folded:
        return f"<details><summary>{escaped(part.title)}</summary>\n{body}\n</details>"
    return f"<h3>{escaped(part.title)}</h3>\n{body}"


_PARTS: dict[type, Any] = {Paragraph: _paragraph, Facts: _facts, Grid: _grid}
