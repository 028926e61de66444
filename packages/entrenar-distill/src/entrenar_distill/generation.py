"""What models write after prompts that rows of a data set have."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, FormatError, NumericsError
from entrenar_common.progress import Progress
from entrenar_core import models
from entrenar_core.autograd import no_grad
from entrenar_core.data.sources import DatasetSpec, iter_documents, list_files
from entrenar_core.data.tokenizer import Tokenizer
from entrenar_core.models.cache import KVCache

__all__ = [
    "GenerationRequest",
    "Row",
    "Written",
    "check_room",
    "encode_prompt",
    "encode_prompts",
    "end_ids",
    "load_kernels",
    "read_rows",
    "write",
]


@dataclass(frozen=True)
class GenerationRequest:
    """What is to be generated: after the `prompt_field` of each row in the files `paths`, greedily
    with a `temperature` of 0, up to `max_new_tokens`, an end-of-text token or one of `stop`."""

    paths: tuple[str, ...]
    prompt_field: str = "prompt"
    reference_field: str = "reference"
    max_new_tokens: int = 64
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    max_rows: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or not 0 <= self.temperature < math.inf:
            raise ConfigError(
                f"max_new_tokens is {self.max_new_tokens}, temperature {self.temperature:g}",
                hint="use at least 1 new token, and a finite temperature of at least 0",
            )


@dataclass(frozen=True)
class Row:
    """A prompt and the text that is expected after it; `name` says where it stands."""

    name: str
    prompt: str
    reference: str


@dataclass(frozen=True)
class Written:
    """What one model wrote for each row, without spaces around it; `seconds` is the time of all."""

    model: str
    texts: list[str]
    new_tokens: int
    seconds: float


def read_rows(request: GenerationRequest) -> list[Row]:
    """The rows of the files. Raises ConfigError for files without fields, and FormatError for a row
    with an empty one, besides what `iter_documents` raises."""
    fields = {"prompt": request.prompt_field, "reference": request.reference_field}
    found: dict[str, dict[str, str]] = {}
    for role, field in fields.items():
        spec = DatasetSpec(request.paths, text_field=field, max_documents=request.max_rows)
        for source in list_files(spec):
            if source.format == "text":
                raise ConfigError(
                    f"{source.name}: a text file has no fields {', '.join(fields.values())}",
                    hint="prompts and references are read from .jsonl, .csv and .parquet files",
                )
        found[role] = {document.name: document.text for document in iter_documents(spec)}
    lone = found["prompt"].keys() ^ found["reference"].keys()
    if lone:
        name = min(lone)
        missing = "reference" if name in found["prompt"] else "prompt"
        raise FormatError(
            f"{name}: the {missing} is empty ({len(lone)} such rows)",
            hint=f"give each row some text in {fields[missing]!a}, or leave the row out",
        )
    return [Row(name, text, found["reference"][name]) for name, text in found["prompt"].items()]


def write(
    name: str,
    model: Any,
    tokenizer: Tokenizer,
    prompts: Sequence[np.ndarray],
    rows: Sequence[Row],
    request: GenerationRequest,
    *,
    batch_size: int,
    seed: int,
    progress: Progress,
) -> Written:
    """Have a model go on from the prompt of each row, `batch_size` at a time, which changes no
    text."""
    eos_ids = end_ids(model, tokenizer)
    texts: list[str] = []
    new_tokens = 0
    # kernels are loaded at their first call, which is not part of the time
    load_kernels(model)
    started = time.perf_counter()
    progress.start("generate", len(rows))
    for start in range(0, len(rows), batch_size):
        batch = prompts[start : start + batch_size]
        try:
            found = models.generate(
                model, batch, max_new_tokens=request.max_new_tokens, seed=seed, first_row=start,
                temperature=request.temperature, stop=request.stop, tokenizer=tokenizer,
                eos_ids=eos_ids,
            )  # fmt: skip
        except NumericsError as error:
            where = f"rows {rows[start].name} to {rows[start + len(batch) - 1].name}"
            raise NumericsError(f"{name}: {where}: {error.message}", hint=error.hint) from error
        for ids, prompt in zip(found, batch, strict=True):
            new_tokens += len(ids) - len(prompt)
            text = models.new_text(tokenizer, ids, len(prompt), stop=request.stop, eos_ids=eos_ids)
            texts.append(text.strip())
        progress.advance(len(batch))
    progress.finish()
    return Written(name, texts, new_tokens, time.perf_counter() - started)


def load_kernels(model: Any) -> None:
    """Compile, or load, what reading a prompt and going on from it need."""
    with no_grad():
        cache = KVCache(model.config, 1, 2, model.dtype)
        for _ in range(2):
            model(np.zeros((1, 1), np.int64), cache=cache)


def end_ids(model: Any, tokenizer: Tokenizer) -> frozenset[int]:
    """The ids that end a text, as the tokenizer says and as the model's config does."""
    of_model = model.config.eos_token_id
    found = of_model if isinstance(of_model, Iterable) else (of_model,)
    return frozenset(int(i) for i in (*found, tokenizer.eos_id) if i is not None)


def encode_prompts(
    tokenizer: Tokenizer, rows: Sequence[Row], positions: int, request: GenerationRequest
) -> list[np.ndarray]:
    """The ids of each row's prompt; ConfigError for one that leaves no room in `positions`."""
    found: list[np.ndarray] = []
    for row in rows:
        ids = encode_prompt(tokenizer, row.prompt)
        check_room(row.name, len(ids), request.max_new_tokens, positions)
        found.append(ids)
    return found


def check_room(name: str, prompt: int, new: int, positions: int) -> None:
    """Raise ConfigError where `positions` have no room for a prompt's tokens and the `new` ones."""
    # the last new token is not read again
    if prompt + new - 1 > positions:
        raise ConfigError(
            f"{name}: {prompt} prompt tokens and {new} new ones for a model of {positions} "
            "positions",
            hint="lower --max-new-tokens, or shorten the prompt",
        )


def encode_prompt(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """The ids of a text that is to be gone on from, with what the tokenizer's template puts before
    it, and not the end that it may put after it; of an empty text perhaps none."""
    ids = tokenizer.encode(text)
    template = tokenizer.encode("")
    ends = len(template) > 0 and template[-1] == tokenizer.eos_id
    return ids[:-1] if ends and len(ids) > 1 else ids
