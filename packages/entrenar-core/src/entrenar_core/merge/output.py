"""Writing a merge: a model folder that can be gone on with, a lone file, or GGUF in one pass."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError
from entrenar_core.data.load_tokenizer import has_tokenizer, load_tokenizer
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.io import files
from entrenar_core.io.files import sha256_file
from entrenar_core.io.new_folder import check_new
from entrenar_core.io.safetensors import write_file, write_folder
from entrenar_core.io.worker import Worker
from entrenar_core.lora.merge import check_output, copy_files
from entrenar_core.merge.card import RECIPE, card
from entrenar_core.merge.inputs import Input
from entrenar_core.merge.job import Job
from entrenar_core.merge.report import Observed
from entrenar_core.merge.staging import Staging, staged
from entrenar_core.models.source import Info, Source

CONFIG, ADAPTER = "config.json", "adapter_config.json"
GGUF, LONE = ".gguf", ".safetensors"
TOKENIZER_FILES = {
    "added_tokens.json", "chat_template.json", "chat_template.jinja", "merges.txt",
    "special_tokens_map.json", "spiece.model", "tokenizer.json", "tokenizer.model",
    "tokenizer_config.json", "vocab.json", "vocab.txt",
}  # fmt: skip
"""What says how a model's text becomes tokens."""

MAX_SHARD_BYTES = 2 * 10**9
"""Of a file of weights, unless one tensor has more: what a run that was cut off does again."""


class Hashes:
    """SHA-256 of the models' files, made in a thread of its own, which reads ahead by that."""

    def __init__(self, inputs: Mapping[Any, Input], worker: Worker) -> None:
        self._found: dict[str, dict[str, Future[str]]] = {
            str(ref): {path.name: worker.submit(sha256_file, path) for path in model.paths}
            for ref, model in inputs.items()
        }

    def result(self) -> dict[str, dict[str, str]]:
        """By model and name of the file; waits until all are there."""
        return {
            model: {name: future.result() for name, future in found.items()}
            for model, found in self._found.items()
        }


def check_target(job: Job, output: Path, recipe: str | None) -> None:
    """Raise what can be known to be wrong with `output` before anything is merged: ConfigError for
    one of the inputs, or a folder without a config; RefusedError for a folder that exists;
    UnsupportedError for formats."""
    check_output(output, [model.path for model in job.inputs.values()])
    if output.suffix.lower() == GGUF:
        if recipe is not None:
            from entrenar_core.convert.recipe import recipe_named

            recipe_named(recipe)
    elif recipe is not None:
        raise ConfigError(
            f"{output}: {recipe} is a format of GGUF files",
            hint="give an output that ends in .gguf",
        )
    if output.suffix.lower() not in (GGUF, LONE):
        check_new(output)
    if output.suffix.lower() != LONE and not job.donor.raw:
        raise ConfigError(
            f"{job.donor.ref} has no {CONFIG}, which the merged model needs",
            hint="give a model folder, or an output that ends in .safetensors",
        )


def write_merge(
    job: Job, output: Path, recipe_text: str, *, quantization: str | None = None, version: str
) -> dict[str, dict[str, str]]:
    """Write the result; returns the SHA-256 of the inputs' files by model and name.

    `output` is a folder, or a file that ends in .safetensors or .gguf; a GGUF file is in the type
    of the weights, or in what `quantization` names. `recipe_text` is the config as YAML.

    Raises RefusedError for a folder that exists, and what merging and writing raise. A folder that
    a run that was cut off began is gone on with; files are whole or not there.
    """
    job.progress.start("merge", len(job.tensors))
    with Worker("hash-inputs") as worker:
        hashes = Hashes(job.inputs, worker)
        try:
            if output.suffix.lower() == GGUF:
                _gguf(job, output, quantization)
            elif output.suffix.lower() == LONE:
                write_file(output, job.tensors, {"format": "pt"})
            else:
                _folder(job, output, recipe_text, hashes, version)
            return hashes.result()
        except BaseException:
            worker.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            job.progress.finish()


def _folder(job: Job, output: Path, recipe_text: str, hashes: Hashes, version: str) -> None:
    with staged(output, fingerprint(job, recipe_text)) as staging:
        folder = staging.folder
        job.observed |= {n: Observed.of_plain(found) for n, found in staging.notes.items()}
        job.progress.advance(len(staging.notes))
        write_folder(folder, job.tensors, MAX_SHARD_BYTES, journal=_Noted(staging, job))
        if job.donor.path.is_dir():
            left = TOKENIZER_FILES if job.tokenizer is not None else set()
            copy_files(job.donor.path, folder, but={CONFIG, "README.md", RECIPE, *left})
        tokenizer = job.tokenizer
        if tokenizer is None and not job.donor.path.is_dir():
            tokenizer = _stored_tokenizer(job.donor.path)
        if tokenizer is not None:
            tokenizer.save(folder)
        files.write_json(folder / CONFIG, job.raw)
        files.write_text(folder / RECIPE, recipe_text)
        text = card(
            output.name,
            job.config.method,
            recipe_text,
            base=str(job.config.base) if job.config.base else None,
            models=[str(ref) for ref in job.config.models if ref != job.config.base],
            inputs=hashes.result(),
            version=version,
        )
        files.write_text(folder / "README.md", text)


def _stored_tokenizer(path: Path) -> Tokenizer | None:
    return load_tokenizer(path) if has_tokenizer(path) else None


class _Noted:
    """A journal that keeps what was measured of the tensors with the files they are in."""

    def __init__(self, staging: Staging, job: Job) -> None:
        self._staging, self._job = staging, job

    def has(self, path: Path) -> bool:
        """Whether a file is there, whole."""
        return self._staging.has(path)

    def add(self, path: Path, written: Any) -> None:
        """Make known that a file is finished."""
        self._staging.notes = {name: o.plain() for name, o in self._job.observed.items()}
        self._staging.add(path, written)


def fingerprint(job: Job, recipe_text: str) -> str:
    """What two runs have in common that make the same bytes: the config, the seed, and the files
    that are read, those of tokenizers and of adapters' settings too."""
    stamps = [
        (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns)
        for model in job.inputs.values()
        for path in _read_from(model)
    ]
    content = json.dumps([recipe_text, job.seed, job.forecast.elements, stamps])
    return hashlib.sha256(content.encode()).hexdigest()


def _read_from(model: Input) -> list[Path]:
    """The files that decide what a model's tensors are, and which row is which token's."""
    places = {*([model.path] if model.path.is_dir() else []), *(p.parent for p in model.paths)}
    beside = (place / name for place in places for name in (CONFIG, ADAPTER, *TOKENIZER_FILES))
    return sorted({*model.paths, *(path for path in beside if path.is_file())})


def _gguf(job: Job, output: Path, quantization: str | None) -> None:
    # what reads and writes all other formats is not loaded for a folder
    from entrenar_core.convert.gguf import GGUFPlan
    from entrenar_core.convert.recipe import recipe_named

    dtypes = {tensor.dtype.name for tensor in job.tensors.values() if tensor.is_number}
    stored = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
    recipe = recipe_named(quantization or stored[min(dtypes)])
    source = MergedSource(job)
    with GGUFPlan(job.donor.path, recipe, source=source, tokenizer=job.tokenizer) as plan:
        plan.write(output)


class MergedSource(Source):
    """The result of a merge as a source of models (see `models.source`)."""

    def __init__(self, job: Job) -> None:
        self.path, self._file = job.donor.path, None
        self.raw, self.weights = job.raw, MergedWeights(job)


class MergedWeights:
    """The tensors of the result, made when they are read."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @property
    def paths(self) -> list[Path]:
        """The files of all models."""
        return [path for model in self._job.inputs.values() for path in model.paths]

    def names(self) -> list[str]:
        """All of their names."""
        return list(self._job.tensors)

    def info(self, name: str) -> Info:
        """What is known of a tensor."""
        return self._job.tensors[name]

    def read(self, name: str) -> np.ndarray:
        """A tensor, merged."""
        return self._job.tensors[name].array()

    def held(self, name: str) -> None:
        """No matrix is kept in few bits: what is merged is floats."""

    def release(self, name: str) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """The models stay open: whoever opened them closes them."""
