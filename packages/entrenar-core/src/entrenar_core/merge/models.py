"""Merging models by a config, or by what is given in Python; the one way in for all who merge."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from entrenar_common.errors import ConfigError
from entrenar_common.progress import Progress
from entrenar_core.io.yaml_file import Located
from entrenar_core.merge.config import MergeConfig, parse_merge_config, read_merge_config
from entrenar_core.merge.job import Job
from entrenar_core.merge.memory import peak_of_process
from entrenar_core.merge.method import method_named
from entrenar_core.merge.output import check_target, write_merge
from entrenar_core.merge.report import Figures, unrelated
from entrenar_core.merge.timing import seconds_needed

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class MergeResult:
    """What a merge did, or, where `output` was not written, would do.

    `sources` are the models whose tensors were mixed, the base not among them; `total` their
    figures over all tensors that each of them has, and `tensors` those of each tensor by name: None
    and empty where nothing was written. `forecast` is the memory in bytes that was expected, `peak`
    what the process came to; `estimate` are the seconds that a dry run expects. `hashes` has the
    SHA-256 of the files of each model.
    """

    method: str
    base: str | None
    sources: tuple[str, ...]
    output: str | None
    written: bool
    names: tuple[str, ...]
    nbytes: int
    total: Figures | None
    tensors: Mapping[str, Figures]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    forecast: int
    peak: int
    estimate: float | None
    seconds: float
    hashes: Mapping[str, Mapping[str, str]]


def merge_models(
    models: Sequence[str | Path],
    *,
    method: str,
    output: str | Path,
    base: str | Path | None = None,
    dtype: str | None = None,
    out_dtype: str | None = None,
    tokenizer_source: str | None = None,
    seed: int = 0,
    memory_limit: int | None = None,
    quantization: str | None = None,
    progress: Progress | None = None,
    **parameters: Any,
) -> MergeResult:
    """Merge `models` and write the result to `output`: a folder, or a .safetensors or .gguf file.

    `parameters` are those of the method, such as density=0.2: one value for all models, or, for
    those that each model has, a list with one for each. Models are folders, files, names on the
    hub, or "model+adapter". `quantization` is a format for GGUF files, such as "q4_k_m".

    Raises ConfigError for what does not fit together, RefusedError for an output that exists, and
    what reading and writing raise.
    """
    config, text = described(
        models, method=method, base=base, parameters=parameters,
        others={"dtype": dtype, "out_dtype": out_dtype, "tokenizer_source": tokenizer_source},
    )  # fmt: skip
    return merge(
        config, text, Path(output), seed=seed, memory_limit=memory_limit,
        quantization=quantization, progress=progress,
    )  # fmt: skip


def described(
    models: Sequence[str | Path],
    *,
    method: str,
    base: str | Path | None = None,
    parameters: Parameters,
    others: Parameters | None = None,
) -> tuple[MergeConfig, str]:
    """The config that these make, and its text in YAML; see `merge_models`. Each weight is 1 unless
    given, and of two models that a method needs a base for, the first is the base."""
    found = method_named(method)
    names = [str(model) for model in models]
    if base is None and found.base == "required" and found.inputs[1] == 2 and names:
        base = names[0]
    if "weight" in found.parameters and "weight" not in parameters:
        parameters = {**parameters, "weight": 1.0}
    shared, each = {}, [{} for _ in names]
    mixed = [name for name in names if name != str(base) or found.base == "ignored"]
    for name, value in parameters.items():
        parameter = found.parameters.get(name.rstrip("_"))
        if not isinstance(value, list | tuple) or parameter is None or parameter.scope == "shared":
            shared[name.rstrip("_")] = value
            continue
        wanted = mixed if parameter.scope == "models" else names
        if len(value) != len(wanted):
            raise ConfigError(
                f"{len(value)} values of {name} for {len(wanted)} models",
                hint=f"give one of {name} for all, or one for each, in the order of the models",
            )
        for model, number in zip(wanted, value, strict=True):
            each[names.index(model)][name] = number
    data: dict[str, Any] = {
        "merge_method": method,
        **({"base_model": str(base)} if base is not None else {}),
        "models": [
            {"model": name, **({"parameters": own} if own else {})}
            for name, own in zip(names, each, strict=True)
        ],
        **({"parameters": shared} if shared else {}),
        **{key: value for key, value in (others or {}).items() if value is not None},
    }
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return parse_merge_config(Located("the settings", data)), text


def read(path: Path) -> tuple[MergeConfig, str]:
    """The config of a file, and its text. Raises what `read_merge_config` raises."""
    config = read_merge_config(path)
    return config, path.read_text(encoding="utf-8")


def merge(
    config: MergeConfig,
    text: str,
    output: Path | None,
    *,
    seed: int = 0,
    memory_limit: int | None = None,
    quantization: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
    announce: Callable[[int], None] | None = None,
) -> MergeResult:
    """Do the merge of `config`, whose text is `text`; with `dry_run` find out what can be known
    before. `announce` is called with the bytes of memory that are expected before it begins."""
    from entrenar_core import __version__

    started = time.monotonic()
    with Job(config, seed=seed, memory_limit=memory_limit, progress=progress) as job:
        if output is not None:
            check_target(job, output, quantization)
        if announce is not None:
            announce(job.forecast.peak)
        hashes: Mapping[str, Mapping[str, str]] = {}
        written = output is not None and not dry_run
        estimate = None
        if output is not None and written:
            hashes = write_merge(job, output, text, quantization=quantization, version=__version__)
        else:
            estimate = seconds_needed(job)
        return _merged(
            job, output, written=written, estimate=estimate, hashes=hashes,
            seconds=time.monotonic() - started,
        )  # fmt: skip


def _merged(
    job: Job, output: Path | None, *, written: bool, estimate: float | None,
    hashes: Mapping[str, Mapping[str, str]], seconds: float,
) -> MergeResult:  # fmt: skip
    sources = tuple(dict.fromkeys(str(s.model) for t in job.plan.tensors for s in t.models))
    planned = {t.name: tuple(str(s.model) for s in t.models) for t in job.plan.tensors}
    whole = [o for name, o in job.observed.items() if planned[name] == sources]
    total = None
    for observed in whole:
        total = observed if total is None else total + observed
    figures = None if total is None else total.figures()
    if written and output is not None:
        files = [output] if output.is_file() else output.glob("*.safetensors")
        nbytes = sum(path.stat().st_size for path in files)
    else:
        nbytes = sum(tensor.nbytes for tensor in job.tensors.values())
    return MergeResult(
        method=job.config.method.name,
        base=str(job.config.base) if job.config.base else None,
        sources=sources,
        output=str(output) if output is not None else None,
        written=written,
        names=tuple(job.tensors),
        nbytes=nbytes,
        total=figures,
        tensors={name: observed.figures() for name, observed in job.observed.items()},
        warnings=tuple(unrelated(sources, figures)) if figures is not None else (),
        notes=job.notes,
        forecast=job.forecast.peak,
        peak=peak_of_process(),
        estimate=estimate,
        seconds=seconds,
        hashes=hashes,
    )
