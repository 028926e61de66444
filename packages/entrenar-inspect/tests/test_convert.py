"""`entrenar-inspect convert`: routes, round trips, the report, and what is refused."""

import itertools
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapter_files import write_peft
from entrenar_common.testing import render_plain, run_cli
from entrenar_core.convert.export import export
from entrenar_core.io.gguf import GGUFFile, text, write_gguf
from entrenar_core.io.os_calls import os_calls
from entrenar_core.io.torch_save import TorchFile
from entrenar_core.quant import quantize
from entrenar_inspect import convert as module
from entrenar_inspect.cli import main
from entrenar_inspect.convert import convert
from model_files import SMALL, write_model


@pytest.fixture(autouse=True)
def without_waiting_for_the_disk(monkeypatch) -> None:
    """No test cuts the power, and a real fsync would take most of the time."""
    monkeypatch.setattr(os_calls, "fsync", lambda fd: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model with a tokenizer; read only."""
    return write_model(tmp_path_factory.mktemp("model"), SMALL)


@pytest.fixture
def command(capsys):
    """Runs `convert` with options; gives the exit code and what it printed."""

    def run(*options):
        code = main.main(["convert", "-q", *map(str, options)], standalone_mode=False)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def go(source, output, **options):
    return convert(str(source), str(output), **options)


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[n], other[n]) for n in one)


def test_weights_that_went_through_every_kind_of_file_are_the_same(folder, tmp_path):
    """The lone file in the middle is of no known architecture, so both routes are in it."""
    chain = [folder, "a.pth", "b.safetensors", "c.pth"]
    for source, output in itertools.pairwise(chain):
        go(tmp_path / source, tmp_path / output)
    wanted = load_file(folder / "model.safetensors")
    assert equal(load_file(tmp_path / "b.safetensors"), wanted)
    with TorchFile(tmp_path / "c.pth") as file:
        assert equal({name: file.read(name) for name in file.names()}, wanted)
    for source, output in ((folder, "d.gguf"), ("d.gguf", "e.apr"), ("e.apr", "f")):
        to = "safetensors" if output == "f" else None
        go(tmp_path / source, tmp_path / output, to=to, quantization="f32")
    assert equal(load_file(tmp_path / "f/model.safetensors"), wanted)


def test_the_route_is_that_of_what_is_known(folder, tmp_path):
    whole = go(folder / "model.safetensors", tmp_path / "a.gguf", quantization="q8_0")
    assert (whole.route, whole.architecture) == ("model", "llama")
    of_gguf = go(tmp_path / "a.gguf", tmp_path / "b.pth")
    assert (of_gguf.route, of_gguf.quantization) == ("model", "float16")
    lone = go(tmp_path / "b.pth", tmp_path / "c.apr")
    assert (lone.route, lone.architecture, lone.notes) == ("tensors", None, ())


def unknown_model(path):
    """The folder of a model that nothing here knows."""
    path.mkdir()
    save_file({"w": np.ones((4, 4), np.float32)}, path / "model.safetensors", {"format": "pt"})
    (path / "config.json").write_text('{"model_type": "falcon"}')
    return path


def test_a_model_of_no_known_architecture_goes_tensor_by_tensor_and_the_report_says_why(tmp_path):
    report = go(unknown_model(tmp_path / "a"), tmp_path / "b", to="pth")
    assert report.route == "tensors"
    assert "falcon" in report.notes[0]
    assert "tensor by tensor" in render_plain(report)
    assert (tmp_path / "b/config.json").exists()


def test_json_has_the_figures(command, folder, tmp_path):
    code, out, err = command(
        folder, "--output", tmp_path / "a.gguf", "--quantize", "Q4_0", "--json"
    )
    assert (code or 0, err) == (0, "")
    found = json.loads(out)
    assert found["schema"] == "entrenar.inspect.convert/1"
    data = found["data"]
    before = (folder / "model.safetensors").stat().st_size
    after = (tmp_path / "a.gguf").stat().st_size
    assert (data["bytes_before"], data["bytes_after"]) == (before, after)
    assert data["ratio"] == after / before
    with GGUFFile(tmp_path / "a.gguf") as file:
        infos = list(file.tensors.values())
        bits = 8 * sum(file.read(info.name).nbytes for info in infos)
    assert data["parameters"] == sum(info.size for info in infos)
    assert data["tensors"] == len(infos)
    assert data["bits_per_weight"] == pytest.approx(bits / data["parameters"])
    weight = "model.layers.0.mlp.up_proj.weight"
    stored = quantize(load_file(folder / "model.safetensors")[weight], "q4_0")
    assert stored.form.name in {loss["form"] for loss in data["losses"]}


def test_the_view_fits_a_terminal_and_has_the_table(folder, tmp_path):
    shown = render_plain(go(folder, tmp_path / "a.gguf", quantization="q4_k_m"))
    assert max(map(len, shown.splitlines())) <= 80
    assert "Signal/noise" in shown
    assert "as a llama model" in shown


def test_the_command_runs_in_a_process_of_its_own(folder, tmp_path):
    save_file({"w": np.ones(3)}, tmp_path / "a.safetensors")
    done = run_cli(["entrenar-inspect", "convert", "a.safetensors", "--output", "a.pth"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Converted" in done.stdout
    with TorchFile(tmp_path / "a.pth") as file:
        assert file.read("w").tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["--output", "out"], 2, "--to"),
        (["--output", "out.pth", "--to", "gguf"], 10, "called as pth"),
        (["--output", "out.gguf", "--quantize", "q4_l"], 15, "q4_l"),
        (["--output", "out.pth", "--quantize", "q4_0"], 15, "q4_0"),
        (["--output", "out.gguf", "--pre", "kwen"], 10, "kwen"),
        (["--output", "out.pth", "--pre", "qwen2"], 10, "qwen2"),
        (["--output", "nowhere/out.pth"], 21, "nowhere"),
        (["--output", "out", "--to", "onnx"], 2, "onnx"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_a_hint(
    command, folder, tmp_path, monkeypatch, options, code, word
):
    monkeypatch.chdir(tmp_path)
    found, out, err = command(folder, *options)
    assert (found, out) == (code, "")
    assert err.startswith("error[E-")
    assert word in err
    assert list(tmp_path.iterdir()) == []


def test_a_lone_file_cannot_become_gguf(command, tmp_path):
    save_file({"w": np.ones(3)}, tmp_path / "a.safetensors")
    code, _, err = command(tmp_path / "a.safetensors", "--output", tmp_path / "a.gguf")
    assert code == 15
    assert "llama" in err


def test_a_gguf_file_of_an_unknown_family_is_unsupported(command, tmp_path):
    write_gguf(tmp_path / "a.gguf", {"general.architecture": text("mamba")}, [], lambda name: None)
    code, _, err = command(tmp_path / "a.gguf", "--output", tmp_path / "a.pth")
    assert code == 15
    assert "mamba" in err
    assert "llama" in err


def test_adapters_are_left_to_the_tool_that_knows_them(command, folder, tmp_path):
    write_peft(tmp_path / "adapter")
    keys = {"general.architecture": text("llama"), "general.type": text("adapter")}
    write_gguf(tmp_path / "a.gguf", keys, [], lambda name: None)
    for source in ("adapter", "adapter/adapter_model.safetensors", "a.gguf"):
        code, _, err = command(tmp_path / source, "--output", tmp_path / "b.pth")
        assert code == 15
        assert "entrenar-lora convert" in err


def test_what_is_read_is_not_written_over(command, tmp_path):
    source = write_model(tmp_path / "a", SMALL)
    before = (source / "model.safetensors").read_bytes()
    for output in (source / "model.safetensors", source, tmp_path):
        code, _, err = command(source, "--to", "safetensors", "--output", output)
        assert code == 10
        assert "another output" in err
    assert (source / "model.safetensors").read_bytes() == before


def test_a_folder_that_exists_is_refused_and_a_file_is_replaced(command, folder, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b/mine").write_text("mine")
    code, _, err = command(folder, "--to", "pth", "--output", tmp_path / "b")
    assert (code, "exists" in err) == (12, True)
    (tmp_path / "b.pth").write_text("old")
    assert not command(folder, "--output", tmp_path / "b.pth")[0]
    with TorchFile(tmp_path / "b.pth") as file:
        assert "lm_head.weight" in file.names()


def test_a_model_on_the_hub_is_fetched_first(folder, tmp_path, monkeypatch):
    asked = []

    def fetch(name, revision=None):
        asked.append((name, revision))
        return folder

    monkeypatch.setattr(module, "fetch_model", fetch)
    go("hf://org/name@v1", tmp_path / "a.pth")
    go("hf://org/name", tmp_path / "b.pth")
    assert asked == [("org/name", "v1"), ("org/name", None)]


def test_one_file_of_a_repository_is_not_fetched(command, tmp_path):
    code, _, err = command("hf://org/name/sub/model.gguf", "--output", tmp_path / "a.pth")
    assert code == 15
    assert "hf://org/name," in err


def test_a_split_gguf_file_is_converted_whole(folder, tmp_path):
    parts = split_in_two(folder, tmp_path)
    go(parts, tmp_path / "b", to="safetensors", quantization="f32")
    assert equal(
        load_file(tmp_path / "b/model.safetensors"), load_file(folder / "model.safetensors")
    )


def split_in_two(folder, tmp_path):
    """The first of two GGUF files with the model."""
    from entrenar_core.io.gguf import Planned, u32

    export(folder, tmp_path / "whole.gguf", form="gguf", quantization="f32")
    with GGUFFile(tmp_path / "whole.gguf") as file:
        keys = {key: file.metadata.value(key) for key in file.metadata}
        planned = [Planned(i.name, i.form, i.shape) for i in file.tensors.values()]
        for number, some in enumerate((planned[:5], planned[5:])):
            about = {"split.no": u32(number), "split.count": u32(2)}
            path = tmp_path / f"m-{number + 1:05d}-of-00002.gguf"
            write_gguf(path, (keys | about) if number == 0 else about, some, file.read)
    return tmp_path / "m-00001-of-00002.gguf"
