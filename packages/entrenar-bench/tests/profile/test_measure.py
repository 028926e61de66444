"""The profile of a real distillation."""

import json
import math
from dataclasses import fields

import pytest

from entrenar_bench.profile.measure import profile
from entrenar_common.errors import ConfigError
from entrenar_common.progress import NullProgress
from entrenar_common.tables import to_json
from entrenar_core.train.loop import TrainingLoop
from entrenar_distill.causal import CausalLM
from entrenar_distill.config import resolve
from entrenar_distill.task import STUDENT

pytestmark = pytest.mark.tier2


def test_steps_are_watched_and_not_watched_in_turns(profiled):
    taken = profiled.profile.taken
    assert [t.watched for t in taken] == [True, False, False, True, True, False]
    assert [t.step for t in taken] == [3, 4, 5, 6, 7, 8]  # two were to warm up
    assert all(math.isfinite(t.loss) and t.tokens == 64 for t in taken)
    assert sum(b.steps for b in profiled.profile.throughput) == 3


def test_a_real_profile_adds_up(profiled):
    found = profiled.profile
    for times in (found.phases, found.parties, found.stacks):
        assert math.fsum(t.seconds for t in times) == pytest.approx(found.seconds, rel=1e-9)
        assert all(t.seconds >= 0 for t in times)
    measured = math.fsum(t.seconds for t in found.taken if t.watched)
    assert found.seconds <= measured <= 1.2 * found.seconds + 0.01


def test_a_real_profile_has_every_operation_of_both_models(profiled):
    calls = {(t.op, t.direction): t.calls // 3 for t in profiled.profile.operations}
    # q, k, v, o, gate and up of one layer of the student and two of the teacher
    assert (calls["linear", "forward"], calls["linear", "backward"]) == (18, 6)
    assert (calls["attention", "forward"], calls["attention", "backward"]) == (3, 1)
    assert calls["teacher_logits", "forward"] == calls["linear_distillation", "forward"] == 1
    modules = {t.module: t for t in profiled.profile.modules}
    assert modules["teacher.model.layers.*.mlp.gate_proj"].modules == 2
    assert modules["student.model.layers.*.mlp.gate_proj"].backward > 0
    assert all(t.backward == 0 for name, t in modules.items() if name.startswith("teacher"))


def test_the_operations_of_a_real_profile_are_those_of_the_shapes(profiled):
    (told,) = {
        int(span.attributes["operations"])
        for span in profiled.spans
        if span.attributes.get("place") == "teacher.model.layers.0.mlp.gate_proj"
    }
    assert told == 2 * (2 * 32) * 32 * 64  # rows · length, width, inner width


def test_watching_does_not_change_what_is_learned(config, profiled):
    """The losses are those of the training itself."""

    class Log:
        def __init__(self):
            self.losses = []

        def rewind(self, *_):
            pass

        def append(self, record):
            self.losses.append(record["loss"])

    task, log = CausalLM(), Log()
    inputs = task.read_inputs(resolve(config), progress=NullProgress())
    student = inputs.new_student()
    TrainingLoop(
        student, task.objective(inputs, STUDENT, student), inputs.batches,
        inputs.config.training, phase=STUDENT, metrics=log, store=None, checkpoint_every=20,
    ).fit()  # fmt: skip
    assert log.losses[2:8] == [t.loss for t in profiled.profile.taken]


def test_a_profile_is_json(profiled):
    read = json.loads(to_json(profiled.profile))
    assert set(read) == {field.name for field in fields(profiled.profile)}
    assert read["memory"]["peak"]["resident_bytes"] > 0


def test_less_than_a_step_is_refused(config):
    with pytest.raises(ConfigError, match="0 steps"):
        profile(resolve(config), steps=0)
