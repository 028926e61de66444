"""What users may import exists, imports by itself, and does what its docstring shows."""

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = (
    "entrenar_common",
    "entrenar_core",
    "entrenar_distill",
    "entrenar_lora",
    "entrenar_inspect",
    "entrenar_bench",
    "entrenar_shell",
)


def modules_of(package: str) -> list[str]:
    folder = importlib.import_module(package).__path__
    return [package, *(found.name for found in pkgutil.walk_packages(folder, f"{package}."))]


MODULES = [name for package in PACKAGES for name in modules_of(package)]

EACH_ALONE = """
import doctest, importlib, os, sys, traceback
# What others wrote is loaded before: a fork for each module then costs only our own part.
import click, hypothesis, ml_dtypes, numba, numpy, pydantic, rich.console, tokenizers, yaml
running = {}
def collect():
    child, status = os.wait()
    name = running.pop(child)
    if status:
        print(name, flush=True)
for name in sys.argv[1:]:
    if len(running) == os.cpu_count():
        collect()
    child = os.fork()
    if child == 0:
        try:
            module = importlib.import_module(name)
            assert doctest.testmod(module).failed == 0
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    running[child] = name
while running:
    collect()
"""


@pytest.mark.tier3
def test_each_module_imports_alone_and_its_examples_are_true():
    done = subprocess.run(
        [sys.executable, "-c", EACH_ALONE, *MODULES], capture_output=True, text=True, check=True
    )
    assert done.stdout == "", done.stderr


def test_names_in_all_exist_and_occur_once():
    modules = {name: importlib.import_module(name) for name in MODULES}
    listed = {name: getattr(module, "__all__", []) for name, module in modules.items()}
    assert [
        (m, n) for m, names in listed.items() for n in names if not hasattr(modules[m], n)
    ] == []
    assert [m for m, names in listed.items() if len(set(names)) < len(names)] == []


def test_the_packages_have_one_version():
    versions = {importlib.import_module(name).__version__ for name in PACKAGES}
    assert len(versions) == 1


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("entrenar_core", "Tensor Parameter ops no_grad op check_grads"),
        (
            "entrenar_core.autograd.ops",
            "add sub mul div neg pow exp log sqrt abs clip maximum minimum where astype "
            "equal not_equal less less_equal greater greater_equal "
            "sum mean var std max min logsumexp cumsum "
            "reshape transpose permute expand squeeze unsqueeze flip pad concat stack split "
            "getitem gather scatter_add matmul einsum linear embedding",
        ),
        ("entrenar_core.models", "load save from_config with_layers read_config generate"),
        ("entrenar_core.autograd", "Tensor Parameter op no_grad backward"),
        ("entrenar_core.autograd.ops", "linear attention rms_norm rope linear_cross_entropy"),
        ("entrenar_core.optim", "AdamW learning_rate"),
        ("entrenar_core.quant", "FORMATS quantize dequantize Integer NF4 Grain quant_error"),
        ("entrenar_core.qat", "QatConfig prepare calibrate sensitivities choose"),
        (
            "entrenar_core.distill",
            "Distillation Divergence DIVERGENCES LiveTeacher MixedTeacher RoutedTeacher decide "
            "shared_vocabulary Vocabulary",
        ),
        (
            "entrenar_core.lora",
            "LoraConfig Adapter adapt load_adapter PeftConfig StoredAdapter activate active "
            "adapters_of disabled fuse strip unfuse Update AdapterContent content_of write_adapter",
        ),
        ("entrenar_core.data.tokenizer", "Tokenizer train_bpe"),
        ("entrenar_core.train.loop", "TrainingLoop PhaseResult"),
        (
            "entrenar_core.train",
            "Trainer TrainingConfig Callback Notice StopTraining LanguageModelling TrainSpec "
            "train_from_yaml",
        ),
        ("entrenar_core.io.safetensors", "SafetensorsFile SafetensorsFolder write_file"),
        ("entrenar_core.io.torch_save", "TorchFile TorchFolder write_torch"),
        ("entrenar_core.io.apr", "APRFile write_apr"),
        ("entrenar_core.io.weights", "open_weights"),
        ("entrenar_distill.config", "DistillConfig resolve"),
        ("entrenar_distill.pipeline", "plan run"),
        (
            "entrenar_bench.statistics",
            "compare compare_arms Comparison paired_t welch_t sign_flip mann_whitney hedges_g holm "
            "benjamini_hochberg paired_power welch_power paired_seeds bootstrap_mean Verdict State",
        ),
        ("entrenar_bench.study", "Study Plan Arm Trial Lease Measured Runner run_trials"),
        ("entrenar_bench.runner", "DistillRunner arms_of keys_of"),
    ],
)
def test_the_documented_names_are_there(module, names):
    found = importlib.import_module(module)
    assert [name for name in names.split() if not hasattr(found, name)] == []


@pytest.mark.parametrize("package", ["entrenar_core.lora", "entrenar_core.train"])
def test_names_that_are_loaded_late_are_listed_and_others_are_not_there(package):
    found = importlib.import_module(package)
    offered = [name for name in dir(found) if not name.startswith("_")]
    assert len(offered) > 5
    assert all(hasattr(found, name) for name in offered)
    with pytest.raises(AttributeError, match=f"'{package}' has no attribute 'nothing'"):
        found.nothing  # noqa: B018


def test_type_checkers_see_the_names_that_core_offers():
    core = importlib.import_module("entrenar_core")
    stub = ast.parse(Path(core.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    declared = {
        alias.asname
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert declared == {*core._AUTOGRAD, *core._TESTING}
    assert declared <= set(dir(core))
    with pytest.raises(AttributeError, match="'entrenar_core' has no attribute 'tensor'"):
        core.tensor  # noqa: B018


def test_the_first_example_runs():
    from entrenar_core import Tensor, no_grad, ops

    w, b = Tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]]), Tensor([0.0, 1.0])
    x = Tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    y = ops.softmax(x @ w + b).sum()
    y.backward()
    assert y.item() == pytest.approx(1.0, abs=1e-6)
    assert abs(x.grad).max() < 1e-6  # a sum that is always 1 has no slope
    with no_grad():
        assert not ops.softmax(x @ w + b).requires_grad


@pytest.mark.tier2
def test_importing_has_no_effect_on_the_environment():
    """No variable is set, no folder made: what a program does is its own affair."""
    code = (
        "import os; before = dict(os.environ); import entrenar_distill.pipeline; "
        "assert dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=True)
