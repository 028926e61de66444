"""Opening what a user points at: a file or a folder on this machine, or a model on the hub."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from entrenar_common.errors import ConfigError, FormatError, NotFoundError
from entrenar_common.text import escape_controls
from entrenar_core.io.kinds import SAFETENSORS_NAMES, TORCH_NAMES, is_apr, is_gguf, is_torch
from entrenar_core.io.os_calls import read_errors
from entrenar_core.io.other_kinds import HEAD_BYTES
from entrenar_core.io.safetensors_file import SafetensorsFile
from entrenar_core.io.safetensors_folder import SafetensorsFolder
from entrenar_core.io.strict_json import read_bytes, read_json
from entrenar_core.io.tensor_file import TensorFile
from entrenar_core.io.tensor_folder import TensorFolder
from entrenar_inspect.artifact import APR, GGUF, PYTORCH, SAFETENSORS, Artifact, WeightFile
from entrenar_inspect.entries import entries_of, gguf_entries
from entrenar_inspect.hub_place import HUB

CONFIG = "config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
SUFFIXES = {
    ".safetensors": SAFETENSORS, ".gguf": GGUF, ".apr": APR, ".pth": PYTORCH, ".pt": PYTORCH,
    ".bin": PYTORCH,
}  # fmt: skip
"""What a file in a folder is taken for, where nothing says which one is meant."""

WHOLE, INDEXES = zip(SAFETENSORS_NAMES, TORCH_NAMES, strict=True)
"""What a folder calls all of a model's weights in one file, and the index of their shards."""


def open_artifact(spec: str) -> Artifact:
    """The model, adapter or set of tensors that `spec` means, of which only headers are read.

    A file in safetensors, GGUF, PyTorch's or the APR format (what is in it decides, not its name),
    a folder with such files, or hf://org/name[@revision][/file] on the hub.

    Raises NotFoundError for what is none of these, FormatError, RefusedError and UnsupportedError
    for files that cannot be read, HubError.
    """
    if spec.startswith(HUB):
        from entrenar_inspect.remote import open_remote  # who opens a file does not wait for it

        return open_remote(spec)
    path = Path(spec).expanduser()
    if not spec or not path.exists():
        raise NotFoundError(
            f"{escape_controls(spec) or 'no path'}: no such file or folder",
            hint="check the path" + (f"; on the hub: {HUB}{spec}" if _may_be_on_hub(spec) else ""),
        )
    return _open_folder(spec, path) if path.is_dir() else _open_file(spec, path)


def _may_be_on_hub(spec: str) -> bool:
    return spec.count("/") == 1 and not spec.startswith((".", "/", "~"))


def folder_kinds() -> Iterator[tuple[type[TensorFolder], str]]:
    """What reads a model's folder, the first that finds its files in it, and what those are; each
    is loaded when its turn comes."""
    yield SafetensorsFolder, SAFETENSORS
    from entrenar_core.io.torch_folder import TorchFolder

    yield TorchFolder, PYTORCH


def _open_folder(spec: str, folder: Path) -> Artifact:
    for kind, name in folder_kinds():
        if kind.is_in(folder):
            opened = kind(folder)
            return Artifact(
                spec, name, opened, path=folder, notes=opened.warnings,
                tensors=chain.from_iterable(
                    entries_of(file.tensors, file.path.name) for file in opened.files
                ),
                files=weight_files(opened.paths), metadata=opened.metadata,
                **_from_folder(folder, whole=True),
            )  # fmt: skip
    for name in ADAPTER_WEIGHTS:
        if (folder / name).exists():
            return _open_file(spec, folder / name, path=folder)
    return _open_file(spec, only_file(folder))


def only_file(folder: Path) -> Path:
    """The one file of weights in a folder; parts of a split GGUF count as their first."""
    with read_errors(folder):
        names = sorted(p.name for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file())
    first = [n for n in names if "-of-" not in n or "-00001-of-" in n]
    if len(first) == 1:
        return folder / first[0]
    if not first:
        raise NotFoundError(
            f"{folder}: no weights in it: no {', '.join(SUFFIXES)}", hint="check the path"
        )
    shown = ", ".join(map(escape_controls, first[:5])) + (", …" if len(first) > 5 else "")
    raise ConfigError(
        f"{folder}: {len(first)} files of weights, and nothing says which is meant: {shown}",
        hint=f"give one of them, such as {folder / escape_controls(first[0])}",
    )


def _open_file(spec: str, file: Path, *, path: Path | None = None) -> Artifact:
    if is_gguf(file):
        return _open_gguf(spec, file)
    _refuse_no_weights(file)
    if is_apr(file):
        return _open_apr(spec, file)
    opened, kind = _torch_or_safetensors(file)
    folder = file.parent
    whole = file.name in WHOLE
    of_model = whole or file.name in ADAPTER_WEIGHTS or _is_shard(file)
    return Artifact(
        spec, kind, opened, path=path or file, tensors=entries_of(opened.tensors, file.name),
        files=weight_files(opened.paths), metadata=opened.metadata,
        notes=[*getattr(opened, "warnings", []), *_shard_note(file)],
        **(_from_folder(folder, whole=whole) if of_model else {}),
    )  # fmt: skip


def _torch_or_safetensors(file: Path) -> tuple[TensorFile, str]:
    if not is_torch(file):
        return SafetensorsFile(file), SAFETENSORS
    from entrenar_core.io.torch_file import TorchFile

    return TorchFile(file), PYTORCH


def _refuse_no_weights(file: Path) -> None:
    """FormatError for a file that is neither called nor begins as one of tensors."""
    hint = "give a model folder, or a file in safetensors, GGUF, PyTorch's or the APR format"
    if file.name == CONFIG:
        raise FormatError(f"{file}: a config, without weights", hint="give the folder it is in")
    if file.suffix in SUFFIXES or is_apr(file) or is_torch(file):
        return
    with read_errors(file), file.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
    if head[8:9] != b"{":  # of a safetensors file's header
        begins = escape_controls(head[:16].decode(errors="replace"))
        raise FormatError(f"{file}: no file of weights: it begins with '{begins}'", hint=hint)


def _open_gguf(spec: str, file: Path) -> Artifact:
    from entrenar_core.io.gguf import GGUFFiles

    opened = GGUFFiles(file)
    return Artifact(
        spec, GGUF, opened, path=file, model=file, metadata=opened.metadata,
        tensors=chain.from_iterable(gguf_entries(f.tensors, f.path.name) for f in opened.files),
        files=weight_files(f.path for f in opened.files),
    )  # fmt: skip


def _open_apr(spec: str, file: Path) -> Artifact:
    from entrenar_core.io.apr import APRFile

    opened = APRFile(file)
    config = opened.metadata.get("config")
    known = isinstance(config, dict)
    return Artifact(
        spec, APR, opened, path=file, model=file if known else None,
        tensors=entries_of(opened.tensors, file.name), files=weight_files(opened.paths),
        config=config if known else None,
        metadata={k: v for k, v in opened.metadata.items() if k != "config"},
    )  # fmt: skip


def _from_folder(folder: Path, *, whole: bool) -> dict[str, Any]:
    """What an artifact takes from the model's folder around its weights."""
    config: Mapping[str, Any] = {}
    if (folder / CONFIG).exists():
        config = config_keys(read_json(folder / CONFIG), folder / CONFIG)
    return {
        "config": config,
        "model": folder if whole and config else None,
        "beside": _beside(folder),
    }


def config_keys(found: Any, path: Path) -> dict[str, Any]:
    """What config.json says, which came from `path`; FormatError where it is no object."""
    if not isinstance(found, dict):
        raise FormatError(f"{path}: not a JSON object", hint="give a model folder")
    return found


def _beside(folder: Path) -> Callable[[str], bytes | None]:
    def beside(name: str) -> bytes | None:
        path = folder / name
        return read_bytes(path) if path.is_file() else None

    return beside


def _is_shard(file: Path) -> bool:
    return "-of-" in file.name and any((file.parent / name).exists() for name in INDEXES)


def _shard_note(file: Path) -> list[str]:
    if not _is_shard(file):
        return []
    return [f"{file.name} is one shard of a model: give the folder for all of it"]


def weight_files(paths: Iterable[Path]) -> list[WeightFile]:
    """Names and sizes of files on this machine."""
    return [WeightFile(path.name, path.stat().st_size) for path in paths]
