"""`entrenar-lora merge` as a user runs it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from adapter_files import PREFIX, K, Q, factors, write_peft
from entrenar_core import models
from entrenar_core.io.safetensors import SafetensorsFolder, write_file
from entrenar_core.lora.stored import StoredAdapter
from entrenar_core.testing import difference
from model_files import SMALL, write_model


@pytest.fixture
def folder(tmp_path):
    """A folder with a base, and adapters `one` and `two`."""
    write_model(tmp_path / "base", SMALL)
    write_peft(tmp_path / "one", factors(seed=1))
    write_peft(tmp_path / "two", factors(seed=2), use_rslora=True)
    return tmp_path


@pytest.fixture
def merge(run):
    return lambda folder, *arguments: run(folder, "merge", *arguments)


def document(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def weight(folder, module):
    with SafetensorsFolder(folder) as file:
        return np.array(file.read(f"{module}.weight"), np.float64)


def delta(folder, name, module):
    with StoredAdapter(folder / name) as adapter:
        return adapter.update(module).dense().astype(np.float64)


def test_an_adapter_is_merged_into_its_base(merge, folder):
    done = merge(folder, "--base", "base", "--adapter", "one", "--output", "out")
    assert done.returncode == 0, done.stderr
    assert "21, of which 3 change" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    wanted = weight(folder / "base", Q) + delta(folder, "one", Q)
    assert difference(weight(folder / "out", Q), wanted) < 1e-6
    models.load(folder / "out")


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_what_is_no_sum_goes_into_a_base_as_the_nearest_of_a_rank(merge, folder, method):
    given = ["--base", "base", "--adapter", "one", "--adapter", "two", "--method", method]
    document(merge(folder, *given, "--output", "whole", "--json"))
    found = document(merge(folder, *given, "--rank", "2", "--output", "cut", "--json"))["data"]
    before = weight(folder / "base", Q)
    whole, cut = (weight(folder / name, Q) - before for name in ("whole", "cut"))
    u, s, vt = np.linalg.svd(whole)
    assert difference(cut, (u[:, :2] * s[:2]) @ vt[:2]) < 1e-4
    lost = np.linalg.norm(s[2:]) / np.linalg.norm(s)
    assert found["truncation"] >= lost - 1e-4


def test_several_are_merged_with_their_weights_and_the_scale(merge, folder):
    found = document(
        merge(
            folder, "--base", "base", "--adapter", "one", "--adapter", "two", "--weights",
            "0.7,-0.3", "--scale", "2", "--output", "out", "--json",
        )
    )  # fmt: skip
    assert found["schema"] == "entrenar.lora.merge/1"
    assert [a["factor"] for a in found["data"]["adapters"]] == [1.4, -0.6]
    wanted = weight(folder / "base", Q) + 1.4 * delta(folder, "one", Q)
    assert difference(weight(folder / "out", Q), wanted - 0.6 * delta(folder, "two", Q)) < 1e-6


def test_a_dry_run_lists_every_tensor_and_writes_nothing(merge, folder):
    before = sorted(folder.rglob("*"))
    done = merge(folder, "--base", "base", "--adapter", "one", "--output", "out", "--dry-run")
    assert done.returncode == 0
    assert "Merge, not done" in done.stdout
    for module in (Q, K):
        assert f"{module}.weight" in done.stdout
    assert "rank 4, scale 1.5" in done.stdout
    assert sorted(folder.rglob("*")) == before
    found = document(merge(folder, "--base", "base", "--adapter", "one", "--dry-run", "--json"))
    assert f"{Q}.weight" in {tensor["name"] for tensor in found["data"]["touched"]}
    assert found["data"]["written"] is False


@pytest.mark.parametrize(
    ("method", "rank", "lost"), [("linear", None, False), ("cat", None, False), ("svd", 4, True)]
)
def test_several_become_one_adapter(merge, folder, method, rank, lost):
    arguments = ["--adapter", "one", "--adapter", "two", "--weights", "0.7,0.3", "--method", method]
    if rank:
        arguments += ["--rank", str(rank)]
    found = document(merge(folder, *arguments, "--output", "both", "--json"))
    assert found["schema"] == "entrenar.lora.join/1"
    assert (found["data"]["worst_error"] > 0) == lost
    assert found["data"]["rank"] == (rank or 8)
    wanted = 0.7 * delta(folder, "one", Q) + 0.3 * delta(folder, "two", Q)
    assert (difference(delta(folder, "both", Q), wanted) < 1e-6) == (not lost)


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_ties_and_dare_go_into_models_and_adapters(merge, folder, method):
    given = ["--adapter", "one", "--adapter", "two", "--method", method, "--density", "0.5"]
    assert merge(folder, "--base", "base", *given, "--output", "out").returncode == 0
    done = merge(folder, *given, "--rank", "8", "--output", "both")
    assert done.returncode == 0
    assert "What the rank cuts off" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_as_adapter_checks_that_all_are_of_the_base(merge, folder):
    given = ["--base", "base", "--adapter", "one", "--adapter", "two", "--as", "adapter"]
    assert merge(folder, *given, "--output", "both").returncode == 0
    write_peft(folder / "other", factors({"x.q_proj": (8, 8)}), target_modules=["q_proj"])
    done = merge(folder, *given, "--adapter", "other", "--output", "more")
    assert done.returncode == 10
    assert "x.q_proj: not in the base" in done.stderr


def test_a_lone_file_needs_an_alpha(merge, folder):
    write_file(folder / "lone.safetensors", factors())
    given = ["--base", "base", "--adapter", "lone.safetensors", "--output", "out"]
    done = merge(folder, *given)
    assert done.returncode == 10
    assert "--alpha" in done.stderr
    assert merge(folder, *given, "--alpha", "6").returncode == 0


HERE = ["--base", "base", "--adapter", "one"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--adapter", "one", "--output", "out", "--as", "model"], 2, "--base"),
        (HERE, 2, "--output"),
        (["--base", "base", "--output", "out"], 2, "--adapter"),
        ([*HERE, "--weights", "a", "--output", "out"], 2, "0.7,0.3"),
        ([*HERE, "--weights", "1,2", "--output", "out"], 2, "2 weights"),
        ([*HERE, "--weights", "nan", "--output", "out"], 2, "finite"),
        ([*HERE, "--scale", "inf", "--output", "out"], 2, "scale"),
        (["--adapter", "one", "--dtype", "f16", "--output", "out"], 2, "--dtype"),
        ([*HERE, "--method", "ties", "--rank", "0", "--output", "out"], 2, "--rank"),
        ([*HERE, "--density", "0.5", "--output", "out"], 10, "linear"),
        ([*HERE, "--output", "base"], 10, "is what is read"),
        ([*HERE, "--output", "one"], 10, "is what is read"),
        ([*HERE, "--output", "two"], 12, "exists already"),
        ([*HERE, "--dtype", "q4_0", "--output", "out"], 15, "f16"),
        (["--base", "base", "--adapter", "nowhere", "--output", "out"], 14, "nowhere"),
        (["--base", "nowhere", "--adapter", "one", "--output", "out"], 14, "nowhere"),
    ],
)
def test_wrong_command_lines_say_what_to_do(merge, folder, arguments, code, words):
    before = sorted(folder.rglob("*"))
    done = merge(folder, *arguments)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert "hint: " in done.stderr
    assert sorted(folder.rglob("*")) == before


def test_results_that_are_not_finite_leave_nothing(merge, folder):
    tensors = factors()
    tensors[f"{PREFIX}{Q}.lora_A.weight"][0, 0] = np.nan
    write_peft(folder / "bad", tensors)
    done = merge(folder, "--base", "base", "--adapter", "bad", "--output", "out")
    assert done.returncode == 30
    assert f"{Q}.weight: element" in done.stderr
    assert not [p for p in folder.iterdir() if "out" in p.name]


@pytest.mark.tier2
def test_a_full_disk_leaves_nothing(folder):
    """RLIMIT_FSIZE stops a file as a full disk does."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from entrenar_lora.cli import main\n"
        "from entrenar_core import kernels; import entrenar_core.kernels.cpu.narrow\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "merge", "--base", "base", "--adapter", "one", "--output",
         "out"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 21, done.stderr
    assert "EFBIG" in done.stderr
    assert not [p for p in folder.iterdir() if "out" in p.name]
