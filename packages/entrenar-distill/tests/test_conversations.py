"""Distillation on conversations and on prompts with completions, from the file to the report."""

import itertools
import json

import numpy as np
import pytest
import yaml

from entrenar_common.errors import ConfigError
from entrenar_common.progress import NullProgress
from entrenar_core import models
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_distill.cli import main
from entrenar_distill.config import as_yaml, config_hash, resolve
from entrenar_distill.inputs import read_inputs
from entrenar_distill.report_json import read_report

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: "
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|endoftext|>{% endgeneration %}"
    "{% else %}{{ m.content }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
ANSWER = "the red fox sees"
WORDS = "a small dog runs under the old tree near house blue likes"


def rows(count):
    words = itertools.cycle(WORDS.split())
    for number in range(count):
        question = " ".join(itertools.islice(words, 3 + number % 5))
        turns = [question, ANSWER, "and near the tree", "the old dog sleeps"][: 2 + number % 2 * 2]
        roles = itertools.cycle(["user", "assistant"])
        messages = [{"role": r, "content": text} for r, text in zip(roles, turns, strict=False)]
        yield {"messages": messages, "prompt": question, "completion": " " + ANSWER}


@pytest.fixture(scope="module")
def data(tmp_path_factory, world):
    """A folder with `rows.jsonl`, `template.jinja`, and a teacher with that template."""
    folder = tmp_path_factory.mktemp("conversations")
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows(40))))
    (folder / "template.jinja").write_text(TEMPLATE)
    models.save(models.load(world / "teacher"), folder / "teacher")
    tokenizer = Tokenizer.load(world / "teacher").with_chat_template(TEMPLATE)
    tokenizer.save(folder / "teacher")
    return folder


@pytest.fixture
def write(data, write_config):
    def config(kind, **dataset):
        given = {"name": str(data / "rows.jsonl"), "kind": kind, **dataset}
        teacher = {"model_id": str(data / "teacher")}
        rate = {"max_steps": 30, "learning_rate": 3e-2, "schedule": "constant"}
        return write_config(teacher=teacher, dataset=given, training=rate, control=True)

    return config


def run(path):
    return main.main(["run", "-q", "--config", str(path)], standalone_mode=False)


@pytest.mark.tier2
@pytest.mark.parametrize("kind", ["chat", "completion"])
@pytest.mark.parametrize("packing", [True, False])
def test_a_student_learns_the_answers(write, kind, packing, tmp_path):
    assert run(write(kind, packing=packing)) in (0, None)
    report = read_report(tmp_path / "out/report.json")
    assert report.answers_only
    assert report.baseline is None
    assert report.score("control").loss < 1.5 < report.score("teacher").loss
    assert {sample.model for sample in report.samples} == {"teacher", "student"}
    text = (tmp_path / "out/report.md").read_text()
    assert "All of answers alone" in text
    assert "up to its first answer" in text


@pytest.mark.tier2
def test_the_scores_are_of_answers(write, data, tmp_path):
    """The tokens that are scored, counted from the file by hand."""
    config = resolve(write("chat"))
    inputs = read_inputs(config, progress=NullProgress())
    tokenizer = Tokenizer.load(data / "teacher")
    wanted = {}
    for number, row in enumerate(rows(40), 1):
        answers = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
        # "assistant: " ends in a space, which becomes a part of the first token
        ids = [tokenizer.encode(f" {text}<|endoftext|>") for text in answers]
        wanted[f"rows.jsonl:{number}"] = sum(map(len, ids))
    held_out = inputs.held_out
    found = [np.count_nonzero(held_out.targets(i)) for i in range(len(held_out))]
    assert found == [wanted[name.rpartition("/")[2]] for name in held_out.names]


@pytest.mark.tier2
def test_a_file_replaces_the_template_of_the_tokenizer(write, data, tmp_path):
    plain = resolve(write("chat"))
    same = resolve(write("chat", chat_template=str(data / "template.jinja")))
    other = tmp_path / "other.jinja"
    other.write_text(TEMPLATE.replace("{{ m.role }}: ", "{{ m.role | upper }}: "))
    changed = resolve(write("chat", chat_template=str(other)))
    prints = [
        read_inputs(config, progress=NullProgress()).documents for config in (plain, same, changed)
    ]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.tier2
def test_conversations_that_are_cut_are_counted(write, capsys):
    assert run(write("chat", max_length=12, held_out=0.5)) in (0, None)
    assert "of 20 documents are longer than max_length 12" in capsys.readouterr().err


@pytest.mark.tier2
def test_a_bad_row_is_an_error_that_names_its_line(write, data, tmp_path, capsys):
    bad = tmp_path / "bad.jsonl"
    bad.write_text((data / "rows.jsonl").read_text() + '\n{"messages": []}\n')
    path = write("chat", name=str(bad))
    with pytest.raises(SystemExit) as ended:
        main.main(["run", "-q", "--config", str(path)])
    assert ended.value.code == 11
    assert "bad.jsonl:41: the list of messages is empty" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.tier2
def test_an_unsafe_template_is_refused(write, tmp_path, capsys):
    other = tmp_path / "other.jinja"
    other.write_text("{{ ''.__class__ }}")
    with pytest.raises(SystemExit) as ended:
        main.main(["run", "-q", "--config", str(write("chat", chat_template=str(other)))])
    assert ended.value.code == 12
    error = capsys.readouterr().err
    assert "it accesses '__class__' of a str" in error
    assert "hint: " in error


@pytest.mark.tier2
def test_a_tokenizer_without_a_template_says_what_to_give(write_config, data, capsys):
    dataset = {"name": str(data / "rows.jsonl"), "kind": "chat"}
    with pytest.raises(SystemExit) as ended:
        main.main(["run", "-q", "--config", str(write_config(dataset=dataset))])
    assert ended.value.code == 11
    assert "dataset.chat_template" in capsys.readouterr().err


# --- the configuration ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "key", "value", "kinds"),
    [
        ("chat", "text_field", "body", "text"),
        ("completion", "text_field", "body", "text"),
        ("text", "messages_field", "turns", "chat"),
        ("text", "chat_template", "a.jinja", "chat"),
        ("completion", "chat_template", "a.jinja", "chat"),
        ("text", "prompt_field", "q", "completion"),
        ("chat", "completion_field", "a", "completion"),
        ("text", "loss_on", "answers", "chat or completion"),
        ("text", "loss_on", "all", "chat or completion"),
    ],
)
def test_a_key_of_another_kind_is_refused(write, kind, key, value, kinds):
    with pytest.raises(ConfigError) as error:
        resolve(write(kind, **{key: value}))
    wanted = f"goes with kind: {kinds}, and the kind is {kind}"
    assert wanted in "\n".join([str(error.value), *error.value.details])


@pytest.mark.parametrize("kind", ["text", "chat", "completion"])
def test_the_written_configuration_says_the_same(write, kind, tmp_path):
    config = resolve(write(kind))
    (tmp_path / "again.yaml").write_text(as_yaml(config))
    assert config_hash(resolve(tmp_path / "again.yaml")) == config_hash(config)
    assert yaml.safe_load(as_yaml(config))["dataset"]["kind"] == kind


@pytest.mark.parametrize(
    ("kind", "loss_on", "answers_only"),
    [
        ("text", None, False),
        ("chat", None, True),
        ("completion", None, True),
        ("chat", "answers", True),
        ("chat", "all", False),
    ],
)
def test_the_loss_is_on_answers_where_there_are_some(write, kind, loss_on, answers_only):
    given = {} if loss_on is None else {"loss_on": loss_on}
    assert resolve(write(kind, **given)).dataset.answers_only is answers_only
