"""`entrenar-distill evaluate` on documents: figures, what they are compared with, errors."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from entrenar_common.errors import ConfigError, NumericsError
from entrenar_common.testing import render_plain, run_cli
from entrenar_core import models
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokens import tokenize
from entrenar_core.train.evaluate import score
from entrenar_distill.cli import main
from entrenar_distill.evaluate import evaluate
from entrenar_distill.export import export
from entrenar_distill.statistics import bits_per_byte_difference

pytestmark = pytest.mark.tier2

SEQ_LEN = 16


@pytest.fixture(scope="module")
def folders(world, tmp_path_factory):
    """The teacher, a `padded` model with some rows more, the teacher as a `gguf` file, and one with
    the `other` tokenizer."""
    root = tmp_path_factory.mktemp("models")
    config = models.read_config(world / "teacher").to_hf()
    padded = models.from_config({**config, "vocab_size": config["vocab_size"] + 8}, seed=2)
    models.save(padded, root / "padded")
    Tokenizer.load(world / "teacher").save(root / "padded")
    export(str(world / "teacher"), str(root / "t.gguf"), form="gguf", quantization="f32")
    return SimpleNamespace(
        teacher=str(world / "teacher"),
        padded=str(root / "padded"),
        gguf=str(root / "t.gguf"),
        other=str(world / "other"),
        text=DatasetSpec((str(world / "text"),)),
    )


@pytest.fixture(scope="module")
def beside_teacher(folders):
    """The report of two students beside the teacher."""
    return evaluate(
        [folders.padded, folders.gguf], teacher=folders.teacher, data=folders.text, seq_len=SEQ_LEN
    )


@pytest.fixture(scope="module")
def scores(folders):
    """What the library scores the same models at."""
    tokenizer = Tokenizer.load(folders.teacher)
    pair = {name: models.load(getattr(folders, name)) for name in ("teacher", "padded")}
    documents = tokenize(folders.text, tokenizer)
    return score(pair, documents, seq_len=SEQ_LEN, batch_size=7, eos_id=tokenizer.eos_id)


@pytest.fixture
def command(capsys):
    """Runs `evaluate` with options; gives the exit code and what it printed."""

    def run(*options):
        code = main.main(["evaluate", "-q", *map(str, options)], standalone_mode=False)
        printed = capsys.readouterr()
        return code or 0, printed.out, printed.err

    return run


@pytest.mark.parametrize(("number", "name"), [(0, "teacher"), (1, "padded")])
def test_figures_are_those_that_the_library_scores(beside_teacher, scores, number, name):
    found, wanted = beside_teacher.text.models[number], scores[name]
    tokens = wanted.tokens.sum()
    assert found.tokens == tokens
    assert found.loss.value == pytest.approx(wanted.loss, rel=1e-5)
    assert found.perplexity.value == pytest.approx(math.exp(wanted.loss), rel=1e-4)
    assert found.bits_per_byte.value == pytest.approx(wanted.bits_per_byte, rel=1e-5)
    assert found.top5_accuracy.value == wanted.in_top.sum() / tokens
    assert found.brier.value == pytest.approx(wanted.brier.sum() / tokens, rel=1e-4)
    count, confidence, hits = wanted.calibration.sum(axis=0).T
    assert found.accuracy.value == hits.sum() / tokens
    some = count > 0
    gaps = np.abs(hits[some] / count[some] - confidence[some] / count[some])
    assert found.ece.value == pytest.approx((count[some] / tokens) @ gaps, rel=1e-4)


def test_kl_and_agreement_are_the_models_with_the_teacher(beside_teacher, scores):
    teacher, padded, gguf = beside_teacher.text.models
    tokens = scores["padded"].tokens.sum()
    assert (teacher.kl, teacher.agreement) == (None, None)
    assert padded.kl.value == pytest.approx(scores["padded"].divergence.sum() / tokens, rel=1e-4)
    assert padded.agreement.value == pytest.approx(scores["padded"].agreement)
    assert (gguf.kl.value, gguf.agreement.value) == (0.0, 1.0)


def test_every_figure_lies_in_its_interval(beside_teacher):
    for model in beside_teacher.text.models:
        for name in ("loss", "perplexity", "bits_per_byte", "accuracy", "top5_accuracy"):
            figure = getattr(model, name)
            assert figure.low <= figure.value <= figure.high
    assert beside_teacher.text.intervals.method == "bootstrap"
    assert beside_teacher.text.intervals.count == 24


def test_the_difference_is_paired_over_documents(beside_teacher, scores):
    (found,) = beside_teacher.text.differences  # the teacher has none
    wanted = bits_per_byte_difference(
        scores["teacher"].nats, scores["padded"].nats, scores["padded"].bytes
    )
    figure = found.bits_per_byte
    assert [figure.value, figure.low, figure.high] == pytest.approx(
        [wanted.bits_per_byte, wanted.low, wanted.high], rel=1e-3
    )
    width = figure.high - figure.low
    own = [m.bits_per_byte.high - m.bits_per_byte.low for m in beside_teacher.text.models]
    assert width < min(own)


def test_a_file_in_full_precision_has_the_figures_of_its_folder(folders):
    report = evaluate([folders.teacher, folders.gguf], data=folders.text, seq_len=SEQ_LEN)
    one, other = report.text.models
    for name in ("loss", "bits_per_byte", "accuracy", "top5_accuracy", "ece", "brier"):
        mine, its = getattr(one, name), getattr(other, name)
        assert (mine.value, mine.low, mine.high) == (its.value, its.low, its.high)
    assert report.text.differences[0].loss.value == 0.0


def test_batches_do_not_change_the_figures(folders, beside_teacher):
    report = evaluate([folders.padded], data=folders.text, seq_len=SEQ_LEN, batch_size=3)
    (found,), wanted = report.text.models, beside_teacher.text.models[1]
    for name in ("loss", "accuracy", "ece", "brier"):
        mine, its = getattr(found, name), getattr(wanted, name)
        assert [mine.value, mine.low, mine.high] == pytest.approx(
            [its.value, its.low, its.high], rel=1e-5
        )


def test_models_with_different_tokenizers_are_compared_in_bits_per_byte_alone(folders):
    report = evaluate([folders.teacher, folders.other], data=folders.text, seq_len=SEQ_LEN)
    (found,) = report.text.differences
    assert (found.loss, found.accuracy, found.kl) == (None, None, None)
    one, other = (model.bits_per_byte.value for model in report.text.models)
    assert found.bits_per_byte.value == pytest.approx(other - one)


def test_a_teacher_with_another_tokenizer_is_refused(folders):
    with pytest.raises(ConfigError, match="another tokenizer than the teacher"):
        evaluate([folders.padded], teacher=folders.other, data=folders.text)


def test_few_documents_get_students_interval_and_no_calibration_bounds(folders, world):
    few = DatasetSpec((str(world / "text"),), max_documents=5)
    report = evaluate([folders.teacher], data=few, seq_len=SEQ_LEN)
    (found,) = report.text.models
    assert report.text.intervals.method == "jackknife t"
    assert found.loss.low < found.loss.value < found.loss.high
    assert math.isnan(found.ece.low)
    assert "too few documents" in render_plain(report)


def test_windows_longer_than_a_model_are_cut_and_that_is_said(folders):
    report = evaluate([folders.teacher], data=folders.text, seq_len=999)
    assert report.text.seq_len == 32
    assert "windows of 32 tokens" in render_plain(report)


def test_the_view_fits_80_columns_and_says_what_intervals_are_over(beside_teacher):
    shown = render_plain(beside_teacher)
    assert max(map(len, shown.splitlines())) <= 80
    assert "over 24 documents" in shown
    assert "Differences to padded" in shown


def test_json_has_every_figure_with_its_bounds(command, folders):
    code, out, err = command(
        "--model", folders.padded, "--teacher", folders.teacher, "--data", folders.text.paths[0],
        "--seq-len", SEQ_LEN, "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["schema"] == "entrenar.distill.evaluate/1"
    found = document["data"]["text"]["models"][1]
    assert found["loss"].keys() == {"value", "low", "high"}
    assert sum(part["count"] for part in found["calibration"]) == found["tokens"]
    assert document["data"]["generation"] is None


def test_the_installed_command_prints_one_document_and_progress_beside_it(folders):
    done = run_cli(
        ["entrenar-distill", "evaluate", "--json", "--model", folders.gguf, "--seq-len", "16",
         "--data", folders.text.paths[0], "--max-documents", "2"],
    )  # fmt: skip
    assert done.returncode == 0
    assert json.loads(done.stdout)["data"]["text"]["documents"] == 2
    assert "evaluate: done" in done.stderr


def test_fields_of_rows_are_documents(command, world, folders, tmp_path):
    path = tmp_path / "rows.jsonl"
    texts = [file.read_text() for file in sorted((world / "text").iterdir())]
    path.write_text("\n".join(json.dumps({"body": text}) for text in texts))
    _, out, _ = command(
        "--model", folders.teacher, "--data", path, "--text-field", "body", "--seq-len", SEQ_LEN,
        "--json",
    )  # fmt: skip
    found = json.loads(out)["data"]["text"]["models"][0]
    wanted = evaluate([folders.teacher], data=folders.text, seq_len=SEQ_LEN).text.models[0]
    assert found["loss"]["value"] == wanted.loss.value


def test_a_document_under_which_a_model_gives_no_number_is_named(teacher, world):
    weights = models.load(teacher)
    tokenizer = Tokenizer.load(teacher)
    rare = world / "text" / "007.txt"
    others = [p for p in sorted((world / "text").iterdir()) if p != rare]
    (token,) = tokenizer.encode("\x07")
    weights.named_parameters()["model.embed_tokens.weight"].data[token] = np.nan
    models.save(weights, teacher)
    bad = teacher / "bad.txt"
    bad.write_text("the fox \x07 sleeps")
    data = DatasetSpec((*map(str, others), str(bad)))
    with pytest.raises(NumericsError, match=r"bad\.txt \(1 of 24 documents\)"):
        evaluate([str(teacher)], data=data, seq_len=SEQ_LEN)


def test_a_model_that_predicts_no_text_is_refused(world, tmp_path):
    bert = {
        "model_type": "bert", "vocab_size": 320, "hidden_size": 8, "intermediate_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": 32,
    }  # fmt: skip
    models.save(models.from_config(bert, seed=1, head="masked-lm"), tmp_path / "bert")
    Tokenizer.load(world / "teacher").save(tmp_path / "bert")
    with pytest.raises(ConfigError, match="not a language model"):
        evaluate([str(tmp_path / "bert")], data=DatasetSpec((str(world / "text"),)))


def test_text_with_tokens_that_a_model_has_no_row_for_is_refused(world, folders, tmp_path):
    config = models.read_config(world / "teacher").to_hf()
    models.save(models.from_config({**config, "vocab_size": 100}, seed=1), tmp_path / "small")
    Tokenizer.load(folders.teacher).save(tmp_path / "small")
    with pytest.raises(ConfigError, match="100 rows"):
        evaluate([str(tmp_path / "small")], data=folders.text)


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        ([], 10, "nothing to measure"),
        (["--data", "nowhere/*.txt"], 14, "nowhere"),
        (["--data", "{empty}"], 10, "no documents"),
        (["--data", "{rows}", "--text-field", "body"], 11, "body"),
        (["--text-field", "body", "--generate", "{rows}"], 10, "--text-field without --data"),
        (["--data", "{rows}", "--stop", "x"], 10, "--stop without --generate"),
        (["--generate", "{rows}", "--teacher", "t"], 10, "teacher without documents"),
        (["--data", "{rows}", "--model", "{model}"], 10, "more than once"),
        (["--data", "{rows}", "--batch-size", "0"], 10, "batch_size"),
        (["--generate", "{rows}", "--temperature", "-1"], 10, "temperature -1"),
        (["--generate", "{rows}", "--max-new-tokens", "0"], 10, "max_new_tokens is 0"),
        (["--generate", "{rows}", "--prompt-field", "q"], 11, "'q'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_a_hint(
    command, folders, tmp_path, options, code, word
):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "rows.jsonl").write_text('{"text": "the fox", "prompt": "a", "reference": "b"}\n')
    places = {
        "empty": tmp_path / "empty.txt", "rows": tmp_path / "rows.jsonl", "model": folders.teacher
    }  # fmt: skip
    found, out, err = command(
        "--model", folders.teacher, *(option.format(**places) for option in options)
    )
    assert (found, out) == (code, "")
    assert word in err
    assert err.startswith("error[E-")
    assert "hint:" in err
