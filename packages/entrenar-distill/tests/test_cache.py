"""The command `cache`, and runs that learn from what it wrote."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from entrenar_common.testing import CliResult
from entrenar_core import models
from entrenar_core.data.tokenizer import train_bpe
from entrenar_core.distill.cache import CacheFolder
from entrenar_distill import cached, pipeline
from entrenar_distill.cli import main
from entrenar_distill.config import resolve

pytestmark = pytest.mark.tier2

EXACT = ("--mass", "1", "--max-k", "1000", "--precision", "float32")


def command(*words: object) -> CliResult:
    """What the command line does, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.main([str(word) for word in words], standalone_mode=False)
    return CliResult(out.getvalue(), err.getvalue(), code or 0)


def make(config: Path, folder: Path, *options: str) -> dict:
    """What the command says of the cache that it makes in `folder`."""
    result = command("cache", "--config", config, "--output", folder, "--json", *options)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["data"]


@pytest.fixture(scope="module")
def exact(make_config, tmp_path_factory):
    """A cache of all ids in float32, and what was said of it."""
    root = tmp_path_factory.mktemp("exact")
    return root / "cache", make(make_config(root), root / "cache", *EXACT)


@pytest.fixture
def cache(exact, tmp_path):
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(exact[0], tmp_path / "cache"))


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# --- runs ---------------------------------------------------------------------------------------


def test_a_run_from_a_cache_is_the_run_beside_the_teacher(exact, make_config, train, tmp_path):
    steps = {"training": {"max_steps": 20}}
    live = train(make_config(tmp_path, **steps), output=tmp_path / "live")
    own = {"teacher": {"cache": str(exact[0])}}
    found = train(make_config(tmp_path, **steps, **own), output=tmp_path / "cached")
    for name in ("loss", "divergence", "cross_entropy", "agreement"):
        ours, theirs = (
            [line[name] for line in metrics(tmp_path / run)] for run in ("cached", "live")
        )
        # logs of probabilities, about 6, have errors of 5e-7, and a divergence is made of these
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    for ours, theirs in zip(found.scores, live.scores, strict=True):
        assert ours.name == theirs.name
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
        assert ours.parameters == theirs.parameters
    assert found.score("teacher") == live.score("teacher")


def test_what_a_cache_keeps_by_default_teaches_nearly_the_same(make_config, train, tmp_path):
    config = make_config(tmp_path, training={"max_steps": 20})
    make(config, tmp_path / "cache")
    live = train(config, output=tmp_path / "live")
    config = make_config(
        tmp_path, training={"max_steps": 20}, teacher={"cache": str(tmp_path / "cache")}
    )
    found = train(config, output=tmp_path / "cached")
    assert found.score("student").loss == pytest.approx(live.score("student").loss, rel=1e-2)


def test_no_teacher_is_in_memory_until_it_is_measured(exact, make_config, tmp_path, monkeypatch):
    loaded: list[int] = []
    load = cached.StoredTeacher.load

    def counted(teacher):
        loaded.append(len(metrics(tmp_path / "out")))
        return load(teacher)

    monkeypatch.setattr(cached.StoredTeacher, "load", counted)
    pipeline.run(resolve(make_config(tmp_path, teacher={"cache": str(exact[0])})))
    assert loaded == [4]  # after its four steps


@pytest.mark.parametrize("control", [False, True])
def test_layers_of_the_teacher_are_read_where_they_are_needed(
    exact, make_config, train, tmp_path, control
):
    config = make_config(
        tmp_path, teacher={"cache": str(exact[0])}, student={"layers_from_teacher": [1]},
        control=control,
    )  # fmt: skip
    assert train(config).score("student").parameters > 0


def test_an_interrupted_run_goes_on_with_its_cache(
    exact, make_config, tmp_path, stopped_at, outcome
):
    path = make_config(tmp_path, teacher={"cache": str(exact[0])})
    pipeline.run(resolve(path, output=str(tmp_path / "whole")))
    with stopped_at(2), pytest.raises(Exception, match="stopped"):
        pipeline.run(resolve(path))
    pipeline.run(resolve(path), resume="auto")
    assert outcome(tmp_path / "out") == outcome(tmp_path / "whole")


def test_another_cache_does_not_go_on(exact, make_config, tmp_path, stopped_at):
    path = make_config(tmp_path, teacher={"cache": str(tmp_path / "cache")})
    shutil.copytree(exact[0], tmp_path / "cache")
    with stopped_at(2), pytest.raises(Exception, match="stopped"):
        pipeline.run(resolve(path))
    shutil.rmtree(tmp_path / "cache")
    make(path, tmp_path / "cache")
    result = command("run", "-q", "--config", path, "--resume", "auto")
    assert result.returncode == 31
    assert "cache: its files have changed since" in result.stderr


# --- the command --------------------------------------------------------------------------------


def test_the_report_is_what_is_in_the_folder(exact):
    path, report = exact
    folder = CacheFolder(path)
    assert report["fingerprint"] == folder.fingerprint
    assert report["rows"] == len(folder.index)
    assert report["tokens"] == 32 * report["rows"]
    assert report["bytes"] == sum(p.stat().st_size for p in path.glob("part-*"))
    assert report["bytes_per_token"] == pytest.approx(report["bytes"] / report["tokens"])
    assert report["ids_per_token"] == folder.plan.keys.shared
    assert [at["temperature"] for at in report["at"]] == [2.0, 1.0]  # the config's, and 1
    for at in report["at"]:
        assert at["mass"] == pytest.approx(1.0)
        assert at["outcomes"] == at["spread"] == pytest.approx(0.0, abs=1e-7)


def test_the_kept_mass_and_the_distance_go_with_the_mass_that_is_asked_for(make_config, tmp_path):
    config = make_config(tmp_path)
    found = [make(config, tmp_path / mass, "--mass", mass) for mass in ("0.5", "0.9", "0.99")]
    for report, mass in zip(found, (0.5, 0.9, 0.99), strict=True):
        assert report["at"][1]["mass"] >= mass
    assert [r["ids_per_token"] for r in found] == sorted(r["ids_per_token"] for r in found)
    spreads = [r["at"][1]["spread"] for r in found]
    assert spreads == sorted(spreads, reverse=True)


def test_the_plan_writes_nothing(make_config, tmp_path):
    config, folder = make_config(tmp_path), tmp_path / "cache"
    plan = make(config, folder, "--dry-run")
    assert not folder.exists()
    report = make(config, folder)
    assert plan["bytes"] == pytest.approx(report["bytes"], rel=0.05)
    assert (plan["rows"], plan["rows_done"]) == (report["rows"], 0)


def test_the_size_is_said_before_it_begins(make_config, tmp_path):
    result = command("cache", "--config", make_config(tmp_path), "--output", tmp_path / "c")
    assert result.returncode == 0
    assert re.search(r"rows, .* tokens: about \d+ bytes a token, .* that are free", result.stderr)
    assert "KL of outcomes" in result.stdout


def test_the_folder_may_be_that_of_the_config(make_config, tmp_path):
    config = make_config(tmp_path, teacher={"cache": str(tmp_path / "cache")})
    result = command("cache", "-q", "--config", config)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "cache/manifest.json").exists()


def test_too_little_space_is_noticed_before_it_begins(make_config, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    config = make_config(tmp_path)
    result = command("cache", "-q", "--config", config, "--output", tmp_path / "cache")
    assert result.returncode == 21
    assert "1000 bytes are free" in result.stderr
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--mass", "0"), 10, "mass 0.0 is not possible"),
        (("--max-k", "0"), 10, "max_k 0 is not possible"),
        (("--temperature", "-1"), 10, "is not possible"),
    ],
)
def test_options_that_mean_nothing_are_refused(make_config, tmp_path, options, code, message):
    config = make_config(tmp_path)
    words = ["-q", "--config", config, "--output", tmp_path / "cache", *options]
    result = command("cache", *words)
    assert result.returncode == code
    assert message in result.stderr
    assert not (tmp_path / "cache").exists()


def test_without_a_folder_nothing_is_begun(make_config, tmp_path):
    result = command("cache", "--config", make_config(tmp_path))
    assert result.returncode == 2
    assert "--output" in result.stderr


# --- stale --------------------------------------------------------------------------------------


@pytest.fixture
def refused(cache, write_config, tmp_path):
    """What a run with a changed configuration says on its error."""

    def run(exit_code: int, **sections) -> str:
        teacher = {"cache": str(cache), **sections.pop("teacher", {})}
        path = write_config(teacher=teacher, **sections)
        result = command("run", "-q", "--config", path)
        assert result.returncode == exit_code, result.stderr
        assert not (tmp_path / "out/metrics.jsonl").exists()
        return result.stderr

    return run


def test_a_cache_of_another_teacher_is_refused(refused, teacher):
    model = models.load(teacher)
    model.named_parameters()["model.norm.weight"].data[0] += 1
    models.save(model, teacher)
    shown = refused(13, teacher={"model_id": str(teacher)})
    assert "is of something else" in shown
    assert "the teacher's files: " in shown


def test_a_cache_of_a_teacher_in_other_bits_is_refused(refused):
    shown = refused(13, training={"mixed_precision": "bf16"})
    assert "(training.mixed_precision): float32 in the cache, bfloat16 here" in shown


def test_a_cache_with_another_tokenizer_is_refused(refused, world, teacher):
    texts = [path.read_text() for path in sorted((world / "text").iterdir())]
    train_bpe(texts[:12], 310).save(teacher)
    assert "  the tokenizer: " in refused(13, teacher={"model_id": str(teacher)})


def test_a_cache_of_another_text_is_refused(refused, world, tmp_path):
    text = Path(shutil.copytree(world / "text", tmp_path / "text"))
    path = text / "003.txt"
    path.write_text(path.read_text().replace("fox", "dog"))
    shown = refused(13, dataset={"name": str(text)})
    assert "  the documents (the text, how it is read and tokenized): " in shown


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (
            {"dataset": {"max_length": 16}},
            "tokens of a row (dataset.max_length): 32 in the cache, 16 here",
        ),
        (
            {"dataset": {"packing": False}},
            "rows are packed (dataset.packing): True in the cache, False here",
        ),
        ({"training": {"seed": 5}}, "are trained on (training.seed, dataset.held_out): "),
        ({"dataset": {"held_out": 0.3}}, "are trained on (training.seed, dataset.held_out): "),
        ({"dataset": {"max_documents": 20}}, "the documents (the text, how it is read"),
    ],
)
def test_a_cache_of_other_rows_is_refused(refused, sections, told):
    assert told in refused(13, **sections)


def test_a_temperature_that_the_cache_has_not_is_refused(refused):
    shown = refused(10, distillation={"temperature": 4.0})
    assert "was made for temperatures 2, 1, not for 4" in shown
    assert "--temperature 4" in shown


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"loss": "mse"}, "mse compares the logits of every id"),
        ({"top_k": 5}, "top_k 5 with a cache"),
        ({"progressive": {"layer_mapping": "uniform"}}, "distillation.progressive learns from"),
        ({"attention": {"kind": "transfer"}}, "distillation.attention learns from"),
    ],
)
def test_a_loss_that_takes_more_than_the_cache_has_is_refused(refused, section, told):
    assert told in refused(10, distillation=section)


def test_a_cache_that_was_cut_is_refused(refused, cache):
    path = cache / "part-00000.rows"
    path.write_bytes(path.read_bytes()[:-5])
    assert "part-00000.rows: has " in refused(13)


def test_a_row_that_was_altered_ends_the_run(cache, write_config):
    path = cache / "part-00000.rows"
    data = np.frombuffer(path.read_bytes(), np.uint8) ^ 1
    path.write_bytes(data.tobytes())
    config = write_config(teacher={"cache": str(cache)})
    result = command("run", "-q", "--config", config)
    assert result.returncode == 13
    assert re.search(r"part-00000.rows: row \d+ was altered", result.stderr)


def test_a_folder_that_is_no_cache_is_refused(write_config, tmp_path):
    config = write_config(teacher={"cache": str(tmp_path / "nowhere")})
    result = command("run", "-q", "--config", config)
    assert result.returncode == 14
    assert "holds no cache of a teacher's predictions" in result.stderr


def test_a_teacher_that_is_not_finite_is_not_cached(poisoned, write_config, tmp_path):
    config = write_config(**poisoned("003.txt"))
    result = command("cache", "-q", "--config", config, "--output", tmp_path / "cache")
    assert result.returncode == 30
    assert "not finite" in result.stderr
