"""Input that is wrong: one error line, one hint, the right exit code, and nothing left behind."""

import json
import re

import pytest

from entrenar_core import models
from entrenar_distill.cli import main


@pytest.fixture
def refused(write_config, tmp_path, capsys):
    """Runs the command line with a changed configuration; gives what it printed on its error."""

    def run(exit_code, *options, config=None, **sections):
        path = config or write_config(**sections)
        before = sorted(p.name for p in tmp_path.iterdir())
        code = main.main(["run", "-q", "--config", str(path), *options], standalone_mode=False)
        printed = capsys.readouterr()
        assert code == exit_code, printed.err
        assert printed.out == ""
        lines = printed.err.splitlines()
        assert lines[0].startswith("error[E-")
        assert lines[-1].startswith("hint: ")
        assert all(line.startswith("  ") for line in lines[1:-1])
        assert sorted(p.name for p in tmp_path.iterdir()) == before
        return printed.err

    return run


# --- the configuration ------------------------------------------------------------------------


def test_a_missing_config_is_named(refused, tmp_path):
    assert "nowhere.yaml" in refused(14, config=tmp_path / "nowhere.yaml")


def test_no_config_at_all_says_what_is_missing(capsys):
    assert main.main(["run"], standalone_mode=False) == 10
    shown = capsys.readouterr().err
    assert all(f"{section}: is missing" in shown for section in ("teacher", "student", "dataset"))


def test_all_unknown_keys_are_named_at_once_with_line_and_nearest_name(refused, tmp_path):
    path = tmp_path / "typo.yaml"
    path.write_text(
        "teacher: {model_id: t}\n"
        "student: {model_id: s}\n"
        "training:\n  learning_rte: 1e-3\n  batchsize: 4\n"
        "dataset: {name: x}\n"
    )
    shown = refused(10, config=path)
    assert re.search(r"line 4: training\.learning_rte: .*did you mean learning_rate\?", shown)
    assert re.search(r"line 5: training\.batchsize: .*did you mean batch_size\?", shown)


@pytest.mark.parametrize(
    ("key", "value"),
    [("temperature", v) for v in ("0", "-1", ".nan", ".inf")]
    + [("alpha", v) for v in ("-0.1", "1.5", ".nan")],
)
def test_a_temperature_or_alpha_without_meaning_is_refused(refused, key, value):
    assert f"distillation.{key}" in refused(10, "--set", f"distillation.{key}={value}")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (["loss=reverse_lk"], "did you mean reverse_kl?"),
        (["beta=0.3"], "goes with loss jsd or symmetric, not forward_kl"),
        (["loss=jsd", "skew=0.3"], "goes with loss skewed_forward_kl or skewed_reverse_kl, not"),
        (["loss=jsd", "beta=1.5"], "must be at most 1"),
        (["loss=skewed_reverse_kl", "skew=1"], "must be less than 1"),
        (["top_k=0"], "must be at least 1"),
        (["top_k=100000"], "distillation.top_k 100000 is more than the"),
    ],
)
def test_a_loss_that_cannot_be_is_refused(refused, settings, text):
    shown = refused(10, *(word for s in settings for word in ("--set", f"distillation.{s}")))
    assert text in " ".join(shown.split())


def test_what_is_not_key_equals_value_is_a_usage_error(refused):
    assert "KEY=VALUE" in refused(2, "--set", "training.epochs")


# --- the teacher ------------------------------------------------------------------------------


def test_a_teacher_folder_that_does_not_exist_is_named(refused, tmp_path):
    assert "no such folder" in refused(14, "--teacher", str(tmp_path / "gone"))


def test_a_teacher_without_a_tokenizer_is_refused(refused, teacher):
    (teacher / "tokenizer.json").unlink()
    assert "no tokenizer.json" in refused(14, "--teacher", str(teacher))


def test_a_teacher_without_weights_is_refused(refused, teacher):
    (teacher / "model.safetensors").unlink()
    assert "safetensors" in refused(14, "--teacher", str(teacher))


def _truncate(data: bytes) -> bytes:
    return data[:-100]


def _mangle(data: bytes) -> bytes:
    return data[:20] + b"\xff" + data[21:]


def _lfs_pointer(data: bytes) -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n"


@pytest.mark.parametrize(
    ("damage", "said"), [(_truncate, "truncated|bytes"), (_mangle, ""), (_lfs_pointer, "LFS")]
)
def test_damaged_weights_are_refused(refused, teacher, damage, said):
    weights = teacher / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    shown = refused(11, "--teacher", str(teacher))
    assert str(weights) in shown
    assert re.search(said, shown)


def _change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_tensors_that_contradict_the_config_are_listed(refused, teacher):
    _change_config(teacher, intermediate_size=48)
    shown = refused(10, "--teacher", str(teacher))
    assert "model.layers.0.mlp.up_proj.weight: wanted (48, 32), found (64, 32)" in shown


def test_an_unknown_architecture_is_unsupported(refused, teacher):
    _change_config(teacher, model_type="mamba2")
    assert "mamba2" in refused(15, "--teacher", str(teacher))


# --- vocabularies -----------------------------------------------------------------------------


def test_a_student_with_another_tokenizer_is_refused_with_the_reason(refused, world):
    shown = refused(10, "--student", str(world / "other"))
    assert "different tokenizers" in shown


def test_a_teacher_with_fewer_rows_than_its_tokenizer_has_ids_is_refused(refused, teacher):
    model = models.load(teacher)
    shape = model.config.to_hf() | {"vocab_size": 100, "eos_token_id": 0}
    models.save(models.from_config(shape, seed=0), teacher)
    shown = refused(10, "--teacher", str(teacher))
    assert "the teacher's embedding has 100 rows" in shown


@pytest.mark.tier2
def test_a_student_with_fewer_rows_than_the_tokenizer_has_ids_is_refused(refused, world):
    student = {"config": {"vocab_size": 100, "hidden_size": 16, "num_attention_heads": 2}}
    assert "the student's embedding has 100 rows" in refused(
        10, student=student | {"config": student["config"] | {"eos_token_id": None}}
    )


# --- the data ---------------------------------------------------------------------------------


def test_a_dataset_that_matches_nothing_is_not_found(refused, tmp_path):
    assert "matches no file" in refused(14, dataset={"name": str(tmp_path / "*.md")})


def test_a_dataset_of_empty_files_has_no_documents(refused, tmp_path):
    (tmp_path / "empty.txt").touch()
    assert "no documents" in refused(10, dataset={"name": str(tmp_path / "empty.txt")})


def test_a_dataset_smaller_than_one_batch_is_refused(refused):
    assert "fewer than one batch of 4096" in refused(10, training={"batch_size": 4096})


def test_less_than_one_step_of_accumulation_is_refused(refused):
    training = {"max_steps": None, "epochs": 1, "gradient_accumulation": 500}
    assert "not one optimizer step" in refused(10, training=training)


def test_a_document_that_is_not_utf8_is_named_with_the_byte(refused, tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    (tmp_path / "good.txt").write_text("fine")
    shown = refused(11, dataset={"name": [str(tmp_path / "latin.txt"), str(tmp_path / "good.txt")]})
    assert "latin.txt" in shown
    assert "3" in shown  # the offset of the byte


def test_a_sequence_longer_than_a_model_can_take_is_refused(refused):
    assert "positions" in refused(10, dataset={"max_length": 64})


# --- the output -------------------------------------------------------------------------------


def test_an_output_below_a_regular_file_is_refused(refused, tmp_path):
    (tmp_path / "file").touch()
    assert "not a folder" in refused(21, "--output", str(tmp_path / "file" / "out"))


def test_an_output_where_nothing_can_be_made_is_refused(refused):
    assert "/proc" in refused(21, "--output", "/proc/no-such-place/out")


def test_a_folder_with_other_things_in_it_is_left_alone(refused, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    assert "thesis.tex" in refused(12, "--output", str(mine))
    assert [p.name for p in mine.iterdir()] == ["thesis.tex"]


def test_resuming_from_what_is_no_checkpoint_is_refused(refused):
    assert "--resume takes auto" in refused(31, "--resume", "latest")


@pytest.mark.parametrize("option", ["--dry-run", "--json"])
def test_what_is_refused_is_refused_with_other_options_too(refused, option, tmp_path):
    (tmp_path / "file").touch()
    refused(21, option, "--output", str(tmp_path / "file"))


def test_arrays_in_a_student_config_are_refused_and_no_bug(refused):
    student = {"config": {"hidden_size": [1, 2]}}
    assert "hidden_size" in refused(10, student=student)
