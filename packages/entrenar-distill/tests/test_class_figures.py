"""Figures of classifiers: against what is counted by hand."""

import numpy as np
import pytest

from entrenar_common.errors import ConfigError
from entrenar_core.data.class_numbers import class_numbers
from entrenar_distill.class_figures import class_figures

CLASSES, COUNT = 4, 60


@pytest.fixture(scope="module")
def drawn():
    """Logits of three models for 60 texts, and their classes, of which 3 is never true."""
    rng = np.random.default_rng(2)
    logits = {name: rng.normal(size=(COUNT, CLASSES)) for name in ("teacher", "student", "control")}
    for name, each in logits.items():
        each[:, 3] -= 9.0 if name != "control" else 0.0
    return logits, rng.integers(0, 3, COUNT)


def probabilities(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", ["teacher", "student", "control"])
def test_each_figure_is_what_is_counted_text_by_text(drawn, name):
    logits, labels = drawn
    found = class_figures(logits, labels, seed=0).models[name]
    p, expected = probabilities(logits[name]), probabilities(logits["teacher"])
    answers = [max(range(CLASSES), key=lambda c: row[c]) for row in p]
    pairs = list(zip(answers, labels.tolist(), strict=True))
    loss = -sum(np.log(p[i, label]) for i, (_, label) in enumerate(pairs)) / COUNT
    assert found["loss"].value == pytest.approx(loss)
    assert found["accuracy"].value == pytest.approx(sum(a == b for a, b in pairs) / COUNT)
    scores = []
    for c in range(CLASSES):
        right = sum(a == b == c for a, b in pairs)
        given, true = sum(a == c for a, _ in pairs), sum(b == c for _, b in pairs)
        if given + true:
            precision, recall = right / given if given else 0, right / true if true else 0
            both = precision + recall
            scores.append(2 * precision * recall / both if both else 0)
    assert len(scores) == (4 if name == "control" else 3)
    assert found["macro_f1"].value == pytest.approx(sum(scores) / len(scores))
    error = 0.0
    for low in np.arange(15) / 15:
        inside = [i for i in range(COUNT) if low < p[i].max() <= low + 1 / 15]
        error += abs(sum((answers[i] == labels[i]) - p[i].max() for i in inside)) / COUNT
    assert found["ece"].value == pytest.approx(error)
    if name == "teacher":
        assert found["kl"] is found["agreement"] is None
        return
    kl = (expected * np.log(expected / p)).sum() / COUNT
    assert found["kl"].value == pytest.approx(kl)
    same = np.mean(p.argmax(1) == expected.argmax(1))
    assert found["agreement"].value == pytest.approx(same)


def test_the_difference_is_paired_over_texts(drawn):
    logits, labels = drawn
    found = class_figures(logits, labels, seed=0)
    hits = {n: (logits[n].argmax(1) == labels).astype(float) for n in ("student", "control")}
    apart = hits["student"] - hits["control"]
    difference = found.differences["student"]
    accuracy = difference["accuracy"]
    assert accuracy.value == pytest.approx(apart.mean())
    width = 2 * 1.96 * apart.std() / np.sqrt(COUNT)
    assert accuracy.high - accuracy.low == pytest.approx(width, rel=0.15)
    nats = {
        n: -np.log(probabilities(logits[n])[np.arange(COUNT), labels])
        for n in ("student", "control")
    }
    assert difference["loss"].value == pytest.approx((nats["student"] - nats["control"]).mean())


def test_without_labels_there_are_only_figures_beside_the_teacher(drawn):
    logits = {name: drawn[0][name] for name in ("teacher", "student")}
    found = class_figures(logits, None, seed=0)
    student = found.models["student"]
    assert {name for name, figure in student.items() if figure is not None} == {"agreement", "kl"}
    assert found.differences == {}


# --- class numbers ----------------------------------------------------------------------------


def numbers_of(values, labels):
    return class_numbers(values, labels=labels, where="label_field 'kind'", owner="the teacher")


@pytest.mark.parametrize(
    ("values", "labels", "numbers"),
    [
        (["good", "bad", "good"], ["bad", "good"], [1, 0, 1]),
        ([1, 0], ["bad", "good"], [1, 0]),
        (["1", "bad"], ["bad", "good"], [1, 0]),
        (["1", "0"], ["1", "0"], [0, 1]),  # a name comes before a number
        (["x", "y", "x"], ["LABEL_0", "LABEL_1"], [0, 1, 0]),
        (["LABEL_1"], ["LABEL_0", "LABEL_1"], [1]),
    ],
)
def test_labels_are_names_or_numbers(values, labels, numbers):
    assert numbers_of(values, labels).tolist() == numbers


@pytest.mark.parametrize(
    ("values", "labels", "strange"),
    [
        (["good", "ugly"], ["bad", "good"], "ugly"),
        ([2], ["bad", "good"], "2"),
        ([-1], ["bad", "good"], "-1"),
        (["x", "y", "z"], ["LABEL_0", "LABEL_1"], "x"),
        (["x", "1"], ["LABEL_0", "LABEL_1"], "x"),
    ],
)
def test_what_is_no_label_of_the_teacher_is_an_error(values, labels, strange):
    with pytest.raises(ConfigError, match=f"label_field 'kind': '{strange}' is no class") as caught:
        numbers_of(values, labels)
    assert labels[0] in caught.value.hint
