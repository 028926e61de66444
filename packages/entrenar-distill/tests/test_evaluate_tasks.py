"""`entrenar-distill evaluate` of classifiers, masked language models and embedding models."""

import json
import math

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, NumericsError
from entrenar_common.testing import render_plain
from entrenar_core import models
from entrenar_core.data.masking import MaskTokens
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokens import tokenize
from entrenar_core.models import embed
from entrenar_core.train.evaluate_masked import score_masked
from entrenar_distill.cli import main
from entrenar_distill.evaluate_classes import evaluate_classes
from entrenar_distill.evaluate_embeddings import evaluate_embeddings
from entrenar_distill.evaluate_masked import evaluate_masked
from entrenar_distill.export import export
from task_models import COUNT, NAMES, make_task_models

pytestmark = pytest.mark.tier2


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_task_models(tmp_path_factory.mktemp("tasks"))


@pytest.fixture
def path(place):
    return lambda name: str(place.root / name)


@pytest.fixture(scope="module")
def classes(place):
    """Two classifiers beside a teacher; the second has the classes the other way round."""
    return evaluate_classes(
        [str(place.root / "student"), str(place.root / "reversed")],
        teacher=str(place.root / "teacher"),
        data=DatasetSpec((str(place.root / "rows.jsonl"),)),
        label_field="kind",
    )


@pytest.fixture
def command(capsys):
    """Runs `evaluate` with options; gives the exit code and what it printed."""

    def run(*options):
        code = main.main(["evaluate", "-q", *map(str, options)], standalone_mode=False)
        printed = capsys.readouterr()
        return code or 0, printed.out, printed.err

    return run


def answers(place, name):
    """The class of each text by name, read one text at a time."""
    folder = place.root / name
    model, tokenizer = models.load(folder), Tokenizer.load(folder)
    logits = [
        model(tokenizer.encode(text)[None].astype(np.int64)).numpy()[0] for text in place.texts
    ]
    return [model.config.labels[int(each.argmax())] for each in logits]


# --- classes ----------------------------------------------------------------------------------


def test_classes_are_matched_by_name_whatever_their_order(classes, place):
    wanted = [row["kind"] for row in place.rows]
    for model, name in zip(classes.models, ("teacher", "student", "reversed"), strict=True):
        right = np.array(answers(place, name)) == wanted
        assert model.figures["accuracy"].value == pytest.approx(right.mean())
    assert any("reversed has the classes in another order" in note for note in classes.notes)


def test_outcomes_are_what_is_counted_and_add_up(classes, place):
    wanted = np.array([row["kind"] for row in place.rows])
    right, teachers = (np.array(answers(place, n)) == wanted for n in ("reversed", "teacher"))
    figures = classes.models[2].figures
    counted = {
        "both_right": right & teachers,
        "right_alone": right & ~teachers,
        "teacher_alone": ~right & teachers,
        "both_wrong": ~right & ~teachers,
    }
    for name, each in counted.items():
        assert figures[name].value == pytest.approx(each.mean())
    assert sum(figures[name].value for name in counted) == pytest.approx(1)
    assert "both_right" not in classes.models[0].figures


def test_bins_have_all_texts_and_give_the_calibration_error(classes):
    for model in classes.models:
        there = [each for each in model.calibration if each.count]
        assert sum(each.count for each in there) == COUNT
        gaps = [each.count / COUNT * abs(each.accuracy - each.confidence) for each in there]
        assert model.figures["ece"].value == pytest.approx(math.fsum(gaps))


def test_labels_may_be_numbers(classes, place, path, tmp_path):
    rows = [{**row, "kind": NAMES.index(row["kind"])} for row in place.rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = evaluate_classes(
        [path("student")], data=DatasetSpec((str(tmp_path / "rows.jsonl"),)), label_field="kind"
    )
    assert found.models[0].figures["accuracy"] == classes.models[1].figures["accuracy"]
    assert found.models[0].figures["kl"] is None


def test_without_labels_only_the_teacher_is_compared_with(path, classes):
    found = evaluate_classes(
        [path("student")], data=DatasetSpec((path("rows.jsonl"),)), teacher=path("teacher")
    )
    there = {name for name, figure in found.models[1].figures.items() if figure is not None}
    assert there == {"agreement", "kl"}
    assert found.models[1].figures["kl"] == classes.models[1].figures["kl"]


def test_a_second_text_is_read_beside_the_first(path, classes):
    found = evaluate_classes(
        [path("student")], data=DatasetSpec((path("rows.jsonl"),)), label_field="kind",
        pair_field="other",
    )  # fmt: skip
    assert found.models[0].figures["loss"] != classes.models[1].figures["loss"]
    assert found.settings["second text"] == "other"


def test_a_text_about_which_a_model_gives_no_number_is_named(path, tmp_path):
    model = models.load(path("student"))
    tokenizer = Tokenizer.load(path("student"))
    fox = int(tokenizer.encode("fox")[1])
    model.named_parameters()["bert.embeddings.word_embeddings.weight"].data[fox] = np.nan
    models.save(model, tmp_path / "bad")
    tokenizer.save(tmp_path / "bad")
    (tmp_path / "rows.jsonl").write_text(
        '{"text": "a dog", "kind": "calm"}\n{"text": "a fox", "kind": "loud"}\n'
    )
    with pytest.raises(NumericsError, match=r"rows\.jsonl:2 \(1 of 2 texts\)"):
        evaluate_classes(
            [str(tmp_path / "bad")], data=DatasetSpec((str(tmp_path / "rows.jsonl"),)),
            label_field="kind",
        )  # fmt: skip


# --- hidden tokens ----------------------------------------------------------------------------


def test_hidden_tokens_are_scored_as_a_run_scores_them(path):
    names, data = (path("masked"), path("hidden")), DatasetSpec((path("text"),))
    found = evaluate_masked(
        [names[1]], teacher=names[0], data=data, seq_len=16, share=0.3, seed=5, batch_size=7
    )
    tokenizer = Tokenizer.load(names[0])
    wanted = score_masked(
        {name: models.load(name) for name in names}, tokenize(data, tokenizer), seq_len=16,
        batch_size=3, tokens=MaskTokens.of(tokenizer), seed=5, share=0.3,
    )  # fmt: skip
    for model in found.models:
        scores, figures = wanted[model.model], model.figures
        assert figures["loss"].value == pytest.approx(scores.loss, rel=1e-5)
        assert figures["pseudo_perplexity"].value == pytest.approx(math.exp(scores.loss), rel=1e-4)
        hits = scores.calibration[..., 2].sum() / scores.tokens.sum()
        assert figures["accuracy"].value == pytest.approx(hits)
        assert sum(each.count for each in model.calibration) == scores.tokens.sum()
    figures, scores = found.models[1].figures, wanted[names[1]]
    assert figures["agreement"].value == pytest.approx(scores.agreement)
    kl = scores.divergence.sum() / scores.tokens.sum()
    assert figures["kl"].value == pytest.approx(kl, rel=1e-4)


def test_a_teacher_changes_no_figure_of_a_model_by_itself(path):
    data = DatasetSpec((path("text"),))
    alone = evaluate_masked([path("hidden"), path("masked")], data=data, seq_len=16)
    beside = evaluate_masked([path("hidden")], teacher=path("masked"), data=data, seq_len=16)
    for name in ("loss", "accuracy", "top5_accuracy", "ece"):
        one, other = alone.models[0].figures[name], beside.models[1].figures[name]
        assert [one.value, one.low, one.high] == pytest.approx(
            [other.value, other.low, other.high], rel=1e-5
        )
    assert alone.models[0].figures["kl"] is None
    apart = alone.differences[0].figures["loss"]
    one, other = (model.figures["loss"].value for model in alone.models)
    assert apart.value == pytest.approx(other - one)


# --- embeddings -------------------------------------------------------------------------------


def test_cosines_are_those_of_embeddings_made_text_by_text(place, path):
    found = evaluate_embeddings(
        [path("same"), path("small")], teacher=path("big"),
        data=DatasetSpec((path("lines.txt"),), format="lines"),
    )  # fmt: skip
    made = {}
    for name in ("big", "same"):
        model, tokenizer = models.load(path(name)), Tokenizer.load(path(name))
        rows = np.concatenate([embed(model, tokenizer, [text]) for text in place.texts])
        made[name] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = found.models[1].figures["cosine"]
    assert cosine.value == pytest.approx((made["big"] * made["same"]).sum(axis=1).mean(), rel=1e-5)
    assert cosine.low < cosine.value < cosine.high
    assert found.models[2].figures["cosine"] is None
    assert any("12 numbers, the teacher of 24" in note for note in found.notes)


def test_scores_of_pairs_are_correlated_with_cosines(place, path):
    found = evaluate_embeddings(
        [path("same")], teacher=path("big"), data=DatasetSpec((path("rows.jsonl"),)),
        pair_field="other", score_field="score",
    )  # fmt: skip
    model, tokenizer = models.load(path("same")), Tokenizer.load(path("same"))
    first, second = (
        embed(model, tokenizer, [row[field] for row in place.rows]) for field in ("text", "other")
    )
    alike = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(first, second, strict=True)
    ]
    wanted = np.corrcoef(alike, [row["score"] for row in place.rows])[0, 1]
    figures = found.models[1].figures
    assert figures["pearson"].value == pytest.approx(wanted, rel=1e-4)
    assert set(figures) == {"cosine", "similarities", "pearson", "spearman"}
    assert (found.rows, found.unit) == (COUNT, "pair")


def test_a_file_has_the_vectors_of_its_folder(path, tmp_path):
    export(path("same"), str(tmp_path / "m.gguf"), form="gguf", quantization="f32")
    found = evaluate_embeddings(
        [str(tmp_path / "m.gguf")], teacher=path("same"),
        data=DatasetSpec((path("lines.txt"),), format="lines"),
    )  # fmt: skip
    assert found.models[1].figures["cosine"].value == pytest.approx(1, abs=1e-6)


# --- the command ------------------------------------------------------------------------------

CASES = {
    "sequence-classification": [
        "--model", "{student}", "--model", "{reversed}", "--teacher", "{teacher}", "--data",
        "{rows.jsonl}", "--label-field", "kind",
    ],
    "masked-lm": ["--model", "{masked}", "--model", "{hidden}", "--data", "{text}"],
    "sentence-embedding": [
        "--model", "{same}", "--model", "{small}", "--teacher", "{big}", "--data", "{rows.jsonl}",
        "--text-pair-field", "other", "--label-field", "score",
    ],
}  # fmt: skip


def placed(options, place):
    return [
        str(place.root / option[1:-1]) if option.startswith("{") else option for option in options
    ]


@pytest.mark.parametrize("task", CASES)
def test_the_task_is_what_the_models_say(task, command, place):
    code, out, err = command(*placed(CASES[task], place), "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["schema"] == "entrenar.distill.evaluate-task/1"
    assert document["data"]["task"] == task
    figures = document["data"]["models"][0]["figures"]
    assert all(
        figure is None or figure.keys() == {"value", "low", "high"} for figure in figures.values()
    )
    assert document["data"]["differences"][0]["first"].endswith(("student", "masked", "same"))


@pytest.mark.parametrize("task", CASES)
def test_the_view_fits_80_columns(task, command, place, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = command(*placed(CASES[task], place))
    assert max(map(len, out.splitlines())) <= 80
    assert task in out
    assert "95 % intervals over" in out


def test_a_task_that_is_asked_for_wins_over_what_a_model_says(command, place):
    options = ["--task", "sentence-embedding", "--model", "{masked}", "--teacher", "{masked}"]
    _, _, err = command(*placed(options, place), "--data", place.root / "text")
    assert "given more than once" in err
    options = ["--task", "sentence-embedding", "--model", "{masked}", "--data", "{text}"]
    _, _, err = command(*placed(options, place))
    assert "no teacher and no scored pairs" in err


def test_the_view_says_which_figure_has_no_interval(path):
    rows = DatasetSpec((path("rows.jsonl"),), max_documents=9)
    shown = render_plain(
        evaluate_embeddings([path("same")], data=rows, pair_field="other", score_field="score")
    )
    assert "no interval with so few" in " ".join(shown.split())


DATA = ["--data", "{rows.jsonl}"]


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["--model", "{student}", *DATA], 10, "no true classes and no teacher"),
        (["--model", "{student}", *DATA, "--label-field", "nix"], 11, "no field 'nix'"),
        (["--model", "{student}", *DATA, "--label-field", "other"], 10, "is no class of"),
        (["--model", "{student}", *DATA, "--label-field", "score"], 11, "wanted text or a whole"),
        (["--model", "{number}", *DATA, "--label-field", "kind"], 15, "1 outputs for regression"),
        (
            ["--model", "{student}", "--model", "{others}", *DATA, "--label-field", "kind"],
            10, "classifies into x, y, z",
        ),
        (
            ["--model", "{student}", "--teacher", "{masked}", *DATA, "--label-field", "kind"],
            10, "is for masked-lm, the models for sequence-classification",
        ),
        (["--model", "{student}", "--model", "{masked}", *DATA], 10, "choose with --task"),
        (
            ["--task", "sequence-classification", "--model", "{masked}", *DATA, "--label-field",
             "kind"],
            10, "no head for sequence-classification",
        ),
        (["--task", "masked-lm", "--model", "{student}", *DATA], 10, "no head for masked-lm"),
        (["--model", "{student}", "--label-field", "kind"], 10, "--label-field without --data"),
        (["--model", "{student}"], 10, "nothing to measure"),
        (["--model", "{student}", *DATA, "--mask-share", "0.2"], 10, "--mask-share goes with"),
        (["--model", "{student}", *DATA, "--batch-size", "4"], 10, "--batch-size goes with causal"),
        (["--model", "{student}", "--generate", "x"], 10, "--generate goes with causal-lm"),
        (["--model", "{masked}", *DATA, "--label-field", "kind"], 10, "--label-field goes with"),
        (["--model", "{masked}", *DATA, "--mask-share", "1"], 10, "share of hidden tokens is 1.0"),
        (["--model", "{masked}", *DATA, "--batch-size", "0"], 10, "batch_size 0"),
        (["--model", "{same}", *DATA], 10, "no teacher and no scored pairs"),
        (["--model", "{same}", *DATA, "--label-field", "score"], 10, "pairs need both"),
        (
            ["--model", "{same}", *DATA, "--label-field", "kind", "--text-pair-field", "other"],
            11, "wanted a number",
        ),
        (["--model", "{student}", "--data", "{empty}", "--label-field", "kind"], 10, "no doc"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line_with_a_hint(command, place, options, code, word):
    (place.root / "empty").mkdir(exist_ok=True)
    (place.root / "empty" / "rows.jsonl").write_text("")
    found, out, err = command(*placed(options, place))
    assert (found, out) == (code, "")
    assert word in err
    assert err.startswith("error[E-")
    assert "hint:" in err


def test_a_folder_that_says_two_things_is_refused_until_one_is_chosen(command, path, tmp_path):
    models.save(models.load(path("masked")), tmp_path / "two")
    Tokenizer.load(path("masked")).save(tmp_path / "two")
    (tmp_path / "two" / "modules.json").write_text("[]")
    code, _, err = command("--model", tmp_path / "two", "--data", path("text"))
    assert code == 10
    assert "says masked-lm, modules.json sentence-embedding" in err
    assert "--task masked-lm or --task sentence-embedding" in err
    options = ("--task", "masked-lm", "--model", tmp_path / "two", "--data", path("text"))
    code, out, _ = command(*options, "--json")
    assert (code, json.loads(out)["data"]["task"]) == (0, "masked-lm")


def test_models_with_other_tokens_are_not_measured_side_by_side_on_hidden_tokens(path, tmp_path):
    models.save(models.load(path("hidden")), tmp_path / "renamed")
    Tokenizer.load(path("hidden")).save(tmp_path / "renamed")
    file = tmp_path / "renamed" / "tokenizer.json"
    content = json.loads(file.read_text())
    swapped = {"w1": "w2", "w2": "w1"}
    words = content["model"]["vocab"].items()
    content["model"]["vocab"] = {swapped.get(word, word): number for word, number in words}
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="another tokenizer than"):
        evaluate_masked(
            [path("masked"), str(tmp_path / "renamed")], data=DatasetSpec((path("text"),))
        )
