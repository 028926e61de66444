"""Teachers in files, several of them, and such whose ids are not the student's."""

import json
import shutil

import numpy as np
import pytest
import yaml

from entrenar_common.errors import CheckpointError
from entrenar_common.progress import NullProgress
from entrenar_core import models
from entrenar_core.convert.export import export
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.distill import Distillation, Divergence
from entrenar_core.kernels import Held
from entrenar_distill.cli import main
from entrenar_distill.config import resolve
from entrenar_distill.inputs import read_inputs
from renumbered import renumbered, renumbered_model


@pytest.fixture(scope="module")
def folders(world, tmp_path_factory):
    """Teachers beside that of the world: `second`, `files` in GGUF and APR, `moved` with other ids
    and `student` to begin from, of the world's tokenizer; `rows` has documents with a field."""
    root = tmp_path_factory.mktemp("teachers")
    tokenizer, first = Tokenizer.load(world / "teacher"), models.load(world / "teacher")
    shape = first.config.to_hf()
    for name, seed, size in (("second", 2, 32), ("student", 3, 32)):
        heads = {"hidden_size": size, "num_hidden_layers": 1}
        models.save(models.from_config({**shape, **heads}, seed=seed), root / name)
        tokenizer.save(root / name)
    other, new = renumbered(tokenizer)
    models.save(renumbered_model(first, new), root / "moved")
    other.save(root / "moved")
    for form, kind in (("gguf", "f32"), ("gguf", "q8_0"), ("apr", "f32")):
        export(world / "teacher", root / f"{kind}.{form}", form=form, quantization=kind)
    texts = [path.read_text() for path in sorted((world / "text").iterdir())]
    lines = [{"text": t, "lang": ("en", "de", "fr")[n % 3]} for n, t in enumerate(texts)]
    (root / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


@pytest.fixture
def config_of(make_config, tmp_path):
    """A configuration with this teacher, or these; a mapping, or a list of them."""

    def make(teacher, **sections):
        path = make_config(tmp_path, **sections)
        data = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**data, "teacher": teacher}))
        return path

    return make


@pytest.fixture
def inputs_of(config_of):
    def read(teacher, **sections):
        return read_inputs(resolve(config_of(teacher, **sections)), progress=NullProgress())

    return read


def outcome(inputs, *, steps=2):
    """Losses of the first batches and their gradients, of the student before its first step."""
    student = inputs.new_student()
    divergence = Divergence("forward_kl", 2.0)
    task = Distillation(student, inputs.told_by(), divergence=divergence, alpha=1.0)
    losses = []
    for step in range(steps):
        batch = inputs.batches.batch(step)
        loss = task.loss(batch, batch.targets)
        loss.backward()
        losses.append(loss.item())
    return [np.array(losses), *(p.grad for p in student.parameters())]


def assert_equal(found, wanted, *, within=0.0):
    for one, other in zip(found, wanted, strict=True):
        assert np.abs(one - other).max() <= within * np.abs(other).max()


def model(path, **keys):
    return {"model_id": str(path), **keys}


# --- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["f32.gguf", "f32.apr"])
def test_a_teacher_in_a_file_teaches_what_its_folder_does(inputs_of, folders, world, file):
    found = inputs_of(model(folders / file))
    assert_equal(outcome(found), outcome(inputs_of(model(world / "teacher"))))
    assert str(found.teachers[0].vocabulary).startswith("identical")


def test_a_teacher_in_a_file_teaches_a_student_with_a_tokenizer_of_its_own(
    inputs_of, folders, world
):
    student = {"model_id": str(folders / "student")}
    found = [
        inputs_of(model(path), student=student)
        for path in (folders / "f32.gguf", world / "teacher")
    ]
    assert_equal(*map(outcome, found))
    assert {each.teachers[0].vocabulary.kind for each in found} == {"identical"}


def held_in(model):
    return [p.data for p in model.named_parameters().values() if isinstance(p.data, Held)]


@pytest.mark.parametrize(
    ("file", "quantize", "held"),
    [("q8_0.gguf", None, "q8_0"), ("f32.gguf", "nf4", "nf4"), ("q8_0.gguf", "q8_0", "q8_0")],
)
def test_a_teacher_is_held_in_few_bits(inputs_of, folders, file, quantize, held):
    found = inputs_of(model(folders / file, quantize=quantize))
    matrices = held_in(found.teacher)
    assert len(matrices) == 14
    assert {matrix.kept.form.name for matrix in matrices} == {held}
    plain = models.load(folders / file, quantize=quantize)
    ids = np.arange(1, 20).reshape(1, -1)
    assert np.allclose(found.teacher(ids).data, plain(ids).data, rtol=1e-5, atol=1e-5)


@pytest.mark.tier2
def test_hidden_states_of_a_teacher_in_a_file_are_learned_from(config_of, folders, train):
    inside = {"progressive": {"layer_mapping": "last"}}
    report = train(config_of(model(folders / "q8_0.gguf"), distillation=inside))
    assert report.features[0].last < report.features[0].first


@pytest.mark.tier2
def test_layers_of_a_teacher_in_a_file_are_trained(config_of, folders, train):
    student = {"layers_from_teacher": [0]}
    report = train(config_of(model(folders / "q8_0.gguf"), student=student))
    assert report.steps == 4


# --- other ids -------------------------------------------------------------------------------


def test_a_teacher_with_permuted_ids_teaches_the_same(inputs_of, folders, world):
    student = {"model_id": str(folders / "student")}
    found = inputs_of(model(folders / "moved"), student=student)
    assert_equal(outcome(found), outcome(inputs_of(model(world / "teacher"), student=student)))
    assert found.tokenizer.same_as(Tokenizer.load(folders / "student"))
    size = found.tokenizer.vocab_size
    assert str(found.teachers[0].vocabulary).endswith(f"ids remapped, {size} compared")


def test_one_that_is_held_in_few_bits_is_renumbered_too(inputs_of, folders, tmp_path):
    student = {"model_id": str(folders / "student")}
    export(folders / "moved", tmp_path / "moved.gguf", form="gguf", quantization="q8_0")
    found = inputs_of(model(tmp_path / "moved.gguf"), student=student)
    wanted = inputs_of(model(folders / "q8_0.gguf"), student=student)
    assert found.teachers[0].vocabulary.kind == "permuted"
    assert held_in(found.teacher)
    assert_equal(outcome(found), outcome(wanted))


@pytest.mark.tier2
def test_the_plan_the_run_and_the_report_say_that_ids_are_remapped(
    config_of, folders, capsys, tmp_path
):
    path = config_of(model(folders / "moved"), student={"model_id": str(folders / "student")})
    assert main.main(["run", "--config", str(path), "--dry-run"], standalone_mode=False) == 0
    assert "permuted: " in capsys.readouterr().out
    assert main.main(["run", "-q", "--config", str(path)], standalone_mode=False) == 0
    assert "the vocabulary of the teacher is permuted: " in capsys.readouterr().err
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["vocabularies"][0].startswith("permuted: ")
    assert "- vocabulary: `permuted: " in (tmp_path / "out/report.md").read_text()
    exported = Tokenizer.load(tmp_path / "out")
    assert exported.same_as(Tokenizer.load(folders / "student"))


# --- several ---------------------------------------------------------------------------------


def test_one_teacher_in_a_list_is_that_teacher(inputs_of, world):
    one = model(world / "teacher")
    assert_equal(outcome(inputs_of([one])), outcome(inputs_of(one)))


def test_two_equal_teachers_are_one(inputs_of, world):
    one = model(world / "teacher")
    (losses, *found), (wanted, *gradients) = outcome(inputs_of([one, one])), outcome(inputs_of(one))
    assert np.abs(losses - wanted).max() < 1e-6  # differences of logs of about 6, in float32
    assert_equal(found, gradients, within=1e-5)


def test_the_gradient_of_a_mixture_is_the_weighted_sum(inputs_of, folders, world):
    """So is the loss, but for a number that does not depend on the student."""
    both = [model(world / "teacher", weight=0.25), model(folders / "second", weight=0.75)]
    alone = [outcome(inputs_of(model(each["model_id"]))) for each in both]
    for found, one, two in zip(
        outcome(inputs_of(both))[1:], alone[0][1:], alone[1][1:], strict=True
    ):
        wanted = 0.25 * one + 0.75 * two
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.tier2
def test_a_run_with_several_teachers_says_what_each_was(config_of, folders, world, train):
    both = [model(world / "teacher", weight=0.3), model(folders / "moved", weight=0.7)]
    student = {"model_id": str(folders / "student")}
    path = config_of(both, student=student, control=True, training={"max_steps": 6})
    report = train(path)
    names = ["teachers", "teacher 1", "teacher 2", "student", "control"]
    assert [s.name for s in report.scores] == names
    mixed, first, second = report.scores[:3]
    # the second is the first in other numbers, so both are what they are together
    assert (mixed.agreement, first.agreement, second.agreement) == (None, 1.0, 1.0)
    assert second.loss == pytest.approx(first.loss, rel=1e-6)
    assert mixed.loss == pytest.approx(first.loss, rel=1e-6)
    assert mixed.parameters == first.parameters + second.parameters
    assert report.teacher == f"{world / 'teacher'} (0.3); {folders / 'moved'} (0.7)"
    assert [text[:10] for text in report.vocabularies] == ["teacher 1:", "teacher 2:"]
    text = (path.parent / "out/report.md").read_text()
    assert "the likeliest next token is that of the teachers as one" in text
    assert {sample.model for sample in report.samples} == {"teacher 1", "teacher 2", "student"}


@pytest.mark.tier2
def test_a_teacher_that_has_changed_ends_a_resumed_run(config_of, folders, world, train, tmp_path):
    changing = shutil.copytree(folders / "second", tmp_path / "second")
    path = config_of([model(world / "teacher"), model(changing)])
    train(path)
    models.save(models.from_config(models.load(changing).config.to_hf(), seed=8), changing)
    with pytest.raises(CheckpointError) as caught:
        train(path, resume="auto")
    assert list(caught.value.details) == ["teacher 2: its files have changed since"]


def test_the_renumbering_is_a_part_of_what_may_not_change(inputs_of, folders, tmp_path):
    """Of a teacher whose ids are remapped, the tokenizer decides what it says."""
    student = {"model_id": str(folders / "student")}
    changing = shutil.copytree(folders / "moved", tmp_path / "moved")
    before = inputs_of(model(changing), student=student).fingerprints()
    renumbered(Tokenizer.load(folders / "student"), seed=5)[0].save(changing)
    after = inputs_of(model(changing), student=student).fingerprints()
    assert {name for name in before if before[name] != after[name]} == {"teacher"}


def test_only_the_first_teacher_is_asked_for_layers_and_sizes(inputs_of, folders, world):
    both = [model(folders / "second"), model(world / "teacher")]
    student = inputs_of(both, student={"layers_from_teacher": [0]}).new_student()
    first = models.load(folders / "second").named_parameters()
    for name, parameter in student.named_parameters().items():
        assert np.array_equal(parameter.data, first[name].data)


# --- routes ----------------------------------------------------------------------------------


@pytest.fixture
def routed(folders, world):
    """Sections: German from the second teacher, all else from the first."""
    return {
        "teacher": [model(world / "teacher"), model(folders / "second", route="de")],
        "dataset": {"name": str(folders / "rows.jsonl"), "route_field": "lang"},
    }


def test_a_document_goes_to_the_teacher_of_its_value(inputs_of, routed):
    found = inputs_of(**routed)
    for documents in (found.train, found.held_out):
        lines = [int(name.rpartition(":")[2]) for name in documents.names]
        wanted = [int((line - 1) % 3 == 1) for line in lines]
        assert found.routes.of(documents).tolist() == wanted


@pytest.mark.tier2
@pytest.mark.parametrize("packing", [True, False])
def test_a_routed_run_trains(config_of, routed, train, packing, tmp_path):
    routed["dataset"]["packing"] = packing
    report = train(config_of(**routed, training={"max_steps": 30}))
    assert report.teacher.endswith("second (de)")
    assert [s.name for s in report.scores] == ["teacher 1", "teacher 2", "student"]
    text = (tmp_path / "out/report.md").read_text()
    assert "the likeliest next token is that of teacher 1" in text
    assert "(all others); " in report.teacher
    assert report.curve["student"][-1][1] < report.curve["student"][0][1] - 0.5


def test_values_of_the_field_are_a_part_of_what_may_not_change(inputs_of, routed, tmp_path):
    rows = tmp_path / "rows.jsonl"
    shutil.copy(routed["dataset"]["name"], rows)
    routed["dataset"]["name"] = str(rows)
    before = inputs_of(**routed).fingerprints()
    rows.write_text(rows.read_text().replace('"lang": "fr"', '"lang": "de"', 1))
    after = inputs_of(**routed).fingerprints()
    assert {name for name in before if before[name] != after[name]} == {"routes"}


def test_which_micro_batches_a_step_is_cut_into_changes_nothing(inputs_of, routed):
    def gradient(parts):
        found = inputs_of(**routed, training={"batch_size": 8})
        student, batch = found.new_student(), found.batches.batch(0)
        divergence = Divergence("forward_kl", 2.0)
        task = Distillation(student, found.told_by(), divergence=divergence, alpha=0.5)
        losses = []
        for part in batch.split(parts):
            loss = task.loss(part, batch.targets)
            loss.backward()
            losses.append(loss.item())
        return [np.array([sum(losses)]), *(p.grad for p in student.parameters())]

    whole = gradient(1)
    for parts in (2, 8):
        assert_equal(gradient(parts), whole, within=2e-6)


# --- what is wrong ---------------------------------------------------------------------------


@pytest.fixture
def refused(config_of, capsys, tmp_path):
    """Runs the command line; gives what it printed on its error, which has this exit code."""

    def run(exit_code, teacher, *options, **sections):
        path = config_of(teacher, **sections)
        code = main.main(["run", "-q", "--config", str(path), *options], standalone_mode=False)
        printed = capsys.readouterr().err
        assert code == exit_code, printed
        assert printed.splitlines()[-1].startswith("hint: ")
        assert not (tmp_path / "out").exists()
        return " ".join(printed.split())

    return run


@pytest.mark.parametrize(
    ("teachers", "text"),
    [
        ([], "teacher: must have at least 1 item"),
        ([{"weight": 0.5}, {"weight": 0.4}], "0.5, 0.4 have the sum 0.9, and must all be"),
        ([{"weight": 0.5}, {}], "1 of 2 teachers have a weight: give all of them one, or none"),
        ([{"weight": 0.0}, {"weight": 1.0}], "teacher.0.weight: must be greater than 0, not 0"),
        ([{"weight": 0.5, "route": "a"}, {"weight": 0.5}], "weights or routes, not both"),
        ([{"route": "a"}, {}, {}], "2 teachers have no route: one at most"),
        ([{"route": "a"}, {"route": ["b", "a"]}], "'a' is a route to two teachers"),
        ([{"route": []}, {}], "teacher.0.route: must have at least 1 item"),
        ([{"route": "a"}, {}], "route_field must name the field they go by"),
        ([{"weight": 1.0}], "weight and route go with several teachers"),
        ([{"wieght": 1.0}, {}], "teacher.0.wieght: unknown key; did you mean weight?"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(refused, world, teachers, text):
    assert text in refused(10, [model(world / "teacher", **each) for each in teachers])


def test_a_field_without_routes_is_refused(refused, world, folders):
    rows = {"name": str(folders / "rows.jsonl"), "route_field": "lang"}
    said = refused(10, model(world / "teacher"), dataset=rows)
    assert "route_field goes with teachers that have a route" in said


@pytest.mark.parametrize("section", ["progressive", "attention"])
def test_the_inside_of_several_teachers_is_refused(refused, world, section):
    both = [model(world / "teacher")] * 2
    said = refused(10, both, distillation={section: {}})
    assert f"{section} compares with the inside of one teacher, and there are 2" in said


def test_an_option_for_one_teacher_says_which_of_several(refused, world):
    both = [model(world / "teacher")] * 2
    said = refused(10, both, "--teacher", "x")
    assert "is in a list of 2: say which of them, as in teacher.0.model_id" in said


def test_one_of_several_teachers_can_be_set(config_of, world):
    path = config_of([model(world / "teacher")] * 2)
    config = resolve(path, overrides=[("teacher.1.model_id", "x")])
    assert [each.model_id for each in config.teachers] == [str(world / "teacher"), "x"]


def test_an_unknown_field_is_refused_with_the_document(refused, routed):
    routed["dataset"]["route_field"] = "langue"
    assert "rows.jsonl:1: has no text in the field 'langue'" in refused(10, **routed)


def test_a_value_without_a_teacher_is_refused_with_the_document(refused, routed):
    routed["teacher"][0]["route"] = "en"
    said = refused(10, **routed)
    assert "rows.jsonl:3: its lang is 'fr', and no teacher is asked about that" in said


def test_a_teacher_of_no_document_is_refused(refused, routed):
    routed["teacher"][1]["route"] = "pl"
    assert "teacher 2 is asked about none of the 24 documents" in refused(10, **routed)


def test_texts_without_fields_are_refused(refused, routed, world):
    routed["dataset"]["name"] = str(world / "text")
    assert "is one text, and has no field 'lang'" in refused(10, **routed)


def test_a_revision_of_a_file_is_refused(refused, folders):
    said = refused(10, model(folders / "f32.gguf", revision="main"))
    assert "f32.gguf: is a file, which has no revision 'main'" in said


def test_a_format_that_is_not_that_of_the_file_is_refused(refused, folders):
    said = refused(10, model(folders / "f32.gguf", format="apr"))
    assert "the teacher is in the format gguf, and teacher.format is apr" in said


def test_an_unknown_format_to_hold_a_teacher_in_is_refused(refused, world):
    assert "there is no format 'q8_1'" in refused(10, model(world / "teacher", quantize="q8_1"))


def test_a_file_without_a_tokenizer_is_refused(refused, folders, world, tmp_path):
    bare = shutil.copytree(world / "teacher", tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    export(bare, tmp_path / "bare.apr", form="apr", quantization="f32")
    assert "bare.apr: the teacher has no tokenizer" in refused(14, model(tmp_path / "bare.apr"))


def test_a_second_teacher_with_another_tokenizer_is_refused_by_its_number(refused, world):
    both = [model(world / "teacher"), model(world / "other")]
    said = refused(10, both)
    assert "teacher 2: teacher and student have different tokenizers" in said
    assert "tokens are in one and not in the other" in said


def test_a_missing_second_teacher_is_named(refused, world, tmp_path):
    both = [model(world / "teacher"), model(tmp_path / "gone")]
    assert "no such folder" in refused(14, both)
