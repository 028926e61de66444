"""The page of a profile and its trace for other programs: whole, well-formed, by themselves."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from entrenar_bench.profile.chrome import chrome_trace
from entrenar_bench.profile.flame import flame
from entrenar_bench.profile.histogram import histogram
from entrenar_bench.profile.page import Shown, profile_page
from entrenar_bench.profile.record import Bin, Stack
from entrenar_core.train.trace import Span

VOID = {"meta", "br", "path"}
EVERYTHING = Shown(loss_curves=True, memory_timeline=True, throughput_histogram=True)


class Reader(HTMLParser):
    """Checks that every element is closed where it has to be; keeps tags."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def drawing(figure):
    """The SVG of a figure, which is XML too."""
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", figure, re.DOTALL)[0])


def frames(figure):
    """Name, left edge, width in percent, and row of every frame."""
    return [
        (svg.findtext("text"), float(svg.get("x")[:-1]), float(svg.get("width")[:-1]),
         int(svg.get("y")) // 20)
        for svg in drawing(figure).findall("svg")
    ]  # fmt: skip


def test_a_frame_is_as_wide_as_its_time_and_below_what_is_around_it():
    stacks = [
        Stack(("step",), 1.0), Stack(("step", "forward"), 3.0),
        Stack(("step", "forward", "linear"), 4.0), Stack(("step", "data"), 2.0),
    ]  # fmt: skip
    assert frames(flame(stacks, ["linear"])) == [
        ("step", 0, 100, 0), ("forward", 0, 70, 1), ("linear", 0, 40, 2), ("data", 70, 20, 1),
    ]  # fmt: skip


def test_what_is_too_narrow_to_see_is_not_drawn():
    stacks = [Stack(("step", "a"), 1.0), Stack(("step", "b"), 1e-6)]
    assert [name for name, *_ in frames(flame(stacks, []))] == ["step", "a"]


def test_a_kind_colours_itself_and_all_below():
    stacks = [Stack(("step", "student", "mul"), 1.0), Stack(("step", "data"), 1.0)]
    kinds = {svg.findtext("text"): svg.get("class") for svg in drawing(flame(stacks, ["student"]))}
    assert kinds == {"step": "kind0", "student": "kind1", "mul": "kind1", "data": "kind0"}


def test_names_are_shown_and_do_nothing():
    figure = flame([Stack(("<script>alert(1)</script>",), 1.0)], [])
    assert "<script" not in figure
    assert frames(figure)[0][0] == "<script>alert(1)</script>"


def test_bars_are_as_high_as_their_steps():
    figure = histogram("t", [Bin(0, 1, 4), Bin(1, 2, 1), Bin(2, 3, 0)], unit="tokens a second")
    heights = [int(rect.get("height")) for rect in drawing(figure).findall("rect")]
    assert heights == [300, 75, 0]


@pytest.mark.tier2
def test_a_page_is_well_formed_and_loads_nothing(profiled):
    page = profile_page(profiled.profile, EVERYTHING)
    tags = Reader(page).tags
    assert not [tag for tag, _ in tags if tag in {"script", "link", "img", "iframe", "object"}]
    assert not [a for _, a in tags if "src" in a or "href" in a]
    assert "url(" not in page and "http" not in page.replace("http-equiv", "")
    assert any(a.get("name") == "viewport" for _, a in tags)
    assert "prefers-color-scheme: dark" in page


@pytest.mark.tier2
def test_a_page_has_the_figures_that_were_asked_for(profiled):
    titles = {"<h2>Loss</h2>", "<h2>Memory</h2>", "<h2>Throughput</h2>"}
    plain, full = (profile_page(profiled.profile, s) for s in (Shown(), EVERYTHING))
    assert {t for t in titles if t in full} == titles
    assert not {t for t in titles if t in plain}


@pytest.mark.tier2
def test_equal_profiles_give_equal_pages(profiled):
    again = replace(profiled.profile)
    assert profile_page(again, EVERYTHING) == profile_page(profiled.profile, EVERYTHING)


@pytest.mark.tier2
def test_the_widest_frames_of_a_page_are_the_phases(profiled):
    page = profile_page(profiled.profile, Shown())
    figure = re.search(r'<div class="flame">.*?</div>', page, re.DOTALL)[0]
    wide = {name: width for name, _, width, row in frames(figure) if row == 1}
    shares = {t.name: 100 * t.share for t in profiled.profile.phases}
    assert wide["forward"] == pytest.approx(shares["forward"], abs=0.001)
    assert wide["backward"] == pytest.approx(shares["backward"], abs=0.001)


# ---- traces ------------------------------------------------------------------------------------

SPANS = [
    Span("op", 3, 2, 2_000, 2_500, 7_000, {"op": "mul", "direction": "forward", "bytes": 8}),
    Span("forward", 2, 1, 1_500, 3_000, 0, {}),
    Span("step", 1, None, 1_000, 4_001, 9_000, {"step": 1}),
]


def test_spans_are_complete_events_in_microseconds_the_outermost_first():
    events = [e for e in chrome_trace(SPANS, name="x")["traceEvents"] if e["ph"] == "X"]
    assert [(e["name"], e["cat"], e["ts"], e["dur"]) for e in events] == [
        ("step", "training", 0, 3.001), ("forward", "training", 0.5, 1.5),
        ("mul", "forward", 1, 0.5),
    ]  # fmt: skip
    assert events[2]["args"] == {"op": "mul", "direction": "forward", "bytes": 8}


def test_memory_is_a_counter_in_the_order_of_time():
    events = [e for e in chrome_trace(SPANS, name="x")["traceEvents"] if e["ph"] == "C"]
    assert [(e["ts"], e["args"]) for e in events] == [
        (1.5, {"resident bytes": 7_000}), (3.001, {"resident bytes": 9_000}),
    ]  # fmt: skip


REQUIRED = {
    "X": {"name": str, "cat": str, "ts": float, "dur": float, "pid": int, "tid": int, "args": dict},
    "C": {"name": str, "ts": float, "pid": int, "tid": int, "args": dict},
    "M": {"name": str, "pid": int, "tid": int, "args": dict},
}
"""Fields of events by phase: "Trace Event Format", the Chromium project."""


@pytest.mark.tier2
def test_every_event_of_a_real_trace_has_the_fields_of_its_phase(profiled):
    document = chrome_trace(profiled.spans, name="a training")
    assert document["displayTimeUnit"] in {"ms", "ns"}
    for event in document["traceEvents"]:
        required = REQUIRED[event["ph"]]
        assert event.keys() == required.keys() | {"ph"}
        assert all(isinstance(event[name], kind) for name, kind in required.items())
        assert event.get("ts", 0) >= 0 and event.get("dur", 0) >= 0


@pytest.mark.tier2
def test_the_events_of_a_real_trace_are_nested(profiled):
    """What is drawn below something has to end no later than it."""
    ends = []
    for event in chrome_trace(profiled.spans, name="x")["traceEvents"]:
        if event["ph"] != "X":
            continue
        end = event["ts"] + event["dur"]
        while ends and ends[-1] <= event["ts"] + 1e-6:
            ends.pop()
        assert not ends or end <= ends[-1] + 1e-6
        ends.append(end)
