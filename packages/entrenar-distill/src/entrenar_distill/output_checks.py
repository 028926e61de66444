"""What is said of the place that a run writes to: whose it is, and whether there is room."""

import math
from collections.abc import Iterator
from pathlib import Path

from entrenar_common.errors import EntrenarError, StorageError
from entrenar_common.units import format_bytes
from entrenar_core.convert.gguf import gguf_nbytes
from entrenar_core.convert.recipe import recipe_named
from entrenar_core.io import files
from entrenar_distill.check import Check, Status
from entrenar_distill.config import DistillConfig
from entrenar_distill.pieces import Pieces
from entrenar_distill.pipeline import phases_of, store_of
from entrenar_distill.run_folder import AUTO, RunFolder
from entrenar_distill.space import Space, space_of

_TIGHT = 0.8
"""So full a disk is worth a warning."""


def output_checks(config: DistillConfig, pieces: Pieces) -> Iterator[Check]:
    """Whether the output folder can be written and may be, and whether its disk has room."""
    folder, title = RunFolder(Path(config.output.dir)), "output folder"
    try:
        folder.check(AUTO, phases_of(config))
        yield _found(config, folder, pieces) if folder.holds_run else _new(folder)
    except EntrenarError as error:
        yield Check.refused("output", title, error)
    title = "disk space"
    if pieces.student is None or pieces.steps is None:
        yield Check.skipped("space", title, "needs the student and the rows")
        return
    try:
        space = space_for(config, pieces)
        free = files.probe_writable(folder.nearest)
    except EntrenarError as error:
        yield Check.refused("space", title, error)
        return
    yield _room(space, free, folder.nearest)


def _new(folder: RunFolder) -> Check:
    words = "is there and can be written" if folder.path.is_dir() else "can be made"
    return Check("output", "output folder", Status.OK, f"{folder.path} {words}")


def _found(config: DistillConfig, folder: RunFolder, pieces: Pieces) -> Check:
    """What is said of a run that is there already. Raises CheckpointError for another one."""
    title, path, inputs = "output folder", folder.path, pieces.inputs
    if inputs is None:
        note = f"{path} holds a run; whether it is this one needs all of the above"
        return Check("output", title, Status.WARNING, note)
    folder.open(config, inputs.fingerprints(), resume=AUTO, phases=phases_of(config))
    done = {phase: store_of(folder, phase, config).latest() for phase in phases_of(config)}
    steps = ", ".join(f"{name} at step {each.step}" for name, each in done.items() if each)
    state = "finished" if folder.report.exists() else steps or "without a checkpoint"
    note = f"{path} holds this run, {state}; run needs --resume auto to go on with it"
    return Check("output", title, Status.WARNING, note)


def space_for(config: DistillConfig, pieces: Pieces) -> Space:
    """The bytes that a run writes, by its student, its terms and its steps."""
    student = pieces.student
    gguf = 0 if config.recipe is None else gguf_nbytes(student, recipe_named(config.recipe))
    return space_of(
        config,
        trained=sum(p.size for p in student.parameters() if p.requires_grad),
        beside=sum(p.size for term in pieces.terms or () for p in term.parameters().values()),
        parameters=sum(math.prod(p.shape) for p in student.base_parameters().values()),
        gguf=gguf,
        steps=pieces.steps,
    )


def _room(space: Space, free: int, folder: Path) -> Check:
    count = f"{space.checkpoints} checkpoint{'' if space.checkpoints == 1 else 's'}"
    parts = [(count, space.checkpoint * space.checkpoints)]
    parts += [("student", space.student), ("adapter", space.adapter), ("GGUF", space.gguf)]
    words = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts if size)
    note = f"{words}: {format_bytes(space.total)}; {format_bytes(free)} are free in {folder}"
    status = Status.OK
    if space.total > free:
        error = StorageError(
            note, hint="free some space, keep fewer checkpoints, or give another output.dir"
        )
        return Check.refused("space", "disk space", error)
    if space.total > _TIGHT * free:
        status = Status.WARNING
    return Check("space", "disk space", status, note)
