"""A LoRA adapter on a disk, as PEFT writes it: a folder, a file of tensors, or one JSON file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from entrenar_common.errors import ConfigError, FormatError, NotFoundError, UnsupportedError
from entrenar_common.text import escape_controls
from entrenar_core import kernels
from entrenar_core.io import files
from entrenar_core.io.closing import Closing
from entrenar_core.io.safetensors import SafetensorsFile
from entrenar_core.io.torch_save import TorchFile
from entrenar_core.kernels.narrow import is_narrow
from entrenar_core.lora.config import LoraConfig
from entrenar_core.lora.peft_config import CONFIG, PeftConfig, config_path
from entrenar_core.lora.targets import is_saved, is_target
from entrenar_core.lora.update import Update

WEIGHTS, OLD_WEIGHTS = "adapter_model.safetensors", "adapter_model.bin"
PREFIX = "base_model.model."

PARTS = {
    ".lora_A.weight": "a", ".lora_B.weight": "b", ".lora_B.bias": "bias",
    ".lora_embedding_A": "a", ".lora_embedding_B": "b", ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
}  # fmt: skip
"""What the name of a tensor of an update ends with → which part it is."""

EMBEDDING_PARTS = (".lora_embedding_A", ".lora_embedding_B")
_WRAPPED = ".base_layer."
_SHOWN = 8


class Tensors(Protocol):
    """Arrays by name, described at opening and read when asked for."""

    path: Path

    def names(self) -> list[str]: ...

    def info(self, name: str) -> Any: ...

    def read(self, name: str) -> np.ndarray: ...

    def release(self, name: str) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Module:
    """Where the parts of the update of one module are: their names by "a", "b" and, where there are
    such, "bias" and "magnitude"; the shapes of A (r, in) and B (out, r)."""

    name: str
    parts: Mapping[str, str]
    a_shape: tuple[int, int]
    b_shape: tuple[int, int]
    embedding: bool

    @property
    def rank(self) -> int:
        return self.a_shape[0]


class StoredAdapter(Closing):
    """A LoRA adapter on disk; opening checks that config and tensors agree.

    `path`: a folder of PEFT, its file of tensors (safetensors, or of torch.save), with an
    `adapter_config.json` beside it, or one JSON file as `lora.write_json` makes it. Of a lone file
    of tensors, `alpha` has to be given; it is then taken to be a plain LoRA of that alpha.

    `config` has the settings, `modules` what is updated by the module's name, `whole` the tensors
    that take the place of the model's by the names of its parameters, `contradictions` where
    settings and tensors contradict each other: an error, unless `tolerant`.

    Raises NotFoundError, FormatError for tensors that are no adapter, ConfigError where config and
    tensors contradict each other, UnsupportedError for what is no LoRA.
    """

    def __init__(
        self, path: str | Path, *, alpha: float | None = None, tolerant: bool = False
    ) -> None:
        self.path = Path(path)
        self._tensors, found, where = _open(self.path)
        try:
            self.modules, self.whole = _sorted_out(self._tensors)
            if found is None:
                found = self._implied(alpha)
            settings = PeftConfig.parse(found, where)
            self.settings = settings.with_targets_or(tuple(self.modules))
            self.contradictions = contradictions(self.settings, self.modules, self.whole)
            if self.contradictions and not tolerant:
                raise self._refused()
        except BaseException:
            self.close()
            raise

    @property
    def config(self) -> LoraConfig:
        """The settings of the adapter."""
        return self.settings.lora

    def _implied(self, alpha: float | None) -> dict[str, Any]:
        """A config for a file without one."""
        if alpha is None:
            alpha = _alpha_in(getattr(self._tensors, "metadata", {}))
        if alpha is None:
            raise ConfigError(
                f"{self.path}: no {CONFIG} beside it, and no alpha in its metadata",
                hint="give the alpha that it was trained with, such as --alpha 16",
            )
        ranks = {name: module.rank for name, module in self.modules.items()}
        rank = max(ranks.values(), key=list(ranks.values()).count)
        return {
            "peft_type": "LORA",
            "r": rank,
            "lora_alpha": alpha,
            "target_modules": list(self.modules),
            "rank_pattern": {name: r for name, r in ranks.items() if r != rank},
            "use_dora": any("magnitude" in module.parts for module in self.modules.values()),
            "lora_bias": any("bias" in module.parts for module in self.modules.values()),
        }

    def _refused(self) -> ConfigError:
        return ConfigError(
            f"{self.path}: {CONFIG} and the tensors contradict each other in "
            f"{len(self.contradictions)} places",
            details=_shortened(self.contradictions),
            hint="they have to be of the same training: fetch or write both again",
        )

    def check_fits(self, shapes: Mapping[str, tuple[int, ...]], tied: Mapping[str, str]) -> None:
        """Check that the model whose parameters have these `shapes` is one that this is for. `tied`
        has further names of parameters.

        Raises ConfigError naming what does not match.
        """
        known = {**shapes, **{further: shapes[first] for further, first in tied.items()}}
        problems = []
        for name, module in self.modules.items():
            out, inner = module.b_shape[0], module.a_shape[1]
            found = known.get(f"{name}.weight")
            if found is None:
                problems.append(f"{escape_controls(name)}: not a module of the model")
            elif tuple(found) not in ((out, inner), (inner, out)):
                problems.append(
                    f"{escape_controls(name)}: for a weight [{out}, {inner}], found {list(found)}"
                )
        for name, stored in self.whole.items():
            shape = tuple(self.info(stored).shape)
            if known.get(name) != shape:
                problems.append(
                    f"{escape_controls(name)}: {list(shape)}, and the model has {known.get(name)}"
                )
        if problems:
            made_for = self.settings.base_model or "a model without a name"
            raise ConfigError(
                f"{self.path}: is an adapter of another model, {len(problems)} of its tensors do "
                "not fit",
                details=_shortened(problems),
                hint=f"its config says that it is for {escape_controls(str(made_for)[:80])}",
            )

    def tensor_names(self) -> list[str]:
        """The names of all tensors, as they are stored."""
        return self._tensors.names()

    def info(self, name: str) -> Any:
        """Shape and dtype of a tensor, by its stored name."""
        return self._tensors.info(name)

    def read(self, name: str) -> np.ndarray:
        """A tensor as it is stored, by its stored name."""
        return self._tensors.read(name)

    def update(self, module: str) -> Update:
        """The update of a module, in float32."""
        found = self.modules[module]
        parts = {part: as_float32(self.read(name)) for part, name in found.parts.items()}
        scale = self.config.scale_of(module, found.rank)
        bias = parts.get("bias")
        return Update(
            a=parts["a"],
            b=parts["b"],
            scale=scale,
            bias=None if bias is None else bias * np.float32(scale),
            magnitude=parts.get("magnitude"),
            embedding=found.embedding,
            transposed=found.embedding or self.settings.fan_in_fan_out,
        )

    def whole_tensor(self, parameter: str) -> np.ndarray:
        """What takes the place of a parameter of the model, as it is stored."""
        return self.read(self.whole[parameter])

    def parameter_count(self) -> int:
        """The numbers of all tensors."""
        return sum(int(np.prod(self.info(name).shape)) for name in self.tensor_names())

    @property
    def paths(self) -> list[Path]:
        """The file that its tensors are in."""
        return [self._tensors.path]

    def close(self) -> None:
        """Closes the file; arrays that were read stay valid."""
        self._tensors.close()


def _shortened(problems: list[str]) -> list[str]:
    more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    return [*problems[:_SHOWN], *more]


def as_float32(array: np.ndarray) -> np.ndarray:
    """A contiguous float32 array of one in any float type."""
    if is_narrow(array) and array.ndim == 2:
        return kernels.widen(np.ascontiguousarray(array))
    return np.ascontiguousarray(array, np.float32)


def contradictions(
    settings: PeftConfig, modules: Mapping[str, Module], whole: Mapping[str, str]
) -> list[str]:
    """Where tensors and settings contradict each other, in words."""
    found, config = [], settings.lora
    listed = isinstance(config.target_modules, tuple) and not settings.ensure_weight_tying
    for name, module in modules.items():
        shown = escape_controls(name)
        wanted = config.rank_of(name)
        if module.rank != wanted:
            found.append(f"{shown}: the config says rank {wanted}, A has {module.rank}")
        if config.use_dora != ("magnitude" in module.parts):
            has = "a" if "magnitude" in module.parts else "no"
            found.append(f"{shown}: use_dora is {config.use_dora}, and it has {has} magnitude")
        if config.lora_bias != ("bias" in module.parts) and not module.embedding:
            has = "a" if "bias" in module.parts else "no"
            found.append(f"{shown}: lora_bias is {config.lora_bias}, and B has {has} bias")
        # an expression from a file can take for ever, and the tensors say what is adapted
        if listed and not is_target(config, name):
            found.append(f"{shown}: is not among target_modules")
    for name in whole:
        kept = name.rpartition(".")[0]
        biases = config.bias != "none" and name.endswith(".bias")
        saved = any(is_saved(config, path) for path in _paths(kept))
        saved = saved or settings.ensure_weight_tying
        if not biases and not saved and kept not in modules:
            found.append(f"{escape_controls(name)}: is not of modules_to_save")
    return found


def _paths(module: str) -> list[str]:
    """A module's name and those of the modules that it is in."""
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _open(path: Path) -> tuple[Tensors, Any, str]:
    """Tensors, the config's JSON value (None without one) and what it is called in messages."""
    if path.suffix == ".json" and path.name != CONFIG and path.is_file():
        from entrenar_core.lora.json_file import JsonTensors

        found = JsonTensors(path)
        return found, found.config, str(path)
    file = path
    if path.is_dir():
        names = (WEIGHTS, OLD_WEIGHTS)
        file = next((path / name for name in names if (path / name).exists()), None)
        if file is None:
            raise NotFoundError(
                f"{path}: no {WEIGHTS} and no {OLD_WEIGHTS}",
                hint="give the folder that PEFT or entrenar saved an adapter to",
            )
    config = config_path(path)
    if path.is_dir() and not config.exists():
        raise NotFoundError(f"{config}: missing", hint="without it an adapter's scale is unknown")
    raw = files.read_json(config) if config.exists() else None
    kind = TorchFile if file.suffix in (".bin", ".pth", ".pt") else SafetensorsFile
    return kind(file), raw, str(config)


def _sorted_out(tensors: Tensors) -> tuple[dict[str, Module], dict[str, str]]:
    parts: dict[str, dict[str, str]] = {}
    whole: dict[str, str] = {}
    for name in tensors.names():
        ours = name.removeprefix(PREFIX)
        suffix = next((s for s in PARTS if ours.endswith(s)), None)
        if suffix is not None:
            parts.setdefault(ours.removesuffix(suffix), {})[PARTS[suffix]] = name
        elif ours != name and ".lora_" not in ours:
            whole[ours.replace(_WRAPPED, ".")] = name
        else:
            raise UnsupportedError(
                f"{tensors.path}: tensor '{escape_controls(name[:80])}' is no part of a LoRA",
                hint=f"names of PEFT begin with {PREFIX} and end with .lora_A.weight and the like",
            )
    if not parts and not whole:
        raise FormatError(f"{tensors.path}: has no tensors", hint="train the adapter first")
    return {name: _module(tensors, name, parts[name]) for name in sorted(parts)}, whole


def _module(tensors: Tensors, name: str, parts: Mapping[str, str]) -> Module:
    label = f"{tensors.path}: {escape_controls(name[:80])}"
    if not {"a", "b"} <= parts.keys():
        raise FormatError(
            f"{label} has only {', '.join(sorted(parts))} of A and B",
            hint="the file is incomplete: fetch or write it again",
        )
    shapes = {part: tuple(tensors.info(stored).shape) for part, stored in parts.items()}
    a, b = shapes["a"], shapes["b"]
    if len(a) == 4 or len(b) == 4:
        raise UnsupportedError(
            f"{label}: A {list(a)} and B {list(b)} update a convolution",
            hint="adapters of linear layers and embeddings are supported",
        )
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or not a[0]:
        raise FormatError(
            f"{label}: A {list(a)} and B {list(b)} are no pair",
            hint="A is (rank, in) and B (out, rank)",
        )
    for part in ("bias", "magnitude"):
        if part in shapes and shapes[part] != (b[0],):
            raise FormatError(
                f"{label}: {part} is {list(shapes[part])} for {b[0]} outputs",
                hint="the file is damaged: fetch or write it again",
            )
    embedding = parts["a"].endswith(EMBEDDING_PARTS[0])
    return Module(name, parts, (a[0], a[1]), (b[0], b[1]), embedding)


def _alpha_in(metadata: Mapping[str, str]) -> float | None:
    """The alpha that a file's metadata name, as some trainers write it."""
    for key in ("lora_alpha", "alpha", "ss_network_alpha"):
        try:
            return float(metadata[key])
        except (KeyError, ValueError, TypeError):
            continue
    return None
