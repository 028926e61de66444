"""What several tests of entrenar-inspect use."""

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from entrenar_common.testing import CliResult
from entrenar_core.io.gguf import Planned, Value, write_gguf
from entrenar_core.io.safetensors import write_file
from entrenar_core.quant import BY_NUMBER
from entrenar_inspect.cli import main

F32 = BY_NUMBER[0]
DTYPES = {"BF16": ml_dtypes.bfloat16, "F8": ml_dtypes.float8_e4m3fn}


@pytest.fixture
def run(capsys) -> Callable[..., CliResult]:
    """A function that runs `entrenar-inspect` with arguments in a folder, in this process."""

    def command(folder: Path, *arguments: str) -> CliResult:
        capsys.readouterr()
        with contextlib.chdir(folder):
            code = main(list(arguments), prog_name="entrenar-inspect", standalone_mode=False)
        printed = capsys.readouterr()
        return CliResult(printed.out, printed.err, code)

    return command


@pytest.fixture
def write(tmp_path) -> Callable[..., str]:
    """A function that writes a model folder of tensors of these shapes, and returns its path.

    A tensor is a shape (of float32), a dtype's name and a shape, or an array.
    """

    def model(
        tensors: Mapping[str, Any],
        config: Mapping[str, Any] | None = None,
        name: str = "model.safetensors",
    ) -> str:
        write_file(tmp_path / name, {key: _array(value) for key, value in tensors.items()})
        if config is not None:
            (tmp_path / "config.json").write_text(json.dumps(config))
        return str(tmp_path)

    return model


@pytest.fixture
def gguf(tmp_path) -> Callable[..., str]:
    """A function that writes a GGUF file of metadata and float32 tensors of these shapes."""

    def model(metadata: Mapping[str, Value], shapes: Mapping[str, tuple[int, ...]]) -> str:
        path = tmp_path / "model.gguf"
        planned = [Planned(name, F32, shape) for name, shape in shapes.items()]
        write_gguf(
            path, metadata, planned, lambda name: F32.quantize(np.zeros(shapes[name], np.float32))
        )
        return str(path)

    return model


def _array(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    dtype, shape = value if value and isinstance(value[0], str) else ("float32", value)
    return np.zeros(shape, DTYPES.get(dtype, dtype))
