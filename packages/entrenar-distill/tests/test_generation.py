"""`entrenar-distill evaluate --generate`: what is written, and how it is compared."""

import csv
import json
import sys

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from entrenar_common.errors import ConfigError, FormatError, NumericsError, UnsupportedError
from entrenar_common.testing import render_plain
from entrenar_core import models
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_distill.cli import main
from entrenar_distill.evaluate import evaluate
from entrenar_distill.generation import GenerationRequest, Row, Written, read_rows
from entrenar_distill.generation_figures import Comparison

pytestmark = pytest.mark.tier2

WORDS = ["the", "red", "fox", "sees", "a", "small", "tree", "near", "the", "old", "house", "now"]


@pytest.fixture(scope="module")
def rows():
    """Prompts of different lengths, and sentences of the words that the world is made of."""
    rng = np.random.default_rng(3)
    return [
        {
            "prompt": " ".join(WORDS[: 1 + i % 5]),
            "reference": " ".join(WORDS[j] for j in rng.integers(len(WORDS), size=6)),
        }
        for i in range(24)
    ]


@pytest.fixture
def file(rows, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def request(path, **options):
    return GenerationRequest((str(path),), **{"max_new_tokens": 6, **options})


def texts_of(report):
    return report.generation.models[0].first_texts


def alone(world, rows, **options):
    """What the teacher writes after each prompt by itself."""
    model, tokenizer = models.load(world / "teacher"), Tokenizer.load(world / "teacher")
    texts = []
    for number, row in enumerate(rows):
        prompt = tokenizer.encode(row["prompt"])
        ids = models.generate(
            model, prompt, max_new_tokens=6, first_row=number, tokenizer=tokenizer, **options
        )
        stop = options.get("stop", ())
        texts.append(
            models.new_text(tokenizer, ids, len(prompt), stop=stop, eos_ids=tokenizer.eos_id)
        )
    return [text.strip() for text in texts]


@pytest.mark.parametrize("batch_size", [1, 5, 64])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_texts_are_those_of_each_prompt_alone(world, rows, file, batch_size, temperature):
    report = evaluate(
        [str(world / "teacher")], generate=request(file, temperature=temperature),
        batch_size=batch_size, seed=5,
    )  # fmt: skip
    assert list(texts_of(report)) == alone(world, rows[:3], temperature=temperature, seed=5)


def test_a_stop_text_ends_what_is_written(world, rows, file):
    stop = alone(world, rows[:1])[0][1:3]
    report = evaluate([str(world / "teacher")], generate=request(file, stop=(stop,)))
    assert list(texts_of(report)) == alone(world, rows[:3], stop=(stop,))
    assert stop not in texts_of(report)[0]


@pytest.fixture(scope="module")
def compared(rows):
    """Two models' texts, one half right, and what is made of them."""
    references = [Row(str(i), row["prompt"], row["reference"]) for i, row in enumerate(rows)]
    good = [
        row["reference"] if i % 2 else row["reference"].replace("the", "a")
        for i, row in enumerate(rows)
    ]
    poor = [row["prompt"] for row in rows]
    written = [Written("poor", poor, 100, 2.0), Written("good", good, 100, 4.0)]
    comparison = Comparison(references, GenerationRequest(("rows.jsonl",)))
    return comparison.evaluate(written, first=0, seed=1), {"poor": poor, "good": good}


@pytest.mark.parametrize(("number", "name"), [(0, "poor"), (1, "good")])
def test_bleu_and_chrf_are_those_of_sacrebleu(compared, rows, number, name):
    report, texts = compared
    references = [[row["reference"] for row in rows]]
    bleu, chrf = BLEU(), CHRF()
    found = report.models[number]
    assert found.bleu.value == bleu.corpus_score(texts[name], references).score
    assert found.chrf.value == chrf.corpus_score(texts[name], references).score
    assert report.signatures == {
        "bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())
    }  # fmt: skip


def test_bounds_are_those_of_scores_of_resampled_rows(compared, rows):
    """sacrebleu's whole computation on rows drawn anew, in place of sums of its counts."""
    report, texts = compared
    references = [row["reference"] for row in rows]
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(250):
        drawn = rng.integers(len(rows), size=len(rows))
        picked = [texts["good"][i] for i in drawn], [[references[i] for i in drawn]]
        scores.append(CHRF().corpus_score(*picked).score)
    low, high = np.quantile(scores, [0.025, 0.975])
    found = report.models[1].chrf
    assert [found.low, found.high] == pytest.approx([low, high], abs=0.2 * (high - low))


def test_exact_matches_are_counted_and_differences_paired(compared, rows):
    report, texts = compared
    same = sum(a == row["reference"] for a, row in zip(texts["good"], rows, strict=True))
    assert report.models[1].exact_match.value == same / len(rows)
    (difference,) = report.differences
    assert difference.bleu.value == report.models[1].bleu.value - report.models[0].bleu.value
    assert difference.exact_match.low > 0
    assert report.intervals.over == "rows"


def test_throughput_is_of_new_tokens(compared):
    assert [model.tokens_per_second for model in compared[0].models] == [50.0, 25.0]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_are_read_from_other_formats_alike(rows, file, tmp_path, form):
    path = tmp_path / f"rows.{form}"
    if form == "csv":
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["reference", "prompt"])
            writer.writeheader()
            writer.writerows(rows)
    else:
        arrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(arrow.Table.from_pylist(rows), path)
    found, wanted = read_rows(request(path)), read_rows(request(file))
    assert [(r.prompt, r.reference) for r in found] == [(r.prompt, r.reference) for r in wanted]
    assert len(found) == 24


def test_a_row_without_a_reference_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "reference": "b"}\n{"prompt": "a", "reference": ""}\n')
    with pytest.raises(FormatError, match=r"rows\.jsonl:2: the reference is empty"):
        read_rows(request(path))


def test_a_text_file_has_no_prompts(world):
    with pytest.raises(ConfigError, match="has no fields prompt, reference"):
        read_rows(request(world / "text" / "000.txt"))


def test_a_prompt_that_leaves_no_room_is_named(world, file):
    with pytest.raises(ConfigError, match=r"rows\.jsonl:1: \d+ prompt tokens and 99 new ones"):
        evaluate([str(world / "teacher")], generate=request(file, max_new_tokens=99))


def test_a_model_that_gives_no_numbers_writes_nothing(teacher, file):
    model = models.load(teacher)
    model.named_parameters()["model.norm.weight"].data[3] = np.nan
    models.save(model, teacher)
    with pytest.raises(NumericsError, match=r"rows \S+:1 to \S+:8.*not finite"):
        evaluate([str(teacher)], generate=request(file), batch_size=8)


def test_without_sacrebleu_it_is_said_before_anything_is_written(world, file, monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(UnsupportedError, match="need sacrebleu"):
        evaluate([str(world / "teacher")], generate=request(file))


def test_the_command_shows_signatures_and_counts(world, rows, tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"q": r["prompt"], "a": r["reference"]}) for r in rows))
    code = main.main(
        ["evaluate", "-q", "--model", str(world / "teacher"), "--generate", str(path),
         "--prompt-field", "q", "--reference-field", "a", "--max-new-tokens", "4"],
        standalone_mode=False,
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert (code or 0) == 0
    assert str(len(rows)) in shown
    assert "tok:13a" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_view_of_a_report_without_differences_has_none(world, file):
    shown = render_plain(evaluate([str(world / "teacher")], generate=request(file)))
    assert "Differences" not in shown
