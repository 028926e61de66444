"""A run that is watched, and the page at its end."""

import json
import re

import pytest

from entrenar_common.testing import run_cli_on_terminal
from entrenar_core.train.callbacks import Callback, Notice
from entrenar_distill import pipeline
from entrenar_distill.cli import main
from entrenar_distill.config import resolve

pytestmark = pytest.mark.tier2

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


class Noticing(Callback):
    """Notices something at the second step of every phase."""

    def started(self, run):
        self.run = run

    def step(self, record):
        if record["step"] == 2:
            self.run.notify(Notice("odd", 2, f"in {self.run.phase} <b>"))


@pytest.fixture(scope="module")
def pages(make_config, tmp_path_factory):
    """The folder of a run with a control, and the pages of two such runs; of the first one things
    were noticed."""
    folder = tmp_path_factory.mktemp("page")
    path = make_config(folder, control=True, training={"evaluate_every": 2})
    texts = []
    for name, callbacks in (("out", [Noticing()]), ("again", [])):
        pipeline.run(resolve(path, output=str(folder / name)), callbacks=callbacks)
        texts.append((folder / name / "report.html").read_text().replace(name, "out"))
    return folder / "out", *texts


def cells(text):
    """The rows of all tables of the page."""
    rows = re.findall("<tr>(.*?)</tr>", text)
    return [re.findall("<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]


def test_the_page_has_the_models_of_the_report_and_the_numbers_of_the_log(pages):
    folder, text, _ = pages
    report = json.loads((folder / "report.json").read_text())
    rows = cells(text)
    for score in report["scores"]:
        [row] = [row for row in rows if row[0] == score["name"] and len(row) == 6]
        assert float(row[2]) == pytest.approx(score["loss"], abs=5e-5)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for phase in ("student", "control"):
        losses = [r["loss"] for r in records if r["phase"] == phase]
        [row] = [row for row in rows if row[:2] == [phase, "Loss"]]
        assert [float(row[2]), float(row[3])] == pytest.approx([losses[0], losses[-1]], rel=5e-6)
        held_out = [[phase, str(r["step"]), json.dumps(r["held_out_loss"])]
                    for r in records if r["phase"] == phase and "held_out_loss" in r]  # fmt: skip
        assert len(held_out) == 2
        assert [row for row in rows if row in held_out] == held_out


def test_equal_runs_have_equal_pages_but_for_what_is_of_the_machine(pages):
    _, first, second = pages
    above = [text.partition("<h2>On this machine</h2>")[0] for text in (first, second)]
    assert above[0] == above[1]
    assert first != second


def test_what_was_noticed_is_on_the_page(pages):
    _, first, second = pages
    found = [row for row in cells(first) if "odd" in row]
    assert found == [
        [phase, "2", "warning", "odd", f"in {phase} &lt;b&gt;"] for phase in ("student", "control")
    ]
    assert "What was noticed" not in second


def test_the_report_says_where_the_page_is(pages):
    folder, _, _ = pages
    assert str(folder / "report.html") in (folder / "report.md").read_text()


def test_a_run_on_a_terminal_is_shown_live_and_leaves_its_last_figures(write_config, tmp_path):
    config = write_config(training={"evaluate_every": 2})
    done = run_cli_on_terminal(["entrenar-distill", "run", "--config", str(config), "--live"])
    assert done.returncode == 0
    assert done.stdout.count(ENTER) == done.stdout.count(LEAVE) == 1
    _, _, rest = done.stdout.partition(ENTER)
    shown, _, after = rest.partition(LEAVE)
    assert "step 0/4 (0%)" in shown
    records = (tmp_path / "out/metrics.jsonl").read_text().splitlines()
    last = json.loads(records[-1])
    assert re.search(
        rf"^student: finished, 4/4 steps in \S+, loss {last['loss']:#.4g}, "
        rf"held-out {last['held_out_loss']:#.4g}, best ",
        after,
        re.MULTILINE,
    )


def test_live_without_a_terminal_is_plain_lines_and_a_note(write_config, capfd):
    with pytest.raises(SystemExit) as ended:
        main(["run", "--config", str(write_config()), "--live"])
    assert ended.value.code == 0
    lines = capfd.readouterr().err.splitlines()
    note = "--live: standard error is no terminal, so progress is shown as plain lines"
    assert lines.count(note) == 1
    assert "student: started, 4 steps" in lines
    assert "\x1b" not in "".join(lines)
