"""The memory of a distillation: what its terms are said to be, beside what is really there."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from entrenar_core import models
from entrenar_core.data.batches import Batch
from entrenar_core.distill import Distillation, Divergence, LiveTeacher
from entrenar_core.estimate.distilling import Compared, Distilling
from entrenar_core.estimate.own_distillation import own_distillation
from entrenar_core.estimate.setup import Setup
from entrenar_core.estimate.shape import model_shape

COMMON = {
    "model_type": "llama", "num_attention_heads": 4, "max_position_embeddings": 512,
    "vocab_size": 1000,
}  # fmt: skip
TEACHER = {**COMMON, "hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 4}
STUDENT = {**COMMON, "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 3}
SETUP = Setup("full", "float32", batch=8, seq_len=256)


def memory(asked=None, **changes):
    asked = asked or Distilling(replace(SETUP, **changes))
    shapes = [model_shape(raw, name="", origin="") for raw in (STUDENT, TEACHER)]
    return own_distillation(*shapes, asked)


def traced_peak(work):
    """The most that NumPy had allocated at once while `work` ran, above what was there before."""
    tracemalloc.start()
    work()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@pytest.fixture(scope="module")
def objective():
    student, teacher = (models.from_config(raw, seed=0) for raw in (STUDENT, TEACHER))
    teacher.freeze()
    live = LiveTeacher(teacher, shared=COMMON["vocab_size"])
    return Distillation(student, live, divergence=Divergence(), alpha=0.5)


def batch():
    ids = np.random.default_rng(0).integers(0, COMMON["vocab_size"], (SETUP.batch, SETUP.seq_len))
    return Batch(ids, np.roll(ids, -1, axis=1), np.arange(SETUP.batch))


@pytest.mark.tier2
def test_the_teachers_pass_takes_what_is_said(objective):
    rows = batch()
    objective.teacher.expected(rows)  # kernels are loaded
    said = memory()["teacher's block"]
    assert traced_peak(lambda: objective.teacher.expected(rows)) == pytest.approx(said, rel=0.02)


@pytest.mark.tier2
def test_a_step_takes_what_is_said_of_its_largest_phase(objective):
    rows = batch()

    def step():
        objective.loss(rows, rows.ids.size).backward()

    step()
    found = memory()
    moving = {
        phase: sum(
            term.bytes
            for term in found.terms
            if term.when in (phase, "step") and term.name != "fixed overhead"
        )
        for phase in ("loss", "backward")
    }
    assert traced_peak(step) == pytest.approx(max(moving.values()), rel=0.03)


def test_the_teacher_reads_before_the_students_activations_are_there():
    found = memory()
    alone = found.during("teacher") - found["teacher's block"]
    assert found.during("loss") - alone > found["activations"]
    assert found["activations"] not in (0, None)
    assert all(term.when != "teacher" for term in found.terms if term.name == "activations")


def test_a_teacher_in_fewer_bits_takes_less():
    totals = [memory(Distilling(SETUP, teacher=base)).total for base in ("float32", "bfloat16")]
    matrices = 4 * (4 * 128 * 128 + 3 * 128 * 320) + 2 * 1000 * 128
    assert totals[0] - totals[1] == pytest.approx(2 * matrices, abs=2**24 * 4 / 10)


def test_adam_keeps_two_moments_and_a_gradient_of_every_projection():
    compared = Compared("mse", ((0, 1), (2, 3)), learned=True)
    found = memory(Distilling(SETUP, compared=(compared,)))
    size = 2 * 128 * 64 * 4
    assert (found["projections"], found["moments of projections"]) == (2 * size, 2 * size)


def test_a_feature_of_the_last_layer_is_there_anyway():
    inner = memory(Distilling(SETUP, compared=(Compared("mse", ((1, 1),)),)))
    last = memory(Distilling(SETUP, compared=(Compared("mse", ((2, 3),)),)))
    states = 4 * SETUP.tokens * 128
    assert inner["teacher's features"] == 3 * states  # in each of three phases
    assert last["teacher's features"] == 0


def test_a_control_is_trained_beside_the_student_as_it_was_trained():
    without, beside = (memory(Distilling(SETUP, control=control)) for control in (False, True))
    parameters = model_shape(STUDENT, name="", origin="").parameters
    control = beside.during("control")
    assert control - without.during("control") >= 2 * 4 * parameters
    assert beside["trained student"] == 2 * 4 * parameters  # without what its optimizer remembers


def test_the_file_comes_on_top_of_the_largest_step():
    found = memory()
    largest = 4 * max(model_shape(STUDENT, name="", origin="").sizes)
    steps = max(found.during(phase) for phase in ("teacher", "loss", "backward"))
    assert found.during("reading") == steps + largest


def test_every_file_that_is_measured_is_one_more_student():
    one, two = (memory(Distilling(SETUP, files=count)) for count in (1, 2))
    assert two["student read again"] == 2 * one["student read again"]
    assert two.during("measuring") > one.during("measuring")
