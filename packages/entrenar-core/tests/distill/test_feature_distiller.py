"""The objective with losses of features: what it adds, keeps, trains and leaves alone."""

from dataclasses import replace

import numpy as np
import pytest

from entrenar_common.errors import ConfigError
from entrenar_core.data.batches import IGNORED, Batch
from entrenar_core.distill import Distillation, Divergence, FeatureDistillation, LiveTeacher
from entrenar_core.distill.features import (
    LayerPair,
    Schedule,
    attention_term,
    embeddings_pair,
    hidden_mse,
    hidden_term,
)
from entrenar_core.distill.features.terms import HIDDEN_LOSSES
from entrenar_core.models.features import Wanted
from entrenar_core.testing import tiny_llama, tiny_model

IDS = np.random.default_rng(0).integers(0, 61, (2, 9))
BATCH = Batch(
    IDS, np.where(np.arange(9) < [[9], [5]], np.roll(IDS, -1, axis=1), IGNORED), np.arange(2)
)
TOKENS = 14
PAIRS = [LayerPair(0, 0), LayerPair(1, 2, Schedule(from_step=3, ramp_steps=2))]


def models(dtype="float64"):
    student = tiny_llama(dtype=dtype)
    return student, tiny_llama(seed=1, dtype=dtype, hidden_size=32, num_hidden_layers=3)


def objective(student, teacher, *terms):
    live = LiveTeacher(teacher, shared=61)
    logits = Distillation(student, live, divergence=Divergence(temperature=2.0), alpha=0.5)
    return FeatureDistillation(logits, live, terms)


def loss_of(task, step):
    task.begin(step, [BATCH])
    return task.loss(BATCH, TOKENS)


def test_the_loss_is_that_of_the_logits_and_the_weighted_terms():
    student, teacher = models()
    term = hidden_term("h", student, teacher, loss="mse", pairs=PAIRS, weight=3.0)
    task = objective(student, teacher, term)
    ours, theirs = student.features(IDS).hidden_states, teacher.features(IDS).hidden_states
    mask = BATCH.labels >= 0
    first, second = (
        hidden_mse(
            ours[pair.student + 1],
            theirs[pair.teacher + 1],
            mask,
            normalizer=TOKENS,
            projection=term.projections[pair],
        ).item()
        for pair in PAIRS
    )
    for step, factor, mean in [
        (0, 0.0, first),
        (3, 0.5, (first + second) / 2),
        (4, 1.0, (first + second) / 2),
    ]:
        alone = task.logits.loss(BATCH, TOKENS).item()
        wanted = alone + 3.0 * (first + factor * second) / 2
        task.parts()
        assert loss_of(task, step).item() == pytest.approx(wanted, rel=1e-12)
        assert task.parts()["h"] == pytest.approx(mean, rel=1e-12)


def test_parts_are_those_of_the_logits_and_of_the_active_terms():
    student, teacher = models()
    late = [LayerPair(0, 0, Schedule(from_step=2))]
    task = objective(
        student, teacher, hidden_term("late", student, teacher, loss="cosine", pairs=late)
    )
    logits = {"cross_entropy", "divergence", "agreement"}
    for step, wanted in [(0, logits), (2, logits | {"late"})]:
        loss_of(task, step)
        assert task.parts().keys() == wanted


def test_the_teacher_gets_no_gradient_and_projections_do():
    student, teacher = models()
    pairs = PAIRS[:1]
    task = objective(
        student,
        teacher,
        hidden_term(
            "h", student, teacher, loss="mse", pairs=pairs, embeddings=embeddings_pair(Schedule())
        ),
        attention_term("m", student, teacher, loss="minilm", pairs=pairs, heads=2),
        attention_term("t", student, teacher, loss="tinybert", pairs=pairs),
    )
    loss_of(task, 0).backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert set(task.parameters()) == {"h.0.0", "h.embeddings.embeddings"}
    assert all(p.grad.any() for p in task.parameters().values())
    assert not set(map(id, task.parameters().values())) & set(map(id, student.parameters()))


@pytest.mark.parametrize("loss", HIDDEN_LOSSES)
def test_a_copy_of_the_teacher_has_nothing_to_learn(loss):
    student, teacher = tiny_llama(dtype="float64"), tiny_llama(dtype="float64")
    pairs = [LayerPair(0, 0), LayerPair(1, 1)]
    task = objective(
        student, teacher,
        hidden_term("h", student, teacher, loss=loss, pairs=pairs, learned=False),
        attention_term("m", student, teacher, loss="minilm", pairs=pairs),
        attention_term("t", student, teacher, loss="tinybert", pairs=pairs),
    )  # fmt: skip
    loss_of(task, 0)
    parts = task.parts()
    assert [parts[name] for name in "hmt"] == pytest.approx([0, 0, 0], abs=1e-14)


def test_a_loss_before_its_step_is_refused():
    student, teacher = models()
    task = objective(student, teacher, hidden_term("h", student, teacher, loss="mse", pairs=PAIRS))
    with pytest.raises(ConfigError) as error:
        task.loss(BATCH, TOKENS)
    assert "begin" in error.value.hint


def test_tokens_without_a_label_change_nothing():
    student, teacher = models()
    term = hidden_term("h", student, teacher, loss="similarity", pairs=PAIRS[:1])
    task = objective(student, teacher, term)
    changed = np.where(BATCH.labels >= 0, IDS, 7)
    values = []
    for ids in (IDS, changed):
        batch = replace(BATCH, ids=ids)
        task.begin(0, [batch])
        task.loss(batch, TOKENS)
        values.append(task.parts())
    assert values[0] == pytest.approx(values[1], rel=1e-12)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_only_what_the_step_needs_is_kept(kind):
    model = tiny_model(kind)
    found = model.select_features(IDS, Wanted(frozenset([0, 2]), frozenset([1])))
    everything = model.features(IDS)
    assert set(found.hidden_states) == {0, 2}
    assert set(found.heads) == {1}
    for number, state in found.hidden_states.items():
        assert np.array_equal(state.numpy(), everything.hidden_states[number].numpy())
    assert found.heads[1].q.shape[:3] == (2, 9, model.config.num_attention_heads)
    assert found.heads[1].v.shape[2] == model.config.num_key_value_heads


def test_a_term_asks_for_the_layers_of_its_active_pairs_alone():
    student, teacher = models()
    hidden = hidden_term("h", student, teacher, loss="mse", pairs=PAIRS)
    heads = attention_term("m", student, teacher, loss="minilm", pairs=PAIRS, heads=2)
    assert hidden.wanted(0) == (Wanted(frozenset([1])), Wanted(frozenset([1])))
    assert hidden.wanted(3) == (Wanted(frozenset([1, 2])), Wanted(frozenset([1, 3])))
    assert heads.wanted(3)[1] == Wanted(heads=frozenset([0, 2]))


@pytest.mark.parametrize(
    "wanted", [Wanted(frozenset([3])), Wanted(heads=frozenset([2])), Wanted(frozenset([-1]))]
)
def test_layers_that_a_model_has_not_are_refused(wanted):
    with pytest.raises(ConfigError, match="of a model with 2 layers"):
        tiny_llama().select_features(IDS, wanted)


def test_recomputed_blocks_give_the_same_gradients():
    gradients = []
    for recompute in (False, True):
        student, teacher = models()
        student.recompute = recompute
        pairs = [LayerPair(0, 1)]
        task = objective(
            student,
            teacher,
            hidden_term("h", student, teacher, loss="mse", pairs=pairs),
            attention_term("m", student, teacher, loss="minilm", pairs=pairs, heads=2),
        )
        loss_of(task, 0).backward()
        gradients.append([p.grad for p in student.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert np.abs(a - b).max() <= 1e-12 * np.abs(b).max()


def test_widths_that_differ_need_a_projection():
    with pytest.raises(ConfigError, match="24 numbers, the teacher's 32"):
        hidden_term("h", *models(), loss="mse", pairs=PAIRS, learned=False)


def test_heads_that_do_not_fit_are_refused():
    student, teacher = models()[0], tiny_llama(num_attention_heads=2, num_key_value_heads=2)
    with pytest.raises(ConfigError, match="4 heads cannot be compared with the teacher's 2"):
        attention_term("t", student, teacher, loss="tinybert", pairs=PAIRS[:1])
    with pytest.raises(ConfigError) as error:
        attention_term("m", student, teacher, loss="minilm", pairs=PAIRS[:1], heads=5)
    assert "divides 12" in error.value.hint


def test_projections_start_as_glorot_and_bengio_have_it_from_the_seed():
    student, teacher = models("float32")
    (first,), (again,), (other,) = (
        hidden_term("h", student, teacher, loss="mse", pairs=PAIRS[:1], seed=seed)
        .parameters()
        .values()
        for seed in (0, 0, 1)
    )
    limit = (6 / (24 + 32)) ** 0.5
    assert first.shape == (32, 24)
    assert 0.9 * limit < np.abs(first.data).max() <= limit
    assert np.array_equal(first.data, again.data)
    assert not np.array_equal(first.data, other.data)
