"""The command `profile`."""

from __future__ import annotations

import click

from entrenar_common.cli import Command, Output, common_options
from entrenar_distill.settings_option import set_option


@click.command(cls=Command)
@click.option("--config", type=click.Path(), required=True, help="YAML file of a distillation.")
@click.option("--output", type=click.Path(), help="Page to write, such as report.html.")
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Steps that are watched; as many that are not are taken in turns with them.",
)
@click.option("--include-loss-curves", is_flag=True, help="Draw the loss of each step too.")
@click.option(
    "--include-memory-timeline", is_flag=True, help="Draw the memory over the watched steps too."
)
@click.option(
    "--include-throughput-histogram",
    is_flag=True,
    help="Draw how many of the other steps had which throughput too.",
)
@click.option(
    "--trace",
    type=click.Path(),
    help="File to write every span to, for chrome://tracing or Perfetto (JSON).",
)
@set_option
@common_options
def profile(
    out: Output, config, output, steps, include_loss_curves, include_memory_timeline,
    include_throughput_histogram, trace, overrides,
) -> None:  # fmt: skip
    """Say where the time and the memory of a distillation's steps go.

    Nothing is trained to an end, evaluated or saved: some steps are taken, of which half are
    watched, so that what watching costs is known.

    \b
    Examples:
      entrenar-bench profile --config distill.yaml --output report.html
      entrenar-bench profile --config distill.yaml --steps 30 --trace trace.json --json
    """
    from entrenar_bench import hardware
    from entrenar_bench.profile.measure import profile as measure
    from entrenar_bench.profile.page import Shown
    from entrenar_bench.profile.record import Ceilings
    from entrenar_bench.profile.write import check_files, write
    from entrenar_distill.config import resolve

    check_files(output, trace)
    also = Shown(include_loss_curves, include_memory_timeline, include_throughput_histogram)
    resolved = resolve(config, overrides=overrides)
    machine = hardware.measure()
    ceilings = Ceilings(machine.sgemm_gflops, machine.copy_gb_per_s)
    found = measure(resolved, steps=steps, ceilings=ceilings, progress=out.progress())
    write(found, page=output, trace=trace, also=also)
    out.emit(found.profile, schema="entrenar.bench.profile/1")
