"""The objective between tokenizers: what is compared, what it comes to, what changes nothing."""

import itertools

import numpy as np
import pytest

from aligned_world import PAIRS, World
from entrenar_common.errors import ConfigError, ShapeError
from entrenar_core.autograd import Tensor, ops
from entrenar_core.distill import Distillation, Divergence, LiveTeacher
from entrenar_core.kernels.aligned import FINITE
from entrenar_core.optim import AdamW
from entrenar_core.testing import check_grads, tiny_llama


def gradients(model):
    found = {name: p.grad.copy() for name, p in model.named_parameters().items()}
    for parameter in model.parameters():
        parameter.grad = None
    return found


def step(task, batches, normalizer=None):
    """Loss and gradients of one step of several micro-batches."""
    task.begin(0, batches)
    tokens = normalizer or sum(batch.targets for batch in batches)
    total = 0.0
    for batch in batches:
        loss = task.loss(batch, tokens)
        loss.backward()
        total += loss.item()
    return total, gradients(task.student)


def apart(found, wanted):
    return max(
        np.abs(found[name] - wanted[name]).max() / np.abs(wanted[name]).max() for name in wanted
    )


# --- one tokenizer ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["forward_kl", "jsd", "tvd"])
@pytest.mark.parametrize("packing", [True, False])
def test_with_one_tokenizer_it_is_plain_distillation(name, packing):
    world = World("few merges", "few merges", packing=packing)
    batch, models = world.batches.batch(1), world.models()
    value, found = step(world.objective(models, name=name), [batch])
    live = LiveTeacher(models[1], shared=world.student.vocab_size)
    plain = Distillation(models[0], live, divergence=Divergence(name, 2.0), alpha=0.7)
    wanted, expected = step(plain, [batch])
    assert value == pytest.approx(wanted, rel=1e-12)
    assert apart(found, expected) < 1e-12


def test_with_one_tokenizer_it_is_plain_distillation_in_float32():
    world = World("few merges", "few merges", dtype="float32")
    batch, models = world.batches.batch(1), world.models()
    value, found = step(world.objective(models), [batch])
    live = LiveTeacher(models[1], shared=world.student.vocab_size)
    plain = Distillation(models[0], live, divergence=Divergence(temperature=2.0), alpha=0.7)
    wanted, expected = step(plain, [batch])
    assert value == pytest.approx(wanted, rel=1e-6)
    assert apart(found, expected) < 1e-5


def test_a_copy_of_the_teacher_has_nothing_to_learn_from_it():
    world = World("few merges", "few merges")
    (student, _), (teacher, _) = world.models(), world.models()
    task = world.objective((student, teacher), alpha=1.0)
    value, found = step(task, [world.batches.batch(0)])
    assert value == pytest.approx(0.0, abs=1e-13)
    assert max(np.abs(gradient).max() for gradient in found.values()) < 1e-12
    assert task.parts()["aligned"] == 1.0


# --- the loss -----------------------------------------------------------------------------------


@pytest.mark.tier2
@pytest.mark.parametrize("name", [name for name in FINITE if name != "tvd"])
def test_gradients_are_those_of_central_differences(name):
    world = World("few merges", "many merges")
    batch, student = world.batches.batch(0), world.models()[0]
    task = world.objective((student, world.models()[1]), name=name, temperature=1.5)
    task.begin(0, [batch])
    beside = world.rows.read(batch)
    aligned = ops.Aligned(task._told(beside), beside.targets, beside.groups, world.matching)
    hidden = student.hidden(batch.ids).data

    def loss(hidden, weight):
        return ops.linear_aligned_distillation(
            hidden, weight, batch.labels, aligned=aligned, divergence=task.divergence, alpha=0.8,
            normalizer=50, groups=30, parts=ops.AlignedParts(),
        )  # fmt: skip

    check_grads(loss, hidden, student.output_weight.data, rtol=1e-5)


@pytest.mark.parametrize("names", PAIRS[:3])
@pytest.mark.parametrize("parts", [2, 8])
def test_cutting_a_step_into_micro_batches_changes_nothing(names, parts):
    world = World(*names)
    batch, models = world.batches.batch(2), world.models()
    value, found = step(world.objective(models), [batch])
    cut, others = step(world.objective(models), batch.split(parts))
    assert cut == pytest.approx(value, rel=1e-12)
    assert apart(others, found) < 1e-12


@pytest.mark.parametrize("size", [3, 16])
def test_the_length_of_a_chunk_changes_nothing(size, monkeypatch):
    from entrenar_core.autograd.ops import linear_loss

    world = World("bytes", "many merges")
    batch, models = world.batches.batch(0), world.models()
    value, found = step(world.objective(models), [batch])
    monkeypatch.setattr(linear_loss, "CHUNK", size)
    again, others = step(world.objective(models), [batch])
    assert again == pytest.approx(value, rel=1e-12)
    assert apart(others, found) < 1e-12


@pytest.mark.parametrize("names", PAIRS)
def test_no_chunk_cuts_a_group(names):
    world = World(*names)
    beside = world.rows.read(world.batches.batch(0))
    told = ops.FromHidden(np.zeros((len(beside.places), 1)), np.zeros((400, 1)), shared=1)
    aligned = ops.Aligned(told, beside.targets, beside.groups, world.matching)
    first, count, _, their_count = beside.groups.T
    for size in (1, 2, 5, 40):
        chunks = list(aligned.chunks(96, size))
        assert [c.start for c in chunks] == [0, *(c.stop for c in chunks[:-1])]
        assert chunks[-1].stop == 96
        for chunk in chunks:
            inside = (first >= chunk.start) & (first < chunk.stop)
            assert (first + count <= chunk.stop)[inside].all()
            if chunk.stop - chunk.start > size or their_count[inside].sum() > size:
                assert inside.sum() == 1


def test_what_comes_before_a_group_is_cut_by_itself():
    matching = World("few merges", "many merges").matching
    told = ops.FromHidden(np.zeros((1, 1)), np.zeros((400, 1)), shared=1)
    groups = np.array([[10, 1, 0, 1]])
    aligned = ops.Aligned(told, np.zeros(1, np.int64), groups, matching)
    assert list(aligned.chunks(12, 4)) == [slice(0, 4), slice(4, 8), slice(8, 12)]


def test_the_parts_make_up_the_loss():
    world = World("few merges", "many merges")
    task = world.objective(alpha=0.3, temperature=3.0)
    batch = world.batches.batch(0)
    value, _ = step(task, [batch])
    parts = task.parts()
    soft = world.matching.matched_weight * parts["divergence"]
    soft += world.matching.sorted_weight * parts["sorted"]
    assert value == pytest.approx(0.3 * 9 * soft + 0.7 * parts["cross_entropy"], rel=1e-12)
    found = world.rows.read(batch)
    assert parts["aligned"] == found.compared / found.bytes
    assert set(task.parts().values()) == {0.0}


def test_the_teacher_gets_no_gradient():
    world = World("few merges", "many merges")
    task = world.objective()
    step(task, [world.batches.batch(0)])
    assert all(p.grad is None for p in task.teacher.parameters())


def test_all_tokens_of_a_group_get_a_gradient_from_it():
    world = World("bytes", "many merges")
    batch = world.batches.batch(0)
    beside = world.rows.read(batch)
    longer = beside.groups[beside.groups[:, 1] > 2][0]
    student, _ = world.models()
    hidden = Tensor(student.hidden(batch.ids).data, requires_grad=True)
    task = world.objective((student, world.models()[1]))
    aligned = ops.Aligned(task._told(beside), beside.targets, beside.groups, world.matching)
    ops.linear_aligned_distillation(
        hidden, student.output_weight, batch.labels, aligned=aligned, divergence=task.divergence,
        alpha=1.0, normalizer=1, groups=1, parts=ops.AlignedParts(),
    ).backward()  # fmt: skip
    rows = hidden.grad.reshape(-1, hidden.grad.shape[-1])
    assert (np.abs(rows[longer[0] : longer[0] + longer[1]]).max(axis=-1) > 0).all()


@pytest.mark.tier2
@pytest.mark.parametrize(
    "names", [("few merges", "many merges"), ("many merges", "few merges"), ("bytes", "pieces")]
)
def test_training_brings_the_student_to_its_teacher(names):
    world = World(*names, dtype="float32")
    task = world.objective(alpha=1.0)
    optimizer = AdamW(task.student.named_parameters())
    batch, divergences = world.batches.batch(0), []
    for number in range(60):
        optimizer.zero_grad()
        task.begin(number, [batch])
        task.loss(batch, batch.targets).backward()
        optimizer.step(1e-2, max_norm=1.0)
        parts = task.parts()
        weights = world.matching.matched_weight, world.matching.sorted_weight
        divergences.append(weights[0] * parts["divergence"] + weights[1] * parts["sorted"])
    assert divergences[-1] < 0.5 * divergences[0]


# --- what is refused ----------------------------------------------------------------------------


def test_a_loss_without_the_step_it_is_of_is_refused():
    world = World("few merges", "many merges")
    with pytest.raises(ConfigError, match="of an unknown step"):
        world.objective().loss(world.batches.batch(0), 10)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"name": "reverse_kl"}, "reverse_kl is no loss between different tokenizers"),
        ({"name": "symmetric"}, "symmetric is no loss"),
        ({"name": "mse"}, "mse is no loss"),
        ({"name": "jsd", "beta": 1.0}, "jsd is no loss"),
        ({"top_k": 4}, "top_k 4"),
    ],
)
def test_a_divergence_that_can_be_infinite_is_refused(settings, text):
    with pytest.raises(ConfigError, match=text):
        World("few merges", "many merges").objective(**settings)


@pytest.mark.parametrize("side", [0, 1])
def test_a_model_with_too_few_rows_is_refused(side):
    world = World("few merges", "many merges")
    models = list(world.models())
    models[side] = tiny_llama(vocab_size=200)
    with pytest.raises(ConfigError, match=f"the {('student', 'teacher')[side]}'s tokenizer has"):
        world.objective(models)


@pytest.mark.parametrize(
    "groups",
    [[[0, 2, 0, 1], [1, 1, 1, 1]], [[8, 2, 0, 2]], [[0, 0, 0, 2]], [[0, 1, 1, 1]], [[0, 1, 0, 1]]],
)
def test_groups_that_overlap_or_lie_outside_are_refused(groups):
    matching = World("few merges", "many merges").matching
    ids = matching.teacher_ids
    told = ops.FromHidden(np.zeros((2, 3)), np.zeros((ids, 3)), shared=ids)
    aligned = ops.Aligned(told, np.zeros(2, np.int64), np.array(groups), matching)
    with pytest.raises(ShapeError, match="of the teacher's tokens, for 9 positions"):
        aligned.check(9, 280)


@pytest.mark.tier2
def test_every_pair_of_kinds_gives_a_finite_loss():
    kinds = ["bytes", "many merges", "a template", "pieces", "words"]
    for names in itertools.permutations(kinds, 2):
        world = World(*names, longest=60)
        value, found = step(world.objective(), [world.batches.batch(0)])
        assert np.isfinite(value), names
        assert all(np.isfinite(gradient).all() for gradient in found.values()), names
