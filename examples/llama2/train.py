"""Train a tokenizer and a LLaMA from scratch as a YAML file says: python train.py --help"""

from pathlib import Path

import click
from needs import data_setting, needs

from entrenar_common.cli import Command, Output, common_options
from entrenar_core.train import declarative
from entrenar_distill.settings_option import set_option
from entrenar_distill.train_view import Shown, report_parts

CONFIG = Path(__file__).parent / "configs/toy.yaml"


@click.command(cls=Command)
@click.option("--config", "path", default=str(CONFIG), help="YAML file; configs/toy.yaml.")
@click.option("--data", multiple=True, help="Files or globs; the standard library's modules.")
@click.option("--estimate", is_flag=True, help="Say what memory it takes; train nothing.")
@click.option(
    "--resume", default="never", metavar="never|auto|CHECKPOINT", help="Go on with a run."
)
@set_option
@common_options
def main(
    out: Output, path: str, data: tuple[str, ...], estimate: bool, resume: str,
    overrides: list[tuple[str, str]],
) -> None:  # fmt: skip
    """Train a model, where there is memory for it."""
    settings = [*data_setting(data), *overrides]
    taken = needs(declarative.resolve(path, settings))
    if estimate:
        out.emit(taken, "entrenar.example.needs/1")
        return
    taken.check()
    report = declarative.train_from_yaml(
        path, settings, resume=resume, progress=out.progress(), warn=out.warn
    )
    out.emit(report if out.json else Shown(report_parts(report)), report.SCHEMA)


if __name__ == "__main__":
    main()
