"""Where an exported model comes from, in a file beside it: the same bytes for the same export."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from entrenar_core.convert.exported import Exported
from entrenar_core.io import files
from entrenar_core.io.strict_json import read_text
from entrenar_core.models.source import model_files
from entrenar_distill import __version__

__all__ = ["SCHEMA", "provenance_path", "write_provenance"]

SCHEMA = "entrenar.provenance/1"

_NAME = "provenance.json"
_CONFIGURATIONS = ("distill.yaml", "train.yaml")
_OF_REPORT = ("task", "scores", "verdict", "config_hash", "inputs", "reproduction")
"""What a run's report says of its model; how long it took is not among it."""


def provenance_path(output: Path) -> Path:
    """`provenance.json` in a folder, and FILE.provenance.json beside a file."""
    return output / _NAME if output.is_dir() else output.with_name(f"{output.name}.{_NAME}")


def write_provenance(source: str, path: Path, done: Exported, *, form: str) -> Path:
    """Write where the export `done` of the model `source`, which is at `path`, comes from.

    In the file: the files of both with bytes and SHA-256; file format, quantization, and what was
    noted; of a model that a run of entrenar wrote, the run's configuration and what its report says
    of the model. Returns where it is. Raises StorageError, and FormatError for a report that is not
    one.
    """
    target = provenance_path(done.path)
    files.write_json(
        target,
        {
            "schema": SCHEMA,
            "written_by": f"entrenar-distill {__version__}",
            "source": {"model": source, "files": _hashes(model_files(path))},
            "output": {
                "format": form,
                "quantization": done.quantization,
                "notes": list(done.notes),
                "files": _hashes(_written(done.path, target)),
            },
            "run": _run(path) if path.is_dir() else None,
        },
    )
    return target


def _written(output: Path, target: Path) -> list[Path]:
    """The files of an export, but for the one about it."""
    if not output.is_dir():
        return [output]
    return sorted(file for file in output.iterdir() if file.is_file() and file != target)


def _hashes(paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": files.sha256_file(path)}
        for path in paths
        if path.exists()
    }


def _run(folder: Path) -> Mapping[str, Any] | None:
    """What a run left beside its model; None where there is none."""
    report = folder / "report.json"
    if not report.is_file():
        return None
    said = files.read_json(report)
    configurations = [folder / name for name in _CONFIGURATIONS if (folder / name).is_file()]
    return {
        "configuration": {path.name: read_text(path) for path in configurations},
        "report": {key: said[key] for key in _OF_REPORT if key in said},
    }
