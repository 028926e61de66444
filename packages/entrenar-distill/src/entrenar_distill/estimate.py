"""`entrenar-distill estimate`: what a distillation takes before it runs."""

from collections.abc import Sequence
from dataclasses import replace

from entrenar_common.errors import ShapeError, UsageError
from entrenar_common.progress import Progress
from entrenar_common.text import escape_controls, nearest
from entrenar_core.convert.gguf import gguf_nbytes
from entrenar_core.convert.recipe import recipe_named
from entrenar_core.data.documents import split
from entrenar_core.data.load_tokenizer import load_tokenizer
from entrenar_core.data.tokens import tokenize
from entrenar_core.estimate.fitting import largest
from entrenar_core.estimate.own_distillation import own_distillation
from entrenar_core.estimate.own_weights import BASES, BLOCKS
from entrenar_core.estimate.rows import term_rows
from entrenar_core.estimate.shape import ModelShape
from entrenar_core.estimate.terms import Memory
from entrenar_core.estimate.trained import trained_parameters
from entrenar_core.io.hub import resolve_model
from entrenar_core.models.architectures import model_class
from entrenar_core.nn import shapes_only
from entrenar_core.train.rows import total_steps
from entrenar_distill.config import DistillConfig, resolve
from entrenar_distill.estimate_view import (
    DiskRow,
    EstimateReport,
    ModelRow,
    ProbeResult,
    TeacherRow,
)
from entrenar_distill.inputs import batches_of, dataset_spec
from entrenar_distill.planned import Planned
from entrenar_distill.probe import probe
from entrenar_distill.space import space_of

PRECISIONS = {
    "fp32": "float32", "float32": "float32", "f32": "float32", "bf16": "bfloat16",
    "bfloat16": "bfloat16", "fp16": "bfloat16", "8bit": "int8", "4bit": "nf4",
    **{name: name for name in (*BASES, *BLOCKS)},
}  # fmt: skip
"""What users write for the precision of a teacher → what estimates call it."""
_KEYS = {"float32": "mixed_precision: fp32", "bfloat16": "mixed_precision: bf16"}
NO_DATA = "none"


def settings(
    config: str | None,
    teacher: str | None,
    student: str | None,
    *,
    batch_size: int | None,
    seq_len: int | None,
    overrides: Sequence[tuple[str, str]],
) -> DistillConfig:
    """The configuration in a file, or one of two models that has defaults for all else.

    Raises UsageError where neither or both are given, and what `config.resolve` raises.
    """
    models = {"--teacher": teacher, "--student": student}
    sizes = {"--batch-size": batch_size, "--seq-len": seq_len}
    if config is not None:
        given = [name for name, value in (models | sizes).items() if value is not None]
        if given:
            raise UsageError(
                f"--config and {given[0]} are both given",
                hint="leave it out, or change the file's value with --set, such as --set "
                "training.batch_size=4",
            )
        return resolve(config, overrides=overrides)
    missing = [name for name, value in models.items() if value is None]
    if missing:
        raise UsageError(
            f"{missing[0]} is missing",
            hint="give --teacher and --student, or the configuration of a run with --config",
        )
    own = [("dataset.name", NO_DATA)]
    if batch_size is not None:
        own.append(("training.batch_size", str(batch_size)))
    if seq_len is not None:
        own.append(("dataset.max_length", str(seq_len)))
    return resolve(None, teacher=teacher, student=student, overrides=[*own, *overrides])


def with_precision(plan: Planned, name: str | None) -> Planned:
    """`plan` with the teacher in the precision that users call `name`; as it is for None.

    Raises UsageError for one that no teacher can be held in.
    """
    if name is None:
        return plan
    plain = name.strip().casefold()
    if plain not in PRECISIONS:
        like = nearest(plain, PRECISIONS)
        raise UsageError(
            f"--teacher-precision {escape_controls(name)}: no teacher is held in that",
            hint=(f"did you mean {like}? " if like else "")
            + f"use fp32, bf16, int8, nf4, or one of {', '.join(BLOCKS)}",
        )
    return replace(plan, asked=replace(plan.asked, teacher=PRECISIONS[plain]))


def estimate(plan: Planned, *, limit: int | None, stated: bool) -> EstimateReport:
    """What `plan` takes, and what of it fits into `limit` bytes; `stated`: the user has said them.

    Raises ShapeError where the teacher's matrices are no whole number of its format's blocks.
    """
    config, asked = plan.config, plan.asked
    memory = _memory(plan)
    section = config.student.lora
    return EstimateReport(
        teacher=_model(plan.teacher, asked.teacher),
        student=_model(plan.student, asked.setup.base),
        trained_parameters=trained_parameters(plan.student, asked.setup),
        method="full" if section is None else f"LoRA of rank {section.rank}",
        loss=config.distillation.formula,
        batch_size=asked.setup.batch,
        accumulation=asked.setup.accumulation,
        seq_len=asked.setup.seq_len,
        control=asked.control,
        total_bytes=memory.total,
        peak_phase=memory.phase,
        computed=memory.computed,
        terms=term_rows(memory),
        teachers=_teachers(plan, limit),
        limit_bytes=limit,
        limit_stated=stated,
        fits=None if limit is None else memory.total <= limit,
        largest_batch=None if limit is None else largest(lambda n: _fits(plan, n, limit)),
        disk=_disk(plan),
    )


def with_probe(report: EstimateReport, plan: Planned, progress: Progress) -> EstimateReport:
    """`report` with what some steps really took, and how long all of them will.

    Raises what `probe.probe` raises, and what reading the data of a configuration raises.
    """
    steps = _steps(plan.config, progress)
    progress.start("probe", 1)
    found = probe(plan, report.total_bytes)
    progress.advance()
    progress.finish()
    tokens = plan.asked.setup.tokens * plan.asked.setup.accumulation
    step = found.student_seconds + (found.control_seconds or 0.0)
    return replace(
        report,
        probe=ProbeResult(
            predicted_bytes=report.total_bytes,
            measured_bytes=found.peak_bytes,
            error=report.total_bytes / found.peak_bytes - 1,
            student_seconds=found.student_seconds,
            control_seconds=found.control_seconds,
            tokens_per_second=tokens / found.student_seconds,
            steps=steps,
            seconds=None if steps is None else steps * step,
        ),
    )


def _memory(plan: Planned) -> Memory:
    return own_distillation(plan.student, plan.teacher, plan.asked)


def _fits(plan: Planned, batch: int, limit: int) -> bool:
    setup = replace(plan.asked.setup, batch=batch)
    return _memory(replace(plan, asked=replace(plan.asked, setup=setup))).total <= limit


def _model(shape: ModelShape, base: str) -> ModelRow:
    return ModelRow(shape.name, shape.origin, shape.parameters, base)


def _teachers(plan: Planned, limit: int | None) -> tuple[TeacherRow, ...]:
    """The same with the teacher in every precision that this library computes with; without those
    whose blocks its matrices are no whole number of."""
    found = []
    for base in (*BASES, *BLOCKS):
        asked = replace(plan.asked, teacher=base)
        try:
            memory = _memory(replace(plan, asked=asked))
        except ShapeError:
            continue
        held = sum(t.bytes for t in memory.terms if t.name.startswith("teacher's weights"))
        held += memory["teacher's quantization constants"]
        fits = None if limit is None else memory.total <= limit
        found.append(
            TeacherRow(
                precision=base,
                teacher_bytes=held,
                total_bytes=memory.total,
                peak_phase=memory.phase,
                fits=fits,
                chosen=base == plan.asked.teacher,
                run_with=_KEYS.get(base, f"quantize: {base}"),
            )
        )
    return tuple(found)


def _disk(plan: Planned) -> tuple[DiskRow, ...]:
    """The files of a run, of whose number of steps nothing has to be known."""
    config, asked = plan.config, plan.asked
    beside = sum(
        len(each.pairs) * plan.teacher.blocks.hidden * plan.student.blocks.hidden
        for each in asked.compared
        if each.learned
    )
    found = space_of(
        config,
        trained=trained_parameters(plan.student, asked.setup),
        beside=beside,
        parameters=plan.student.parameters,
        gguf=0 if config.recipe is None else _gguf(plan.student, config.recipe),
        steps=config.training.max_steps,
    )
    many = f"{found.checkpoints} of weights and two moments, with the one that is being written"
    rows = (
        DiskRow("checkpoints", found.checkpoint * found.checkpoints, many),
        DiskRow("student", found.student, "safetensors in float32"),
        DiskRow("adapter", found.adapter, "A and B in float32"),
        DiskRow("model.gguf", found.gguf, config.recipe or ""),
    )
    return tuple(row for row in rows if row.bytes)


def _gguf(shape: ModelShape, recipe: str) -> int:
    kind = model_class(shape.raw, None)
    with shapes_only():
        return gguf_nbytes(kind(kind.Config.from_hf(shape.raw)), recipe_named(recipe))


def _steps(config: DistillConfig, progress: Progress) -> int | None:
    """How many steps a run has; None where neither max_steps nor data say it."""
    if config.training.max_steps is not None:
        return config.training.max_steps
    if config.dataset.name == (NO_DATA,):
        return None
    folder = resolve_model(config.teachers[0].model_id, config.teachers[0].revision)
    tokenizer = load_tokenizer(folder)
    documents = tokenize(dataset_spec(config.dataset), tokenizer, progress=progress)
    train, _ = split(documents, config.dataset.held_out, config.training.seed)
    return total_steps(config.training, batches_of(config, train, tokenizer))
