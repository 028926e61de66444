"""Which words of a session's command lines are paths that move, and where to."""

from dataclasses import replace

import pytest

from entrenar_shell.recipe import Below, recipe, words_at
from entrenar_shell.session import Entry, FileState, Session

EXPORT = ("entrenar-distill", "export", "--input", "/in/t", "--format", "gguf", "--output")


def entry(number: int, line: str | tuple[str, ...], code: int = 0, outputs=(), inputs=()) -> Entry:
    words = tuple(line.split()) if isinstance(line, str) else line
    return Entry(
        number, "typed", (words,), "/made", 0.0, 0.0, code,
        tuple(FileState(path, 1, 1) for path in inputs),
        tuple(FileState(path, 1, 1) for path in outputs),
    )  # fmt: skip


def lines(*entries: Entry) -> list[str]:
    """The command lines at the root /new, with those that are left out in brackets."""
    return [
        f"({step.left_out})"
        if step.left_out
        else " ".join(words_at(step, lambda path: f"/new/{path}"))
        for step in recipe(Session("s", entries=list(entries))).steps
    ]


def test_what_a_command_writes_and_a_later_one_reads_moves():
    made = "entrenar-distill export --input /in/t --format gguf --output out/a.gguf"
    looked = "entrenar-inspect info /made/out/a.gguf"
    assert lines(entry(1, made, outputs=["/made/out/a.gguf"]), entry(2, looked)) == [
        "entrenar-distill export --input /in/t --format gguf --output /new/a.gguf",
        "entrenar-inspect info /new/a.gguf",
    ]


def test_what_was_read_before_it_was_written_stays():
    looked = entry(1, "entrenar-inspect info a.gguf", inputs=["/made/a.gguf"])
    made = entry(2, (*EXPORT, "a.gguf"), outputs=["/made/a.gguf"])
    assert lines(looked, made)[0] == "entrenar-inspect info a.gguf"
    assert [state.path for state in recipe(Session("s", entries=[looked, made])).inputs] == [
        "/made/a.gguf"
    ]


def test_outputs_keep_their_places_to_each_other():
    made = [entry(i, (*EXPORT, name)) for i, name in enumerate(("x/a.gguf", "../b.gguf", "x"), 1)]
    found = recipe(Session("s", entries=made))
    assert found.outputs == {
        "/made/x/a.gguf": "made/x/a.gguf", "/b.gguf": "b.gguf", "/made/x": "made/x"
    }  # fmt: skip
    assert found.folders == ("made", "made/x")


def test_a_file_in_a_folder_that_was_written_moves_with_it():
    made = entry(1, (*EXPORT, "out"))
    looked = entry(2, "entrenar-inspect info out/model.safetensors")
    assert lines(made, looked)[1] == "entrenar-inspect info /new/out/model.safetensors"


@pytest.mark.parametrize(
    ("word", "moved"),
    [
        ("--model=out", "--model=/new/out"),
        ("--model out+out2", "--model /new/out+out2"),
        ("--model base+out/a", "--model base+/new/out/a"),
        ("--model ./x/../out", "--model /new/out"),
        ("--model outer", "--model outer"),
    ],
)
def test_a_path_is_found_where_it_is_part_of_a_word(word, moved):
    made = entry(1, (*EXPORT, "out"))
    merged = entry(2, f"entrenar-lora merge --method slerp {word} --output m")
    assert lines(made, merged)[1] == f"entrenar-lora merge --method slerp {moved} --output /new/m"


def test_the_value_of_a_key_moves():
    made = entry(1, (*EXPORT, "out"))
    run = entry(2, "entrenar-distill run --set student.model_id=out --set a.b=c --output d")
    assert lines(made, run)[1] == (
        "entrenar-distill run --set student.model_id=/new/out --set a.b=c --output /new/d"
    )


def test_a_choice_or_a_number_that_is_called_like_an_output_stays():
    made = entry(1, (*EXPORT[:-1], "--seq-len", "512", "--output", "gguf"))
    again = entry(2, (*EXPORT[:-1], "--output", "512"))
    found = lines(made, again)
    assert found[0] == (
        "entrenar-distill export --input /in/t --format gguf --seq-len 512 --output /new/gguf"
    )


def test_an_output_that_only_a_configuration_names_is_given():
    run = entry(1, "entrenar-distill run --config c.yaml", outputs=["/made/out"])
    looked = entry(2, "entrenar-inspect info out")
    assert lines(run, looked) == [
        "entrenar-distill run --config c.yaml --output /new/out",
        "entrenar-inspect info /new/out",
    ]


def test_a_command_whose_output_cannot_be_moved_is_left_out():
    run = entry(1, (*EXPORT, "a.gguf"), outputs=["/made/a.gguf", "/made/elsewhere"])
    looked = entry(2, "entrenar-inspect info elsewhere")
    assert lines(run, looked) == [
        "(its words do not name what it wrote, /made/elsewhere)",
        "entrenar-inspect info elsewhere",
    ]


def test_a_dry_run_writes_nothing_and_would_not_write_to_the_old_place():
    tried = entry(1, (*EXPORT, "out", "--dry-run"))
    looked = entry(2, "entrenar-inspect info out")
    assert lines(tried, looked) == [
        "entrenar-distill export --input /in/t --format gguf --output /new/out --dry-run",
        "entrenar-inspect info out",
    ]


def test_failures_are_left_out_and_findings_are_not():
    failed = entry(1, (*EXPORT, "out"), code=21)
    found = entry(2, "entrenar-inspect validate out", code=1)
    assert lines(failed, found) == ["(it ended with 21)", "entrenar-inspect validate out"]
    steps = list(recipe(Session("s", entries=[found])).steps)
    assert steps[0].codes == (0, 1)


@pytest.mark.parametrize(
    "line", [("rm", "-r", "/"), (), ("/bin/entrenar-inspect", "info"), ("entrenar-inspect", "a\0")]
)
def test_what_is_no_line_of_a_tool_is_never_run(line):
    assert lines(entry(1, line))[0].startswith("(")


def test_a_session_that_was_tampered_with_does_not_lead_out_of_the_root():
    odd = replace(entry(1, (*EXPORT, "../../../x")), folder="a/../..")
    found = recipe(Session("s", entries=[odd, entry(2, (*EXPORT, "y"), outputs=["rel/y"])]))
    assert not any(".." in path for path in found.outputs.values())
    moved = [part.path for step in found.steps for word in step.words for part in word
             if isinstance(part, Below)]  # fmt: skip
    assert not any(".." in path.split("/") or path.startswith("/") for path in moved)


def test_inputs_are_what_was_not_written_before():
    made = entry(1, (*EXPORT, "out"), inputs=["/in/t"], outputs=["/made/out"])
    looked = entry(2, "entrenar-inspect info out", inputs=["/made/out", "/in/t"])
    found = recipe(Session("s", entries=[made, looked]))
    assert [state.path for state in found.inputs] == ["/in/t"]


def test_an_own_command_has_no_steps():
    own = Entry(1, "models", (), "/made", 0.0, 0.0, 0)
    ((kept, steps),) = recipe(Session("s", entries=[own])).entries
    assert (kept, steps) == (own, ())
