"""A student learns from a cache what it learns from the teacher, at the stored temperatures."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, IntegrityError
from entrenar_core.data.batches import Batch
from entrenar_core.distill import DIVERGENCES, Distillation, Divergence
from entrenar_core.optim import AdamW
from entrenar_core.testing import difference, tiny_llama
from teacher_caches import KEYS, LENGTH, SHARED, cached, live, rows

pytestmark = pytest.mark.tier2

EXACT = {"mass": 1.0, "max_k": SHARED, "precision": "float32"}
each = pytest.mark.parametrize("name", sorted(DIVERGENCES.keys() - {"mse"}))


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """A cache of all ids in float32."""
    return cached(tmp_path_factory.mktemp("cache") / "exact", **EXACT)


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    """A cache of five ids of each position in float32."""
    return cached(tmp_path_factory.mktemp("cache") / "five", **EXACT | {"max_k": 5})


def step(teacher, divergence, batch=None, student=None):
    """The loss, the parts and all gradients of a student."""
    student = student or tiny_llama(seed=2)
    batch = batch or rows().batch(0)
    task = Distillation(student, teacher, divergence=divergence, alpha=0.6)
    loss = task.loss(batch, batch.targets)
    loss.backward()
    gradients = np.concatenate([p.grad.ravel() for p in student.parameters()])
    return loss.item(), task.parts(), gradients


def agrees(found, wanted, bound):
    assert found[0] == pytest.approx(wanted[0], rel=bound)
    assert found[1] == pytest.approx(wanted[1], rel=bound)
    assert difference(found[2], wanted[2]) <= bound


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@each
def test_all_ids_teach_what_the_teacher_does(exact, name, temperature):
    chosen = Divergence(name, temperature)
    agrees(step(exact, chosen), step(live(), chosen), 2e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@each
def test_k_ids_teach_what_top_k_of_the_teacher_does(five, name, temperature):
    live_step = step(live(), Divergence(name, temperature, top_k=5))
    agrees(step(five, Divergence(name, temperature)), live_step, 2e-6)


def test_a_run_has_the_losses_of_one_beside_its_teacher(exact):
    def losses(teacher):
        student, found, batches = tiny_llama(seed=2), [], rows(seed=3)
        task = Distillation(student, teacher, divergence=Divergence(temperature=2.0), alpha=0.6)
        optimizer = AdamW(student.named_parameters())
        for position in range(20):
            batch = batches.batch(position)
            optimizer.zero_grad()
            loss = task.loss(batch, batch.targets)
            loss.backward()
            optimizer.step(1e-2, max_norm=1.0)
            found.append(loss.item())
        return found

    assert losses(exact) == pytest.approx(losses(live()), rel=1e-5)


def test_float16_is_near_to_it(tmp_path, exact):
    chosen = Divergence(temperature=2.0)
    rounded = cached(tmp_path / "cache", **EXACT | {"precision": "float16"})
    found, wanted = (step(teacher, chosen) for teacher in (rounded, exact))
    # logits below the highest are less than 16, so their rounding is at most 2⁻⁷/2, at T = 2 half
    assert difference(found[2], wanted[2]) <= 2**-9


def test_a_student_in_float64_is_compared_in_float64(exact):
    chosen = Divergence(temperature=2.0)
    found, wanted = (
        step(teacher, chosen, student=tiny_llama(seed=2, dtype="float64"))
        for teacher in (exact, live())
    )
    assert found[2].dtype == np.float64
    agrees(found, wanted, 1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_rows_are_found_whatever_their_order(exact, seed):
    batch = rows(seed=seed, batch_size=4).batch(0)
    chosen = Divergence(temperature=2.0)
    agrees(step(exact, chosen, batch), step(live(), chosen, batch), 2e-6)


def test_the_beginning_of_a_row_is_a_row(exact):
    batch = rows().batch(0).part(slice(1), slice(LENGTH // 2))
    chosen = Divergence(temperature=2.0)
    agrees(step(exact, chosen, batch), step(live(), chosen, batch), 2e-6)


def test_a_student_with_more_ids_learns_those_that_are_shared(exact):
    chosen, student = Divergence(temperature=2.0), tiny_llama(seed=2, vocab_size=90)
    found = step(exact, chosen, student=student)
    student = tiny_llama(seed=2, vocab_size=90)
    agrees(found, step(live(), chosen, student=student), 2e-6)


def test_other_tokens_in_a_row_are_noticed(exact):
    batch = rows().batch(0)
    ids = batch.ids.copy()
    ids[1, 3] += 1
    changed = Batch(ids, batch.labels, batch.row_ids)
    row, was = int(batch.row_ids[1]), int(batch.ids[1, 3])
    with pytest.raises(
        IntegrityError, match=f"^row {row}: token 3 is {was + 1}, and {was} in the cache$"
    ):
        exact.expected(changed)


def test_a_row_beyond_the_cache_is_noticed(exact):
    batch = rows().batch(0)
    with pytest.raises(IntegrityError, match=r"^row 9 of a cache of 9 rows$"):
        exact.expected(Batch(batch.ids, batch.labels, np.array([0, 9])))


@pytest.mark.parametrize(
    ("divergence", "message"),
    [
        (Divergence("mse", 2.0), "mse compares the logits of every id"),
        (Divergence(temperature=2.0, top_k=3), "top_k 3 with a cache"),
        (Divergence(temperature=3.0), "made for temperatures 2, 1, not for 3"),
    ],
)
def test_what_a_cache_has_not_is_refused_before_a_run(exact, divergence, message):
    with pytest.raises(ConfigError, match=message):
        exact.check(KEYS, divergence)


@pytest.mark.parametrize(
    ("divergence", "message"),
    [
        (Divergence("mse", 2.0), "mse compares the logits of every id"),
        (Divergence(temperature=3.0), "3 is none of those that the cache was made for: 2, 1"),
    ],
)
def test_what_a_cache_has_not_is_refused_in_a_step(exact, divergence, message):
    with pytest.raises(ConfigError, match=message):
        step(exact, divergence)
