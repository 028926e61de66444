"""Each package builds a wheel, and each tool installed from the wheels runs."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(ROOT.glob("packages/*"))
TOOLS = (
    "entrenar-distill",
    "entrenar-lora",
    "entrenar-inspect",
    "entrenar-bench",
    "entrenar-shell",
)

pytestmark = pytest.mark.tier3


def pip(*arguments: object, python: Path | None = None) -> None:
    target = ["--python", str(python)] if python else []
    quiet = ["--disable-pip-version-check", "--quiet", *target]
    subprocess.run([sys.executable, "-m", "pip", *quiet, *map(str, arguments)], check=True)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, *PACKAGES)
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    """The installed packages of others, without ours: nothing is downloaded again."""
    folder = tmp_path_factory.mktemp("others")
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "entrenar" not in path.name and path.suffix != ".pth":
            (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory, wheels, others) -> Path:
    """The bin folder of an environment with the tools, as a user's pip resolves them."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin/python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    (Path(site.strip()) / "others.pth").write_text(f"{others}\n")
    pip("install", "--no-index", "--find-links", wheels, *TOOLS, python=python)
    pip("check", python=python)
    return folder / "bin"


def test_every_package_builds_a_wheel(wheels):
    built = {path.name.split("-")[0] for path in wheels.glob("*.whl")}
    assert built == {path.name.replace("-", "_") for path in PACKAGES}


@pytest.mark.parametrize("tool", TOOLS)
def test_an_installed_tool_runs(tool, environment, tmp_path):
    for argument, expected in (("--version", f"{tool} 0.1.0\n"), ("--help", "Usage: ")):
        done = subprocess.run(
            [environment / tool, argument], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(expected)


def test_the_installed_libraries_are_those_of_the_wheels(environment, tmp_path):
    code = (
        "from entrenar_distill import pipeline; from entrenar_core import kernels; "
        "import numpy as np; a = np.ones((2, 3), 'f4'); "
        "print(pipeline.__file__, kernels.matmul(a, a, trans_b=True).sum())"
    )
    done = subprocess.run(
        [environment / "python", "-c", code],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    where, total = done.stdout.split()
    assert str(environment.parent) in where
    assert float(total) == 12
