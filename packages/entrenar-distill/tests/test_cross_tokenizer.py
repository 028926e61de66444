"""A student that reads other tokens than its teacher: a run from start to report."""

import json

import numpy as np
import pytest

from entrenar_common.progress import NullProgress
from entrenar_core import models
from entrenar_core.data.tokenizer import Tokenizer, train_bpe
from entrenar_core.data.tokens import tokenize
from entrenar_core.train.evaluate import score
from entrenar_distill import pipeline
from entrenar_distill.cli import main
from entrenar_distill.config import resolve
from entrenar_distill.inputs import dataset_spec, read_inputs

WIDE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


@pytest.fixture
def across(write_config, world):
    """A configuration of a student that is made here, with the tokenizer in `other`."""

    def write(student=None, settings=None, **sections):
        made = {"config": WIDE, "tokenizer": str(world / "other")}
        distillation = {"cross_tokenizer": {}} if settings is None else settings
        return write_config(student=student or made, distillation=distillation, **sections)

    return write


def inputs_of(path):
    return read_inputs(resolve(path), progress=NullProgress())


def test_a_student_from_a_config_has_the_rows_of_its_tokenizer(across, world):
    inputs = inputs_of(across())
    own = Tokenizer.load(world / "other")
    student = inputs.new_student()
    assert student.config.vocab_size == own.vocab_size
    assert student.config.eos_token_id == own.eos_id
    assert inputs.tokenizer.same_as(own)
    assert inputs.across.tokenizer.same_as(Tokenizer.load(world / "teacher"))


def test_documents_are_in_the_students_tokens_and_on_the_side_in_the_teachers(across, world):
    inputs = inputs_of(across())
    for documents, folder in ((inputs.held_out, "other"), (inputs.across.held_out, "teacher")):
        tokenizer = Tokenizer.load(world / folder)
        for index, name in enumerate(documents.names):
            text = (world / "text" / name.rpartition("/")[2]).read_text()
            assert np.array_equal(documents.document(index), tokenizer.encode(text))
    assert inputs.held_out.names == inputs.across.held_out.names


@pytest.mark.tier2
def test_each_model_is_scored_on_the_documents_in_its_own_tokens(across, train, world, tmp_path):
    report = train(across(control=True))
    config = resolve(tmp_path / "distill.yaml")
    inputs = inputs_of(tmp_path / "distill.yaml")
    chosen = np.flatnonzero(np.isin(_all(config, world, "teacher").names, inputs.held_out.names))
    for name, folder in (("teacher", world / "teacher"), ("student", tmp_path / "out")):
        documents = _all(config, world, "teacher" if name == "teacher" else "other")
        alone = score(
            {name: models.load(folder)}, documents.select(chosen), seq_len=32, batch_size=2,
            eos_id=Tokenizer.load(folder).eos_id,
        )  # fmt: skip
        assert report.score(name).bits_per_byte == pytest.approx(alone[name].bits_per_byte)
    assert [each.agreement for each in report.scores] == [None, None, None]
    written = (tmp_path / "out" / "report.md").read_text()
    assert "greement" not in written
    assert inputs.across.words in written
    assert report.difference is not None
    assert "w_sorted*sum|sorted teacher - sorted student|" in report.formula


def _all(config, world, folder):
    return tokenize(dataset_spec(config.dataset), Tokenizer.load(world / folder))


def test_the_parts_of_the_loss_are_in_the_metrics(across, train, tmp_path):
    train(across(training={"max_steps": 2}))
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    for record in map(json.loads, lines):
        assert {"cross_entropy", "divergence", "sorted", "aligned"} <= record.keys()
        assert 0.5 < record["aligned"] <= 1
    assert Tokenizer.load(tmp_path / "out").same_as(inputs_of(tmp_path / "distill.yaml").tokenizer)


def test_what_the_tokenizers_have_in_common_is_said_before_training(across, world, capsys):
    path = across()
    words = inputs_of(path).across.words
    assert words.startswith("different tokenizers: ")
    assert pipeline.plan(resolve(path)).vocabulary == words
    said = []
    pipeline.run(resolve(path), warn=said.append)
    assert words in said
    assert "bytes in 1:1 groups" in words


@pytest.mark.tier2
def test_a_student_with_a_model_of_its_own_learns_too(across, train, world, tmp_path):
    report = train(across(student={"model_id": str(world / "other")}))
    assert np.isfinite(report.score("student").bits_per_byte)


@pytest.mark.tier2
@pytest.mark.parametrize("packing", [True, False])
def test_accumulation_changes_nothing(across, train, tmp_path, packing):
    losses = []
    for size, parts in ((8, 1), (2, 4)):
        path = across(
            training={"batch_size": size, "gradient_accumulation": parts, "max_steps": 2},
            dataset={"packing": packing},
        )
        train(path, output=tmp_path / f"out {parts}")
        lines = (tmp_path / f"out {parts}" / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


# --- what is refused ----------------------------------------------------------------------------


@pytest.fixture
def refused(across, capsys):
    def run(**sections):
        code = main.main(["run", "-q", "--config", str(across(**sections))], standalone_mode=False)
        shown = " ".join(capsys.readouterr().err.split())
        assert (code, "hint: " in shown) == (10, True), shown
        return shown

    return run


def test_without_the_section_different_tokenizers_are_refused(refused, world):
    shown = refused(settings={"alpha": 0.5})
    sizes = [Tokenizer.load(world / name).vocab_size for name in ("teacher", "other")]
    assert f"teacher and student have different tokenizers ({sizes[0]} and {sizes[1]} ids)" in shown
    assert "distillation.cross_tokenizer: {}" in shown


def test_the_section_is_refused_where_there_is_one_tokenizer(refused, world):
    shown = refused(student={"config": WIDE, "tokenizer": str(world / "teacher")})
    size = Tokenizer.load(world / "teacher").vocab_size
    assert f"teacher and student have the same tokenizer of {size} ids" in shown


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"loss": "reverse_kl"}, "goes with loss forward_kl, jsd"),
        ({"top_k": 5}, "does not go with top_k"),
        ({"progressive": {}}, "does not go with progressive"),
        ({"attention": {}}, "does not go with attention"),
        ({"loss": "jsd", "beta": 1.0}, "jsd is no loss between different tokenizers"),
        ({"cross_tokenizer": {"matched_weight": 1}}, "give matched_weight and sorted_weight, or"),
        (
            {"cross_tokenizer": {"matched_weight": 0, "sorted_weight": 0}},
            "nothing is compared where matched_weight is 0 too",
        ),
        ({"cross_tokenizer": {"merge": "last"}}, "distillation.cross_tokenizer.merge"),
    ],
)
def test_settings_that_mean_nothing_between_tokenizers_are_refused(refused, settings, text):
    assert text in refused(settings={"cross_tokenizer": {}} | settings)


def test_a_tokenizer_beside_a_model_is_refused(refused, world):
    shown = refused(student={"model_id": str(world / "other"), "tokenizer": str(world / "other")})
    assert "goes with config: another student has a tokenizer already" in shown


def test_a_tokenizer_that_lowers_the_case_is_refused(refused, world, tmp_path):
    texts = [path.read_text() for path in sorted((world / "text").iterdir())]
    content, config = train_bpe(texts, 280).to_json()
    content["normalizer"] = {"type": "Lowercase"}
    Tokenizer.from_json(content, config).save(tmp_path / "lower")
    shown = refused(student={"config": WIDE, "tokenizer": str(tmp_path / "lower")})
    assert "the student's tokenizer does not see letter case" in shown
