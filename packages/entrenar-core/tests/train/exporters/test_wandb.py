"""W&B: what is sent, beside its package where that is installed, and what a failure leaves."""

import json
import struct
import sys
import time
from types import SimpleNamespace

import pytest

from delivered import Delivered
from entrenar_common.errors import UnsupportedError
from entrenar_core.train.exporters.figures import figures
from entrenar_core.train.exporters.wandb import WandB

pytestmark = pytest.mark.tier2


class Wandb:
    """As much of the package as is documented and used, which remembers what it was told."""

    def __init__(self, fail=None):
        self.runs, self.fail = [], fail

    def Settings(self, *, console, silent, disable_code, disable_git, finish_timeout):
        assert finish_timeout < 2
        return SimpleNamespace(console=console, silent=silent)

    def init(self, *, settings, reinit, **asked):
        names = {"project", "name", "group", "job_type", "dir", "mode", "config"}
        assert asked.keys() <= names
        assert (reinit, settings.console) == ("create_new", "off")
        self.asked = asked
        if self.fail is not None:
            self.fail()
        self.history, self.exit_code = [], None
        return self

    def log(self, data, step=None):
        self.history.append({"step": step, **data})

    def finish(self, exit_code=None):
        self.exit_code = exit_code


def exporter(tmp_path, **settings):
    warnings = []
    return WandB("project", folder=tmp_path, warn=warnings.append, **settings), warnings


@pytest.fixture
def fake(monkeypatch):
    found = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", found)
    return found


def as_history(log):
    return [{"step": record["step"], **figures(record)} for record in log]


def test_every_figure_of_the_log_is_sent_with_its_step(fake, training, tmp_path):
    found, warnings = exporter(tmp_path / "w", name="mine", offline=True)
    training.run(found)
    assert (fake.history, fake.exit_code, warnings) == (as_history(training.log), 0, [])
    config = fake.asked.pop("config")
    assert (config["first_step"], config["learning_rate"]) == (0, 0.1)
    assert fake.asked == {
        "project": "project", "name": "mine training", "group": "mine", "job_type": "training",
        "dir": str(tmp_path / "w"), "mode": "offline",
    }  # fmt: skip


def test_a_failure_is_told(fake, training, tmp_path):
    found, _ = exporter(tmp_path)
    training.crash(5, found)
    assert fake.exit_code == 1
    assert fake.history[-1]["step"] == 5


def fails():
    raise ConnectionError("no route")


@pytest.mark.parametrize("trouble", [fails, lambda: time.sleep(8)], ids=["refused", "hangs"])
def test_trouble_changes_no_bit_and_holds_up_nothing_but_the_end(
    fake, training, tmp_path, monkeypatch, trouble
):
    without = training.run()
    fake.fail = trouble
    found, warnings = exporter(tmp_path)
    started = time.monotonic()
    assert training.run(found) == without
    assert time.monotonic() - started < 4
    assert len(warnings) == 1
    assert warnings[0].startswith("W&B: 7 records were lost so far")


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UnsupportedError, match="needs the package wandb") as caught:
        exporter(tmp_path)
    assert caught.value.hint == "pip install wandb"


def records(data):
    """What is in a log of LevelDB, which W&B's files are after 7 bytes of their own: blocks of
    32 KiB, in which parts of records have a checksum, their size, and whether they are the whole
    (1), the first, a middle or the last (4) part."""
    at, record = 7, b""
    while at < len(data):
        if -at % 2**15 < 7:  # no room for a header: the rest of the block is zeros
            at += -at % 2**15
        size, part = struct.unpack_from("<HB", data, at + 4)
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if part in (1, 4):
            yield record
            record = b""


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_wandb_itself_finds_the_figures_in_its_file(training, tmp_path):
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    found, warnings = exporter(tmp_path, offline=True)
    training.run(Delivered(found), found)
    assert warnings == []
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    history = []
    for data in records(file.read_bytes()):
        record = Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {
                (item.key or "/".join(item.nested_key)): json.loads(item.value_json)
                for item in record.history.item
            }
            named = {n: v for n, v in items.items() if not n.startswith("_")}
            history.append({"step": items["_step"], **named})
    assert history == as_history(training.log)
