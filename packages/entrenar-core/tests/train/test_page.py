"""The page of a training: what it says is the log, and it is one well-formed file by itself."""

import html
import json
import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_core.train.chart import Chart, chart, extremes
from entrenar_core.train.metrics import MetricsLog
from entrenar_core.train.page import Facts, Grid, Paragraph, page

VOID = {"meta", "br"}
STANDALONE = {"path"}  # of SVG, closed by />


class Reader(HTMLParser):
    """Checks that every element is closed where it has to be; keeps tables, texts and tags."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.texts, self.tags = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in {"td", "th"}:
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attributes):
        assert tag in STANDALONE
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self.open and self.open[-1] in {"td", "th"}:
            self.tables[-1][-1][-1] += data


def log(steps=12, phases=("student", "control")):
    """Records as metrics.jsonl has them."""
    return [
        {
            "phase": phase, "step": step, "loss": 4.0 / step + 0.1, "learning_rate": 1e-3 / step,
            "grad_norm": 1.0 + 1 / 3 * step, "tokens_per_second": 1000.5 + step,
            "memory_bytes": 10**9 + step, **({"held_out_loss": 3 / step} if step % 4 == 0 else {}),
        }
        for phase in phases
        for step in range(1, steps + 1)
    ]  # fmt: skip


def written(records, folder):
    """What a log of these records reads as."""
    metrics = MetricsLog(folder / "metrics.jsonl")
    for record in records:
        metrics.append(record)
    phases = dict.fromkeys(record["phase"] for record in records)
    return [record for phase in phases for record in metrics.records(phase)]


def points(path):
    """The corners of an SVG path."""
    return [tuple(map(int, pair)) for pair in re.findall(r"[ML](\d+) (\d+)", path)]


def line_of(figure):
    return re.search(r'class="line" d="([^"]*)"', figure)[1]


# ---- the page ----------------------------------------------------------------------------------


def test_the_same_log_gives_the_same_bytes():
    parts = {"results": [Paragraph("good")], "settings": [Facts("Run", [("a", "b")])]}
    assert page("x", log(), **parts) == page("x", log(), **parts)


def test_page_is_well_formed_and_asks_for_no_other_file():
    text = page("x", log(), results=[Paragraph("n", note=True)], settings=[Facts("a", [])])
    found = Reader(text)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in found.tags}
    assert not {"src", "href", "onload", "style"} & {n for _, made in found.tags for n in made}
    assert not re.search(r"url\(|@import|https?:", text)


def test_numbers_in_the_page_are_those_of_the_log(tmp_path):
    records = written(log(), tmp_path)
    steady, evaluations, readings = Reader(page("x", records)).tables
    names = {
        "Loss": "loss", "Learning rate": "learning_rate", "Gradient norm": "grad_norm",
        "Held-out loss": "held_out_loss", "Tokens per second": "tokens_per_second",
        "Peak memory": "memory_bytes",
    }  # fmt: skip
    rows = steady[1:] + readings[1:]
    assert {(row[0], row[1]) for row in rows} == {
        (p, n) for p in ("student", "control") for n in names
    }
    for phase, name, first, last, least, at_least, greatest, at_greatest, lost in rows:
        own = {
            r["step"]: r[names[name]] for r in records if r["phase"] == phase and names[name] in r
        }
        shown = [first, last, least, greatest]
        wanted = [own[min(own)], own[max(own)], min(own.values()), max(own.values())]
        assert [float(text) for text in shown] == pytest.approx(wanted, rel=5e-6)
        assert own[int(at_least)] == min(own.values())
        assert own[int(at_greatest)] == max(own.values())
        assert lost == "0"
    found = [(phase, int(step), json.loads(value)) for phase, step, value in evaluations[1:]]
    assert found == [
        (r["phase"], r["step"], r["held_out_loss"]) for r in records if "held_out_loss" in r
    ]


def test_what_a_machine_decides_is_below_all_else():
    slow = [r | {"tokens_per_second": 1.5, "memory_bytes": 7, "seconds": 9.0} for r in log()]
    above = [
        page("x", records).partition("<h2>On this machine</h2>")[0] for records in (log(), slow)
    ]
    assert above[0] == above[1]


def test_lost_steps_part_the_line_and_are_counted(tmp_path):
    records = log(steps=9, phases=["student"])
    records[4] |= {"loss": math.nan, "grad_norm": math.inf, "skipped": True}
    text = page("x", written(records, tmp_path))
    rows = {row[1]: row[-1] for row in Reader(text).tables[0][1:]}
    assert rows == {"Loss": "1", "Learning rate": "0", "Gradient norm": "1", "Held-out loss": "0"}
    figure = text.partition("<figcaption>Loss<")[2].partition("</figure>")[0]
    assert line_of(figure).count("M") == 2
    assert 'class="lost" d="M500 ' in figure


@pytest.mark.parametrize(
    "records",
    [
        [],
        log(steps=1),
        [{"phase": "student", "step": 1, "loss": None, "learning_rate": 0.0, "grad_norm": None}],
        [r | {"loss": 2.0, "grad_norm": 0.0} for r in log()],
        [r | {"loss": 1e300 * (-1) ** r["step"], "grad_norm": 1e-300} for r in log()],
    ],
    ids=["empty", "one step", "nothing finite", "constant", "huge and tiny"],
)
def test_odd_logs_make_a_page(records):
    text = page("x", records)
    Reader(text)
    assert "nan" not in text.partition("</style>")[2]
    assert "inf<" not in text


def test_texts_are_shown_and_do_nothing():
    bad = "<script>alert(1)</script>\x1b[2J\u202e\"&'"
    grid = Grid(bad, [bad], [[bad]], [False], bad)
    records = [r | {"phase": bad} for r in log(phases=["a"])] + log(phases=["b"])
    text = page(bad, records, results=[Paragraph(bad), grid], settings=[Facts(bad, [(bad, bad)])])
    found = Reader(text)
    assert "script" not in {tag for tag, _ in found.tags}
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    escaped = "<script>alert(1)</script>\\x1b[2J\\u202e\"&'"
    assert escaped in found.texts
    assert html.escape(escaped) in text


# ---- the drawing -------------------------------------------------------------------------------


VALUES = st.lists(st.none() | st.floats(-1e9, 1e9), min_size=1, max_size=300)


@given(VALUES, st.integers(1, 50), st.integers(1, 1000))
def test_fewer_points_keep_every_peak_and_every_gap(values, bins, first):
    line = list(enumerate(values, first))
    kept = extremes(line, bins)
    assert set(kept) <= set(line)
    assert [step for step, _ in kept] == sorted({step for step, _ in kept})
    assert len(kept) <= 3 * bins
    width = -(-len(line) // bins)
    for start in range(0, len(line), width):
        finite = [p for p in line[start : start + width] if p[1] is not None]
        own = [p[1] for p in kept if p in finite]
        if finite:
            assert min(own) == min(v for _, v in finite)
            assert max(own) == max(v for _, v in finite)


def test_points_lie_where_the_scale_has_them():
    figure = chart(Chart("x", [(1, 0.0), (2, 5.0), (3, 20.0)]))
    labels = [float(text) for text in re.findall(r"<span>([\d.]+)</span>", figure)]
    scale, steps = labels[:-2], labels[-2:]
    assert steps == [1, 3]
    assert scale[0] >= 20 > 0 >= scale[-1]
    high, low = scale[0], scale[-1]
    wanted = [(x, 300 * (high - v) / (high - low)) for x, v in ((0, 0.0), (500, 5.0), (1000, 20.0))]
    for (x, y), (right, down) in zip(points(line_of(figure)), wanted, strict=True):
        assert x == right
        assert y == pytest.approx(down, abs=0.5)


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12))
def test_a_scale_holds_all_values_in_few_round_and_even_lines(low, span):
    figure = chart(Chart("x", [(1, low), (2, low + span)]))
    grid = [int(y) for y in re.findall(r"M0 (\d+)H", figure)]
    assert 3 <= len(grid) <= 5
    assert grid[0] == 300
    assert grid[-1] == 0
    assert max(abs(y - 300 * (1 - i / (len(grid) - 1))) for i, y in enumerate(grid)) <= 0.5
    assert all(0 <= y <= 300 for _, y in points(line_of(figure)))


@given(st.floats(-1e7, 1e7), st.floats(1e-6, 1e12))
def test_a_scale_says_where_its_lines_are(low, span):
    figure = chart(Chart("x", [(1, low), (2, low + span)]))
    factors = {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
    found = re.findall(r"<span>([-\d.e+]+)([KMBT]?)</span>", figure)[:-2]
    scale = [float(number) * factors[unit] for number, unit in found]
    assert len(scale) == len(re.findall(r"M0 \d+H", figure))
    distance = scale[0] - scale[1]
    assert distance > 0
    steps = [above - below for above, below in pairwise(scale)]
    assert steps == pytest.approx([distance] * len(steps), rel=0.01)
    assert scale[-1] <= low + 0.01 * distance
    assert scale[0] >= low + span - 0.01 * distance


def test_marks_have_their_exact_number():
    figure = chart(Chart("x", [(1, 1.0), (2, 2.0)], marks=[(2, 0.1 + 0.2)]))
    assert "<title>step 2: 0.30000000000000004</title>" in figure
