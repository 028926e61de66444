"""`entrenar-lora inspect`, `convert`, `resize` and `extract` as a user runs them."""

import json
import zipfile

import numpy as np
import pytest

from adapter_files import DOWN, PREFIX, K, Q, factors, write_peft
from entrenar_common.testing import run_cli
from entrenar_core.io.gguf import GGUFFile
from entrenar_core.io.safetensors import write_file
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.testing import difference
from entrenar_lora.inspecting import bars
from model_files import SMALL, write_model


def data(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["data"]


def wide_lines(text):
    return [line for line in text.splitlines() if len(line) > 80]


# ---- inspect -----------------------------------------------------------------------------------


def test_inspect_shows_what_is_in_an_adapter(run, tmp_path):
    write_peft(tmp_path / "a")
    done = run(tmp_path, "inspect", "a")
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    for words in (
        "rank 4 ", "alpha 6 ", "scale 1.5 (alpha/rank)", "parameters 1,536",
        "target modules 3 (q_proj, down_proj, k_proj × 2 blocks)", "not finite none",
    ):  # fmt: skip
        assert words in shown
    assert not wide_lines(done.stdout)


def test_inspect_lists_every_module_and_norms_beside_a_base(run, tmp_path):
    write_peft(tmp_path / "a")
    write_model(tmp_path / "base", SMALL)
    done = run(tmp_path, "inspect", "a", "--base", "base", "--all")
    assert all(name in done.stdout for name in (Q, K, DOWN))
    assert "‖ΔW‖/‖W‖" in done.stdout
    assert not wide_lines(done.stdout)


def test_inspect_compares_two(run, tmp_path):
    write_peft(tmp_path / "one", factors(seed=1))
    write_peft(tmp_path / "two", factors(seed=2))
    done = run(tmp_path, "inspect", "one", "two")
    assert done.returncode == 0, done.stderr
    assert "Subspaces" in done.stdout
    assert not wide_lines(done.stdout)
    found = data(run(tmp_path, "inspect", "one", "one", "--json"))
    assert found["comparison"]["cosine"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "config", "words"),
    [
        ((np.nan, np.inf), {}, "Not finite: 2 numbers"),
        ((), {"r": 8}, "Contradiction: model.layers.0.self_attn.q_proj: the config says rank 8"),
    ],
)
def test_inspect_ends_with_1_where_something_is_wrong(run, tmp_path, change, config, words):
    tensors = factors()
    tensors[f"{PREFIX}{Q}.lora_A.weight"][0, : len(change)] = change
    write_peft(tmp_path / "a", tensors, **config)
    done = run(tmp_path, "inspect", "a")
    assert done.returncode == 1
    assert words in " ".join(done.stdout.split())


def test_inspect_of_a_lone_file_takes_an_alpha(run, tmp_path):
    write_file(tmp_path / "a.safetensors", factors())
    assert run(tmp_path, "inspect", "a.safetensors").returncode == 10
    found = data(run(tmp_path, "inspect", "a.safetensors", "--alpha", "8", "--json"))
    assert (found["adapter"]["rank"], found["adapter"]["scale"]) == (4, 2)


def test_of_many_blocks_a_bar_is_the_largest_of_its_neighbours():
    assert bars([1, 2, 4], 4) == "▂▄█"
    assert bars([0] * 6 + [8] + [0] * 5, 8, width=3) == " █ "
    assert bars([0.0], 0) == " "


# ---- convert -----------------------------------------------------------------------------------


def test_convert_goes_through_every_form_and_back(run, tmp_path):
    write_peft(tmp_path / "a")
    for source, form, output in (
        ("a", "json", "a.json"), ("a.json", "pth", "b"), ("b", "pth", "c/adapter.pth"),
        ("c/adapter.pth", "safetensors", "d"),
    ):  # fmt: skip
        (tmp_path / "c").mkdir(exist_ok=True)
        done = run(tmp_path, "convert", source, "--to", form, "--output", output)
        assert done.returncode == 0, done.stderr
    with StoredAdapter(tmp_path / "a") as one, StoredAdapter(tmp_path / "d") as other:
        assert one.settings == other.settings
        assert all(np.array_equal(one.read(n), other.read(n)) for n in one.tensor_names())


def test_convert_to_gguf_takes_the_base_that_the_adapter_names_or_is_given(run, tmp_path):
    base = write_model(tmp_path / "base", SMALL)
    write_peft(tmp_path / "a", base_model_name_or_path=str(base))
    assert run(tmp_path, "convert", "a", "--to", "gguf", "--output", "a.gguf").returncode == 0
    with GGUFFile(tmp_path / "a.gguf") as file:
        assert file.metadata.text("adapter.type") == "lora"
    write_peft(tmp_path / "b", base_model_name_or_path="them/elsewhere")
    done = run(tmp_path, "convert", "b", "--to", "gguf", "--output", "b.gguf")
    assert (done.returncode, "--base" in done.stderr) == (10, True)
    given = ["convert", "b", "--to", "gguf", "--base", "base", "--output", "b.gguf"]
    assert run(tmp_path, *given).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a", "--to", "json", "--output", "a"], 10, "is what is read"),
        (["a", "--to", "json", "--output", "b"], 10, ".json"),
        (["a", "--to", "pth", "--output", "b.json"], 10, "is no name for pth"),
        (["a", "--to", "json", "--base", "a", "--output", "b.json"], 10, "only GGUF"),
        (["a", "--to", "safetensors", "--output", "a/b.safetensors"], 12, "of another adapter"),
        (["a", "--to", "gguf", "--base", "nowhere", "--output", "b.gguf"], 14, "nowhere"),
        (["a", "--to", "yaml", "--output", "b"], 2, "yaml"),
        (["nowhere", "--to", "json", "--output", "b.json"], 14, "nowhere"),
    ],
)
def test_convert_says_what_is_wrong(run, tmp_path, arguments, code, words):
    write_peft(tmp_path / "a")
    before = sorted(tmp_path.rglob("*"))
    done = run(tmp_path, "convert", *arguments)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert "hint: " in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


# ---- resize and extract ------------------------------------------------------------------------


def test_resize_says_what_is_lost(run, tmp_path):
    write_peft(tmp_path / "a")
    found = data(run(tmp_path, "resize", "a", "--rank", "2", "--output", "b", "--json"))
    assert found["ranks"] == [2, 2]
    assert found["parameters_after"] * 2 == found["parameters_before"]
    assert 0 < found["worst_error"] < 1
    done = run(tmp_path, "resize", "a", "--energy", "0.7", "--output", "c")
    assert done.returncode == 0
    assert "What the rank cuts off" in done.stdout
    assert not wide_lines(done.stdout)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "--energy"), (["--rank", "2", "--energy", "1"], 2, "--energy"),
        (["--rank", "4"], 10, "has rank 4"), (["--energy", "2"], 10, "energy of 2"),
    ],
)  # fmt: skip
def test_resize_says_what_is_wrong(run, tmp_path, arguments, code, words):
    write_peft(tmp_path / "a")
    done = run(tmp_path, "resize", "a", *arguments, "--output", "b")
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "b").exists()


def test_extract_finds_what_merging_added(run, tmp_path):
    write_model(tmp_path / "base", SMALL)
    write_peft(tmp_path / "a")
    run(tmp_path, "merge", "--base", "base", "--adapter", "a", "--output", "tuned")
    done = run(
        tmp_path, "extract", "--base", "base", "--tuned", "tuned", "--rank", "4", "--output", "b"
    )
    assert done.returncode == 0, done.stderr
    assert not wide_lines(done.stdout)
    with StoredAdapter(tmp_path / "a") as one, StoredAdapter(tmp_path / "b") as other:
        assert one.modules.keys() == other.modules.keys()
        for name in one.modules:
            assert difference(other.update(name).dense(), one.update(name).dense()) < 1e-5


# ---- files from strangers ----------------------------------------------------------------------


@pytest.mark.tier2
def test_a_pickle_that_is_more_than_tensors_is_refused_and_not_run(tmp_path):
    """Its opcodes call os.system; what they would write is not there."""
    write_peft(tmp_path / "a")
    (tmp_path / "a" / "adapter_model.safetensors").unlink()
    code = b"\x80\x02cos\nsystem\nX\x0c\x00\x00\x00touch pwned.\x85R."
    with zipfile.ZipFile(tmp_path / "a" / "adapter_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", code)
        archive.writestr("archive/version", "3\n")
    write_model(tmp_path / "base", SMALL)
    for arguments in (
        ["inspect", "a"],
        ["merge", "--base", "base", "--adapter", "a", "--output", "out"],
        ["convert", "a", "--to", "json", "--output", "a.json"],
    ):
        done = run_cli(["entrenar-lora", *arguments], cwd=tmp_path)
        assert done.returncode in (11, 12), done.stderr
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("pwned*"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "code", "words"),
    [
        ({"peft_type": "IA3"}, 15, "IA3"),
        ({"peft_type": "\x1b[31mX"}, 10, "\\x1b[31mX"),
        ({"lora_alpha": float("nan")}, 11, "NaN"),
        ({"r": -1}, 10, "-1"),
        ({"use_dora": True}, 10, "no magnitude"),
    ],
)
def test_settings_that_make_no_sense_end_a_merge(run, tmp_path, config, code, words):
    write_model(tmp_path / "base", SMALL)
    write_peft(tmp_path / "a", **config)
    done = run(tmp_path, "merge", "--base", "base", "--adapter", "a", "--output", "out")
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert "hint: " in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_config_that_is_missing_is_said(run, tmp_path):
    write_peft(tmp_path / "a")
    (tmp_path / "a" / "adapter_config.json").unlink()
    done = run(tmp_path, "inspect", "a")
    assert done.returncode == 14
    assert "adapter_config.json: missing" in done.stderr
