"""The verdict: its depths, its exit codes, its lines and its JSON."""

import json

import pytest

from breakage import Q3
from broken_models import broken_copy
from entrenar_common.errors import NotFoundError, UnsupportedError
from entrenar_common.testing import render_plain, run_cli
from entrenar_inspect.finding import Status
from entrenar_inspect.validate import Depth, validate
from entrenar_inspect.validate_view import ASCII_MARKS, MARKS, Shown, marks_for
from whole_models import WholeModels

pytestmark = pytest.mark.tier2


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return WholeModels(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def broken(whole, tmp_path):
    return lambda name: broken_copy(name, whole, tmp_path / "broken")


def check(verdict, name):
    return next(each for each in verdict.checks if each.id == name)


def test_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(NotFoundError):
        validate(str(tmp_path / "nothing"))


def test_a_folder_without_weights_is_an_error(tmp_path):
    with pytest.raises(NotFoundError):
        validate(str(tmp_path))


def test_the_hub_is_not_validated():
    with pytest.raises(UnsupportedError, match="on the hub"):
        validate("hf://org/name")


def test_a_header_alone_says_nothing_of_shapes(broken):
    path = broken("a tensor is missing")
    assert validate(str(path), depth=Depth.HEADER).valid
    assert not validate(str(path), depth=Depth.STRUCTURE).valid


def test_structure_reads_no_numbers(broken):
    path = broken("NaN")
    verdict = validate(str(path), depth=Depth.STRUCTURE)
    assert verdict.valid
    assert check(verdict, "values").status is Status.SKIPPED


def test_sizes_are_compared_without_reading_files(broken):
    verdict = validate(str(broken("a file of a checkpoint is longer")), depth=Depth.HEADER)
    assert [f.rule for f in check(verdict, "hashes").findings] == ["V122"]


def test_content_is_hashed_with_values_only(broken):
    path = broken("last bit of a checkpoint")
    assert validate(str(path), depth=Depth.STRUCTURE).valid
    assert not validate(str(path)).valid


def test_strict_makes_a_warning_a_problem(broken):
    path = broken("code of its own")
    lenient, strict = validate(str(path)), validate(str(path), strict=True)
    assert (lenient.valid, lenient.warnings, lenient.problems) == (True, 1, 0)
    assert (strict.valid, strict.warnings, strict.problems) == (False, 0, 1)
    assert check(strict, "security").status is Status.PROBLEM


def test_every_bad_shard_is_reported(broken):
    folder = broken("one shard cut")
    first, second, *_ = sorted(folder.glob("model-*.safetensors"))
    first.write_bytes(b"")
    found = check(validate(str(folder)), "header").findings
    assert {f.file for f in found} == {first.name, second.name}


def test_checks_of_weights_that_do_not_open_are_skipped(broken):
    verdict = validate(str(broken("empty file")))
    assert {check(verdict, name).status for name in ("structure", "tokenizer", "values")} == {
        Status.SKIPPED
    }


def test_what_a_pickle_would_call_is_named(broken):
    verdict = validate(str(broken("settings that would run a program")))
    (finding,) = check(verdict, "security").findings
    assert finding.file == "training_args.bin"
    assert "posix.system" in finding.message


def test_all_misfits_are_findings(broken):
    # each of 7 matrices and the norms of a block, and all that have the hidden size
    found = check(validate(str(broken("a block is missing"))), "structure").findings
    assert len(found) == 9
    assert {f.rule for f in found} == {"V201"}


def test_a_number_out_of_range_is_found_where_it_is(broken):
    (finding,) = check(validate(str(broken("a number far too large"))), "values").findings
    assert finding.place == "[7, 11]"


def test_a_scale_is_found_by_its_block(broken):
    found = check(validate(str(broken("a scale of q8_0 is NaN"))), "values").findings
    assert [(f.tensor, f.place) for f in found] == [("blk.3.ffn_up.weight", "block 17")]


def test_the_command_ends_with_1_where_something_is_wrong(broken):
    path = broken("a tensor is missing")
    done = run_cli(["entrenar-inspect", "validate", str(path)])
    assert done.returncode == 1
    assert f"V201 {Q3}: missing" in done.stdout


def test_the_command_ends_with_0_where_nothing_is(whole):
    done = run_cli(["entrenar-inspect", "validate", str(whole("llama")), "--quiet"])
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_ends_with_14_where_there_is_nothing(tmp_path):
    done = run_cli(["entrenar-inspect", "validate", str(tmp_path / "nothing")])
    assert done.returncode == 14


def test_json_has_every_check_and_every_finding(broken):
    path = broken("a block is missing")
    done = run_cli(["entrenar-inspect", "validate", str(path), "--json", "-q"])
    document = json.loads(done.stdout)
    assert document["schema"] == "entrenar.inspect.validate/1"
    data = document["data"]
    assert (data["valid"], data["problems"]) == (False, 9)
    assert [c["id"] for c in data["checks"]] == [
        "header", "index", "security", "structure", "tokenizer", "hashes", "values"
    ]  # fmt: skip
    finding = next(c for c in data["checks"] if c["id"] == "structure")["findings"][0]
    assert finding.keys() == {"rule", "message", "status", "tensor", "file", "place"}


def test_a_line_says_what_was_found_first_and_how_much_more(broken):
    verdict = validate(str(broken("a block is missing")))
    brief = render_plain(Shown(verdict, MARKS, whole=False))
    assert "✗ tensors and config agree: 9 findings: a tensor is missing" in brief
    assert "and 8 more" in brief
    assert brief.count("V201") == 1
    assert render_plain(Shown(verdict, MARKS, whole=True)).count("V201") == 9


def test_marks_are_ascii_where_the_output_is_not_utf_8():
    assert marks_for("utf-8") is MARKS
    assert marks_for("UTF-8") is MARKS
    assert marks_for("ascii") is ASCII_MARKS
    assert marks_for(None) is ASCII_MARKS
    assert all(mark.isascii() for mark in ASCII_MARKS.values())


def test_output_in_ascii_has_no_other_characters(whole):
    path = str(whole("llama"))
    done = run_cli(["entrenar-inspect", "validate", path], env={"PYTHONIOENCODING": "ascii"})
    assert done.stdout.isascii()
    assert "\\u" not in done.stdout


def test_names_from_files_are_escaped(broken):
    verdict = validate(str(broken("a name with an escape sequence")))
    assert "\x1b" not in render_plain(Shown(verdict, MARKS, whole=True))
