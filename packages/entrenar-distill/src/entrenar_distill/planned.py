"""What a configuration means for memory: the shapes of both models, and how they are used.

Configs and headers alone are read; no weights.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from entrenar_common.errors import ConfigError, UnsupportedError
from entrenar_core.distill.features import FeatureTerm
from entrenar_core.estimate.distilling import Compared, Distilling
from entrenar_core.estimate.find import find_shape, find_weights, stored_format
from entrenar_core.estimate.own_weights import BASES, BLOCKS
from entrenar_core.estimate.setup import FULL, LORA, Setup
from entrenar_core.estimate.shape import ModelShape, model_shape
from entrenar_core.estimate.targets import matching
from entrenar_core.models.architectures import model_class
from entrenar_core.nn import shapes_only
from entrenar_core.train.adapter import LoraSection
from entrenar_distill import features
from entrenar_distill.config import DistillConfig
from entrenar_distill.students import inherited
from entrenar_distill.task_names import CAUSAL_LM

HELD = {"fp32": "float32", "bf16": "bfloat16", "fp16": "bfloat16"}
"""`training.mixed_precision` → the precision of as many bits that estimates know."""
_ESTIMATED = ("rank", "alpha", "target_modules", "enabled", "fuse", "use_rslora", "alpha_pattern")
"""Settings of adapters that either are estimated or change no memory."""


@dataclass(frozen=True)
class Planned:
    """A distillation whose memory can be said."""

    config: DistillConfig
    teacher: ModelShape
    student: ModelShape
    asked: Distilling


def planned(config: DistillConfig) -> Planned:
    """What `config` asks of memory.

    Raises UnsupportedError for what is not estimated, ConfigError where lengths, layers or widths
    do not fit, and what finding the models raises.
    """
    _refuse(config)
    section = config.teachers[0]
    teacher = find_shape(section.model_id, revision=section.revision)
    student = _student(config, teacher)
    for name, shape in (("teacher", teacher), ("student", student)):
        _check(config, name, shape)
    setup = _setup(config, student)
    asked = Distilling(
        setup=setup,
        teacher=_held(config, teacher),
        compared=_compared(config, student, teacher),
        control=config.control,
        fused=config.student.lora is None or config.student.lora.fuse,
        files=1 if config.recipe in (None, "f32") else 2,
    )
    return Planned(config, teacher, student, asked)


def _held(config: DistillConfig, teacher: ModelShape) -> str:
    """What the teacher is held in: blocks where it is asked for or stored so, else floats."""
    section = config.teachers[0]
    path = find_weights(section.model_id)
    stored = None if path is None else stored_format(path, teacher)
    few = section.quantize or stored
    if few is None:
        return HELD[config.training.mixed_precision]
    _check_known("teacher.quantize", few)
    if config.training.mixed_precision != "fp32":
        raise UnsupportedError(
            f"a teacher in {few} with training.mixed_precision "
            f"{config.training.mixed_precision}: its memory is not estimated",
            hint="use one of the two: --set training.mixed_precision=fp32",
        )
    return few


def _check_known(key: str, base: str) -> None:
    if base not in BASES and base not in BLOCKS:
        raise UnsupportedError(
            f"{key} {base}: its memory is not estimated",
            hint=f"use one of {', '.join([*BASES, *BLOCKS][2:])}",
        )


def _refuse(config: DistillConfig) -> None:
    if config.task != CAUSAL_LM:
        raise UnsupportedError(
            f"task {config.task}: its memory is not estimated",
            hint=f"a distillation with task: {CAUSAL_LM} is",
        )
    others = {
        "several teachers": len(config.teachers) > 1,
        "teacher.cache": config.teachers[0].cache is not None,
        "distillation.cross_tokenizer": config.distillation.cross_tokenizer is not None,
    }
    for what, given in others.items():
        if given:
            raise UnsupportedError(
                f"{what}: the memory of that is not estimated",
                hint="one teacher that reads what the student reads is",
            )
    if config.training.quantization is not None:
        raise UnsupportedError(
            "training.quantization: the memory of training on stored weights is not estimated",
            hint="leave the section out: --set training.quantization=null",
        )
    section = config.student.lora
    if section is not None:
        _refuse_adapter(section)


def _refuse_adapter(section: LoraSection) -> None:
    plain = LoraSection.model_validate({}).model_dump()
    changed = [
        key
        for key, value in section.model_dump().items()
        if key not in _ESTIMATED and value != plain[key]
    ]
    if changed:
        raise UnsupportedError(
            f"student.lora.{changed[0]}: its memory is not estimated",
            hint="leave it out: adapters are estimated by rank and target_modules",
        )


def _student(config: DistillConfig, teacher: ModelShape) -> ModelShape:
    """Found like the teacher, or made of its config as `students.bare_student` does."""
    section = config.student
    if section.model_id is not None:
        return find_shape(section.model_id, revision=section.revision)
    with shapes_only():
        kind = model_class(teacher.raw, None)
        model = kind(kind.Config.from_hf(teacher.raw))
    if section.layers_from_teacher is not None:
        _check_layers(section.layers_from_teacher, teacher)
        raw = model.config_with_layers(section.layers_from_teacher).to_hf()
        name = f"{len(section.layers_from_teacher)} layers of the teacher"
    else:
        raw = {"model_type": "llama", **inherited(section.tokenizer, model)}
        raw |= section.config or {}
        name = "the config's architecture"
    return model_shape(raw, name=name, origin="the configuration")


def _check_layers(layers: tuple[int, ...], teacher: ModelShape) -> None:
    count = teacher.blocks.count
    wrong = [layer for layer in layers if layer >= count]
    if wrong:
        raise ConfigError(
            f"student.layers_from_teacher: the teacher has no layer {wrong[0]}",
            hint=f"its layers are 0 to {count - 1}",
        )


def _check(config: DistillConfig, name: str, shape: ModelShape) -> None:
    if not shape.generates:
        raise UnsupportedError(
            f"the {name} {shape.name} ({shape.model_type}) predicts no next token",
            hint="give a causal language model",
        )
    length = config.dataset.max_length
    if length > shape.positions:
        raise ConfigError(
            f"dataset.max_length {length} is more than the {name}'s {shape.positions} positions",
            hint=f"give at most {shape.positions}",
        )


def _setup(config: DistillConfig, student: ModelShape) -> Setup:
    section, training = config.student.lora, config.training
    sizes: dict[str, Any] = {
        "batch": training.batch_size,
        "accumulation": training.gradient_accumulation,
        "seq_len": config.dataset.max_length,
        "checkpointing": training.checkpointing,
    }
    if section is None:
        return Setup(FULL, "float32", **sizes)
    wanted = section.target_modules
    targets = matching(student.linears, (wanted,) if isinstance(wanted, str) else wanted)
    base = config.student.quantize or "float32"
    _check_known("student.quantize", base)
    return Setup(LORA, base, targets, section.rank, **sizes)


def _compared(
    config: DistillConfig, student: ModelShape, teacher: ModelShape
) -> tuple[Compared, ...]:
    """The losses of features; all pairs at once, whenever they take part. The terms check what a
    run checks."""
    settings = config.distillation
    if settings.progressive is None and settings.attention is None:
        return ()
    models = [SimpleNamespace(config=_config(s), dtype=np.dtype("f4")) for s in (student, teacher)]
    found = features.terms(settings, *models, seed=config.training.seed)
    return tuple(_of_term(config, term, teacher) for term in found)


def _config(shape: ModelShape) -> Any:
    return model_class(shape.raw, None).Config.from_hf(shape.raw)


def _of_term(config: DistillConfig, term: FeatureTerm, teacher: ModelShape) -> Compared:
    loss, heads = term.name.partition("_")[2], 0  # hidden_mse, attention_minilm, ...
    if loss == "minilm":
        section = config.distillation.attention
        heads = (section and section.heads) or teacher.blocks.heads
    pairs = tuple((pair.student, pair.teacher) for pair in term.pairs)
    return Compared(loss, pairs, learned=bool(term.projections), heads=heads)
