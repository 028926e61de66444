"""The recorder: which spans it tells of, in which order, and what they say."""

import pytest

from entrenar_core import Tensor
from entrenar_core.train.trace import Recorder


class Clock:
    """Counts a nanosecond for each look at it."""

    def __init__(self):
        self.now = 0

    def __call__(self):
        self.now += 1
        return self.now


def recorded(**options):
    spans = []
    return Recorder([spans.append], clock=Clock(), **options), spans


def test_a_span_is_told_of_when_it_ends_with_the_one_around_it():
    recorder, spans = recorded()
    with recorder.span("step", step=7), recorder.span("data"):
        pass
    inner, outer = spans
    assert [inner.name, outer.name] == ["data", "step"]
    assert (inner.parent, outer.parent) == (outer.number, None)
    assert outer.started < inner.started < inner.ended < outer.ended
    assert outer.attributes == {"step": 7}


def test_spans_say_what_the_process_held():
    recorder, spans = recorded()
    with recorder.span("step"):
        pass
    with open("/proc/self/status") as file:
        held = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))
    assert abs(spans[0].resident_bytes - held) < 50_000_000


def test_an_error_ends_the_spans_that_it_leaves_and_is_named_in_them():
    recorder, spans = recorded()
    recorder.begin("run")
    with pytest.raises(ValueError), recorder.span("step"):
        recorder.begin("forward")
        raise ValueError
    assert [(s.name, s.attributes) for s in spans] == [
        ("forward", {"error": "ValueError"}),
        ("step", {"error": "ValueError"}),
    ]
    recorder.end()
    assert spans[-1].name == "run"


def test_without_listeners_nothing_is_recorded():
    recorder = Recorder(clock=Clock())
    with recorder.span("step"):
        assert recorder.depth == 0
    assert not recorder.recording


def test_operations_are_spans_inside_the_one_that_is_open_where_they_are_asked_for():
    spans = []
    recorder = Recorder([spans.append], operations=True)
    x = Tensor([1.0, 2.0], requires_grad=True)
    with recorder.watching():
        with recorder.span("forward"):
            y = (x * x).sum()
        with recorder.span("backward"):
            y.backward()
    (x + x).sum()  # nobody watches any more
    told = [(s.attributes["op"], s.attributes["direction"]) for s in spans if s.name == "op"]
    assert told == [
        ("mul", "forward"), ("sum", "forward"), ("sum", "backward"), ("mul", "backward"),
    ]  # fmt: skip
    numbers = {s.name: s.number for s in spans}
    assert [s.parent for s in spans if s.name == "op"] == [
        numbers["forward"], numbers["forward"], numbers["backward"], numbers["backward"],
    ]  # fmt: skip
    assert spans[0].attributes["shapes"] == "((2,), (2,))"


def test_the_clock_can_be_turned_into_the_time_of_day():
    import time

    spans = []
    recorder = Recorder([spans.append])
    with recorder.span("step"):
        pass
    assert abs(recorder.zero + spans[0].ended - time.time_ns()) < 1e9
