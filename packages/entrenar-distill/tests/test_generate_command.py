"""`entrenar-distill generate`: what is written, shown in pieces, and asked of a chat model."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_common.errors import ConfigError
from entrenar_core import models
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_distill.cli import main
from entrenar_distill.generation import end_ids
from entrenar_distill.writer import Writer, WritingOptions, _certain

pytestmark = pytest.mark.tier2

PROMPT = "the red fox"


@pytest.fixture(scope="module")
def writer(world):
    return Writer.load(str(world / "teacher"))


@pytest.fixture(scope="module")
def plain(world):
    """The model and the tokenizer by themselves."""
    return models.load(world / "teacher"), Tokenizer.load(world / "teacher")


def run(*words):
    return main(list(words), standalone_mode=False)


@pytest.mark.parametrize(
    "options",
    [
        WritingOptions(max_new_tokens=28),
        WritingOptions(max_new_tokens=28, temperature=1.5, seed=4),
        WritingOptions(max_new_tokens=28, temperature=1.0, top_k=9, top_p=0.8, min_p=0.01),
        WritingOptions(max_new_tokens=28, repetition_penalty=1.3, stop=("e", "zz")),
    ],
    ids=["greedy", "drawn", "cut", "stopped"],
)
def test_the_text_is_that_of_the_library_and_its_pieces_are_the_text(writer, plain, options):
    model, tokenizer = plain
    pieces = []
    found = writer.write(PROMPT, options, show=pieces.append)
    ids = tokenizer.encode(PROMPT)
    wanted = models.generate(
        model, ids, max_new_tokens=28, temperature=options.temperature, top_k=options.top_k,
        top_p=options.top_p, min_p=options.min_p, stop=options.stop, seed=options.seed,
        repetition_penalty=options.repetition_penalty, tokenizer=tokenizer,
        eos_ids=end_ids(model, tokenizer),
    )  # fmt: skip
    text = models.new_text(
        tokenizer, wanted, len(ids), stop=options.stop, eos_ids=end_ids(model, tokenizer)
    )
    assert found.text == "".join(pieces) == text
    assert (found.prompt_tokens, found.new_tokens) == (len(ids), len(wanted) - len(ids))


def test_characters_of_several_tokens_are_shown_whole(writer, plain, monkeypatch):
    _, tokenizer = plain
    ids = tokenizer.encode("naïve 漢字 🙂.")

    def scripted(_model, prompt, *, each, max_new_tokens, **_options):
        found = list(prompt)
        for number in ids[:max_new_tokens]:
            found.append(int(number))
            each(0, found)
        return np.array(found)

    monkeypatch.setattr(models, "generate", scripted)
    pieces = []
    found = writer.write(PROMPT, WritingOptions(max_new_tokens=len(ids)), show=pieces.append)
    assert found.text == "".join(pieces)
    assert "漢字 🙂." in found.text
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)
    assert len(pieces) > 3


@given(text=st.text("ab\n", max_size=12), more=st.text("ab\n", max_size=6))
def test_what_is_certain_stays_whatever_comes(text, more):
    stop = ["ab\n", "bb"]

    def cut(whole):
        found = [whole.find(string) for string in stop if string in whole]
        return whole[: min(found)] if found else whole

    if cut(text) == text:
        assert cut(text + more).startswith(_certain(text, stop))


@pytest.mark.parametrize(
    ("stop", "count", "ended"), [((), 5, "length"), (("e",), 20, "stop"), ((), 0, "length")]
)
def test_it_says_why_it_ended(writer, stop, count, ended):
    found = writer.write(PROMPT, WritingOptions(max_new_tokens=count, stop=stop))
    assert found.ended == ended
    assert "e" not in found.text or not stop


def test_an_end_of_text_token_ends_it_and_is_not_in_the_text(writer, plain, monkeypatch):
    _, tokenizer = plain

    def ended(_model, prompt, *, each, **_options):
        found = [*prompt, int(tokenizer.encode(" tree")[0]), tokenizer.eos_id]
        each(0, found)
        return np.array(found)

    monkeypatch.setattr(models, "generate", ended)
    found = writer.write(PROMPT, WritingOptions())
    assert found.ended == "end"
    assert found.text == tokenizer.decode(tokenizer.encode(" tree")[:1])


TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_a_question_is_what_the_models_template_makes_of_it(plain):
    model, tokenizer = plain
    chat = Writer("chat", model, tokenizer.with_chat_template(TEMPLATE))
    assert chat.as_question("Hi", system="Be brief.") == "<system>Be brief.\n<user>Hi\n<assistant>"


def test_a_model_without_a_template_has_no_chat(writer):
    with pytest.raises(ConfigError, match="no chat template"):
        writer.as_question("Hi")


def test_more_positions_than_there_are_is_an_error_before_anything_is_written(writer):
    pieces = []
    with pytest.raises(ConfigError, match="prompt tokens and 9999 new ones"):
        writer.write(PROMPT, WritingOptions(max_new_tokens=9999), show=pieces.append)
    assert not pieces


def test_the_command_writes_the_text_and_a_line_about_it(world, writer, capsys):
    assert run("generate", "--model", str(world / "teacher"), "--max-new-tokens", "8", PROMPT) == 0
    shown = capsys.readouterr()
    wanted = writer.write(PROMPT, WritingOptions(max_new_tokens=8))
    assert shown.out == wanted.text.removesuffix("\n") + "\n"
    assert shown.err.startswith("8 tokens in ")


def test_the_prompt_is_read_from_standard_input(world, writer, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(PROMPT))
    words = ["--model", str(world / "teacher"), "--max-new-tokens", "6", "--json"]
    assert run("generate", *words) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "entrenar.distill.generate/1"
    found = document["data"]
    assert found["prompt"] == PROMPT
    assert found["text"] == writer.write(PROMPT, WritingOptions(max_new_tokens=6)).text
