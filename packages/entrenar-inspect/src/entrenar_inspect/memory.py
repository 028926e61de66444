"""`entrenar-inspect memory`: the request checked, and what it takes to run and to train a model."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from entrenar_common.errors import UsageError
from entrenar_common.text import escape_controls, nearest
from entrenar_core.estimate import Memory, ModelShape, Setup, find_shape
from entrenar_core.estimate.engines import Engine
from entrenar_core.estimate.find import find_weights, hub_shape, stored_format
from entrenar_core.estimate.fitting import largest
from entrenar_core.estimate.inference import Inference
from entrenar_core.estimate.requests import check_adapters, check_optimizer, check_sizes
from entrenar_core.estimate.rows import term_rows
from entrenar_core.estimate.setup import FULL, LORA, in_few_bits
from entrenar_core.estimate.targets import ALL_LINEAR, matching, module_names
from entrenar_core.estimate.trained import trained_parameters
from entrenar_inspect.memory_view import MemoryReport, Use
from entrenar_inspect.opening import HUB

SEQ_LEN = 2048
"""Tokens of a sequence where nothing else is asked for, or as many as a model has learned."""
RANK = 16
QLORA = "qlora"
PRECISIONS = {
    "fp32": "float32", "f32": "float32", "float32": "float32", "bf16": "bfloat16",
    "bfloat16": "bfloat16", "int8": "int8", "8bit": "int8", "nf4": "nf4", "4bit": "nf4",
}  # fmt: skip
"""What users write for the precision of weights → what estimates call it."""
_WORDS = {
    FULL: "trains all weights",
    LORA: "keeps the base of adapters",
    QLORA: "keeps the base of QLoRA",
}


@dataclass(frozen=True)
class Request:
    """What the user asks for; None where the engine and the model decide."""

    batch_size: int = 1
    seq_len: int | None = None
    optimizer: str = "adamw"
    precision: str | None = None
    method: str | None = None
    rank: int | None = None
    targets: tuple[str, ...] | None = None
    checkpointing: bool = False


def shape_of(model: str) -> ModelShape:
    """The shape of what `model` means: as `estimate.find_shape` has it, and hf://org/name@revision.

    Raises what finding it raises.
    """
    if not model.startswith(HUB):
        return find_shape(model)
    name, _, revision = model.removeprefix(HUB).partition("@")
    return hub_shape(name, revision or None)


def stored_precision(model: str, shape: ModelShape) -> str | None:
    """The type of blocks that the weights of `model` lie in on this machine; None for floats, and
    where there are none."""
    path = None if model.startswith(HUB) else find_weights(model)
    return None if path is None else stored_format(path, shape)


def plan_of(
    shape: ModelShape, engine: Engine, request: Request, *, stored: str | None = None
) -> tuple[Setup, Inference]:
    """How the model is trained and how it is run. Weights that are `stored` in blocks stay so where
    the engine can compute with them and nothing else is asked for.

    Raises UsageError for what the engine or the model cannot do, ConfigError for targets that mean
    no module.
    """
    method = request.method
    if request.precision is not None:
        base = _precision(request.precision, engine)
    else:
        base = stored if stored in engine.blocks and method in (None, QLORA) else None
    method = method or _usual_method(base, request)
    check_adapters(method, request.rank, request.targets)
    check_optimizer(engine, request.optimizer)
    base = _possible(engine, method, base)
    learned = shape.blocks.norms == "layer"
    seq_len = request.seq_len or (min(SEQ_LEN, shape.positions) if learned else SEQ_LEN)
    check_sizes(shape, seq_len=seq_len, rank=request.rank)
    inference = Inference(base, request.batch_size, seq_len)
    adapted = method != FULL
    targets = request.targets or (ALL_LINEAR,)
    setup = Setup(
        method=LORA if adapted else FULL,
        base=base,
        targets=matching(shape.linears, targets) if adapted else (),
        rank=(request.rank or _rank(shape)) if adapted else 0,
        optimizer=request.optimizer,
        batch=request.batch_size,
        seq_len=seq_len,
        checkpointing=request.checkpointing,
    )
    return setup, inference


def memory_report(
    shape: ModelShape,
    engine: Engine,
    setup: Setup,
    inference: Inference,
    *,
    limit: int | None = None,
    limit_text: str | None = None,
) -> MemoryReport:
    """What it takes to run and to train a model, and what of it fits into `limit` bytes."""

    def run(batch: int) -> Memory:
        return engine.inference(shape, replace(inference, batch=batch))

    def train(batch: int) -> Memory:
        return engine.memory(shape, replace(setup, batch=batch))

    return MemoryReport(
        model=shape.name,
        model_from=shape.origin,
        parameters=shape.parameters,
        engine=engine.name,
        device=engine.device,
        batch_size=inference.batch,
        seq_len=inference.seq_len,
        precision=inference.base,
        method=setup.method,
        rank=None if setup.is_full else setup.rank,
        target_modules=module_names(setup.targets),
        trainable_parameters=trained_parameters(shape, setup),
        optimizer=setup.optimizer,
        checkpointing=setup.checkpointing,
        limit_bytes=limit,
        limit_text=limit_text,
        inference=_use(run, inference.batch, limit),
        training=_use(train, setup.batch, limit),
    )


def _use(memory_of: Callable[[int], Memory], batch: int, limit: int | None) -> Use:
    memory = memory_of(batch)
    total = memory.total
    fitting = None if limit is None else largest(lambda n: memory_of(n).total <= limit)
    return Use(
        total_bytes=total,
        peak_phase=memory.phase,
        computed=memory.computed,
        terms=term_rows(memory),
        fits=None if limit is None else total <= limit,
        largest_batch=fitting,
    )


def _precision(name: str, engine: Engine) -> str:
    plain = name.strip().casefold()
    known = PRECISIONS | {block: block for block in engine.blocks}
    if plain in known:
        return known[plain]
    if plain in ("fp16", "f16", "float16", "half"):
        raise UsageError(
            f"--precision {plain}: nothing is planned for in float16",
            hint="use bf16, which takes as much memory",
        )
    like = nearest(plain, known)
    blocks = f", or one of {', '.join(engine.blocks)}" if engine.blocks else ""
    raise UsageError(
        f"--precision {escape_controls(name)}: none that the engine {engine.name} has",
        hint=(f"did you mean {like}? " if like else "") + f"use fp32, bf16, int8 or nf4{blocks}",
    )


def _usual_method(base: str | None, request: Request) -> str:
    """The method that the other settings are for: full unless they speak of adapters."""
    if base is not None and in_few_bits(base):
        return QLORA
    return LORA if request.rank or request.targets else FULL


def _possible(engine: Engine, method: str, base: str | None) -> str:
    """The precision of the weights: `base`, or what the engine prefers for a method."""
    choices = {
        FULL: engine.full,
        LORA: engine.plain,
        QLORA: (*engine.quantized[::-1], *engine.blocks),
    }
    possible = choices[method]
    if base is None or (method == QLORA and base in engine.full):
        return possible[0]  # with QLoRA, floats say what is computed in
    if base in possible:
        return base
    others = [f"--method {other}" for other, bases in choices.items() if base in bases]
    raise UsageError(
        f"--precision {base} with --method {method}: the engine {engine.name} {_WORDS[method]} in "
        f"{' or '.join(possible)}",
        hint=f"use --precision {possible[0]}"
        + (f"; {base} is for {' and '.join(others)}" if others else ""),
    )


def _rank(shape: ModelShape) -> int:
    """RANK, or the largest that the smallest matrix has."""
    return min(RANK, *(min(sides) for sides in shape.linears.values()))
