"""Studies to report, and reports read back: by an HTML parser, a Markdown parser and a small reader
of LaTeX, none of which knows how they were written."""

import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
from markdown_it import MarkdownIt

from entrenar_bench.report.facts import Arm, Parameter, Run, StudyFacts
from entrenar_bench.statistics import compare_arms

Table = list[list[str]]


def facts(arms=3, seeds=6, *, lost=(), not_finite=(), name="arm {}", steps=20, seconds=1.0):
    """Arms with the setting `x` 1, 2, ...; `lost` and `not_finite` are (arm, seed)."""
    random = np.random.default_rng(7)
    names = [name.format(i) for i in range(arms)]
    runs, values = [], {each: {} for each in names}
    for i, arm in enumerate(names):
        for seed in range(seeds):
            value = 2 - 0.1 * i + float(random.normal(0, 0.05))
            readings = {"seconds": seconds * (1 + i + seed)}
            if (i, seed) in lost:
                runs.append(Run(arm, seed, "failed", failure=f"{arm} broke", readings=readings))
                continue
            value = math.nan if (i, seed) in not_finite else value
            values[arm][seed] = value
            curve = [(step, value + 1 / step) for step in range(1, steps + 1)]
            metrics = {"loss": value, "accuracy": 1 / (1 + i + seed)}
            runs.append(Run(arm, seed, metrics=metrics, curve=curve, readings=readings))
    families = [compare_arms(values, metric="loss", baseline=n, margin=0.01) for n in names[:1]]
    return StudyFacts(
        title=f"Study of {name}",
        metric="loss",
        goal="lower",
        arms=[Arm(each, {"x": i + 1, "same": name}) for i, each in enumerate(names)],
        runs=runs,
        seeds=range(seeds),
        question=f"Is {name} better?",
        comparisons=families,
        axes=["x=1,2,3"],
        space=[Parameter("x", "1, 2, 3")],
        method="grid",
        criterion="the lowest mean of loss over seeds",
        hardware={"cpu": "a processor"},
        versions={"python": "3.12"},
        revision="abc123",
        made_by=["entrenar-bench sweep --param x=1,2,3"],
        commands=["entrenar-bench report a.study --output report.html"],
    )


class HtmlReader(HTMLParser):
    """Tables, headings and texts of a page, in which every element is closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[Table] = []
        self.headings: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag != "meta":
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in {"td", "th"}:
            self.tables[-1][-1].append("")
        if tag == "h2":
            self.headings.append("")

    def handle_startendtag(self, tag, attributes):
        assert tag == "path"
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] in {"td", "th"}:
            self.tables[-1][-1][-1] += data
        if self.open and self.open[-1] == "h2":
            self.headings[-1] += data


def read_html(text: str) -> tuple[list[str], list[Table]]:
    found = HtmlReader(text)
    return found.headings, found.tables


def read_markdown(text: str) -> tuple[list[str], list[Table]]:
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    headings, tables = [], []
    for before, token in pairwise(tokens):
        if token.type == "table_open":
            tables.append([])
        if token.type == "tr_open":
            tables[-1].append([])
        if token.type != "inline":
            continue
        assert all(child.type in {"text", "text_special"} for child in token.children or ()) or (
            before.type == "paragraph_open"  # the word Note alone is bold
        )
        shown = "".join(child.content for child in token.children or ())
        if before.type in {"td_open", "th_open"}:
            tables[-1][-1].append(shown)
        if before.type == "heading_open" and before.tag == "h2":
            headings.append(shown)
    return headings, tables


_SHOWS = {
    r"\textbackslash{}": "\\", r"\{": "{", r"\}": "}", r"\$": "$", r"\&": "&", r"\#": "#",
    r"\%": "%", r"\_": "_", r"\textasciicircum{}": "^", r"\textasciitilde{}": "~",
    r"\textless{}": "<", r"\textgreater{}": ">", r"\textbar{}": "|", r"\textquotedbl{}": '"',
    r"\textasciigrave{}": "`", r"\textquotesingle{}": "'", "{-}": "-", "{[}": "[", "{]}": "]",
    "{*}": "*", "{!}": "!", "{?}": "?", "{,}": ",", r"\textendash{}": "–", "$-$": "-",
    r"$\times$": "×", r"$\alpha$": "α", r"$\pm$": "±", r"\dots{}": "…", r"\allowbreak{}": "",
    r"\raggedright ": "",
}  # fmt: skip
"""What LaTeX shows for what is written, of what the reports write."""
_SHOWN = re.compile("|".join(map(re.escape, sorted(_SHOWS, key=len, reverse=True))))


def read_latex(text: str) -> tuple[list[str], list[Table]]:
    """Tables that were parted for the pages are read as they are, in parts."""
    headings = [_plain(found) for found in re.findall(r"^\\section\{(.*)\}$", text, re.MULTILINE)]
    tables = []
    for body in re.findall(r"\\begin\{tabular\}[^\n]*\n(.*?)\\end\{tabular\}", text, re.DOTALL):
        rows = re.findall(r"^(.*) \\tabularnewline$", body, re.MULTILINE)
        tables.append([[_plain(c) for c in re.split(r"(?<!\\) & ", row)] for row in rows])
    return headings, tables


def _plain(text: str) -> str:
    return _SHOWN.sub(lambda found: _SHOWS[found[0]], text)


READERS = {"html": read_html, "md": read_markdown, "latex": read_latex}


def rows_under(tables: list[Table], columns: list[str]) -> Table:
    """All rows of the tables that begin with these columns, in order."""
    found = [table for table in tables if table[0][: len(columns)] == columns]
    assert found, f"no table has the columns {columns}: {[table[0] for table in tables]}"
    return [row for table in found for row in table[1:]]


_KNOWN = re.compile(
    r"(documentclass|usepackage|setlength|textwidth|oddsidemargin|textheight|topmargin|parindent"
    r"|parskip|tabcolsep|unitlength|sloppy|date|title|begin|end|maketitle|section|subsection|emph"
    r"|item|par|footnotesize|noindent|toprule|midrule|bottomrule|tabularnewline|raggedright|small"
    r"|scriptsize|ttfamily|hspace|allowbreak|put|line|circle|makebox|qbezier|textbackslash"
    r"|textasciicircum|textasciitilde|textless|textgreater|textbar|textquotedbl|textasciigrave"
    r"|textquotesingle|textendash|nobreakspace|times|pm|alpha|dots|geq|leq|cdot|rightarrow|textsuperscript|mu"
    r"|div)"
)


def check_latex(text: str) -> None:
    """Balanced braces, environments and mathematics; no letter with a meaning where it has none to
    have; commands of LaTeX, textcomp and booktabs alone; letters that T1 has."""
    environments, depth, mathematics = [], 0, False
    position = 0
    while position < len(text):
        char = text[position]
        if char == "\\":
            command = re.match(r"\\([a-zA-Z]+)|\\(.)", text[position:], re.DOTALL)
            assert command is not None
            position += command.end()
            if command[2] is not None:
                assert command[2] in "{}$&#%_", command[0]
                continue
            assert _KNOWN.fullmatch(command[1]), command[0]
            if command[1] in {"begin", "end"}:
                name = re.match(r"\{([a-z]+)\}", text[position:])
                assert name is not None
                if command[1] == "begin":
                    environments.append((name[1], depth))
                else:
                    assert environments.pop() == (name[1], depth)
            continue
        if char == "%":
            assert text[position - 1] == "\n"
            position = text.index("\n", position)
            continue
        depth += {"{": 1, "}": -1}.get(char, 0)
        assert depth >= 0
        mathematics ^= char == "$"
        assert char not in "#_^~"
        assert char != "&" or environments[-1][0] == "tabular"
        assert char.isascii() or "À" <= char <= "ÿ", char
        assert char == "\n" or char >= " "
        position += 1
    assert (environments, depth, mathematics) == ([], 0, False)
