"""The command `estimate`."""

from __future__ import annotations

import click

from entrenar_common.cli import EXIT_FINDING, MEMORY, Command, Output, common_options
from entrenar_distill.settings_option import set_option


@click.command(cls=Command)
@click.option("--config", type=click.Path(), help="YAML file with the configuration of a run.")
@click.option(
    "--teacher",
    metavar="MODEL",
    help="Teacher: a folder, a config.json, a published name or size (7B), or org/name.",
)
@click.option("--student", metavar="MODEL", help="Student: the same.")
@click.option(
    "--batch-size", "--batch", type=click.IntRange(1), help="Sequences at once.  [default: 8]"
)
@click.option(
    "--seq-len", "--seq", type=click.IntRange(2), help="Tokens of a sequence.  [default: 256]"
)
@click.option(
    "--teacher-precision",
    metavar="NAME",
    help="What the teacher is held in: fp32, bf16, int8, nf4, q8_0, ...  [default: what the "
    "configuration says]",
)
@set_option
@click.option(
    "--ram",
    type=MEMORY,
    metavar="SIZE",
    help="Main memory, such as 16GB, which is read as 16 GiB.  [default: this machine's]",
)
@click.option(
    "--probe",
    is_flag=True,
    help="Take 3 steps with models of these shapes, and show their time and memory.",
)
@common_options
def estimate(
    out: Output, config, teacher, student, batch_size, seq_len, teacher_precision, overrides, ram,
    probe,
) -> int | None:  # fmt: skip
    """Say how much memory a distillation takes, term by term, before it runs.

    Only configs and headers of models are read, of a published name or a hub's model too. Ends with
    1 where it does not fit into the memory that is stated.

    \b
    Examples:
      entrenar-distill estimate --config distill.yaml --ram 16GB
      entrenar-distill estimate --config distill.yaml --probe
      entrenar-distill estimate --teacher 7B --student tinyllama-1.1b --seq-len 512
    """
    from entrenar_core.train.measuring import installed_memory
    from entrenar_distill import estimate as estimating
    from entrenar_distill.planned import planned

    settings = estimating.settings(
        config, teacher, student, batch_size=batch_size, seq_len=seq_len, overrides=overrides
    )
    plan = estimating.with_precision(planned(settings), teacher_precision)
    limit = installed_memory() if ram is None else ram
    report = estimating.estimate(plan, limit=limit, stated=ram is not None)
    if probe:
        report = estimating.with_probe(report, plan, out.progress())
    out.emit(report, schema="entrenar.distill.estimate/1")
    return EXIT_FINDING if report.exceeds else None
