"""The tables of a profile: of spans whose times are known."""

import math

import pytest

from entrenar_bench.profile.breakdown import breakdown
from entrenar_bench.profile.frames import frames_of
from entrenar_bench.profile.measure import throughput
from entrenar_bench.profile.memory import memory
from entrenar_bench.profile.record import Ceilings
from entrenar_core.train.trace import Recorder, Span

MS = 1_000_000


class Told:
    """Spans as the recorder tells of them, with a clock that is set by hand."""

    def __init__(self):
        self.now, self.spans = 0, []
        self.recorder = Recorder([self.spans.append], clock=lambda: self.now)

    def op(self, op, milliseconds, *, direction="forward", before=0, **attributes):
        """An operation that takes so long, and has called others for `before` of that."""
        self.now += (milliseconds - before) * MS
        number = 10_000 + len(self.spans)
        parent = self.recorder._stack[-1].number
        named = {"op": op, "direction": direction, **attributes}
        started = self.now - milliseconds * MS
        self.spans.append(Span("op", number, parent, started, self.now, 0, named))

    def wait(self, milliseconds):
        self.now += milliseconds * MS


def two_steps():
    """2 ms of data, 20 forward, 16 backward, 5 of the optimizer and 1 of nothing, twice."""
    told, span = Told(), None
    for step in (1, 2):
        span = told.recorder.span
        with span("step", step=step):
            with span("data"):
                told.wait(2)
            with span("forward"):
                told.op("linear", 4, place="teacher.layers.0.up", operations=8_000_000)
                told.op("linear", 2, place="teacher.layers.1.up", operations=4_000_000)
                told.wait(1)
                told.op("linear", 3, place="student.layers.0.up", operations=3_000_000)
                told.op("mul", 2, place="student.layers.0", bytes=1_000_000)
                told.op("teacher_logits", 3, operations=30_000_000)
                told.op("linear_distillation", 8, before=3, operations=10_000_000)
            with span("backward"):
                told.op("linear", 2, place="student.layers.0.up", operations=1_000_000)
                told.op("checkpoint", 14, before=2, direction="backward")
            with span("optimizer"):
                told.wait(5)
            told.wait(1)
    return told.spans


@pytest.fixture
def found():
    ceilings = Ceilings(gflops=20.0, gigabytes=2.0)
    return breakdown(frames_of(two_steps()), models=["student", "teacher"], ceilings=ceilings)


def milliseconds(times):
    return {t.name: pytest.approx(t.seconds * 1e3 / 2) for t in times}


def test_phases_are_the_spans_of_a_step_and_what_is_left_of_it(found):
    assert milliseconds(found.phases) == {
        "data": 2, "forward": 20, "backward": 14, "optimizer": 5, "other": 1,
    }  # fmt: skip


def test_the_teacher_is_apart_from_the_student_also_inside_the_loss(found):
    assert milliseconds(found.parties) == {
        "loss, backward": 12, "teacher, forward": 6 + 3, "student, forward": 5,
        "loss, forward": 5, "optimizer": 5, "student, backward": 2, "data": 2,
        "between operations": 1, "other": 1,
    }  # fmt: skip


def test_the_parts_of_every_table_add_up_to_the_whole(found):
    assert found.seconds == 2 * 0.042
    for times in (found.phases, found.parties, found.stacks):
        assert math.fsum(t.seconds for t in times) == pytest.approx(found.seconds, rel=1e-12)
    inside = math.fsum(t.seconds for t in found.operations)
    outside = math.fsum(
        t.seconds for t in found.parties if "," not in t.name
    )  # data, optimizer, between, other
    assert inside + outside == pytest.approx(found.seconds, rel=1e-12)
    placed = math.fsum(t.forward + t.backward for t in found.modules)
    of_models = math.fsum(t.seconds for t in found.parties if t.name.startswith("student"))
    assert placed == pytest.approx(of_models + 2 * 0.006, rel=1e-12)


def test_an_operation_that_calls_another_has_the_rest_of_the_time(found):
    times = {(t.op, t.direction): t for t in found.operations}
    assert times["linear_distillation", "forward"].seconds == pytest.approx(2 * 0.005)
    assert times["teacher_logits", "forward"].seconds == pytest.approx(2 * 0.003)


def test_what_goes_forward_on_the_way_back_is_called_again(found):
    times = {(t.op, t.direction): t for t in found.operations}
    assert times["linear", "again"].calls == 2
    assert times["linear", "forward"].calls == 6


def test_rates_are_beside_what_the_machine_reaches(found):
    times = {(t.op, t.direction): t for t in found.operations}
    linear, mul = times["linear", "forward"], times["mul", "forward"]
    assert (linear.gflops, linear.gigabytes) == (pytest.approx(15e6 / 9e-3 / 1e9), None)
    assert linear.of_ceiling == pytest.approx(linear.gflops / 20)
    assert (mul.gflops, mul.gigabytes) == (None, pytest.approx(0.5))
    assert mul.of_ceiling == pytest.approx(0.25)
    assert times["checkpoint", "backward"].of_ceiling is None


def test_layers_are_one_row(found):
    times = {t.module: t for t in found.modules}
    up = times["teacher.layers.*.up"]
    assert (up.modules, up.calls, up.backward) == (2, 4, 0)
    assert up.forward == pytest.approx(2 * 0.006)
    assert times["student.layers.*.up"].backward == pytest.approx(2 * 0.002)


def test_stacks_go_through_phase_model_modules_and_operations(found):
    times = {stack.names: stack.seconds for stack in found.stacks}
    assert times["step", "forward", "teacher", "layers.*", "up", "linear"] == pytest.approx(0.012)
    loss = "step", "forward", "teacher", "linear_distillation", "teacher_logits"
    assert times[loss] == pytest.approx(0.006)


def test_memory_says_where_its_peak_was():
    spans = [
        Span("op", 3, 2, 1 * MS, 2 * MS, 700, {"op": "mul", "direction": "forward", "place": "m"}),
        Span("forward", 2, 1, 0, 3 * MS, 600, {}),
        Span("step", 1, None, 0, 5 * MS, 500, {"step": 9}),
    ]
    found = memory(frames_of(spans))
    assert (found.peak.resident_bytes, found.peak.milliseconds) == (700, 2)
    assert (found.peak.step, found.peak.where) == (9, "mul forward in m")
    assert found.lowest.where == "step"
    assert [m.resident_bytes for m in found.timeline] == [700, 600, 500]


def test_without_figures_of_the_system_there_is_no_memory():
    assert memory(frames_of(two_steps())) is not None  # spans of the recorder have some
    assert memory(frames_of([Span("step", 1, None, 0, 5, 0, {"step": 1})])) is None


def test_every_step_is_in_one_bin():
    rates = [100.0, 110.0, 150.0, 200.0]
    bins = throughput(rates)
    assert len(bins) == 3  # ⌈log₂ 4⌉ + 1
    assert [b.steps for b in bins] == [2, 1, 1]
    assert (bins[0].low, bins[-1].high) == (100.0, 200.0)
