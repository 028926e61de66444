"""`--compute` of the commands that use models: what it changes, and what is said about it."""

import json

import pytest

from entrenar_common.testing import render_plain
from entrenar_core import models
from entrenar_core.data.sources import DatasetSpec
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.models.computing import COMPUTING, computed_in, load_for
from entrenar_distill.cli import main
from entrenar_distill.compute_option import NAMES
from entrenar_distill.evaluate import evaluate
from entrenar_distill.export import export
from entrenar_distill.generation import end_ids
from entrenar_distill.writer import Writer, WritingOptions

pytestmark = pytest.mark.tier2


@pytest.fixture(scope="module")
def teacher(world):
    return str(world / "teacher")


@pytest.fixture(scope="module")
def text(world):
    return DatasetSpec((str(world / "text"),))


def run(capsys, *words):
    code = main.main([*map(str, words)], standalone_mode=False) or 0
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_choices_of_the_option_are_those_of_the_library():
    assert tuple(COMPUTING) == NAMES


@pytest.mark.parametrize("name", NAMES[1:])
def test_perplexity_is_near_that_in_float32(name, teacher, text):
    names = ("float32", name)
    exact, rounded = (evaluate([teacher], data=text, seq_len=16, compute=n) for n in names)
    assert (exact.compute, rounded.compute) == names
    wanted, found = (each.text.models[0].perplexity.value for each in (exact, rounded))
    assert found != wanted
    assert found == pytest.approx(wanted, rel=1e-3)


def test_a_file_in_q8_0_is_computed_with_its_own_numbers(teacher, text, tmp_path):
    path = str(tmp_path / "t.gguf")
    export(teacher, path, form="gguf", quantization="q8_0")
    names = ("float32", "int8")
    exact, rounded = (evaluate([path], data=text, seq_len=16, compute=name) for name in names)
    wanted, found = (each.text.models[0].perplexity.value for each in (exact, rounded))
    assert found != wanted
    assert found == pytest.approx(wanted, rel=1e-3)


def test_the_command_measures_in_int8_and_says_so(teacher, text, capsys):
    options = ("evaluate", "-q", "--model", teacher, "--data", *text.paths, "--seq-len", 16)
    code, printed, _ = run(capsys, *options, "--compute", "int8", "--json")
    data = json.loads(printed)["data"]
    assert (code, data["compute"]) == (0, "int8")
    again = evaluate([teacher], data=text, seq_len=16, compute="int8")
    assert data["text"]["models"][0]["loss"]["value"] == again.text.models[0].loss.value
    assert "computed in" in render_plain(again)
    assert json.loads(run(capsys, *options, "--json")[1])["data"]["compute"] == "float32"


@pytest.mark.parametrize("name", NAMES[1:])
def test_the_text_is_what_the_library_generates(name, teacher):
    options = WritingOptions(max_new_tokens=28)
    found = Writer.load(teacher, compute=name).write("the red fox", options)
    model, tokenizer = load_for(teacher, name), Tokenizer.load(teacher)
    ids, ends = tokenizer.encode("the red fox"), end_ids(model, tokenizer)
    with computed_in(name):
        wanted = models.generate(
            model, ids, max_new_tokens=28, tokenizer=tokenizer, eos_ids=ends
        )  # fmt: skip
    assert found.text == models.new_text(tokenizer, wanted, len(ids), eos_ids=ends)
    assert found.compute == name
    assert found.summary.endswith(f"({name})")


def test_the_command_writes_in_int8_and_says_so(teacher, capsys):
    options = ("generate", "--model", teacher, "the red fox", "--max-new-tokens", 12)
    code, printed, _ = run(capsys, *options, "--compute", "int8", "--json")
    data = json.loads(printed)["data"]
    found = Writer.load(teacher, compute="int8").write(
        "the red fox", WritingOptions(max_new_tokens=12)
    )
    assert (code, data["compute"], data["text"]) == (0, "int8", found.text)
    code, printed, said = run(capsys, *options, "--compute", "int8")
    assert printed.strip() == found.text.strip()
    assert "(int8)" in said


def test_what_is_written_by_evaluate_is_computed_in_int8(teacher, tmp_path, monkeypatch):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "the red fox", "reference": "runs"}\n')
    seen = []
    plain = models.generate

    def watched(model, *given, **options):
        seen.append(type(model.model.layers[0].mlp.up_proj.weight.data.kept).__name__)
        return plain(model, *given, **options)

    monkeypatch.setattr(models, "generate", watched)
    request = ("--model", teacher, "--generate", rows, "--compute", "int8", "--max-new-tokens", 3)
    assert not main.main(["evaluate", "-q", *map(str, request)], standalone_mode=False)
    assert seen == ["PanelArray"]


def test_another_name_is_refused_as_usage(teacher, capsys):
    code, _, said = run(capsys, "generate", "--model", teacher, "x", "--compute", "int7")
    assert code == 2
    assert "int7" in said
