"""Conversations and completions from files to ids, with what is trained on in them."""

import json

import numpy as np
import pytest

from chat_cases import CHATML, chat_tokenizer, said
from entrenar_common.errors import ConfigError, FormatError
from entrenar_core.data import tokens as tokens_module
from entrenar_core.data.row_kinds import Completions, Conversations, answer_mask
from entrenar_core.data.sources import DatasetSpec, iter_documents
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.data.tokens import split, tokenize

pytestmark = pytest.mark.tier2

ROWS = [
    {"messages": said("Hi", "Hello!"), "prompt": "1 + 1 =", "completion": " 2"},
    {"messages": said("ä 🙂", "ß 🎉", "more", "no"), "prompt": "", "completion": "ä🙂"},
    {"messages": said("x" * 99, "y"), "prompt": "a b c", "completion": "d"},
]
KINDS = {"chat": Conversations(template=CHATML), "completion": Completions()}


@pytest.fixture
def tokenizer():
    return chat_tokenizer()


@pytest.fixture
def run(tmp_path, tokenizer):
    """Tokenizes rows that are written to a file, with a cache of its own."""

    def call(rows=ROWS, *, kind="chat", name="rows.jsonl", use_cache=True, use=tokenizer, **more):
        path = tmp_path / name
        if not path.exists():
            path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
        spec = DatasetSpec((name,), root=tmp_path, rows=more.pop("as_rows", KINDS[kind]), **more)
        return tokenize(spec, use, cache_root=tmp_path / "cache", use_cache=use_cache)

    return call


def contents(docs):
    ids = [docs.document(i).tolist() for i in range(len(docs))]
    masks = [docs.targets(i).tolist() for i in range(len(docs))]
    found = docs.byte_counts.tolist(), docs.closed, docs.fingerprint, docs.warnings
    return list(docs.names), ids, masks, *found


def test_the_tokens_of_answers_are_trained_on(run, tokenizer):
    docs = run()
    assert docs.closed
    texts = [tokenizer.decode(docs.document(i)) for i in range(3)]
    assert texts[0] == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"
    answers = [tokenizer.decode(docs.document(i)[docs.targets(i)]) for i in range(3)]
    assert answers == ["Hello!<|im_end|>", "ß 🎉<|im_end|>no<|im_end|>", "y<|im_end|>"]
    assert docs.byte_counts.tolist() == [len(answer.encode()) for answer in answers]


def test_the_tokens_of_completions_are_trained_on(run, tokenizer):
    docs = run(kind="completion")
    assert not docs.closed
    for i, row in enumerate(ROWS):
        ids, mask = docs.document(i), docs.targets(i)
        assert tokenizer.decode(ids) == row["prompt"] + row["completion"]
        assert tokenizer.decode(ids[mask]) == row["completion"]
        assert docs.byte_counts[i] == len(row["completion"].encode())


def test_a_token_of_prompt_and_completion_is_the_completions(run, tokenizer):
    (whole,) = tokenizer.encode_many(["Hello"])
    assert len(whole) < len(tokenizer.encode("Hel")) + len(tokenizer.encode("lo"))
    docs = run([{"prompt": "Hel", "completion": "lo"}], kind="completion")
    assert "lo" in tokenizer.decode(docs.document(0)[docs.targets(0)])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_cached_is_what_is_computed(run, kind, monkeypatch):
    fresh = contents(run(kind=kind, use_cache=False))
    assert contents(run(kind=kind)) == fresh
    monkeypatch.setattr(tokens_module, "read_documents", None)  # nothing is read again
    assert contents(run(kind=kind)) == fresh


def test_other_rows_templates_and_tokens_have_a_cache_of_their_own(run, tokenizer):
    kinds = [
        None,
        Conversations(template=CHATML),
        Conversations(template=CHATML + " "),
        Conversations(template=CHATML, answers_only=False),
        Completions(),
        Completions(answers_only=False),
        Completions("completion", "prompt"),
    ]
    keys = {tokens_module._key(DatasetSpec(("x",), rows=kind), [], tokenizer) for kind in kinds}
    other = chat_tokenizer(CHATML)
    other._named["bos_token"] = "</s>"
    keys |= {tokens_module._key(DatasetSpec(("x",), rows=kinds[1]), [], other)}
    assert len(keys) == len(kinds) + 1


def test_a_damaged_mask_in_the_cache_is_made_again(run, tmp_path):
    first = contents(run())
    (path,) = (tmp_path / "cache").glob("*/trained.bin")
    path.write_bytes(path.read_bytes()[:-1])
    assert contents(run()) == first


def test_masks_follow_the_documents_that_are_chosen(run):
    docs = run()
    chosen = docs.select([2, 0])
    assert [chosen.targets(i).tolist() for i in (0, 1)] == [
        docs.targets(i).tolist() for i in (2, 0)
    ]
    train, held_out = split(docs, 0.4, 1)
    assert train.closed
    assert held_out.trained is not None


def test_fingerprints_tell_masks_apart(run):
    all_of_it = Completions(answers_only=False)
    whole, answers = run(as_rows=all_of_it), run(kind="completion")
    assert whole.tokens.tolist() == answers.tokens.tolist()
    assert whole.fingerprint != answers.fingerprint
    assert whole.trained is None


@pytest.mark.parametrize("kind", KINDS)
def test_parquet_has_the_same_documents_as_json(run, kind, tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.Table.from_pylist([*ROWS, ROWS[0] | {"more": 1}])
    parquet.write_table(table, tmp_path / "rows.parquet")
    wanted, found = run([*ROWS, ROWS[0]], kind=kind), run(kind=kind, name="rows.parquet")
    assert contents(found)[1:5] == contents(wanted)[1:5]
    assert found.names[3] == "rows.parquet:4"


def test_csv_has_completions_too(run, tmp_path):
    lines = "".join(f'"{row["prompt"]}","{row["completion"]}"\n' for row in ROWS)
    (tmp_path / "rows.csv").write_text("prompt,completion\n" + lines)
    found, wanted = run(kind="completion", name="rows.csv"), run(kind="completion")
    assert contents(found)[1:5] == contents(wanted)[1:5]


GOOD = ROWS[0]
BAD = {
    "not valid JSON": ("chat", "{"),
    "there is no field 'messages'": ("chat", "{}"),
    "there is no field 'prompt'": ("completion", '{"completion": "x"}'),
    "field 'completion' is a list, wanted text": (
        "completion",
        '{"prompt": "", "completion": []}',
    ),
    "field 'completion' is empty": ("completion", '{"prompt": "x", "completion": ""}'),
    "the messages are a number": ("chat", '{"messages": 7}'),
    "half of a surrogate pair": ("completion", '{"prompt": "x", "completion": "\\ud83d"}'),
    "no answer to learn from": ("chat", json.dumps({"messages": said("Hi")})),
}


@pytest.mark.parametrize("problem", BAD)
def test_a_bad_row_is_an_error_with_its_line_or_left_out(run, problem, tmp_path):
    kind, line = BAD[problem]
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(GOOD)}\n{line}\n{json.dumps(GOOD)}\n")
    with pytest.raises(FormatError, match=r"rows\.jsonl:2: ") as error:
        run(kind=kind, use_cache=False)
    assert problem in str(error.value)
    docs = run(kind=kind, skip_bad=True)
    assert list(docs.names) == ["rows.jsonl:1", "rows.jsonl:3"]
    assert docs.skips.count == 1
    assert problem in docs.skips.problems[0]


def test_an_answer_without_a_token_is_a_bad_row(run, tokenizer):
    content, config = tokenizer.to_json()
    content["normalizer"] = {"type": "Strip", "strip_left": True, "strip_right": True}
    strips = Tokenizer.from_json(content, config)
    rows = [{"prompt": "a", "completion": " "}, {"prompt": "a", "completion": "b"}]
    with pytest.raises(FormatError, match=r"rows\.jsonl:1: no token is of an answer"):
        run(rows, kind="completion", use=strips)
    docs = run(rows, kind="completion", use=strips, skip_bad=True)
    assert (list(docs.names), docs.skips.count) == (["rows.jsonl:2"], 1)


def test_files_of_text_have_no_conversations(run, tmp_path):
    (tmp_path / "rows.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"rows\.txt: a file of text has no fields"):
        run(name="rows.txt")


def test_documents_of_rows_need_a_tokenizer(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}")
    with pytest.raises(ConfigError, match="with a tokenizer"):
        list(iter_documents(DatasetSpec(("rows.jsonl",), root=tmp_path, rows=KINDS["chat"])))


def test_conversations_of_which_a_model_learns_no_end_are_told(run, tmp_path):
    source = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    for _ in range(2):  # computed, then cached
        (text,) = run(as_rows=Conversations(template=source)).warnings
        assert text.startswith("the last answer of 3 of 3 conversations ends without")
    assert run().warnings == ()


def test_spaces_that_a_token_leaves_out_of_its_characters_are_its():
    tokenizer = chat_tokenizer(trim_offsets=True)
    text = "user Hello there"
    ((ids, offsets),) = tokenizer.encode_spans([text], template=False)
    assert tokenizer.decode(ids[answer_mask(offsets, ((4, len(text)),))]) == " Hello there"


def test_tokens_that_a_tokenizer_puts_around_are_of_no_answer():
    offsets = np.array([[0, 0], [0, 2], [2, 2], [2, 4], [0, 0]])
    assert answer_mask(offsets, ((0, 4),)).tolist() == [False, True, True, True, False]
    assert answer_mask(offsets, ((0, 2),)).tolist() == [False, True, True, False, False]
    assert answer_mask(offsets, ((2, 4),)).tolist() == [False, False, False, True, False]
    assert answer_mask(offsets, ()).tolist() == [False] * 5
