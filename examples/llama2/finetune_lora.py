"""Adapt a model with LoRA to other text: python finetune_lora.py --help

The weights stay as they are; of each matrix of attention an adapter is trained. It is written
alone (PEFT's files), beside a model that has it in its weights.
"""

from pathlib import Path

import click
from needs import data_setting, needs

from entrenar_common.cli import Command, Output, common_options
from entrenar_core.train import declarative
from entrenar_distill.settings_option import set_option
from entrenar_distill.train_view import Shown, report_parts

CONFIG = Path(__file__).parent / "configs/toy.yaml"


@click.command(cls=Command)
@click.option("--model", default="demo/llama-toy", help="Folder, file or name on the hub.")
@click.option("--config", "path", default=str(CONFIG), help="YAML file that it was trained by.")
@click.option("--data", multiple=True, help="Files or globs; the standard library's modules.")
@click.option("--rank", default=16, help="Rank of the adapters.")
@click.option("--estimate", is_flag=True, help="Say what memory it takes; train nothing.")
@set_option
@common_options
def main(
    out: Output, model: str, path: str, data: tuple[str, ...], rank: int, estimate: bool,
    overrides: list[tuple[str, str]],
) -> None:  # fmt: skip
    """Train an adapter for a model."""
    settings = [
        ("model.config", "null"),
        ("model.vocab_size", "null"),
        ("model.path", model),
        ("lora.rank", str(rank)),
        ("lora.target_modules", "[q_proj, k_proj, v_proj, o_proj]"),
        ("output.dir", f"{model.rstrip('/')}-lora"),
        *data_setting(data),
        *overrides,
    ]
    taken = needs(declarative.resolve(path, settings))
    if estimate:
        out.emit(taken, "entrenar.example.needs/1")
        return
    taken.check()
    report = declarative.train_from_yaml(path, settings, progress=out.progress(), warn=out.warn)
    out.emit(report if out.json else Shown(report_parts(report)), report.SCHEMA)


if __name__ == "__main__":
    main()
