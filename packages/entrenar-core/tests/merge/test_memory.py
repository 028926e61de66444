"""A merge takes no more memory than it says before it begins, each in a process of its own."""

import json
import subprocess
import sys
from functools import cache, partial

import ml_dtypes
import numpy as np
import pytest

from entrenar_core.io.safetensors import write_file

ROWS, COLUMNS = 3000, 2600
SCRIPT = """
import json, sys
from entrenar_core.merge.models import merge_models
given = json.loads(sys.argv[1])
done = merge_models(given.pop("models"), **given)
with open("/proc/self/status") as file:
    lines = dict(line.split(":", 1) for line in file)
peak = int(lines["VmHWM"].split()[0]) * 1024
print(json.dumps([done.forecast, peak, done.peak]))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Five lone files with two tensors each, of 31 MB in float32, by the type of their numbers."""

    @cache
    def made(dtype):
        folder = tmp_path_factory.mktemp("models")
        rng = np.random.default_rng(0)
        base = rng.standard_normal((ROWS, COLUMNS), np.float32)
        for number in range(5):
            noise = np.roll(base, number, axis=0) * np.float32(0.1 * number)
            tensors = {"one": (base + noise).astype(dtype), "two": (base - noise).astype(dtype)}
            write_file(folder / f"{number}.safetensors", tensors)
        return folder

    return made


def in_a_child(folder, tmp_path, *, models, **given):
    """(forecast, peak, the peak that is reported) of a merge in bytes."""
    paths = [str(folder / f"{number}.safetensors") for number in models]
    arguments = given | {"models": paths, "output": str(tmp_path / "out.safetensors")}
    if "base" in given:
        arguments["base"] = str(folder / f"{given['base']}.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(arguments)],
        capture_output=True, encoding="utf-8", timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


MERGES = {
    "linear": {"models": range(5), "method": "linear"},
    "slerp": {"models": [0, 1], "method": "slerp", "t": 0.5},
    "ties": {"models": range(1, 5), "base": 0, "method": "ties", "density": 0.3},
    "ties, rescaled": {
        "models": range(1, 5), "base": 0, "method": "ties", "density": 0.3, "rescale": True,
    },
    "breadcrumbs": {"models": [1, 2], "base": 0, "method": "breadcrumbs", "density": 0.3},
    "dare_ties": {"models": range(1, 5), "base": 0, "method": "dare_ties", "density": 0.3},
    "della": {"models": [1, 2], "base": 0, "method": "della", "density": 0.3},
    "nuslerp": {"models": [1, 2], "base": 0, "method": "nuslerp"},
    "multislerp": {"models": [1, 2, 3], "base": 0, "method": "multislerp"},
    "model_stock": {"models": [1, 2, 3], "base": 0, "method": "model_stock"},
    "sce": {"models": range(1, 5), "base": 0, "method": "sce", "select_topk": 0.3},
    "karcher": {"models": [0, 1, 2], "method": "karcher", "max_iter": 1},
    "arcee_fusion": {"models": [0, 1], "method": "arcee_fusion"},
}  # fmt: skip
CASES = [
    *(pytest.param(name, np.float32, marks=pytest.mark.tier3) for name in MERGES),
    pytest.param("ties", ml_dtypes.bfloat16, marks=pytest.mark.tier2),
]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_the_peak_is_below_the_forecast(name, dtype, folders, tmp_path):
    forecast, peak, said = in_a_child(folders(dtype), tmp_path, **MERGES[name])
    assert peak <= forecast
    assert said == pytest.approx(peak, rel=0.02)


@pytest.mark.tier3
@pytest.mark.parametrize("name", ["linear", "ties", "dare_ties"])
def test_a_limit_is_held(name, folders, tmp_path):
    merge = partial(in_a_child, folders(np.float32), tmp_path, **MERGES[name])
    forecast, *_ = merge()
    limit = forecast - 12 * 10**6
    lower, peak, _ = merge(memory_limit=limit)
    assert peak <= lower <= limit
