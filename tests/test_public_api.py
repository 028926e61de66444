"""What users may import exists, imports by itself, and does what its docstring shows."""

import importlib
import os
import pkgutil
import subprocess
import sys

import pytest

PACKAGES = ("entrenar_common", "entrenar_core", "entrenar_distill")


def modules_of(package: str) -> list[str]:
    folder = importlib.import_module(package).__path__
    return [package, *(found.name for found in pkgutil.walk_packages(folder, f"{package}."))]


MODULES = [name for package in PACKAGES for name in modules_of(package)]

EACH_ALONE = """
import doctest, importlib, os, sys, traceback
# What others wrote is loaded before: a fork for each module then costs only our own part.
import click, hypothesis, ml_dtypes, numba, numpy, pydantic, rich.console, tokenizers, yaml
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            module = importlib.import_module(name)
            assert doctest.testmod(module).failed == 0
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        print(name)
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
        ("entrenar_core.models", "load save from_config with_layers read_config generate"),
        ("entrenar_core.autograd", "Tensor Parameter op no_grad backward"),
        ("entrenar_core.autograd.ops", "linear attention rms_norm rope linear_cross_entropy"),
        ("entrenar_core.optim", "AdamW learning_rate"),
        ("entrenar_core.distill", "Distillation shared_vocabulary"),
        ("entrenar_core.data.tokenizer", "Tokenizer train_bpe"),
        ("entrenar_core.train.loop", "Trainer PhaseResult"),
        ("entrenar_core.io.safetensors", "SafetensorsFile SafetensorsFolder write_file"),
        ("entrenar_distill.config", "DistillConfig resolve"),
        ("entrenar_distill.pipeline", "plan run"),
    ],
)
def test_the_documented_names_are_there(module, names):
    found = importlib.import_module(module)
    assert [name for name in names.split() if not hasattr(found, name)] == []


@pytest.mark.tier2
def test_importing_has_no_effect_on_the_environment():
    """No variable is set, no folder made: what a program does is its own affair."""
    code = (
        "import os; before = dict(os.environ); import entrenar_distill.pipeline; "
        "assert dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=True)
