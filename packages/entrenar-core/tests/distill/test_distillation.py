"""The objective of distillation: what it optimises and what it leaves alone."""

import numpy as np
import pytest

from entrenar_core.data.batches import Batch
from entrenar_core.distill import Distillation, Divergence, LiveTeacher
from entrenar_core.optim import AdamW
from entrenar_core.testing import tiny_llama

IDS = np.random.default_rng(0).integers(0, 61, (2, 9))
BATCH = Batch(IDS, np.where(IDS % 4 == 0, -100, np.roll(IDS, -1, axis=1)), np.arange(2))


def objective(student, teacher, alpha=1.0, shared=61, temperature=2.0):
    divergence = Divergence(temperature=temperature)
    live = LiveTeacher(teacher, shared=shared)
    return Distillation(student, live, divergence=divergence, alpha=alpha)


def test_the_teacher_gets_no_gradient_and_stays_as_it_is():
    student, teacher = tiny_llama(), tiny_llama(seed=1)
    before = {n: p.data.copy() for n, p in teacher.named_parameters().items()}
    objective(student, teacher).loss(BATCH, BATCH.targets).backward()
    for name, parameter in teacher.named_parameters().items():
        assert parameter.grad is None
        assert np.array_equal(parameter.data, before[name])
    assert all(p.grad is not None for p in student.parameters())


def test_a_copy_of_the_teacher_has_nothing_to_learn():
    student, teacher = tiny_llama(dtype="float64"), tiny_llama(dtype="float64")
    task = objective(student, teacher)
    loss = task.loss(BATCH, BATCH.targets)
    loss.backward()
    parts = task.parts()
    assert loss.item() == pytest.approx(0.0, abs=1e-14)
    assert (parts["divergence"], parts["agreement"]) == (pytest.approx(0.0, abs=1e-14), 1.0)
    assert max(np.abs(p.grad).max() for p in student.parameters()) < 1e-13


def test_the_parts_make_up_the_loss():
    task = objective(tiny_llama(), tiny_llama(seed=1), alpha=0.3, temperature=3.0)
    loss = task.loss(BATCH, BATCH.targets).item()
    parts = task.parts()
    mixed = 0.3 * 9.0 * parts["divergence"] + 0.7 * parts["cross_entropy"]
    assert loss == pytest.approx(mixed, rel=1e-6)


def test_the_parts_start_anew_when_they_are_read():
    task = objective(tiny_llama(), tiny_llama(seed=1))
    task.loss(BATCH, BATCH.targets)
    first = task.parts()
    assert task.parts() == {"cross_entropy": 0.0, "divergence": 0.0, "agreement": 0.0}
    task.loss(BATCH, BATCH.targets)
    assert task.parts() == first


@pytest.mark.parametrize(("student_rows", "teacher_rows"), [(61, 70), (70, 61)])
def test_vocabularies_padded_to_different_sizes_work(student_rows, teacher_rows):
    student, teacher = tiny_llama(vocab_size=student_rows), tiny_llama(vocab_size=teacher_rows)
    loss = objective(student, teacher, alpha=0.5).loss(BATCH, BATCH.targets)
    loss.backward()
    assert np.isfinite(loss.item())


@pytest.mark.tier2
def test_training_brings_the_student_to_its_teacher():
    student, teacher = tiny_llama(num_hidden_layers=1), tiny_llama(seed=1)
    task, optimizer = objective(student, teacher), AdamW(student.named_parameters())
    divergences = []
    for _ in range(60):
        optimizer.zero_grad()
        task.loss(BATCH, BATCH.targets).backward()
        optimizer.step(2e-2, max_norm=1.0)
        divergences.append(task.parts()["divergence"])
    assert divergences[-1] < 0.05 * divergences[0]
